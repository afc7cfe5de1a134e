"""The filter for offers, in the syntax of `vastai search offers`. Pure.

A filter is a list of terms separated by spaces, all of which must hold: ``gpu_name=RTX_4090
reliability > 0.95 geolocation in [US,CA]``. The operators are ``= == != > >= < <= in notin``. A value is
a number, ``true`` or ``false``, or text, in quotes if it has spaces or signs. As in vast.ai's own
command line ``_`` stands for a space, memory is in GB, durations are in days, and ``field=any`` accepts
anything. The columns of a field are those of the rows that vast.ai's API returns.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, ClassVar

__all__ = ["FIELDS", "Field", "Term", "find_field", "parse_filter"]


_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_WORD = re.compile(r"\w+")
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){0,9}", re.ASCII)

#: JSON has integers that are too large for a float
_MOST = 1e300

_BOOLEANS = {"true": True, "false": False}

#: The API says MB and seconds where people say GB and days; vast.ai's command line takes 1000 MB for a GB.
_GB = 1_000.0
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Field:
    """A field of text; the subclasses are of other types.

    `columns` are tried in order. Numbers are in the units of the row.
    """

    name: str
    columns: tuple[str, ...]
    ordered: ClassVar[bool] = False

    def parse(self, text: str) -> Any:
        """The value in a filter, without its case. Raises ValueError with a sentence."""
        value = _blanks(text).casefold()
        if not value:
            raise ValueError(f"`{self.name}` needs a text")
        return value

    def read(self, row: Mapping[str, object]) -> Any:
        """The row's value; None if it is missing or of another type."""
        values = (self.convert(row.get(column)) for column in self.columns)
        return next((value for value in values if value is not None), None)

    def convert(self, raw: object) -> Any:
        """A column's value; None if it is of another type."""
        return (_blanks(raw).casefold() or None) if isinstance(raw, str) else None

    def same(self, value: Any, wanted: Any) -> bool:
        """Whether the row's value is the filter's."""
        return bool(value == wanted)

    def samples(self, wanted: Sequence[Any]) -> Sequence[Any]:
        """Values of which one fits, if any value can. Empty if that is not known."""
        return [*wanted, "-".join(["", *wanted])]


@dataclass(frozen=True, slots=True)
class Place(Field):
    """A region such as ``California, US``. Two letters are a country; else whole words of it."""

    def same(self, value: str, wanted: str) -> bool:
        if len(wanted) == 2:
            return value.rpartition(",")[2].strip() == wanted
        return _words(wanted) in _words(value)

    def samples(self, wanted: Sequence[Any]) -> Sequence[Any]:  # noqa: ARG002 - a region fits many words
        return []


@dataclass(frozen=True, slots=True)
class Number(Field):
    """`unit` is how many of the row's units are one of the operator's. No field goes below 0."""

    unit: float = 1.0
    most: float = math.inf
    whole: bool = False
    ordered: ClassVar[bool] = True

    def parse(self, text: str) -> float:
        number = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(number * self.unit):
            raise ValueError(f"`{self.name}` must be a number, not `{text}`")
        if not 0 <= number <= self.most:
            raise ValueError(f"`{self.name}` cannot be {text}: it is {self._range()}")
        if self.whole and number != int(number):
            raise ValueError(f"`{self.name}` must be a whole number, not {text}")
        return number * self.unit

    def convert(self, raw: object) -> float | None:
        is_number = isinstance(raw, (int, float)) and not isinstance(raw, bool)
        return float(raw) if is_number and abs(raw) < _MOST else None  # type: ignore[arg-type]

    def samples(self, wanted: Sequence[float]) -> Sequence[float]:
        if self.whole:
            near = {value + step for value in wanted for step in (-1, 0, 1)}
        else:
            ends = sorted({0.0, min(self.most, max(wanted) + 1), *wanted})
            near = {*ends, *((low + high) / 2 for low, high in pairwise(ends))}
        return [value for value in near if 0 <= value <= self.most]

    def _range(self) -> str:
        return f"from 0 to {self.most:g}" if self.most < math.inf else "0 or more"


