"""`llmhost init`: writes a commented configuration file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import globals_of
from llmhost.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["init"]

_FILE_NAME = "llmhost.yaml"

#: The paper's: 6.3 GB, which a GPU with 24 GB holds together with the context of some requests.
_RENTED_MODEL = "qwen2:7b-instruct-q6_K"
#: USD a day that are proposed for each GPU: an RTX 4090 day and night, at up to $0.60 an hour.
_USD_A_DAY = 15.0
#: Requests that an RTX 4090 answers at once without making anyone wait for long.
_RENTED_SLOTS = 4


_START = (
    ("doctor", "check that everything is there"),
    ("up", "start the workers"),
    ('ask "Why is the sky blue?"', "ask them"),
)
_RENT = (
    ("doctor", "check key, credit, Redis and budget"),
    ("offers", "see what fits, and what it costs"),
    ("up --dry-run", "see what would be bought"),
    ("up", "rent the GPUs"),
    ('ask "Why is the sky blue?"', "ask them"),
    ("down", "give them back"),
)


class ProviderName(StrEnum):
    LOCAL = "local"
    VAST = "vast"
    STATIC = "static"


class EngineName(StrEnum):
    OLLAMA = "ollama"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class _Given:
    """What the command line says; None was not given. `budget` is USD a day."""

    urls: Sequence[str]
    engine: EngineName | None
    model: str | None
    gpus: int | None
    budget: float | None


@dataclass(frozen=True, slots=True)
class InitOutput:
    path: Path
    provider: ProviderName = field(repr=False)


def init(
    ctx: typer.Context,
    path: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File to write; ./llmhost.yaml if not given.")
    ] = None,
    provider: Annotated[
        ProviderName | None,
        typer.Option(help="Processes on this machine, GPUs rented on vast.ai, or servers you run."),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Address of a server you already run; give it once for each."),
    ] = None,
    engine: Annotated[EngineName | None, typer.Option(help="What those servers speak.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Model as the engine knows it.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="How many workers `llmhost up` makes.")] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="The most that rented GPUs may cost a day.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a configuration file with every setting explained.

    On a terminal it asks what was not given.

    Examples:
      llmhost init
      llmhost init --provider vast --gpus 3 --budget 50
      llmhost init --url http://127.0.0.1:11434 --engine ollama --model llama3.2
    """
    options = globals_of(ctx)
    target = path or options.config or Path(_FILE_NAME)
    if os.path.lexists(target) and not force:
        raise _exists(target)
    given = _Given(url or [], engine, model, gpus, budget)
    chosen = provider or (ProviderName.STATIC if given.urls else _provider(asks=_asks()))
    _write(target, _checked(_values(chosen, given), target), force=force)
    options.output.result(InitOutput(target.absolute(), chosen), _render)


def _asks() -> bool:
    return sys.stdin.isatty()


def _values(provider: ProviderName, given: _Given) -> Mapping[str, object]:
    """What the file says that the defaults do not, by dotted key."""
    _check_sense(provider, given)
    if provider is ProviderName.VAST:
        return _rented(given, asks=_asks())
    values: dict[str, object] = {} if given.gpus is None else {"fleet.gpus": given.gpus}
    if provider is ProviderName.STATIC:
        return {**values, **_servers(given, asks=_asks())}
    return values if given.model is None else {**values, "engine.model": given.model}


def _check_sense(provider: ProviderName, given: _Given) -> None:
    if provider is not ProviderName.STATIC and (given.urls or given.engine):
        raise UsageError(
            f"{'--url' if given.urls else '--engine'} is for servers you already run,"
            f" not for provider {provider}",
            hint="give --provider static",
        )
    if provider is not ProviderName.VAST and given.budget is not None:
        raise UsageError("--budget is for GPUs that are rented", hint="give --provider vast")


def _servers(given: _Given, *, asks: bool) -> Mapping[str, object]:
    return {
        "fleet.provider": "static",
        "fleet.workers": [{"url": url} for url in given.urls or _urls(asks=asks)],
        "engine.kind": str(given.engine or _engine(asks=asks)),
        "engine.model": given.model or _model(asks=asks),
    }


