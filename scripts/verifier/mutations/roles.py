"""Two things that change their places: in some questions that asks another thing, in some it does not."""

from __future__ import annotations

import re
from random import Random

from .frames import ROLE_FRAMES, SYMMETRIC_FRAMES
from .text import core
from .words import MORE_AND_LESS

__all__ = ["Roles", "swap_alike", "swap_roles", "turn_round"]

_T = r"[\w'.+#-]+(?: [\w'.+#-]+){0,2}"
_ONE = r"(?P<a>[\w'+#-]+(?: [\w'+#-]+){0,1})"
_TWO = r"(?P<b>[\w'+#-]+(?: [\w'+#-]+){0,1}?)"
_STOP = (
    r"(?=$|\?|,| (?:in|on|for|with|without|using|by|at|and|when|if|as|after|before|through|"
    r"who|that|which|is|are|or)\b)"
)
_VERBS = (
    "cause|affect|influence|beat|help|hurt|harm|replace|defeat|buy|acquire|own|support|hate|"
    "love|like|need|invade|attack|control|"
    "include|contain|kill|eat|prevent|cure|treat|follow|trust|respect|envy|fear|attract|"
    "outperform|overtake|destroy|leave|"
    "prefer|surpass|threaten|recruit|sue|improve|increase|reduce|create|produce|require|imply"
)
_COMPARATIVES = "|".join(
    sorted({re.escape(w) for pair in MORE_AND_LESS for w in pair}, key=len, reverse=True)
)

#: Questions that ask another thing when `a` and `b` change places.
_DIRECTED = [
    re.compile(rf"\bfrom {_ONE} to {_TWO}{_STOP}"),
    re.compile(
        rf"\b(?:convert|translate|change|turn|transform|export|import|migrate|transfer|switch|map|"
        rf"port) (?:an? |the |my )?{_ONE} (?:in)?to (?:an? |the |my )?{_TWO}{_STOP}"
    ),
    re.compile(
        rf"^(?:Do|Does|Did|Can|Could|Will|Would|Should|How do|How does|How did|How can|How would|"
        rf"Why do|Why does|Why did|Why is it that|Why don't|Why doesn't|Why didn't) (?:the |an? "
        rf")?{_ONE} (?:ever )?(?:{_VERBS}) (?:the |an? )?{_TWO}{_STOP}"
    ),
    re.compile(
        rf"^(?:Is|Are|Was|Were|Why is|Why are|Why was) (?:the |an? )?{_ONE} (?:so much |much |"
        rf"considered |really )?(?:{_COMPARATIVES}) than (?:the |an? )?{_TWO}{_STOP}"
    ),
    re.compile(rf"\b(?:effects?|impact|influence) of (?:the )?{_ONE} on (?:the )?{_TWO}{_STOP}"),
    re.compile(
        r"\b(?P<a>[A-Z][a-z]+) (?:beat|beats|defeat|defeated|invade|invaded|attack|attacked|"
        r"support|supports|hate|hates|buy|bought|acquire|acquired|sue|sued|bully|follow|love|help|"
        r"helped) (?P<b>[A-Z][a-z]+)\b"
    ),
    re.compile(
        r"\b(?P<a>[A-Z][a-z]+) (?:(?:better|bigger|stronger|richer|faster|safer|cheaper|worse|"
        r"smaller|older) than|ahead of|part of|instead of|rather than|over) (?P<b>[A-Z][a-z]+)\b"
    ),
    re.compile(rf"\b(?P<a>\w+) (?:instead of|rather than) (?P<b>\w+){_STOP}"),
]
#: Questions that ask the same.
_ALIKE = [
    re.compile(
        rf"\bbetween (?:the |an? )?{_ONE} and (?:the |an? )?(?P<b>[\w'+#-]+(?: [\w'+#-]+){{0,2}})(?=$|\?)"
    ),
    re.compile(
        rf"^(?:Which|What|Who)\b.*\b(?:better|best|bigger|stronger|faster|worse|safer|cheaper|more "
        rf"\w+)[,:;-]* {_ONE},? or {_TWO}(?=$|\?)"
    ),
    re.compile(r"\b(?P<a>[\w+#]+),? or (?P<b>[\w+#]+)(?=$|\?)"),
    re.compile(r"\b(?P<a>[\w+#]+) (?:vs\.?|versus) (?P<b>[\w+#]+)\b"),
    re.compile(r"\b(?P<a>[A-Z][\w+#]*) and (?P<b>[A-Z][\w+#]*)(?=$|\?)"),
]
#: Words that stand for something named elsewhere, or for nothing.
_LOOSE = {"each other", "another one"} | set(
    """a an the any all both either some then just this that it them me you i him her us one other others
    not what more less another beginning start end home no why how false worse better""".split()  # noqa: SIM905 - a table reads better so
)
_FILLED = re.compile(
    (
        r"\b(?:to|of|and|or|is|are|does|do|the|your|my|their|his|her|you|i|we|they|in|on|for|with|"
        r"it|this|that)\b"
    ),
    re.IGNORECASE,
)


