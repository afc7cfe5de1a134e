"""Writes the files that are made from the configuration's models and the commands: run it after a change."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic.fields import FieldInfo

from llmhost.cli.app import COMMANDS, HELP
from llmhost.cli.frame import App, Globals, Group, global_options
from llmhost.config.cost import Baseline
from llmhost.config.fields import Section
from llmhost.config.fleet import StaticWorker
from llmhost.config.models import RENAMED
from llmhost.config.schema import allowed, sections, subsection
from llmhost.config.template import render_template, written

REPOSITORY = Path(__file__).parent.parent

_HEAD = """\
# Configuration

<!-- Written by scripts/make_docs.py from llmhost/config. Do not edit it here. -->

llmhost works without a configuration file: it then runs a local fleet of one worker and an embedded Redis.
`llmhost init` writes a short file, `llmhost init --all` one with every key, as `configs/local.yaml` is.
`configs/vast.yaml` is a short one for GPUs rented on vast.ai ([setup.md](setup.md)).

## Where it comes from

Later sources override earlier ones:

1. the defaults below;
2. one YAML file: `--config PATH`, else the path in `LLMHOST_CONFIG`, else `./llmhost.yaml`, else
   `llmhost.yaml` in your configuration folder (`~/.config/llmhost/` on Linux). A file that you name must
   exist. One that is found in the current folder without being named may have come with a download, so it
   cannot start a program (`redis.server`, `notify.command`) or send `VAST_API_KEY` anywhere but to vast.ai;
3. environment variables, one per key: `LLMHOST_FLEET__GPUS=2` sets `fleet.gpus`, and
   `LLMHOST_FLEET__BUDGET__PER_HOUR=2` sets `fleet.budget.per_hour`: two underscores stand for the dot;
4. flags, such as `--gpus 2`.

An unknown key or a value that is not allowed is an error (exit code 2), never ignored. The message
names the file and the line, the value, and what is allowed. Values of secrets are not shown.

`llmhost config show` says which values are in force, and where each comes from; `llmhost config validate`
checks a file.

## In an editor

`llmhost init` also writes `llmhost.schema.json`, a JSON Schema by which editors with a YAML language server
complete and check the file, offline: its first line, `# yaml-language-server: $schema=llmhost.schema.json`,
names it. After an upgrade, `llmhost config schema > llmhost.schema.json` writes it again.

## How values are written

- **Variables.** `${NAME}` is replaced with that environment variable, and must be set.
  `${NAME:-default}` takes the default where the variable is not set or empty. `$${` is a literal `${`.
  Variables work in values, not in keys, and cannot add keys or lists. Use them for secrets:
  `password: ${REDIS_PASSWORD}`.
- **Durations** are a number and a unit, `ms`, `s`, `m`, `h` or `d`: `100ms`, `90s`, `24h`, `7d`. A bare
  number is seconds. The shortest is `1ms`, the longest `3650d`.
- **Paths** that begin with `./` or `../` are relative to the configuration file.
- **Unset.** An empty value, `~` or `null` unsets an optional key, in the file, in a variable and in the
  environment. Quoted, it is text.
- **Text** needs no quotes, unless it begins with a character such as `@` or `*`, or contains `: ` or ` #`.
- YAML anchors, aliases and tags are not supported. A configuration is a file of at most 1 MB, no pipe.

"""

_COMMANDS_HEAD = """\
# Commands

<!-- Written by scripts/make_docs.py from llmhost/cli. Do not edit it here. -->

Every command with its arguments and options, as `--help` shows them. The [index](README.md) lists the
pages that explain them.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed |
| 2 | invalid usage or configuration |
| 3 | partial success |
| 4 | refused by a limit: budget, credit, `fleet.max_gpus` |
| 5 | something external is unreachable: provider, Redis, engine |
| 130 | interrupted |

An error is one line with the problem and one with a hint, on stderr. With `--json`, stdout has one object:
the result, or `error` with `code`, `message` and `hint`. Where a page explains fields of the result, it is
linked below.

