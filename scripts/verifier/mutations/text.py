"""What all mutations share: the types, and care for case and marks."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

__all__ = ["Mutation", "PairMaker", "core", "key", "like", "lower_first", "replace_word", "sentence", "words"]

#: A changed question, or None where the question offers nothing to change.
Mutation = Callable[[str, Random], str | None]
#: Two questions made from one, or None.
PairMaker = Callable[[str, Random], tuple[str, str] | None]

_KEEP_UPPER = re.compile(r"I\b|\w*[A-Z0-9]\w*[A-Z0-9]|[A-Z]\.")


def words(question: str) -> list[str]:
    """Words and numbers in order, lower case, apostrophes kept."""
    return re.findall(r"[a-z0-9]+(?:['.,][a-z0-9]+)*", question.lower())


def key(question: str) -> str:
    """What is left of a question when case, marks and blanks do not count."""
    return " ".join(words(question))


def core(question: str) -> str:
    """The question without blanks and marks at its ends."""
    return question.strip().rstrip("?!. ")


def lower_first(text: str) -> str:
    """Lower-cases the first letter, unless the first word is `I` or looks like a name in capitals."""
    return text if not text or _KEEP_UPPER.match(text) else text[0].lower() + text[1:]


def sentence(text: str) -> str:
    """`text` as a question: first letter large, a question mark at the end."""
    body = core(text)
    return f"{body[:1].upper()}{body[1:]}?"


def like(model: str, word: str) -> str:
    """`word` with a capital where `model` has one."""
    return word[:1].upper() + word[1:] if model[:1].isupper() else word


def replace_word(question: str, at: re.Match[str], new: str) -> str:
    """`question` with the match exchanged for `new`, its case kept."""
    return question[: at.start()] + like(at[0], new) + question[at.end() :]
