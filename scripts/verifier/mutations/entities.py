"""Another person, place, product, animal ... in the place of the one that is asked about."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from random import Random

from .names import ALIASES, GROUPS
from .text import replace_word, words

__all__ = ["Entities"]

#: A run of capitalised words inside a sentence, with the two lower-case words before it.
_NAME = re.compile(r"\b(?P<before>[a-z]+ [a-z]+) (?P<name>[A-Z][A-Za-z]{2,}(?: [A-Z][a-z]+){0,2})(?=[ ?,'])")
#: Seen less often, a name is as likely a slip of the shift key.
_SEEN = 2
#: More than this share of large letters at word starts: a title, where capitals mean nothing.
_TITLE = 0.6


def _spans(members: list[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{'|'.join(sorted(members, key=len, reverse=True))})\b(?!['-]|\+|#)")


class Entities:
    """Names by the company they keep: groups from our tables, names of the corpus by the words before."""

    def __init__(self, questions: Iterable[str]) -> None:
        self._groups = [(_spans(group), group) for group in GROUPS]
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        for question in questions:
            for at in _names(question):
                seen[at["before"]][at["name"]] += 1
        self._after = {
            before: sorted(name for name, count in names.items() if count >= _SEEN)
            for before, names in seen.items()
        }
        self._known = {name for names in self._after.values() for name in names}

    def other_member(self, question: str, rng: Random) -> str | None:
        """A name from one of the groups for another of its group."""
        fitting = [(at, group) for pattern, group in self._groups for at in pattern.finditer(question)]
        if not fitting:
            return None
        at, group = rng.choice(fitting)
        return self._replaced(question, at, [name for name in group if name != at[0]], rng)

    def other_name(self, question: str, rng: Random) -> str | None:
        """A name for another one that follows the same words elsewhere."""
        fitting = [at for at in _names(question) if at["before"] in self._after and at["name"] in self._known]
        if not fitting:
            return None
        at = rng.choice(fitting)
        start = at.start("name")
        inner = re.compile(re.escape(at["name"])).match(question, start)
        return inner and self._replaced(question, inner, self._after[at["before"]], rng)

    def members_in(self, question: str) -> set[str]:
        """The names of our groups that a question holds."""
        return {at[0] for pattern, _ in self._groups for at in pattern.finditer(question)}

    def _replaced(self, question: str, at: re.Match[str], names: list[str], rng: Random) -> str | None:
        present = set(words(question))
        names = [name for name in names if not _akin(at[0], name) and not present & set(words(name))]
        return replace_word(question, at, rng.choice(names)) if names else None


def _names(question: str) -> list[re.Match[str]]:
    starts = re.findall(r"\b[A-Za-z]", question)
    if sum(letter.isupper() for letter in starts) > _TITLE * len(starts):
        return []
    return list(_NAME.finditer(question))


def _akin(one: str, other: str) -> bool:
    """Whether two names may mean one thing: a shared start or word, or known aliases."""
    if one[:4].lower() == other[:4].lower() or set(words(one)) & set(words(other)):
        return True
    return any(_touches(one, aliases) and _touches(other, aliases) for aliases in ALIASES)


def _touches(name: str, aliases: set[str]) -> bool:
    return name in aliases or any(word in aliases for word in name.split())
