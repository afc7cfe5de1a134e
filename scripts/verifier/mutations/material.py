"""The questions that pairs are made from."""

from __future__ import annotations

from collections.abc import Iterable

from verifier.data import Pair

from .text import key, words

__all__ = ["Material"]

#: Words; shorter questions hold nothing to change, longer ones too much.
SHORTEST, LONGEST = 3, 22


class Material:
    """Clean questions, the true pairs among them, and which questions are known to ask the same."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._class: dict[str, str] = {}
        self.questions: list[str] = []
        self.others: dict[str, list[str]] = {}
        seen = set()
        for pair in pairs:
            a, b = pair.a.strip(), pair.b.strip()
            if pair.same:
                self._join(a, b)
            for question in (a, b):
                if question not in seen and _is_clean(question):
                    seen.add(question)
                    self.questions.append(question)
        self.questions.sort()

    def _join(self, a: str, b: str) -> None:
        self._class[self._find(key(a))] = self._find(key(b))
        if _is_clean(a) and _is_clean(b) and key(a) != key(b):
            self.others.setdefault(a, []).append(b)
            self.others.setdefault(b, []).append(a)

    def _find(self, name: str) -> str:
        while (above := self._class.get(name, name)) != name:
            name = above
        return name

    def known_same(self, a: str, b: str) -> bool:
        """Whether people called the two the same, directly or over others."""
        return self._find(key(a)) == self._find(key(b))


def _is_clean(question: str) -> bool:
    """One plain sentence of a fair length."""
    inner = question[:-1]
    plain = question.isascii() and question.endswith("?") and not set(inner) & set('?"()[]{}\\:;!')
    return plain and ". " not in inner and SHORTEST <= len(words(question)) <= LONGEST