@dataclass(frozen=True, slots=True)
class Flag(Field):
    """True or false. In a column of text, `yes` is the one that means true."""

    yes: str = ""

    def parse(self, text: str) -> bool:
        if text.casefold() not in _BOOLEANS:
            raise ValueError(f"`{self.name}` must be true or false, not `{text}`")
        return _BOOLEANS[text.casefold()]

    def convert(self, raw: object) -> bool | None:
        if isinstance(raw, str) and self.yes:
            return raw == self.yes
        return bool(raw) if raw in (0, 1) else None

    def samples(self, wanted: Sequence[Any]) -> Sequence[Any]:  # noqa: ARG002
        return [True, False]


@dataclass(frozen=True, slots=True)
class Version(Field):
    """A driver's version such as ``535.86.05``, compared part by part."""

    ordered: ClassVar[bool] = True

    def parse(self, text: str) -> tuple[int, ...]:
        version = self.convert(text)
        if version is None:
            raise ValueError(f"`{self.name}` must be a version such as 535.86.05, not `{text}`")
        return version

    def convert(self, raw: object) -> tuple[int, ...] | None:
        if not isinstance(raw, str) or not _VERSION.fullmatch(raw):
            return None
        return tuple(int(part) for part in raw.split("."))

    def samples(self, wanted: Sequence[Any]) -> Sequence[Any]:
        return [(), *wanted, *((*version, 0) for version in wanted)]


def find_field(name: str) -> Field:
    """The field of that name. Raises ValueError with a sentence that names the nearest one."""
    if found := FIELDS.get(name):
        return found
    nearest = get_close_matches(name, FIELDS, n=1)
    raise ValueError(
        f"offers have no field `{name}`" + (f"; did you mean `{nearest[0]}`?" if nearest else "")
    )


def _blanks(text: str) -> str:
    return " ".join(text.replace("_", " ").split())


def _words(text: str) -> str:
    """Its words, with a space before and after each."""
    return f" {' '.join(_WORD.findall(text))} "


def _own(kind: Any, names: str, **more: Any) -> Iterable[Field]:
    """Fields of one type whose columns have the same names."""
    return (kind(name, (name,), **more) for name in names.split())


_FIELDS: Sequence[Field] = (
    *_own(Field, "gpu_name cpu_arch gpu_arch mobo_name ubuntu_version verification"),
    *_own(
        Number,
        "dlperf dlperf_per_dphtotal dph_total dph_base total_flops flops_per_dphtotal min_bid "
        "storage_cost inet_down inet_up inet_down_cost inet_up_cost disk_space disk_bw gpu_mem_bw "
        "gpu_max_power gpu_max_temp pci_gen pcie_bw bw_nvlink cpu_ghz cpu_cores_effective cuda_max_good",
    ),
    *_own(Number, "num_gpus cpu_cores direct_port_count compute_cap id machine_id host_id", whole=True),
    *_own(Number, "gpu_ram gpu_total_ram cpu_ram", unit=_GB),
    *_own(Number, "gpu_frac", most=1.0),
    *_own(Flag, "static_ip has_avx gpu_display_active rentable rented vms_enabled"),
    *_own(Version, "driver_version"),
    Number("reliability", ("reliability", "reliability2"), most=1.0),
    Number("duration", ("duration",), unit=_DAY),
    Place("geolocation", ("geolocation",)),
    Flag("verified", ("verification", "verified"), yes="verified"),
    # The API's code for a host that is a data centre is 1.
    Flag("datacenter", ("hosting_type", "datacenter")),
)
_PLAIN = {field.name: field for field in _FIELDS}

