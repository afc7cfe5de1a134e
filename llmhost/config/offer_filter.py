"""Which offers fit, in the words of `vastai search offers`. Pure.

A filter is terms with blanks between them, and all of them must hold: ``gpu_name=RTX_4090
reliability > 0.95 geolocation in [US,CA]``. The operators are ``= == != > >= < <= in notin``. A value is
a number, ``true`` or ``false``, or text, in quotes where it has blanks or signs. As in vast.ai's own
command line ``_`` stands for a blank, memory is in GB, durations are in days, and ``field=any`` asks for
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmhost.fleet.offer_fields import Field, find_field

__all__ = ["Term", "parse_filter"]

_BLANKS = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r"\s*(==|!=|>=|<=|=|>|<|not\s+in\b|notin\b|in\b)")
_VALUE = re.compile(r"""\s*(\[[^\[\]]*\]|"[^"]*"|'[^']*'|[^\s\[\]"'=<>!]+)(?=\s|$)""")
#: One of a list, up to the comma: in quotes or not.
_ITEM = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,"']*)\s*(?:,|$)""")

#: What means "whatever it is" after ``=``.
_ANYTHING = frozenset({"any", "*", "?"})

#: characters of the user's own text that a message repeats
_LONGEST = 40

_TESTS: Mapping[str, Callable[[Field, Any, Sequence[Any]], bool]] = {
    "=": lambda field, value, wanted: field.same(value, wanted[0]),
    "!=": lambda field, value, wanted: not field.same(value, wanted[0]),
    ">": lambda _, value, wanted: value > wanted[0],
    ">=": lambda _, value, wanted: value >= wanted[0],
    "<": lambda _, value, wanted: value < wanted[0],
    "<=": lambda _, value, wanted: value <= wanted[0],
    "in": lambda field, value, wanted: any(field.same(value, one) for one in wanted),
    "notin": lambda field, value, wanted: not any(field.same(value, one) for one in wanted),
}
_COMPARISONS = frozenset({">", ">=", "<", "<="})
_LISTS = frozenset({"in", "notin"})


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that must hold. `text` parses to this term again; `values` are in the units of a row."""

    text: str
    field: Field
    operator: str
    values: tuple[Any, ...]

    def accepts(self, row: Mapping[str, object]) -> bool:
        """Whether the offer fits. One that does not say, or not in the field's kind, does not."""
        value = self.field.read(row)
        return value is not None and self.holds(value)

    def holds(self, value: Any) -> bool:
        """Whether it is true of the field's value."""
        return _TESTS[self.operator](self.field, value, self.values)


def parse_filter(text: str) -> tuple[Term, ...]:
    """The terms, in the order in which they stand. No text asks for nothing.

    Raises:
        ValueError: with a sentence: an unknown field or operator, a value of the wrong kind, or terms that
            no offer can fit.
    """
    terms = tuple(term for term in _terms(text) if term is not None)
    by_field: dict[str, list[Term]] = {}
    for term in terms:
        by_field.setdefault(term.field.name, []).append(term)
    for together in by_field.values():
        _check_possible(together)
    return terms


def _terms(text: str) -> Iterator[Term | None]:
    at = _end(_BLANKS, text, 0)
    while at < len(text):
        name = _NAME.match(text, at)
        if name is None:
            raise ValueError(f"the name of a field was expected at `{_shown(text[at:])}`")
        field = find_field(name[0])
        operator = _OPERATOR.match(text, name.end())
        if operator is None:
            raise ValueError(
                f"one of {' '.join(_TESTS)} was expected after `{name[0]}`{_found(text, name.end())}"
            )
        value = _VALUE.match(text, operator.end())
        if value is None:
            so_far = _shown(text[at : operator.end()])
            raise ValueError(f"one value was expected after `{so_far}`{_found(text, operator.end())}")
        yield _term(name[0], field, _plain(operator[1]), value[1])
        at = _end(_BLANKS, text, value.end())


def _term(name: str, field: Field, operator: str, value: str) -> Term | None:
    """None where anything will do."""
    if value in _ANYTHING:
        if operator != "=":
            raise ValueError(f"`{value}` goes with `=` alone, not with `{name}{operator}`")
        return None
    if operator in _COMPARISONS and not field.ordered:
        raise ValueError(
            f"`{name}` is neither more nor less: `{operator}` cannot be asked of it, but `=` can"
        )
    items = _items(name, operator, value)
    values = tuple(field.parse(_unquoted(item)) for item in items)
    shown = f"{name} {operator} [{','.join(items)}]" if operator in _LISTS else f"{name}{operator}{items[0]}"
    return Term(shown, field, operator, values)


def _items(name: str, operator: str, value: str) -> Sequence[str]:
    """The values as they were written, quotes included."""
    if operator not in _LISTS:
        if value[0] == "[" or (operator not in _COMPARISONS and value[0] not in "\"'" and "," in value):
            raise ValueError(f"`{operator}` takes one value; for several write `{name} in [one,other]`")
        return [value]
    listed = value[1:-1] if value[0] == "[" else value
    items = []
    at = 0
    while at < len(listed):
        item = _ITEM.match(listed, at)
        if item is None:
            raise ValueError(f"commas were expected between the values in `{_shown(value)}`")
        items.append(item[1].strip())
        at = item.end()
    if not any(items):
        raise ValueError(f"`{name} {operator}` needs at least one value")
    return [item for item in items if item]


def _check_possible(terms: Sequence[Term]) -> None:
    """Raises ValueError where no value of the field these terms are about could fit them all."""
    wanted = [value for term in terms for value in term.values]
    samples = terms[0].field.samples(wanted)
    if samples and not any(all(term.holds(value) for term in terms) for value in samples):
        raise ValueError(f"no offer can fit `{' '.join(term.text for term in terms)}`")


def _plain(operator: str) -> str:
    """``==`` is ``=``, and ``not in`` is ``notin``."""
    return "".join(operator.split()).replace("==", "=")


def _unquoted(item: str) -> str:
    return item[1:-1] if item[0] in "\"'" else item


def _found(text: str, at: int) -> str:
    rest = text[at:].strip()
    return f", not `{_shown(rest)}`" if rest else ""


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