def _exchange(question: str, at: re.Match[str]) -> str | None:
    first, second = at["a"], at["b"]
    if {first.lower(), second.lower()} & _LOOSE or first.lower() == second.lower():
        return None
    between = question[at.end("a") : at.start("b")]
    new = question[: at.start("a")] + second + between + first + question[at.end("b") :]
    return new[:1].upper() + new[1:]


def _swap(question: str, patterns: list[re.Pattern[str]], rng: Random) -> str | None:
    found = [at for pattern in patterns if (at := pattern.search(question))]
    return _exchange(question, rng.choice(found)) if found else None


def swap_roles(question: str, rng: Random) -> str | None:
    """The two things exchanged, so that another thing is asked."""
    at = rng.choice(_DIRECTED).search(question)
    found = [at] if at else [at for pattern in _DIRECTED if (at := pattern.search(question))]
    found = [at for at in found if not _FILLED.search(at["a"]) and not _FILLED.search(at["b"])]
    return _exchange(question, rng.choice(found)) if found else None


def swap_alike(question: str, rng: Random) -> str | None:
    """The two things exchanged where their order says nothing."""
    return _swap(question, _ALIKE, rng)


_COMPARISON = re.compile(rf"^(?P<verb>Is|Are) (?P<a>{_T}?) (?P<how>{_COMPARATIVES}) than (?P<b>{_T})\?$")
_INVERSE = {word: other for pair in MORE_AND_LESS for word, other in (pair, pair[::-1])}
_JOURNEY = re.compile(
    r"^(?P<lead>.+) from (?P<a>[A-Z]\w+|[a-z]+) to (?P<b>[A-Z]\w+|[a-z]+)(?P<tail>\?| in .+\?| by .+\?)$"
)


def turn_round(question: str, _: Random) -> str | None:
    """The two things exchanged together with what is said of them: the same is asked."""
    compared = _COMPARISON.match(question)
    if compared and not _FILLED.search(compared["a"]):
        verb = "Is" if compared["verb"] == "Is" else "Are"
        first, second = compared["b"], compared["a"]
        return f"{verb} {first} {_INVERSE[compared['how']]} than {second}?"
    journey = _JOURNEY.match(question)
    if journey:
        return f"{journey['lead']} to {journey['b']} from {journey['a']}{journey['tail']}"
    return None


class Roles:
    """Role questions about the pairs of things that the corpus itself compares."""

    def __init__(self, questions: list[str]) -> None:
        self._things = sorted({pair for question in questions if (pair := _compared(question))})

    def exchanged(self, _: str, rng: Random) -> tuple[str, str] | None:
        """Two wordings of one role question, the things exchanged in the second."""
        return self._made(ROLE_FRAMES, rng, exchange=True)

    def kept(self, _: str, rng: Random) -> tuple[str, str] | None:
        """Two wordings of one role question, each thing in its role."""
        return self._made(ROLE_FRAMES, rng, exchange=False)

    def alike(self, _: str, rng: Random) -> tuple[str, str] | None:
        """Two wordings of one question where the order says nothing, exchanged or not."""
        return self._made(SYMMETRIC_FRAMES, rng, exchange=rng.random() < 0.7)

    def _made(self, frames: dict[str, list[str]], rng: Random, *, exchange: bool) -> tuple[str, str] | None:
        if not self._things:
            return None
        wordings = frames[rng.choice(sorted(frames))]
        first, second = rng.choice(wordings), rng.choice(wordings)
        a, b = rng.sample(rng.choice(self._things), 2)
        left, right = first.format(a=a, b=b), second.format(a=b, b=a) if exchange else second.format(a=a, b=b)
        return _capital(left), _capital(right)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _compared(question: str) -> tuple[str, str] | None:
    at = next((at for pattern in _ALIKE[:4] if (at := pattern.search(core(question)))), None)
    if at is None or _FILLED.search(at["a"]) or _FILLED.search(at["b"]):
        return None
    first, second = at["a"], at["b"]
    if {first.lower(), second.lower()} & _LOOSE or first.lower() == second.lower():
        return None
    return (first, second) if len(first) > 1 and len(second) > 1 else None