#: every field by its name and by its aliases in vast.ai's command line
FIELDS: Mapping[str, Field] = {
    **_PLAIN,
    "cuda_vers": _PLAIN["cuda_max_good"],
    "display_active": _PLAIN["gpu_display_active"],
    "dlperf_usd": _PLAIN["dlperf_per_dphtotal"],
    "dph": _PLAIN["dph_total"],
    "flops_usd": _PLAIN["flops_per_dphtotal"],
    "reliability2": _PLAIN["reliability"],
}

_NAME = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)")
_OPERATOR = re.compile(r"\s*(==|!=|>=|<=|=|>|<|not\s+in\b|notin\b|in\b)")
_VALUE = re.compile(r"""\s*(\[[^\[\]]*\]|"[^"]*"|'[^']*'|[^\s\[\]"'=<>!]+)(?=\s|$)""")
#: an item of a list, up to the comma, quoted or not
_ITEM = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,"']*)\s*(?:,|$)""")

#: after ``=``, these accept anything
_ANYTHING = frozenset({"any", "*", "?"})

#: characters of the filter that a message quotes
_LONGEST = 40

_OPERATORS = "= != > >= < <= in notin"
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_LISTS = frozenset({"in", "notin"})


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. `text` parses to this term again; `values` are in the units of a row."""

    text: str
    field: Field
    operator: str
    values: tuple[Any, ...]

    def accepts(self, row: Mapping[str, object]) -> bool:
        """Whether the offer fits. It does not if its value is missing or of another type."""
        value = self.field.read(row)
        return value is not None and self.holds(value)

    def holds(self, value: Any) -> bool:
        """Whether it is true of the field's value."""
        if compare := _COMPARISONS.get(self.operator):
            return compare(value, self.values[0])
        same = any(self.field.same(value, wanted) for wanted in self.values)
        return same if self.operator in ("=", "in") else not same


def parse_filter(text: str) -> tuple[Term, ...]:
    """The terms, in their order; none for an empty text.

    Raises:
        ValueError: with a sentence: an unknown field or operator, a value of the wrong type, or terms that
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
    at = 0
    while text[at:].strip():
        name = _NAME.match(text, at)
        if name is None:
            raise ValueError(f"expected the name of a field at `{_shown(text[at:])}`")
        field = find_field(name[1])
        sign = _OPERATOR.match(text, name.end())
        if sign is None:
            raise ValueError(f"expected one of {_OPERATORS} after `{name[1]}`{_found(text, name.end())}")
        value = _VALUE.match(text, sign.end())
        if value is None:
            so_far = _shown(text[at : sign.end()])
            raise ValueError(f"expected one value after `{so_far}`{_found(text, sign.end())}")
        yield _term(name[1], field, _plain(sign[1]), value[1])
        at = value.end()


def _term(name: str, field: Field, operator: str, value: str) -> Term | None:
    """None for a term that accepts anything."""
    if value in _ANYTHING:
        if operator != "=":
            raise ValueError(f"`{value}` needs the operator `=`, not `{operator}`")
        return None
    if operator in _COMPARISONS and not field.ordered:
        raise ValueError(f"`{name}` has no order: use `=`, not `{operator}`")
    items = _items(name, operator, value)
    values = tuple(field.parse(_unquoted(item)) for item in items)
    shown = f"{name} {operator} [{','.join(items)}]" if operator in _LISTS else f"{name}{operator}{items[0]}"
    return Term(shown, field, operator, values)


def _items(name: str, operator: str, value: str) -> Sequence[str]:
    """The values as written, with quotes."""
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
            raise ValueError(f"expected commas between the values in `{_shown(value)}`")
        items.append(item[1].strip())
        at = item.end()
    if not any(items):
        raise ValueError(f"`{name} {operator}` needs at least one value")
    return [item for item in items if item]


def _check_possible(terms: Sequence[Term]) -> None:
    """Raises ValueError if no value of their field could fit all these terms."""
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
