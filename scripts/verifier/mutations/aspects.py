"""Other aspect: the same subject, another thing asked of it. And the same aspect in other words."""

from __future__ import annotations

import re
from random import Random

from .frames import COUNTRY_FRAMES, PERSON_FRAMES, THING_FRAMES, TOO_NEAR, VERB_FRAMES
from .names import COUNTRIES
from .text import core, lower_first, sentence

__all__ = [
    "Subject",
    "asking_word",
    "other_asking_word",
    "other_aspect",
    "other_superlative",
    "same_aspect",
    "subject_of",
    "two_aspects",
    "two_wordings",
]

#: What a question is about, the aspect asked, and the frames for such a subject.
Subject = tuple[str, str, dict[str, list[str]]]

_WHO = r"(?:i|you|we|one|someone|a person)"
#: Wordings of real questions, with the aspect each asks.
_VERB_FORMS = [
    (rf"how (?:do|can|should|could|would|does) {_WHO} (?P<x>[a-z]+ .+)", "how"),
    (r"how to (?P<x>[a-z]+ .+)", "how"),
    (r"what(?:'s| is| are) (?:the|some) (?:best |good |easiest )?ways? to (?P<x>[a-z]+ .+)", "how"),
    (rf"why should {_WHO} (?P<x>[a-z]+ .+)", "why"),
    (rf"when should {_WHO} (?P<x>[a-z]+ .+)", "when"),
    (r"how long does it take to (?P<x>[a-z]+ .+)", "duration"),
    (r"how much does it cost to (?P<x>[a-z]+ .+)", "cost"),
    (r"is it legal to (?P<x>[a-z]+ .+)", "legal"),
    (r"is it safe to (?P<x>[a-z]+ .+)", "safe"),
    (rf"what (?:happens|will happen|would happen) if {_WHO} (?P<x>[a-z]+ .+)", "consequence"),
]
_THING = r"(?P<x>(?:an? |the )?[\w'-]+(?: [\w'-]+){0,3})"
_THING_FORMS = [
    (rf"what(?:'s| is) (?:the meaning of |meant by )?{_THING}", "what"),
    (rf"what causes {_THING}", "cause"),
    (rf"what (?:are|is) the (?:main )?causes? of {_THING}", "cause"),
    (rf"who invented {_THING}", "inventor"),
    (rf"how does {_THING} work", "working"),
    (rf"what is the history of {_THING}", "history"),
    (rf"what are (?:the|some) (?:advantages|benefits) of {_THING}", "advantage"),
    (rf"what are (?:the|some) disadvantages of {_THING}", "disadvantage"),
    (rf"what are (?:the|some) side effects of {_THING}", "side effect"),
    (rf"what are (?:the|some) examples of {_THING}", "example"),
    (rf"what is the future of {_THING}", "future"),
    (rf"what are (?:the|some) alternatives to {_THING}", "alternative"),
    (rf"how much does {_THING} cost", "price"),
]
#: A thing with one of these inside is no name of a thing.
_NO_THING = re.compile(
    r"\b(?:your|my|our|it|its|this|that|these|those|best|worst|most|like|difference|going|the|"
    r"some|good|better|between|wrong|"
    r"meant|used|to|you|i|we|they|he|she|and|or|is|are|do|does|can|should|so|there|up|for|"
    r"with|about|\w+est|meaning|called|if|"
    r"purpose|reason|point|one|not|now|new|when|who|how|why|what|which|was|were|has|have|had|"
    r"will|would|right|real|likely|same)\b"
)
_PERSON = re.compile(
    r"(?:Who is|Who was|How old is|How tall is|How rich is) (?P<x>(?:[A-Z][a-z]+ ){1,2}[A-Z][a-z]+)"
)
_COUNTRY = re.compile(rf"\b(?P<x>{'|'.join(COUNTRIES)})\b")


def subject_of(question: str) -> Subject | None:
    """The verb phrase, person or thing a plain question is about; None where it is none of these."""
    body = core(question)
    person = _PERSON.fullmatch(body)
    if person:
        return person["x"], "who" if body.startswith("Who") else "", PERSON_FRAMES
    return _first(body, _VERB_FORMS, VERB_FRAMES) or _thing(body)


