"""The opposite of one word of a question."""

from __future__ import annotations

import re
from random import Random

from .text import replace_word, words
from .wordnet import WordNet
from .words import ANTONYMS, MORE_AND_LESS, NEVER_OPPOSITE, VERB_ANTONYMS

__all__ = ["Antonyms", "inflected"]

_DOUBLING = re.compile(r"[^aeiou][aeiou][bdgmnpt]$")
#: Verbs that end like those which double their last letter, and do not.
_NOT_DOUBLED = {
    "open",
    "enter",
    "lower",
    "happen",
    "deposit",
    "gather",
    "loosen",
    "lengthen",
    "widen",
    "tighten",
    "strengthen",
}
#: A graded word asked for by "how" or by yes and no tells the same as its opposite: "Is it safe?"
_GRADED = re.compile(
    r"(?:is|are|was|were|isn't|aren't|does|do|did|will|would|should|can|could|has|have)\b", re.IGNORECASE
)
_PREFIXES = ("un", "in", "im", "il", "ir", "non", "dis")


def inflected(verb: str) -> list[str]:
    """The forms of a regular verb, of one word or two: base, -s, -ing, -ed."""
    head, _, tail = verb.partition(" ")
    tail = tail and f" {tail}"
    if head.endswith("e"):
        forms = [head, f"{head}s", f"{head[:-1]}ing", f"{head}d"]
    elif head.endswith("y") and head[-2] not in "aeiou":
        forms = [head, f"{head[:-1]}ies", f"{head}ing", f"{head[:-1]}ied"]
    else:
        stem = head + head[-1] if _DOUBLING.search(head) and head not in _NOT_DOUBLED else head
        plural = "es" if re.search(r"(?:s|x|z|ch|sh)$", head) else "s"
        forms = [head, head + plural, f"{stem}ing", f"{stem}ed"]
    return [form + tail for form in forms]


class Antonyms:
    """Opposites from our own table and from WordNet's first senses.

    `wordnet` may be None: the table alone is used then.
    """

    def __init__(self, wordnet: WordNet | None) -> None:
        found: dict[str, set[str]] = {}
        self._graded: set[str] = set()
        if wordnet:
            self._from_wordnet(wordnet, found)
        for left, right in [*ANTONYMS, *_both(VERB_ANTONYMS)]:
            found.setdefault(left, set()).add(right)
            found.setdefault(right, set()).add(left)
        self._of = {word: sorted(opposites) for word, opposites in found.items()}
        self._pattern = re.compile(
            rf"\b(?:{'|'.join(sorted(self._of, key=len, reverse=True))})\b(?!['-])", re.IGNORECASE
        )

    def _from_wordnet(self, wordnet: WordNet, found: dict[str, set[str]]) -> None:
        for (word, part), opposite in wordnet.antonyms().items():
            if word not in NEVER_OPPOSITE and opposite not in NEVER_OPPOSITE:
                found.setdefault(word, set()).add(opposite)
                if part == "a":
                    self._graded |= {word, opposite}

    def opposite(self, question: str, rng: Random) -> str | None:
        """One word exchanged for its opposite."""
        return self._change(question, rng, negating=False)

    def negated(self, question: str, rng: Random) -> str | None:
        """One word exchanged for the same with un-, in-, non- ..., or without it."""
        return self._change(question, rng, negating=True)

    def opposed(self, a: str, b: str) -> bool:
        """Whether one side holds a word and the other its opposite alone."""
        here, there = set(words(a)), set(words(b))
        return any(there & set(self._of.get(word, ())) - here for word in here - there)

    def _change(self, question: str, rng: Random, *, negating: bool) -> str | None:
        fitting = [
            (at, opposite)
            for at in self._pattern.finditer(question)
            for opposite in self._of[at[0].lower()]
            if _is_prefixed(at[0].lower(), opposite) == negating and self._decides(question, at, opposite)
        ]
        if not fitting:
            return None
        at, opposite = rng.choice(fitting)
        return replace_word(question, at, opposite)

    def _decides(self, question: str, at: re.Match[str], opposite: str) -> bool:
        """Whether the opposite makes another question: not in "X or Y", nor asked by yes and no."""
        if _AGE.search(question) or opposite in words(question) or re.search(r"\b(?:or|not|vs)\b", question):
            return False
        graded = at[0].lower() in self._graded or at[0].lower() in _COMPARED
        asked = _GRADED.match(question) or re.search(
            r"\bhow $|\bthan\b", question[: at.start()], re.IGNORECASE
        )
        return not (graded and asked) and not re.search(
            r"\b(?:Old|New|West|East|North|South) (?=[A-Z])", question
        )


#: "13 years old" says no more than its number, and "day to day" is an idiom.
_AGE = re.compile(r"\byears?[ -]old\b|\bmonths?[ -]old\b|\bhow old\b|\bday to day\b", re.IGNORECASE)
_COMPARED = {word for pair in MORE_AND_LESS for word in pair}


def _is_prefixed(one: str, other: str) -> bool:
    longer, shorter = sorted((one, other), key=len, reverse=True)
    return any(longer == prefix + shorter for prefix in _PREFIXES)


def _both(verbs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each pair in all forms that are regular on both sides."""
    pairs = []
    for left, right in verbs:
        forms = list(zip(inflected(left), inflected(right), strict=True))
        pairs += forms[:3] if {left, right} & _IRREGULAR else forms
        if left in _PAST and right in _PAST:
            pairs.append((_PAST[left], _PAST[right]))
    return pairs


#: Past forms, where the opposite has a use in the past too.
_PAST = {
    "buy": "bought",
    "sell": "sold",
    "find": "found",
    "hide": "hid",
    "lose": "lost",
    "win": "won",
    "send": "sent",
    "give": "gave",
    "take": "took",
    "begin": "began",
    "end": "ended",
    "rise": "rose",
    "fall": "fell",
    "build": "built",
    "demolish": "demolished",
    "shrink": "shrank",
    "grow": "grew",
    "forget": "forgot",
    "remember": "remembered",
    "teach": "taught",
    "learn": "learned",
    "gain": "gained",
    "receive": "received",
}
_IRREGULAR = {
    *_PAST,
    "lend",
    "borrow",
    "split",
    "merge",
    "wake",
    "sleep",
    "freeze",
    "thaw",
    "sink",
    "float",
    "write",
    "read",
    "speed up",
    "spend",
    "save",
}
