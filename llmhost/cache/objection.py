"""What a guard says against serving one question's answer to another."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Objection"]


@dataclass(frozen=True, slots=True)
class Objection:
    """`guard` names who objects, `words` say why, for people. One that only doubts (`refuses` False) leaves
    the word to the verifier, which must then be surer than usual.
    """

    guard: str
    words: str
    refuses: bool = True