def _thing(body: str) -> Subject | None:
    subject = _first(body, _THING_FORMS, THING_FRAMES)
    if subject is None:
        return None
    thing = re.sub(r"^(?:an?|the) (?=\w+ing\b|[A-Z])", "", subject[0])
    return None if _NO_THING.search(thing.lower()) else (thing, *subject[1:])


def _first(body: str, forms: list[tuple[str, str]], frames: dict[str, list[str]]) -> Subject | None:
    for pattern, aspect in forms:
        found = re.fullmatch(pattern, body, re.IGNORECASE)
        if found and not re.search(r"[,;:?!]|\.\s|^(?:be|get)$", found["x"]):
            return lower_first(found["x"]), aspect, frames
    return None


def _say(frame: str, subject: str) -> str:
    said = frame.format(x=subject)
    return said[:1].upper() + said[1:] if frame.endswith("?") else said


def _another(subject: Subject, rng: Random) -> str:
    aspects = [a for a in subject[2] if a != subject[1] and frozenset((a, subject[1])) not in TOO_NEAR]
    return rng.choice(aspects)


def _frame(subject: Subject, aspect: str, rng: Random) -> str:
    return _say(rng.choice(subject[2][aspect]), subject[0])


def same_aspect(question: str, rng: Random) -> str | None:
    """The same asked in other words."""
    subject = subject_of(question)
    return _frame(subject, subject[1], rng) if subject and subject[1] else None


def other_aspect(question: str, rng: Random) -> str | None:
    """Something else asked of the same subject."""
    subject = subject_of(question)
    return _frame(subject, _another(subject, rng), rng) if subject else None


def _about(question: str, rng: Random) -> Subject | None:
    country = _COUNTRY.search(question)
    if country:
        return country["x"], rng.choice(sorted(COUNTRY_FRAMES)), COUNTRY_FRAMES
    subject = subject_of(question)
    return (subject[0], _another(subject, rng), subject[2]) if subject else None


def two_aspects(question: str, rng: Random) -> tuple[str, str] | None:
    """Two things asked of the question's subject, neither of them the question itself."""
    subject = _about(question, rng)
    if subject is None:
        return None
    return _frame(subject, subject[1], rng), _frame(subject, _another(subject, rng), rng)


def two_wordings(question: str, rng: Random) -> tuple[str, str] | None:
    """One thing asked of the question's subject in two wordings."""
    subject = _about(question, rng)
    if subject is None:
        return None
    first, second = rng.sample(subject[2][subject[1]], 2)
    return _say(first, subject[0]), _say(second, subject[0])


_OPEN = re.compile(r"(?P<word>How|Why|When) (?P<rest>(?:do|does|did|is|are|was|were) (?!to\b|it that\b).+)")
_CLOSED = re.compile(
    r"(?P<rest>(?:Does|Did|Is|Are|Was|Were) (?!there\b|it\b|this\b|that\b|anyone\b|any\b).+)"
)
#: "How does it help?" may well be answered where "why does it help?" was asked: why never becomes how.
_OTHERS = {"How": ("Why", "When"), "Why": ("When",), "When": ("Why", "How")}
_CHOICE = re.compile(r"\b(?:or|better|worth|ever)\b")


def other_asking_word(question: str, rng: Random) -> str | None:
    """How for why for when, or one of them before a question of yes or no."""
    body = core(question)
    opened, closed = _OPEN.fullmatch(body), _CLOSED.fullmatch(body)
    if opened:
        new = rng.choice(_OTHERS[opened["word"]])
        return f"{new} {opened['rest']}?"
    if closed and not _CHOICE.search(body):
        return sentence(f"{rng.choice(['Why', 'When', 'How'])} {lower_first(closed['rest'])}")
    return None


_BEST = re.compile(r"\bbest\b(?! way| time| place| method)")


def other_superlative(question: str, rng: Random) -> str | None:
    """The worst, cheapest or oldest for the best."""
    found = _BEST.search(question)
    new = rng.choice(["worst", "cheapest", "oldest", "newest", "most expensive", "smallest", "easiest"])
    return question[: found.start()] + new + question[found.end() :] if found else None


def asking_word(question: str) -> str:
    """Why, who, when or where a question begins so; empty for all others, which share wordings."""
    found = re.match(r"(?:why|who|when|where)\b|how (?:much|many|long|old|far)\b", question.lower())
    return found[0] if found else ""
