"""`llmhost init`: writes a commented configuration file, and its schema for editors."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import globals_of
from llmhost.errors import ConfigError, StateError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["init"]

_FILE_NAME, _SCHEMA_NAME = "llmhost.yaml", "llmhost.schema.json"
#: by which an editor's YAML language server completes and checks the file
_SCHEMA_LINE = f"# yaml-language-server: $schema={_SCHEMA_NAME}\n"
_NO_SCHEMA = "cannot write {path}, by which editors check the configuration: {reason}"
_LARGEST_SCHEMA = 1 << 20  #: bytes
_LONGEST_NAME = 32  #: characters of a fleet's name

#: 6.3 GB, which fits on a GPU with 24 GB together with the context of some requests
_RENTED_MODEL = "qwen2:7b-instruct-q6_K"
#: USD a day suggested for each GPU: an RTX 4090 around the clock, at up to $0.60 an hour
_USD_A_DAY = 15.0
#: requests that an RTX 4090 answers at once with little delay
_RENTED_SLOTS = 4
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)

#: keys that a short file has for each provider, besides those that have been chosen
_KEYS = ("fleet.name", "fleet.provider", "fleet.gpus", "engine.kind", "engine.model", "cache.response_ttl")
_RENTED_KEYS = ("fleet.budget.per_day", "vast.max_price")

_START = (
    ("doctor", "diagnose the setup"),
    ("up", "start the workers"),
    ('ask "Why is the sky blue?"', "ask a question"),
)
_RENT = (
    ("doctor", "diagnose key, credit, Redis and budget"),
    ("offers", "see which offers fit, and their price"),
    ("up --dry-run", "see the plan and its price"),
    ("up", "rent the GPUs"),
    ('ask "Why is the sky blue?"', "ask a question"),
    ("down", "destroy the workers"),
)


class ProviderName(StrEnum):
    LOCAL = "local"
    VAST = "vast"
    STATIC = "static"


class EngineName(StrEnum):
    OLLAMA = "ollama"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class _Choices:
    """The options of the command line; None was not given. `budget` is USD a day, `token` names the variable
    that holds the token.
    """

    urls: Sequence[str]
    token: str | None = field(repr=False)
    engine: EngineName | None
    model: str | None
    gpus: int | None
    budget: float | None
    asks: bool


def init(
    ctx: typer.Context,
    path: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File to write; by default ./llmhost.yaml.")
    ] = None,
    provider: Annotated[
        ProviderName | None,
        typer.Option(help="Processes on this machine, GPUs rented on vast.ai, or servers you run."),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Address of a server that you run; repeat it for more."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="Environment variable that holds the token of those servers."),
    ] = None,
    engine: Annotated[EngineName | None, typer.Option(help="API of those servers.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model in the engine.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Number of workers that `llmhost up` creates.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="Spending limit a day for rented GPUs.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Write every key with its meaning.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a configuration file, and beside it its schema for editors.

    On a terminal, it asks for what is missing. Keys that are not written have their defaults.

    Examples:
      llmhost init
      llmhost init --all
      llmhost init --provider vast --gpus 3 --budget 50
      llmhost init --url http://127.0.0.1:11434 --engine ollama --model llama3.2
      llmhost init --url https://gpu --token TOKEN --engine openai --model qwen3
    """
    options = globals_of(ctx)
    target = path or options.config or Path(_FILE_NAME)
    if os.path.lexists(target) and not force:
        raise _exists(target)
    choices = _Choices(url or [], token, engine, model, gpus, budget, asks=sys.stdin.isatty())
    chosen = provider or (ProviderName.STATIC if choices.urls else _provider(asks=choices.asks))
    values = {"fleet.name": _fleet_name(target), **_values(chosen, choices)}
    keys = (*values, *_KEYS, *(_RENTED_KEYS if chosen is ProviderName.VAST else ()))
    text = _checked(values, None if everything else keys, target)
    has_schema = _write_with_schema(target, text, options.output.warn, force=force)
    path = target.absolute()
    name = str(values["fleet.name"])
    document = {"path": path, "fleet": name}

    def show(path: Path, console: Console) -> None:
        _render(path, name, chosen, console, has_schema=has_schema)

    options.output.result(path, show, document)


