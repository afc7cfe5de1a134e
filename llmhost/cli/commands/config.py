"""`llmhost config`: what is in force and where from, whether a file is valid, and its schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.frame import App, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import NO_FILE, load
from llmhost.cli.text import clean

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.load import LoadedConfig

__all__ = ["app"]

app = App("Show and check the configuration.")


@dataclass(frozen=True, slots=True)
class _Row:
    """A key with its value as YAML; that of a secret is not shown. `from_` says where it was set."""

    key: str
    value: str | None
    from_: str


@app.command("show")
def show(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Show keys that have their default, too.")
    ] = False,
) -> None:
    """Show which values are in force, and where each comes from. Secrets are not shown.

    Examples:
      llmhost config show
      llmhost config show --all
    """
    options = globals_of(ctx)
    loaded = load(options)
    settings = [one for one in _settings(loaded) if everything or one.from_ != "default"]
    document = {"source": loaded.source, "settings": settings, "warnings": loaded.warnings}
    for warning in loaded.warnings:
        options.output.warn(warning)
    if loaded.source is None:
        options.output.note(NO_FILE)
    options.output.result(settings, _show, document)


def _settings(loaded: LoadedConfig) -> list[_Row]:
    from pydantic import SecretStr

    from llmhost.config.schema import fields
    from llmhost.config.template import written

    found = []
    for key, field in fields():
        value: Any = loaded.config
        for name in key.split("."):
            value = getattr(value, name)
        shown = None if value is None or value == () else "(secret)" if isinstance(value, SecretStr) else ""
        if shown == "":
            # Of a list's items, a token may be secret.
            plain = [_bare(item) for item in value] if isinstance(value, tuple) else value
            shown = written(field, plain)
        found.append(_Row(key, shown, loaded.origins.get(key, "default")))
    return found


def _bare(item: object) -> object:
    from pydantic import BaseModel, SecretStr

    if not isinstance(item, BaseModel):
        return item
    values = {name: getattr(item, name) for name in type(item).model_fields}
    return {
        name: "(secret)" if isinstance(value, SecretStr) else value
        for name, value in values.items()
        if value is not None
    }


def _show(settings: list[_Row], console: Console) -> None:
    if not settings:
        console.print("Every key has its default.")
        return
    grid = table("key", "value", "from")
    for one in settings:
        grid.add_row(one.key, clean(one.value or "-"), clean(one.from_))
    console.print(grid)


@app.command("validate")
def validate(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Instead of the usual file.")] = None,
) -> None:
    """Check the configuration, with the environment, and change nothing.

    What is wrong is an error with its file and line, and exit code 2.

    Examples:
      llmhost config validate
      llmhost config validate deploy/llmhost.yaml
    """
    options = globals_of(ctx)
    options.config = file or options.config
    loaded = load(options)
    for warning in loaded.warnings:
        options.output.warn(warning)
    name = str(loaded.source) if loaded.source else "the built-in configuration"
    document = {"valid": True, "source": loaded.source, "warnings": loaded.warnings}
    options.output.result(name, lambda made, console: console.print(f"{made} is valid."), document)


@app.command("schema")
def schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of the file, by which editors complete and check it.

    Save it beside llmhost.yaml, whose first line then names it:
    # yaml-language-server: $schema=llmhost.schema.json

    Examples:
      llmhost config schema > llmhost.schema.json
    """
    from llmhost.config.schema import json_schema

    globals_of(ctx).output.document(json_schema())
