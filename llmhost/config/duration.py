"""Spans of time as people write them: ``100ms``, ``90s``, ``24h``, ``7d``."""

from __future__ import annotations

__all__ = ["format_duration", "parse_duration"]

#: Unit to seconds, shortest first.
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds from text such as ``90s``, ``1.5h`` or ``7d``; a bare number is seconds.

    Raises:
        ValueError: it is neither. Bounds are the caller's: 0 and infinity pass.
    """
    text = text.strip()
    for unit, seconds in _UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * seconds
    return float(text)


def format_duration(seconds: float) -> str:
    """The shortest usual way to write it, such that `parse_duration` gives exactly the same seconds.

    One day is ``24h``, as lifetimes of a day are usually written; days begin at two.
    """
    for unit, size in reversed(_UNITS.items()):
        count = round(seconds / size)
        least = 2 if unit == "d" else 1
        if count >= least and count * size == seconds:
            return f"{count}{unit}"
    return f"{seconds!r}s"