def _values(provider: ProviderName, choices: _Choices) -> Mapping[str, object]:
    """The values that differ from the defaults, by dotted key."""
    _check_sense(provider, choices)
    if provider is ProviderName.VAST:
        return _rented(choices)
    values: dict[str, object] = {} if choices.gpus is None else {"fleet.gpus": choices.gpus}
    if provider is ProviderName.STATIC:
        return {**values, **_servers(choices)}
    return values if choices.model is None else {**values, "engine.model": choices.model}


def _fleet_name(target: Path) -> str:
    """The name of the file's folder, made one that a fleet may have. Where a known fleet of another file has
    it, a number is appended: two folders have two fleets."""
    from llmhost.config.fields import UNNAMED_FLEET
    from llmhost.fleet.known_fleets import known_fleets
    from llmhost.machine.paths import state_dir

    file, taken = target.absolute(), {UNNAMED_FLEET}
    with suppress(StateError):
        known = known_fleets(state_dir() / "fleets")
        taken |= {fleet.name for fleet in known if fleet.config != str(file)}
    name = re.sub(r"[^a-z0-9]+", "-", file.parent.resolve().name.lower())
    name = name[:_LONGEST_NAME].strip("-") or "main"
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name[: _LONGEST_NAME - 6]}-{number}"
    return free


def _check_sense(provider: ProviderName, choices: _Choices) -> None:
    if provider is not ProviderName.STATIC and (choices.urls or choices.token or choices.engine):
        option = "--url" if choices.urls else "--token" if choices.token else "--engine"
        message = f"{option} is for servers that you run, not for provider {provider}"
        raise UsageError(message, hint="give --provider static")
    if choices.token is not None and not _VARIABLE.fullmatch(choices.token):
        hint = "put the token into a variable, and give its name: --token MY_TOKEN"
        raise UsageError("--token is the name of an environment variable, not the token itself", hint=hint)
    if provider is not ProviderName.VAST and choices.budget is not None:
        raise UsageError("--budget is for rented GPUs", hint="give --provider vast")


def _servers(choices: _Choices) -> Mapping[str, object]:
    access = {"token": f"${{{choices.token}}}"} if choices.token else {}
    urls, engine, model = choices.urls or _urls(asks=choices.asks), choices.engine, choices.model
    if engine is None and choices.asks:
        _say("Their API is Ollama's (ollama) or OpenAI's, as with vLLM (openai).")
        engine = EngineName(_ask("Engine", EngineName.OLLAMA, _one_of(EngineName)))
    if not model and not choices.asks:
        raise UsageError("provider static needs the name of a model", hint="give --model NAME")
    return {
        "fleet.provider": "static",
        "fleet.workers": [{"url": url} | access for url in urls],
        "engine.kind": str(engine or EngineName.OLLAMA),
        "engine.model": model or _ask("Model", None),
    }


def _rented(choices: _Choices) -> Mapping[str, object]:
    model = choices.model or (
        _ask("Model (name in Ollama)", _RENTED_MODEL) if choices.asks else _RENTED_MODEL
    )
    gpus = choices.gpus or (int(_ask("Number of GPUs", "1", _count)) if choices.asks else 1)
    values = {
        "fleet.provider": "vast",
        "fleet.gpus": gpus,
        "fleet.max_gpus": gpus,
        "engine.kind": "ollama",
        "engine.model": model,
        "engine.slots": _RENTED_SLOTS,
    }
    budget = choices.budget
    if budget is None and choices.asks:
        budget = float(_ask("Spending limit, USD a day in all", f"{gpus * _USD_A_DAY:g}", _amount))
    return values if budget is None else {**values, "fleet.budget.per_day": budget}


def _provider(*, asks: bool) -> ProviderName:
    if not asks:
        return ProviderName.LOCAL
    _say("Workers can be processes on this machine (local), GPUs rented on vast.ai (vast),")
    _say("or servers that you already run (static).")
    return ProviderName(_ask("Provider", ProviderName.LOCAL, _one_of(ProviderName)))


def _urls(*, asks: bool) -> list[str]:
    if not asks:
        raise UsageError("provider static needs at least one server", hint="give --url URL")
    urls = [_ask("Address of a server", "http://127.0.0.1:11434")]
    while another := _ask("Address of another server (Enter to finish)", ""):
        urls.append(another)
    return urls


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _ask(question: str, default: str | None, check: Callable[[str], str] = str.strip) -> str:
    answer = typer.prompt(question, default=default, value_proc=check, show_default=bool(default), err=True)
    return str(answer)


