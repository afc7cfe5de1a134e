"""Guard: texts that are too long to be compared in full."""

from __future__ import annotations

from llmhost.cache.guards.wording import MOST_WORDS, Wording
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "length"


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when either goes on after what is read: two long texts often begin alike and end otherwise."""
    if question.cut or stored.cut:
        return Objection(NAME, f"one is longer than the {MOST_WORDS} words that are compared")
    return None
