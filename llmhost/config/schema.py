"""Queries on the models: which keys exist, what a value may be, whether it is secret."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, SecretStr
from pydantic.fields import FieldInfo

from llmhost.config.document import KeyPath, dotted
from llmhost.config.fields import Allowed, Duration, Section, format_duration
from llmhost.config.models import RENAMED, Config

__all__ = [
    "allowed",
    "fields",
    "find",
    "is_duration",
    "is_known",
    "is_secret",
    "json_schema",
    "nearest",
    "says_why",
    "section_in",
    "sections",
    "subsection",
    "unknown",
    "value_above",
]

_DURATION = get_args(Duration)[-1]


def sections() -> Iterator[tuple[str, type[Section]]]:
    """The sections of the file, such as ``fleet`` and ``fleet.budget``, each after its parent."""
    return ((name, section) for name, field in _walk("", Config) if (section := subsection(field)))


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every key that holds a value, such as ``fleet.budget.per_hour``, in the order of the models."""
    return ((name, field) for name, field in _walk("", Config) if not subsection(field))


def _walk(prefix: str, parent: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    """Every field below `parent`, sections included."""
    for name, field in parent.model_fields.items():
        yield f"{prefix}{name}", field
        if section := subsection(field):
            yield from _walk(f"{prefix}{name}.", section)


def is_known(key: str) -> bool:
    """Whether this key holds a value; a section does not."""
    return any(key == name for name, _ in fields())


def find(path: KeyPath) -> FieldInfo | None:
    """The field at this path; None for the root, an item of a list and an unknown key."""
    *parent, last = path or (0,)
    return _members(tuple(parent)).get(last) if isinstance(last, str) else None


def value_above(path: KeyPath) -> FieldInfo | None:
    """The key whose value, a list or a mapping of texts, has what is at this path; None for anything else."""
    field = find(path[:-1]) if path else None
    return field if field is not None and not section_in(field) else None


def _members(path: KeyPath) -> Mapping[str, FieldInfo]:
    """The fields of the mapping at this path; a list's are those of its items."""
    if not path:
        return Config.model_fields
    if isinstance(path[-1], int):
        return _members(path[:-1])
    field = find(path)
    section = section_in(field) if field else None
    return section.model_fields if section else {}


def subsection(field: FieldInfo) -> type[Section] | None:
    """The section that this field is; None for a value and a list."""
    return None if _is_list(_kind(field)) else section_in(field)


def is_secret(field: FieldInfo) -> bool:
    return _kind(field) is SecretStr


def is_duration(field: FieldInfo) -> bool:
    return _DURATION in _notes(field)


def says_why(field: FieldInfo) -> bool:
    """Whether a validator of ours checks the value, whose message helps more than `allowed`."""
    return any(isinstance(note, AfterValidator) for note in _notes(field))


def nearest(path: KeyPath) -> str | None:
    """The most similar key or section: of the same section, else any."""
    *parent, leaf = path
    siblings = [dotted((*parent, name)) for name in _members(tuple(parent))]
    others = [name for name, _ in (*sections(), *fields())]
    return _closest(str(leaf), siblings) or _closest(str(leaf), others)


def unknown(path: KeyPath) -> str:
    """The message for an unknown key, with a suggestion."""
    meant = nearest(path)
    return f"unknown key `{dotted(path)}`" + (f"; did you mean `{meant}`?" if meant else "")


def allowed(field: FieldInfo | None) -> str:
    """What a value of this field may be, in words; `field` None is an item of a list, as from `find`."""
    if field is None or subsection(field):
        return "mapping of keys"
    for note in _notes(field):
        if isinstance(note, Allowed):
            return note.words + (_span(field) if note == _DURATION else "")
    kind = _kind(field)
    if _is_list(kind):
        return "list of mappings" + _length(field, "entries")
    if get_origin(kind) is Literal:
        *others, last = (f"`{value}`" for value in get_args(kind))
        return f"{', '.join(others)} or {last}" if others else last
    if kind is bool:
        return "`true` or `false`"
    if kind in (int, float):
        return ("whole number" if kind is int else "number") + _range(field)
    return ("secret text" if is_secret(field) else "text") + _length(field, "characters")


def _range(field: FieldInfo) -> str:
    low, above, high, below = (_bound(field, name) for name in ("ge", "gt", "le", "lt"))
    if low is not None and high is not None:
        return f", {low} to {high}"
    least = f", {low} or more" if low is not None else f" over {above}" if above is not None else ""
    most = f", at most {high}" if high is not None else f", below {below}" if below is not None else ""
    return least + most


def _span(field: FieldInfo) -> str:
    shortest, longest = (format_duration(_bound(field, name)) for name in ("ge", "le"))
    return f", `{shortest}` to `{longest}`"


def _length(field: FieldInfo, unit: str) -> str:
    least, most = _bound(field, "min_length"), _bound(field, "max_length")
    if most is None:
        return ", not empty" if least else ""
    return f", {least} to {most} {unit}" if least else f", at most {most} {unit}"


def _bound(field: FieldInfo, name: str) -> Any:
    return next((getattr(note, name) for note in _notes(field) if hasattr(note, name)), None)


def _kind(field: FieldInfo) -> Any:
    """The type without `None` and annotations."""
    option = _option(field)
    return get_args(option)[0] if get_origin(option) is Annotated else option


def _notes(field: FieldInfo) -> Iterator[Any]:
    """The annotations: bounds, validators and `Allowed`; the field's own before its type's."""
    for note in (*field.metadata, *getattr(_option(field), "__metadata__", ())):
        if isinstance(note, FieldInfo):  # an optional type's annotations stay nested
            yield from note.metadata
        else:
            yield note


def _option(field: FieldInfo) -> Any:
    """The type without `None`."""
    kind = field.annotation
    if get_origin(kind) in (Union, UnionType):
        return next(option for option in get_args(kind) if option is not NoneType)
    return kind


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple


def section_in(field: FieldInfo) -> type[Section] | None:
    """The section that this field is, or is a list of."""
    kind = _kind(field)
    options = get_args(kind) if _is_list(kind) else (kind,)
    return next((item for item in options if isinstance(item, type) and issubclass(item, Section)), None)


def _closest(word: str, keys: Sequence[str]) -> str | None:
    by_last_part = {key.rpartition(".")[2]: key for key in keys}
    match = difflib.get_close_matches(word.lower().replace("-", "_"), by_last_part, n=1)
    return by_last_part[match[0]] if match else None


# A JSON Schema, by which editors complete and check the file. What it refuses, llmhost refuses; rules between
# keys, and grammars such as that of offers, are llmhost's alone.

#: any value may come from the environment
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
#: as `parse_duration` reads it
_DURATION_TEXT = {"type": "string", "pattern": r"^\s*[0-9.eE+-]+\s*(ms|s|m|h|d)?\s*$"}


def json_schema() -> dict[str, Any]:
    """The schema of the whole file, in the draft of 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llmhost.yaml",
        **_object_schema("", Config),
    }


def _object_schema(prefix: str, section: type[Section]) -> dict[str, Any]:
    """Of a mapping with these keys, and the old names of some; empty where all are commented out."""
    properties: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        inner = subsection(field)
        properties[name] = _object_schema(f"{prefix}{name}.", inner) if inner else _value_schema(field)
    for old, new in RENAMED.items():
        if old.startswith(prefix) and prefix and "." not in old.removeprefix(prefix):
            properties[old.removeprefix(prefix)] = {"deprecated": True, "description": f"Now `{new}`."}
    return {
        "description": " ".join((section.__doc__ or "").split()),
        "type": ["object", "null"],
        "properties": properties,
        "required": [name for name, field in section.model_fields.items() if field.is_required()],
        "additionalProperties": False,
    }


def _value_schema(field: FieldInfo) -> dict[str, Any]:
    options = [*_value_options(field), _VARIABLE]
    if not field.is_required() and field.default in (None, ()):
        options.append({"type": "null"})
    made: dict[str, Any] = {"description": field.description or "", "anyOf": options}
    if not field.is_required() and field.default not in (None, ()):
        is_span = is_duration(field) and isinstance(field.default, float)
        made["default"] = format_duration(field.default) if is_span else field.default
    return made


def _value_options(field: FieldInfo) -> Iterator[dict[str, Any]]:
    kind = _kind(field)
    bounds = {name: bound for name, key in _JSON_BOUNDS.items() if (bound := _bound(field, key)) is not None}
    if is_duration(field):
        yield from ({"type": "number", **bounds}, _DURATION_TEXT)
    elif _is_list(kind):
        item = section_in(field)
        yield {"type": "array", "items": {"type": "string"} if item is None else _object_schema("", item)}
    elif get_origin(kind) in (dict, Mapping):
        yield {"type": "object"}
    elif get_origin(kind) is Literal:
        yield {"enum": list(get_args(kind))}
    elif kind is bool:
        yield {"type": "boolean"}
    elif kind in (int, float):
        yield {"type": "integer" if kind is int else "number", **bounds}
    else:  # a password may be all digits, which YAML takes for a number
        pattern = _bound(field, "pattern")
        lengths = {
            name: bound for name, key in _JSON_LENGTHS.items() if (bound := _bound(field, key)) is not None
        }
        yield {"type": "string", **lengths, **({"pattern": pattern} if isinstance(pattern, str) else {})}
        yield {"type": "number"}


_JSON_BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
_JSON_LENGTHS = {"minLength": "min_length", "maxLength": "max_length"}
