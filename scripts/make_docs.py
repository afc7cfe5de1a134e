"""Writes the files that are made from the configuration's models and the commands: run it after a change."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
{exit_codes}

An error is one line with the problem and one with a hint, on stderr. With `--json`, stdout has one object:
the result, or `error` with `code`, `message` and `hint`. [json.md](json.md) has the fields of each.

"""

_EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "invalid usage or configuration",
    3: "partial success",
    4: "refused by a limit: budget, credit, `fleet.max_gpus`",
    5: "something external is unreachable: provider, Redis, engine",
    130: "interrupted",
}

#: of each command's `--json` the fields with their types, as tests/end_to_end/test_json_fields.py saw them
JSON_FIELDS = REPOSITORY / "scripts/json_fields.json"

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


#: of a table: a name, and a text
Rows = Sequence[tuple[str, str]]


def generated() -> dict[str, str]:
    """The text of each generated file, by its path from the repository's root."""
    return {
        "docs/configuration.md": render_reference(),
        "docs/cli.md": render_commands(),
        "docs/json.md": render_json_fields(json.loads(JSON_FIELDS.read_text())),
        "docs/llmhost.1": render_manual(),
        "configs/local.yaml": render_template(),
    }


def render_commands() -> str:
    """The text of docs/cli.md."""
    own, commands = _commands_with_own_options()
    parts = [
        "## Global options\n\nBefore or after the name of a command.\n",
        _table(own.shared),
        "And of `llmhost` itself:\n",
        _table(own.options),
        *map(_command_reference, commands),
    ]
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in _EXIT_CODES.items())
    return _COMMANDS_HEAD.format(exit_codes=codes) + "\n".join(parts)


@dataclass(frozen=True, slots=True)
class _Command:
    """One command as its help shows it. `options` are rows of a name, with what it takes, and a text;
    `shared` are those that every command takes, which only llmhost itself has.
    """

    name: str
    about: str
    options: Rows
    examples: Sequence[str]
    shared: Rows = ()


def _commands_with_own_options() -> tuple[_Command, Sequence[_Command]]:
    """llmhost itself, and its commands; those of a group after its own."""
    root = App(HELP).with_commands(COMMANDS)
    context = root.make_context("llmhost", [], obj=Globals(), resilient_parsing=True)
    own = _command("llmhost", HELP, root.params, context)
    return replace(own, shared=_rows(global_options(), context)), list(_commands(root, context))


def _commands(group: Group, context: Any) -> Iterator[_Command]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = typer.Context(command, parent=context, info_name=name)
        params = [*command.params]
        if isinstance(command, Group) and "(default)" in command.commands:
            params += command.commands["(default)"].params
        path = inner.command_path.removeprefix("llmhost ")
        yield _command(path, command.help or "", params, inner)
        if isinstance(command, Group):
            yield from _commands(command, inner)


def _command(name: str, text: str, params: Sequence[Any], context: Any) -> _Command:
    about, _, examples = text.partition("Examples:")
    own = [param for param in params if param not in global_options()]
    lines = [line.strip() for line in examples.strip().splitlines()]
    return _Command(name, about.strip(), _rows(own, context), lines)


def _rows(params: Sequence[Any], context: Any) -> Rows:
    rows = [record for param in params if (record := param.get_help_record(context)) is not None]
    return [(_ARGUMENT_TYPE.sub(r"\1", name), text) for name, text in rows]


def _command_reference(command: _Command) -> str:
    level = "###" if " " in command.name else "##"
    parts = [f"{level} llmhost {command.name}", _LINE_OF_CODE.sub(r"`\1`", command.about)]
    if command.options:
        parts.append(_table(command.options).strip())
    if command.examples:
        parts.append("\n".join(["```bash", *command.examples, "```"]))
    if command.name in json.loads(JSON_FIELDS.read_text()):
        words = f"Fields of `--json`: [json.md](json.md#llmhost-{command.name.replace(' ', '-')})"
        page = _JSON_PAGES.get(command.name)
        parts.append(f"{words}, explained in [{page}]({page})." if page else f"{words}.")
    return "\n\n".join(parts) + "\n"


_JSON_HEAD = """\
# What `--json` prints

<!-- Written by scripts/make_docs.py from scripts/json_fields.json. Do not edit it here. -->

The fields of each command's JSON object, as a test sees the commands print them on a fleet of rented
workers. `[]` stands for each item of a list, `*` for each key of an object whose keys are data. A field may
depend on an option, as `explain` of `ask` does. A type is what was printed: `null` alone, or a list without
items, had nothing to say there. `llmhost chat` prints such an object for each question, `llmhost config
schema` a JSON Schema.

"""