def _rented(given: _Given, *, asks: bool) -> Mapping[str, object]:
    model = given.model or (_ask("Model, as Ollama names it", _RENTED_MODEL) if asks else _RENTED_MODEL)
    gpus = given.gpus or (int(_ask("How many GPUs", "1", _count)) if asks else 1)
    values = {
        "fleet.name": "vast",
        "fleet.provider": "vast",
        "fleet.gpus": gpus,
        "fleet.max_gpus": gpus,
        "engine.kind": "ollama",
        "engine.model": model,
        "engine.slots": _RENTED_SLOTS,
    }
    budget = given.budget
    if budget is None and asks:
        budget = float(_ask("The most USD a day for all of them", f"{gpus * _USD_A_DAY:g}", _amount))
    return values if budget is None else {**values, "fleet.budget.per_day": budget}


def _provider(*, asks: bool) -> ProviderName:
    if not asks:
        return ProviderName.LOCAL
    _say("Workers are processes on this machine (local), GPUs rented on vast.ai (vast),")
    _say("or servers that you run (static).")
    return ProviderName(_ask("Provider", ProviderName.LOCAL, _one_of(ProviderName)))


def _urls(*, asks: bool) -> list[str]:
    if not asks:
        raise UsageError("provider static needs the address of a server", hint="give --url URL")
    urls = [_ask("Address of a server", "http://127.0.0.1:11434")]
    while another := _ask("Address of another one (Enter: no more)", ""):
        urls.append(another)
    return urls


def _engine(*, asks: bool) -> EngineName:
    if not asks:
        return EngineName.OLLAMA
    _say("They speak Ollama's API (ollama), or OpenAI's as vLLM does (openai).")
    return EngineName(_ask("Engine", EngineName.OLLAMA, _one_of(EngineName)))


def _model(*, asks: bool) -> str:
    if not asks:
        raise UsageError("provider static needs the name of a model", hint="give --model NAME")
    return _ask("Model", None)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _ask(question: str, default: str | None, check: Callable[[str], str] = str.strip) -> str:
    answer = typer.prompt(question, default=default, value_proc=check, show_default=bool(default), err=True)
    return str(answer)


def _one_of(names: type[StrEnum]) -> Callable[[str], str]:
    def check(answer: str) -> str:
        if answer.strip() not in list(names):
            raise typer.BadParameter(f"answer one of {', '.join(names)}")
        return answer.strip()

    return check


def _count(answer: str) -> str:
    if not answer.strip().isdecimal() or int(answer) < 1:
        raise typer.BadParameter("answer a whole number, 1 or more")
    return answer


def _amount(answer: str) -> str:
    try:
        positive = 0 < float(answer) < float("inf")
    except ValueError:
        positive = False
    if not positive:
        raise typer.BadParameter("answer a number over 0, such as 50")
    return answer


def _checked(values: Mapping[str, object], target: Path) -> str:
    """The text of the file, after it has been read as any command would read it.

    Raises:
        UsageError: something in `values` is not allowed.
    """
    from tempfile import TemporaryDirectory

    from llmhost.config.load import load_config
    from llmhost.config.reference import render_template

    text = render_template(values)
    with TemporaryDirectory() as folder:
        draft = Path(folder) / _FILE_NAME
        draft.write_text(text, encoding="utf-8")
        try:
            load_config(draft, environ=os.environ)
        except ConfigError as error:
            message = error.message.replace(str(draft), f"what {target} would say")
            raise UsageError(message, hint=error.hint) from error
    return text


def _write(target: Path, text: str, *, force: bool) -> None:
    """Writes the file for its owner alone: it may come to hold a token."""
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL), 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}", hint="give --path PATH") from error


def _exists(target: Path) -> UsageError:
    return UsageError(
        f"{target} exists already", hint="--force writes over it; --path PATH writes another one"
    )


def _render(made: InitOutput, console: Console) -> None:
    usual = made.path == Path(_FILE_NAME).absolute()
    flag = "" if usual else f" --config {made.path}"
    console.print(f"Wrote {made.path}: every setting, with what it means.\n", soft_wrap=True)
    console.print("Next:")
    if made.provider is ProviderName.VAST:
        console.print("  add some credit to your account on vast.ai, and make a key there")
        console.print("  export VAST_API_KEY=<the key>")
    for command, purpose in _RENT if made.provider is ProviderName.VAST else _START:
        console.print(f"  llmhost{flag} {command:<28}  # {purpose}", soft_wrap=True)
