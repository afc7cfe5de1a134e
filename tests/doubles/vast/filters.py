"""The operators with which searches and lists are filtered and sorted."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from doubles.vast.answers import refusal

Row = Mapping[str, Any]


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """As in SQL, nothing compares with null."""
    return lambda have, want: have is not None and want is not None and compare(have, want)


OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": _ordered(operator.gt),
    "gte": _ordered(operator.ge),
    "lt": _ordered(operator.lt),
    "lte": _ordered(operator.le),
    "in": lambda have, want: have in want,
    "notin": lambda have, want: have not in want,
}


def invalid(msg: str) -> Exception:
    return refusal(400, "invalid_request", f"Error in query parameters: {msg}")


def check(filters: Any, keys: Iterable[str]) -> None:
    """Raises Refused (400) at a key or an operator that does not exist."""
    if not isinstance(filters, Mapping):
        raise invalid("select_filters is not an object")
    for key, conditions in filters.items():
        if key not in keys:
            raise invalid(f"{key} is not a valid search key")
        if not isinstance(conditions, Mapping) or set(conditions) - set(OPERATORS):
            raise invalid(f"{key} has an invalid operator")


def matches(row: Row, filters: Mapping[str, Mapping[str, Any]]) -> bool:
    try:
        return all(
            OPERATORS[name](row.get(key), _like(row.get(key), wanted))
            for key, conditions in filters.items()
            for name, wanted in conditions.items()
        )
    except (TypeError, ValueError) as error:
        raise invalid(str(error)) from error


def _like(have: Any, wanted: Any) -> Any:
    """The SDK sends numbers of a query that is text as text; they are compared as numbers."""
    if isinstance(wanted, list):
        return [_like(have, one) for one in wanted]
    is_number = isinstance(have, (int, float)) and not isinstance(have, bool)
    return float(wanted) if is_number and isinstance(wanted, str) else wanted


def in_order(rows: Iterable[Row], order: Iterable[tuple[str, str]]) -> list[Row]:
    """By the first key, then the next; nulls last whichever the direction."""
    done = list(rows)
    for key, direction in reversed(list(order)):
        known = [row for row in done if row.get(key) is not None]
        unknown = [row for row in done if row.get(key) is None]
        known.sort(key=operator.itemgetter(key), reverse=direction == "desc")
        done = known + unknown
    return done