def _one_of(names: type[StrEnum]) -> Callable[[str], str]:
    def check(answer: str) -> str:
        if answer.strip() not in list(names):
            raise typer.BadParameter(f"enter one of {', '.join(names)}")
        return answer.strip()

    return check


def _count(answer: str) -> str:
    if not answer.strip().isdecimal() or int(answer) < 1:
        raise typer.BadParameter("enter a whole number, 1 or more")
    return answer


def _amount(answer: str) -> str:
    try:
        positive = 0 < float(answer) < float("inf")
    except ValueError:
        positive = False
    if not positive:
        raise typer.BadParameter("enter a number over 0, such as 50")
    return answer


def _checked(values: Mapping[str, object], keys: Sequence[str] | None, target: Path) -> str:
    """The text of the file, of these keys or all, checked as every command will check it.

    Raises:
        UsageError: something in `values` is not allowed.
    """
    from tempfile import TemporaryDirectory

    from llmhost.config.load import load_config
    from llmhost.config.template import render_template

    text = render_template(values, keys)
    with TemporaryDirectory() as folder:
        draft = Path(folder) / _FILE_NAME
        draft.write_text(text, encoding="utf-8")
        try:
            load_config(draft, environ=os.environ)
        except ConfigError as error:
            message = error.message.replace(str(draft), f"the new {target}")
            raise UsageError(message, hint=error.hint) from error
    return text


def _write_with_schema(target: Path, text: str, warn: Callable[[str], None], *, force: bool) -> bool:
    """Writes the file, and beside it its schema, which it names. Whether there was room for that."""
    schema = target.parent / _SCHEMA_NAME
    has_schema = _has_room_for_schema(schema, warn)
    _write(target, _SCHEMA_LINE + text if has_schema else text, force=force)
    if has_schema:
        _write_schema(schema, warn)
    return has_schema


def _write(target: Path, text: str, *, force: bool) -> None:
    """Writes the file, readable by its owner only: it may hold a token later. One that is overwritten stays
    as it is until the new one is complete; a link to it stays one."""
    from llmhost.machine.files import replacing

    path = Path(os.path.realpath(target))
    if not force and os.path.lexists(target):  # it came while questions were asked
        raise _exists(target)
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is not a file")
        with replacing(path) as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}", hint="give --path PATH") from error


def _has_room_for_schema(path: Path, warn: Callable[[str], None]) -> bool:
    """Whether nothing has that name, or a schema of ours, of whichever version. Anything else stays."""
    from llmhost.config.schema import json_schema
    from llmhost.machine.files import open_file

    if not os.path.lexists(path):
        return True
    try:
        with open_file(path) as file:
            if f'"title": "{json_schema()["title"]}"'.encode() in file.read(_LARGEST_SCHEMA):
                return True
        reason = "another file has that name"
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    warn(_NO_SCHEMA.format(path=path, reason=reason))
    return False


def _write_schema(path: Path, warn: Callable[[str], None]) -> None:
    from llmhost.config.schema import json_schema

    try:
        path.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        warn(_NO_SCHEMA.format(path=path, reason=error.strerror))


def _exists(target: Path) -> UsageError:
    return UsageError(
        f"{target} already exists", hint="use --force to overwrite it, or --path PATH for another file"
    )


def _render(path: Path, name: str, provider: ProviderName, console: Console, *, has_schema: bool) -> None:
    usual = path == Path(_FILE_NAME).absolute()
    flag = "" if usual else f" --config {shlex.quote(str(path))}"
    console.print(f"Wrote {path}, for a fleet named {name}.", soft_wrap=True)
    if has_schema:
        console.print(f"Editors complete and check it by {_SCHEMA_NAME}, beside it.", style="dim")
    console.print("\nNext:")
    if provider is ProviderName.VAST:
        console.print("  add credit to your vast.ai account, and create an API key")
        console.print("  export VAST_API_KEY=<the key>")
    steps = _RENT if provider is ProviderName.VAST else _START
    explained = [f"  llmhost{flag} {command:<28}  # {purpose}" for command, purpose in steps]
    fit = max(map(len, explained)) <= console.width
    for line, (command, _) in zip(explained, steps, strict=True):
        console.print(line if fit else f"  llmhost{flag} {command}", soft_wrap=True)
