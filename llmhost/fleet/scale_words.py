"""Numbers as the autoscaler says them. Pure."""

from __future__ import annotations

__all__ = ["count", "questions", "rate", "time"]


def count(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def questions(waiting: int) -> str:
    return "1 question waits" if waiting == 1 else f"{waiting:,} questions wait"


def rate(tokens: float) -> str:
    return f"{tokens:,.1f} tokens/s" if 0 < tokens < 10 else f"{tokens:,.0f} tokens/s"


def time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