def render_json_fields(commands: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The text of docs/json.md."""
    return _JSON_HEAD + "\n".join(_json_section(*one) for one in sorted(commands.items()))


def parent(path: str) -> str:
    """The object or the list that a field is in."""
    return path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]


def _place(path: str, order: Sequence[str]) -> Sequence[int]:
    """By which a field stands below what it is in."""
    above = _place(parent(path), order) if parent(path) else ()
    return (*above, order.index(path))


def _json_section(command: str, fields: Mapping[str, Sequence[str]]) -> str:
    title = "An error of any command" if command == "error" else f"llmhost {command}"
    with_fields = {parent(path) for path in fields}
    rows = "\n".join(
        f"| `{path}` | {' or '.join(types)} |"
        for path, types in sorted(fields.items(), key=lambda field: _place(field[0], [*fields]))
        if path not in with_fields or len(types) > 1
    )
    page = _JSON_PAGES.get(command)
    more = f"Explained in [{page}]({page}).\n\n" if page else ""
    return f"## {title}\n\n{more}| field | type |\n| --- | --- |\n{rows}\n"


def _table(rows: Rows) -> str:
    lines = [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in rows]
    return "\n".join(["| argument, option | meaning |", "| --- | --- |", *lines]) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", chr(92) + "|")


_MANUAL_HEAD = """\
.\\" Written by scripts/make_docs.py from llmhost/cli. Do not edit it here.
.TH LLMHOST 1 "" llmhost "User Commands"
.SH NAME
llmhost \\- host your own LLM on GPUs, behind a semantic cache
.SH SYNOPSIS
.B llmhost
.RI [ OPTION ]...\\&
.I COMMAND
.RI [ ARGUMENT ]...
.SH DESCRIPTION
"""

_FILES = {
    "./llmhost.yaml": "The configuration, unless `--config` or LLMHOST_CONFIG names another file. Where it "
    "is not there, llmhost.yaml in the folder of your configurations, such as ~/.config/llmhost.",
}

_VARIABLES = {
    "LLMHOST_CONFIG": "The configuration file.",
    "LLMHOST_SECTION__KEY": "A key of the configuration, such as LLMHOST_FLEET__GPUS for `fleet.gpus`.",
    "LLMHOST_STATE_DIR": "The folder of what llmhost has to remember.",
    "VAST_API_KEY": "The key of the account at vast.ai.",
    "NO_COLOR": "No colour is shown.",
}

#: what roff would not show as it is
_ROFF = {
    ord("\\"): "\\e",
    ord("-"): "\\-",
    ord("'"): "\\(aq",
    ord("`"): "\\(ga",
    ord("^"): "\\(ha",
    ord("~"): "\\(ti",
    ord('"'): "\\(dq",
}
_BACKTICKS = re.compile(r"`([^`]+)`")


def render_manual() -> str:
    """The text of docs/llmhost.1, the manual page."""
    own, commands = _commands_with_own_options()
    lines = [
        *_paragraphs(own.about.partition("\n\n")[2]),
        ".SH GLOBAL OPTIONS",
        "Before or after the name of a command.",
        *_tagged(own.shared),
        *_tagged(own.options),
        ".SH COMMANDS",
    ]
    for command in commands:
        lines += [f".SS {_roff(f'llmhost {command.name}')}", *_paragraphs(command.about)]
        lines += _tagged(command.options)
        lines += _examples(command.examples)
    lines += [
        ".SH EXIT STATUS",
        *_tagged(
            [(str(code), f"{meaning[0].upper()}{meaning[1:]}.") for code, meaning in _EXIT_CODES.items()]
        ),
        ".SH ENVIRONMENT",
        *_tagged(list(_VARIABLES.items())),
        ".SH FILES",
        *_tagged(list(_FILES.items())),
        *_examples(own.examples, ".SH EXAMPLES"),
    ]
    return _MANUAL_HEAD + "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, text.split("\n\n")):
        yield ".P"
        for line in paragraph.splitlines():
            # A line that is to be copied stands alone.
            yield from (
                [".br", f"\\fB{_roff(line.strip())}\\fR"] if line.startswith("# ") else [_prose(line)]
            )


def _tagged(rows: Rows) -> Iterator[str]:
    for name, text in rows:
        yield from (".TP", f"\\fB{_roff(name)}\\fR", _prose(text))


def _examples(lines: Sequence[str], heading: str = ".P") -> Iterator[str]:
    if lines:
        yield from (heading, ".EX", *map(_roff, lines), ".EE")


def _prose(text: str) -> str:
    """One line, in which what stands in backticks is bold."""
    pieces = _BACKTICKS.split(" ".join(text.split()))
    shown = "".join(f"\\fB{_roff(each)}\\fR" if n % 2 else _roff(each) for n, each in enumerate(pieces))
    return f"\\&{shown}" if shown.startswith(".") else shown


def _roff(text: str) -> str:
    """As it is written: no character is an instruction, or becomes a typographic one."""
    return "".join(f"\\[u{ord(char):04X}]" if ord(char) > 127 else char for char in text.translate(_ROFF))


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
