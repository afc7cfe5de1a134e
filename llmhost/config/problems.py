"""What validation found wrong, in words: where it stands, what it is, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from llmhost.config.document import Place
from llmhost.config.schema import allowed, find, is_secret, is_section, says_why, unknown
from llmhost.config.words import KeyPath, dotted, printable
from llmhost.errors import ConfigError

__all__ = ["explain"]

#: Further problems that are named; a message with more would no longer be read.
NAMED = 3

#: User name and password in an address that stands where no secret was expected.
_CREDENTIALS = re.compile(r"//[^/\s]*@")

#: A key as our own rules name it.
_KEY = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)`")


def explain(error: ValidationError, places: Mapping[KeyPath, Place]) -> ConfigError:
    """The first problem in full, and the names of the others. Secret values are left out.

    `places` knows where values were set; its entry for the empty path stands for all the others.
    """
    problems = error.errors(include_url=False, include_input=False)
    # A mistyped key first: what is missing is often that key under its right name.
    first, *others = sorted(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    return ConfigError(_describe(first, places) + _others(others), hint=_hint(first["type"]))


def _hint(problem: str) -> str | None:
    if problem == "extra_forbidden":
        return "`llmhost init` writes a file with every key"
    if problem == "model_type":
        return "write each key on a line below it, indented, with a space after the colon"
    return None


def _others(problems: Sequence[Any]) -> str:
    if not problems:
        return ""
    names = [f"`{dotted(problem['loc'])}`" for problem in problems[:NAMED]]
    if more := len(problems) - len(names):
        names.append(f"{more} more")
    *head, last = names
    return f"; also wrong: {', '.join(head)} and {last}" if head else f"; also wrong: {last}"


def _describe(problem: Any, places: Mapping[KeyPath, Place]) -> str:
    path: KeyPath = problem["loc"]
    field = find(path)
    place = _place(path, places)
    if problem["type"] == "value_error":
        rule = str(problem["ctx"]["error"])
        if field is None or is_section(field):
            return f"{_place_of_rule(rule, path, places).where}: {rule}"
        if says_why(field):
            return f"{place.where}: {_refused(path, field, place)}: {rule}"
    return f"{place.where}: {_what(problem['type'], path, field, place)}"


def _what(problem: str, path: KeyPath, field: FieldInfo | None, place: Place) -> str:
    if problem == "extra_forbidden":
        return unknown(path)
    if problem == "missing":
        return f"`{dotted(path)}` is missing"
    return f"{_refused(path, field, place)}; allowed: {allowed(field)}"


def _refused(path: KeyPath, field: FieldInfo | None, place: Place) -> str:
    return f"`{dotted(path)}` cannot be {_shown(field, place.written)}"


def _shown(field: FieldInfo | None, written: object) -> str:
    if written is None or written == "":
        return "empty"
    if isinstance(written, dict):
        return "a mapping"
    if isinstance(written, list | tuple):
        return f"a list of {len(written)}" if field and is_section(field) else "a list"
    # Text in place of keys may be `password:secret` with the space forgotten.
    if field is None or is_section(field):
        return "text"
    if is_secret(field):
        return "the value given, which is not shown"
    if "${" in str(written):
        return f"what `{printable(str(written))}` stands for"
    return f"`{printable(_CREDENTIALS.sub('//***@', str(written)))}`"


def _place(path: KeyPath, places: Mapping[KeyPath, Place]) -> Place:
    """The place of the value, else of what it would stand in."""
    while path and path not in places:
        path = path[:-1]
    return places[path]


def _place_of_rule(rule: str, path: KeyPath, places: Mapping[KeyPath, Place]) -> Place:
    """The place of the first key that a rule among several keys names, else of their section."""
    named = (tuple(key.split(".")) for key in _KEY.findall(rule))
    return next((places[key] for key in named if key in places), _place(path, places))
