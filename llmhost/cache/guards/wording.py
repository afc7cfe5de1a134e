"""A question, read once for all guards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from llmhost.cache.guards.stems import stem, words
from llmhost.cache.guards.word_lists import english, related, sections
from llmhost.cache.models import Objection

__all__ = ["FILLERS", "MOST_WORDS", "NEGATORS", "Guard", "Wording", "named", "overlap", "read"]

#: words; what lies behind them is not read: neither can a verifier that takes 512 tokens for both.
MOST_WORDS = 200
#: characters; MOST_WORDS of the longest words that people write
_MOST_CHARACTERS = 4000

_WORD = re.compile(
    r"[cC]\+\+|[cCfF]#(?!\w)|\.NET\b|\d[\d,]*(?:\.\d+)*|[^\W\d_]+(?:['\u2019][^\W\d_]+)*|[.?!;:](?=\s)",
    re.UNICODE,
)
_ENDS = frozenset(".?!;:")

_CONTRACTED = {word: tuple(parts) for word, parts in related(sections("english")["contractions"])}
#: What follows an apostrophe, as a word. A possessive s says nothing; after these words it is "is".
_TAILS = {"re": "are", "ve": "have", "ll": "will", "m": "am"}
_BEFORE_IS = words("what who where when why how that there it he she here")
#: Stems of words that stand for nothing by themselves.
FILLERS = frozenset(map(stem, english("fillers")))
#: Words that negate, or except, what is after them.
NEGATORS = words("not no non never without nor neither none nobody except excluding")


@dataclass(frozen=True, slots=True, eq=False)
class Wording:
    """`written`, `words` and `stems` run side by side: each word as written, in lower case with contractions
    split, and without its inflection. `opening` are the places of words that begin a sentence, where a
    capital says nothing. `content` are the stems that say something by themselves. `cut`: the text goes on
    after what was read.
    """

    text: str
    lower: str
    written: tuple[str, ...]
    words: tuple[str, ...]
    stems: tuple[str, ...]
    word_set: frozenset[str]
    stem_set: frozenset[str]
    content: frozenset[str]
    opening: frozenset[int]
    cut: bool

    def word_of(self, stem: str) -> str:
        """The first word with this stem, as it stands in the text."""
        return self.words[self.stems.index(stem)]


#: Says why two questions may not share an answer, or nothing.
Guard = Callable[[Wording, Wording], Objection | None]


#: wordings; a question and its candidates, for some questions at a time
@lru_cache(maxsize=128)
def read(text: str) -> Wording:
    """`text`, up to MOST_WORDS words of it."""
    start = text[:_MOST_CHARACTERS]
    written: list[str] = []
    words: list[str] = []
    opening = []
    opens = True
    for found in _WORD.finditer(start):
        token = found.group()
        if token in _ENDS:
            opens = True
            continue
        if len(words) >= MOST_WORDS:
            start = start[: found.start()]
            break
        if opens:
            opening.append(len(words))
            opens = False
        lower = token.lower().replace("\u2019", "'")
        parts = _CONTRACTED.get(lower) or _split(lower)
        words += parts
        written += [token.partition("'")[0].partition("\u2019")[0], *parts[1:]]
    stems = tuple(map(stem, words))
    return Wording(
        text=start,
        lower=start.lower(),
        written=tuple(written),
        words=tuple(words),
        stems=stems,
        word_set=frozenset(words),
        stem_set=frozenset(stems),
        content=frozenset(stems) - FILLERS,
        opening=frozenset(opening),
        cut=len(start) < len(text),
    )


def _split(lower: str) -> tuple[str, ...]:
    """The words that a word with an apostrophe contracts; any other as it is."""
    if "'" not in lower:
        return (lower,)
    if lower.endswith("n't"):
        return (lower[:-3], "not") if len(lower) > len("n't") else ("not",)
    head, _, tail = lower.rpartition("'")
    if tail == "s":
        return (head, "is") if head in _BEFORE_IS else (head,)
    if tail in _TAILS:
        return head, _TAILS[tail]
    return (head,) if tail == "d" else (lower.replace("'", ""),)


def overlap(one: Wording, other: Wording, without: int = 0) -> float:
    """How much of what two texts say is said with the same words, 0..1 (Dice's measure on their content).
    `without` words that are known to differ are left out. A word that only one of them has weighs more, the
    more the rest is the same: in a rewording most words differ.
    """
    total = len(one.content) + len(other.content) - without
    return 2 * len(one.content & other.content) / total if total > 0 else 1.0


#: names; as many as a sentence carries
_MOST_NAMED = 3


def named(things: Iterable[str]) -> str:
    """`things` for a sentence: "a, b and c"; not more than a few of them."""
    some = sorted(things)[:_MOST_NAMED]
    return " and ".join(part for part in (", ".join(some[:-1]), some[-1]) if part)
