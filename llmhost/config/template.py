"""The commented YAML file, generated from the models."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from llmhost.config.fields import Section, format_duration
from llmhost.config.schema import is_duration, is_known, sections, subsection, unknown
from llmhost.errors import ConfigError

__all__ = ["render_template", "written"]

#: Characters of a comment line in the template, so that it fits beside other windows.
_COMMENT_WIDTH = 96

_TEMPLATE_HEAD = """\
# The configuration of llmhost, with every key. A key that you delete has its default.
# A key directly after a `#` has no default: its value is an example.
# ${NAME} and ${NAME:-default} take a value from the environment; keep secrets there.
"""


_SHORT_HEAD = """\
# The configuration of llmhost. What is not here has its default: `llmhost config show --all` has every key.
# A key directly after a `#` has no default: its value is an example.
"""

#: what a key is about; editors show the rest, from the schema
_FIRST_SENTENCE = re.compile(r"\A.+?[.](?=\s|\Z)", re.DOTALL)


def render_template(values: Mapping[str, object] = {}, only: Collection[str] | None = None) -> str:
    """A commented llmhost.yaml with every key and its default, or its value in `values`. With `only` it is a
    short one, of these keys.

    `values` are by dotted key, such as ``fleet.provider``. Text is quoted such that reading the file gives
    it back, except that a ``${NAME}`` in it stays a variable, for secrets.

    Raises:
        ConfigError: there is no such key.
    """
    for key in values:
        if not is_known(key):
            raise ConfigError(unknown(tuple(key.split("."))))
    found = (
        _section_template(name, section, values, only) for name, section in sections() if "." not in name
    )
    parts = ["\n".join(lines) + "\n" for lines in found if lines]
    return "\n".join([_TEMPLATE_HEAD if only is None else _SHORT_HEAD, *parts])


def _section_template(
    name: str, section: type[Section], values: Mapping[str, object], only: Collection[str] | None
) -> Sequence[str]:
    """The lines of a section; none where it has none of the keys."""
    lines: list[str] = []
    for key, field in section.model_fields.items():
        full = f"{name}.{key}"
        if inner := subsection(field):
            lines += _section_template(full, inner, values, only)
        elif only is None or full in only:
            description = field.description or ""
            sentence = None if only is None else _FIRST_SENTENCE.match(description)
            lines += _comment(sentence[0] if sentence else description)
            lines += _entry(key, field, values.get(full, field.default))
    if not lines:
        return ()
    about = _comment(section.__doc__) if only is None else ()
    return [*about, f"{name.rpartition('.')[2]}:", *(f"  {line}" for line in lines)]


def _entry(key: str, field: FieldInfo, value: object) -> Iterator[str]:
    if value is None or value in ((), []):
        example = (field.examples or [""])[0]
        yield from (f"#{line}" for line in _lines(key, example))
    else:
        yield from _lines(key, _as_written(field, value))


def _comment(text: str | None) -> Iterator[str]:
    return (f"# {line}" for line in textwrap.wrap(" ".join((text or "").split()), _COMMENT_WIDTH))


def _lines(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        yield f"{key}: {_scalar(value)}"
        return
    yield f"{key}:"
    for item in value:
        if isinstance(item, str):
            yield f"  - {_scalar(item)}"
            continue
        for number, (name, member) in enumerate(item.items()):
            yield f"  {'- ' if number == 0 else '  '}{name}: {_scalar(member)}"


def written(field: FieldInfo, value: object) -> str:
    """The value of this field as one line of YAML."""
    return _scalar(_as_written(field, value))


def _as_written(field: FieldInfo, value: object) -> object:
    return format_duration(value) if is_duration(field) and isinstance(value, float) else value


def _scalar(value: object) -> str:
    """One line of YAML."""
    # Text with a line break or another invisible character can stand in one line in double quotes only.
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(
        value,
        default_style=style,
        default_flow_style=True,
        width=sys.maxsize,
        allow_unicode=True,
        sort_keys=False,
    )
    return text.removesuffix("...\n").rstrip("\n")
