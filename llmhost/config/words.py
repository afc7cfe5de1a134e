"""How messages write keys and values: in one line, short, with nothing that a terminal would obey."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["KeyPath", "dotted", "printable"]

#: Names and list positions from the top: ``("fleet", "workers", 0, "url")``.
KeyPath = tuple[str | int, ...]

#: Characters; enough to recognise a value by, and to leave the message one line.
LONGEST = 60


def dotted(path: Sequence[str | int]) -> str:
    """As people write it: ``fleet.workers[0].url``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def printable(text: str) -> str:
    """The text with control characters written as escapes, cut where it is long."""
    escaped = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: LONGEST + 1])
    return escaped if len(escaped) <= LONGEST else escaped[: LONGEST - 1] + "…"
