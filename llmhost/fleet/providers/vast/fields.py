"""Values out of JSON that somebody else wrote. Pure.

Each is what it should be, or a ProviderError names it: what is malformed must never look like nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from llmhost.errors import ProviderError

__all__ = ["Fields", "Row", "as_row"]

Row = Mapping[str, object]

_LARGEST_ID = 2**63 - 1  #: what a database gives a row


def as_row(value: object, what: str) -> Row:
    """`value`, a JSON object. Raises ProviderError."""
    if not isinstance(value, Mapping):
        raise ProviderError(f"vast.ai's answer cannot be read: {what} is no object")
    return value


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object and what it is called. What is missing or null is None; what is wrong is an error."""

    row: Row
    what: str

    def id(self, name: str = "id") -> int:
        """A positive whole number that must be there."""
        value = self.row.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST_ID:
            raise self.wrong(name, "a positive whole number")
        return value

    def number(self, name: str) -> float | None:
        """A finite number, 0 or more."""
        value = self.signed(name)
        if value is not None and value < 0:
            raise self.wrong(name, "a number, 0 or more")
        return value

    def needed(self, name: str) -> float:
        """A finite number, 0 or more, that must be there."""
        value = self.number(name)
        if value is None:
            raise self.wrong(name, "a number, 0 or more")
        return value

    def signed(self, name: str) -> float | None:
        """A finite number."""
        value = self.row.get(name)
        if value is None:
            return None
        try:
            number = float(value) if isinstance(value, int | float) else math.nan
        except OverflowError:
            number = math.inf
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.wrong(name, "a number")
        return number

    def text(self, name: str) -> str | None:
        value = self.row.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def part(self, name: str) -> Row | None:
        """An object inside this one."""
        value = self.row.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(name, "an object")
        return value

    def wrong(self, name: str, wanted: str) -> ProviderError:
        return ProviderError(f"vast.ai's answer cannot be read: {name} of {self.what} is not {wanted}")
