"""`llmhost init`: writes a commented configuration file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.options import globals_of
from llmhost.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["init"]

_FILE_NAME = "llmhost.yaml"


class ProviderName(StrEnum):
    LOCAL = "local"
    STATIC = "static"


class EngineName(StrEnum):
    OLLAMA = "ollama"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class InitOutput:
    path: Path


def init(
    ctx: typer.Context,
    path: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File to write; ./llmhost.yaml if not given.")
    ] = None,
    provider: Annotated[
        ProviderName | None,
        typer.Option(help="Where workers come from: processes on this machine, or servers you already run."),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Address of a server you already run; give it once for each."),
    ] = None,
    engine: Annotated[EngineName | None, typer.Option(help="What those servers speak.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Model as the engine knows it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a configuration file with every setting explained.

    On a terminal it asks what was not given.

    Examples:
      llmhost init
      llmhost init --provider local --path team.yaml
      llmhost init --url http://127.0.0.1:11434 --engine ollama --model llama3.2
    """
    options = globals_of(ctx)
    target = path or options.config or Path(_FILE_NAME)
    if os.path.lexists(target) and not force:
        raise _exists(target)
    values = _values(provider, url or [], engine, model, asks=sys.stdin.isatty())
    _write(target, _checked(values, target), force=force)
    options.output.result(InitOutput(target.absolute()), _render)


def _values(
    provider: ProviderName | None,
    urls: Sequence[str],
    engine: EngineName | None,
    model: str | None,
    *,
    asks: bool,
) -> Mapping[str, object]:
    """What the file says that the defaults do not, by dotted key."""
    if provider is None:
        provider = ProviderName.STATIC if urls else _provider(asks=asks)
    if provider is ProviderName.LOCAL:
        if urls or engine:
            raise UsageError(
                f"{'--url' if urls else '--engine'} is for servers you already run, not for provider local",
                hint="give --provider static",
            )
        return {} if model is None else {"engine.model": model}
    return {
        "fleet.provider": "static",
        "fleet.workers": [{"url": url} for url in urls or _urls(asks=asks)],
        "engine.kind": str(engine or _engine(asks=asks)),
        "engine.model": model or _model(asks=asks),
    }


def _provider(*, asks: bool) -> ProviderName:
    if not asks:
        return ProviderName.LOCAL
    _say("Workers are processes on this machine (local), or servers you run (static).")
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
    for command, purpose in (
        ("doctor", "check that everything is there"),
        ("up", "start the workers"),
        ('ask "Why is the sky blue?"', "ask them"),
    ):
        console.print(f"  llmhost{flag} {command:<28}  # {purpose}", soft_wrap=True)
