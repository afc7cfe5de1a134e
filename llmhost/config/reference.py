"""Generated from the models: the reference in the docs, and the commented YAML file."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from llmhost.config.fields import Section, format_duration
from llmhost.config.models import RENAMED, StaticWorker
from llmhost.config.schema import allowed, is_duration, is_known, sections, subsection, unknown
from llmhost.errors import ConfigError

__all__ = ["render_reference", "render_template"]

#: Characters of a comment line in the template, so that it fits beside other windows.
_COMMENT_WIDTH = 96

_TEMPLATE_HEAD = """\
# The configuration of llmhost, with every key. A key that you delete has its default.
# A key directly after a `#` has no default: its value is an example.
# ${NAME} and ${NAME:-default} take a value from the environment; keep secrets there.
"""

_REFERENCE_HEAD = """\
# Configuration

<!-- Written by scripts/make_docs.py from llmhost/config/models.py. Do not edit it here. -->

llmhost works without a configuration file: it then runs a local fleet of one worker and an embedded Redis.
`llmhost init` writes a file with a comment on every key; `configs/local.yaml` is that file.
`configs/vast.yaml` is a short one for GPUs rented on vast.ai ([setup.md](setup.md)).

## Where it comes from

Later sources override earlier ones:

1. the defaults below;
2. one YAML file: `--config PATH`, else the path in `LLMHOST_CONFIG`, else `./llmhost.yaml`, else
   `llmhost.yaml` in your configuration folder (`~/.config/llmhost/` on Linux). A file that you name must
   exist;
3. environment variables, one per key: `LLMHOST_FLEET__GPUS=2` sets `fleet.gpus`, and
   `LLMHOST_FLEET__BUDGET__PER_HOUR=2` sets `fleet.budget.per_hour`: two underscores stand for the dot;
4. flags, such as `--gpus 2`.

An unknown key or a value that is not allowed is an error (exit code 2), never ignored. The message
names the file and the line, the value, and what is allowed. Values of secrets are not shown.

## How values are written

- **Variables.** `${NAME}` is replaced with that environment variable, and must be set.
  `${NAME:-default}` takes the default where the variable is not set or empty. `$${` is a literal `${`.
  Variables work in values, not in keys, and cannot add keys or lists. Use them for secrets:
  `password: ${REDIS_PASSWORD}`.
- **Durations** are a number and a unit, `ms`, `s`, `m`, `h` or `d`: `100ms`, `90s`, `24h`, `7d`. A bare
  number is seconds. The shortest is `1ms`, the longest `3650d`.
- **Unset.** An empty value, `~` or `null` unsets an optional key, in the file, in a variable and in the
  environment. Quoted, it is text.
- **Text** needs no quotes, unless it begins with a character such as `@` or `*`, or contains `: ` or ` #`.
- YAML anchors, aliases and tags are not supported. A file has at most 1 MB.

"""


def render_reference() -> str:
    """The text of docs/configuration.md."""
    tables = [_section_reference(f"`{name}`", section) for name, section in sections()]
    tables.append(_section_reference("An entry of `fleet.workers`", StaticWorker))
    tables.append(_renamed())
    return _REFERENCE_HEAD + "\n".join(tables)


def _renamed() -> str:
    names = "\n".join(f"- `{old}` is now `{new}`" for old, new in RENAMED.items())
    return (
        "## Renamed keys\n\nThe old names, and their environment variables, still work with a warning. The "
        f"next release will remove them.\n\n{names}\n"
    )


def _section_reference(title: str, section: type[Section]) -> str:
    rows = "\n".join(_row(key, field) for key, field in section.model_fields.items() if not subsection(field))
    head = "| key | allowed | default | meaning |\n| --- | --- | --- | --- |"
    return f"## {title}\n\n{section.__doc__}\n\n{head}\n{rows}\n"


def _row(key: str, field: FieldInfo) -> str:
    cells = (f"`{key}`", allowed(field), _default(field), field.description or "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    return "none" if value is None or value == () else f"`{_scalar(_as_written(field, value))}`"


def render_template(values: Mapping[str, object] = {}) -> str:
    """A commented llmhost.yaml with every key and its default, or its value in `values`.

    `values` are by dotted key, such as ``fleet.provider``. Text is quoted such that reading the file gives
    it back, except that a ``${NAME}`` in it stays a variable, for secrets.

    Raises:
        ConfigError: there is no such key.
    """
    for key in values:
        if not is_known(key):
            raise ConfigError(unknown(tuple(key.split("."))))
    parts = [
        "\n".join(_section_template(name, section, values)) + "\n"
        for name, section in sections()
        if "." not in name
    ]
    return "\n".join([_TEMPLATE_HEAD, *parts])


def _section_template(name: str, section: type[Section], values: Mapping[str, object]) -> Iterator[str]:
    yield from _comment(section.__doc__)
    yield f"{name.rpartition('.')[2]}:"
    for key, field in section.model_fields.items():
        full = f"{name}.{key}"
        if inner := subsection(field):
            lines = _section_template(full, inner, values)
        else:
            lines = _entry(key, field, values.get(full, field.default))
        yield from (f"  {line}" for line in lines)


def _entry(key: str, field: FieldInfo, value: object) -> Iterator[str]:
    yield from _comment(field.description)
    if value is None or value in ((), []):
        example = (field.examples or [""])[0]
        yield from (f"#{line}" for line in _lines(key, example))
    else:
        yield from _lines(key, _as_written(field, value))


def _comment(text: str | None) -> Iterator[str]:
    return (f"# {line}" for line in textwrap.wrap(text or "", _COMMENT_WIDTH))


def _lines(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        yield f"{key}: {_scalar(value)}"
        return
    yield f"{key}:"
    for item in value:
        for number, (name, member) in enumerate(item.items()):
            yield f"  {'- ' if number == 0 else '  '}{name}: {_scalar(member)}"


def _as_written(field: FieldInfo, value: object) -> object:
    return format_duration(value) if is_duration(field) and isinstance(value, float) else value


def _scalar(value: object) -> str:
    """One line of YAML."""
    # Text with a line break or another invisible character can stand in one line in double quotes only.
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(value, default_style=style, width=sys.maxsize, allow_unicode=True)
    return text.removesuffix("...\n").rstrip("\n")