"""

#: the pages that explain fields of a command's `--json`
_JSON_PAGES = {
    "ask": "trust.md#how-a-question-is-decided",
    "chat": "chat.md",
    "doctor": "setup.md#5-check-before-you-rent",
    "scale": "scaling.md#what-was-decided",
    "scale history": "scaling.md#what-was-decided",
    "stats": "stats.md",
}
#: Typer appends the Python type to an argument's name.
_ARGUMENT_TYPE = re.compile(r"^([A-Z][A-Za-z.]*) <.*>$")
#: A line of help that is to be copied would be a heading in Markdown.
_LINE_OF_CODE = re.compile(r"^(# .*)$", re.MULTILINE)


def generated() -> dict[str, str]:
    """The text of each generated file, by its path from the repository's root."""
    return {
        "docs/configuration.md": render_reference(),
        "docs/cli.md": render_commands(),
        "configs/local.yaml": render_template(),
    }


def render_commands() -> str:
    """The text of docs/cli.md."""
    root = App(HELP).with_commands(COMMANDS)
    context = root.make_context("llmhost", [], obj=Globals(), resilient_parsing=True)
    own = [param for param in root.params if param not in global_options()]
    parts = [
        "## Global options\n\nBefore or after the name of a command.\n",
        _parameters(global_options(), context),
        "And of `llmhost` itself:\n",
        _parameters(own, context),
    ]
    return _COMMANDS_HEAD + "\n".join([*parts, *_commands(root, context)])


def _commands(group: Group, context: Any) -> Iterator[str]:
    """The section of each command of a group, those of a group after its own."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = typer.Context(command, parent=context, info_name=name)
        yield _command_reference(command, inner)
        if isinstance(command, Group):
            yield from _commands(command, inner)


def _command_reference(command: Any, context: Any) -> str:
    name = context.command_path.removeprefix("llmhost ")
    about, _, examples = (command.help or "").partition("Examples:")
    parts = [f"{'###' if ' ' in name else '##'} llmhost {name}", _LINE_OF_CODE.sub(r"`\1`", about.strip())]
    params = [*command.params]
    if isinstance(command, Group) and "(default)" in command.commands:
        params += command.commands["(default)"].params
    if own := [param for param in params if param not in global_options()]:
        parts.append(_parameters(own, context).strip())
    if examples:
        lines = "\n".join(line.strip() for line in examples.strip().splitlines())
        parts.append(f"```bash\n{lines}\n```")
    if page := _JSON_PAGES.get(name):
        parts.append(f"Fields of `--json`: [{page}]({page}).")
    return "\n\n".join(parts) + "\n"


def _parameters(params: Sequence[Any], context: Any) -> str:
    rows = [record for param in params if (record := param.get_help_record(context)) is not None]
    named = [(_ARGUMENT_TYPE.sub(r"\1", name), text) for name, text in rows]
    lines = [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in named]
    return "\n".join(["| argument, option | meaning |", "| --- | --- |", *lines]) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", chr(92) + "|")


def render_reference() -> str:
    """The text of docs/configuration.md."""
    tables = [_section_reference(f"`{name}`", section) for name, section in sections()]
    tables.append(_section_reference("An entry of `fleet.workers`", StaticWorker))
    tables.append(_section_reference("An entry of `cost.baselines`", Baseline))
    tables.append(_renamed())
    return _HEAD + "\n".join(tables)


def _renamed() -> str:
    names = "\n".join(f"- `{old}` is now `{new}`" for old, new in RENAMED.items())
    return (
        "## Renamed keys\n\nThe old names, and their environment variables, still work with a warning. The "
        f"next release will remove them.\n\n{names}\n"
    )


def _section_reference(title: str, section: type[Section]) -> str:
    rows = "\n".join(_row(key, field) for key, field in section.model_fields.items() if not subsection(field))
    head = "| key | allowed | default | meaning |\n| --- | --- | --- | --- |"
    return f"## {title}\n\n{inspect.getdoc(section)}\n\n{head}\n{rows}\n"


def _row(key: str, field: FieldInfo) -> str:
    cells = (f"`{key}`", allowed(field), _default(field), field.description or "")
    return f"| {' | '.join(map(_cell, cells))} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    return "none" if value is None or value == () else f"`{written(field, value)}`"


if __name__ == "__main__":
    for name, text in generated().items():
        (REPOSITORY / name).write_text(text, encoding="utf-8")
