"""Guard: one word was replaced, and nothing else."""

from __future__ import annotations

from llmhost.cache.guards.wording import Wording
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "substitution"


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Doubts when the texts are the same but for one word: a synonym, or another thing."""
    ours, theirs = question.content - stored.content, stored.content - question.content
    if len(ours) != 1 or len(theirs) != 1 or len(question.content) < 2:
        return None
    (one,), (other,) = ours, theirs
    if tuple(other if stem == one else stem for stem in question.stems) != stored.stems:
        return None
    words = f"one says {question.word_of(one)} where the other says {stored.word_of(other)}"
    return Objection(NAME, words, refuses=False)
