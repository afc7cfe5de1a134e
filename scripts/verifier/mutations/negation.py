"""Not put in, taken out, or with for without."""

from __future__ import annotations

import re
from random import Random

from .text import replace_word

__all__ = ["is_negated", "negate", "remove_negation"]

_WHO = (
    r"(?P<who>I|you|we|one|they|people|he|she|my [a-z]+|some people|women|men|girls|guys|Indians|Americans)"
)
#: Where a "not" turns the question round: a plain question of yes or no with "isn't" asks the same.
_RULES: list[tuple[str, tuple[str, ...]]] = [
    (rf"^How can {_WHO} ", ("Why can't {who} ", "How can {who} not ")),
    (
        r"^How (?:do|should|can) (?P<who>I|you|we|one) (?!not|avoid|stop|prevent)",
        (
            "Why can't {who} ",
            "Why don't {who} ",
            "How do {who} not ",
            "What if {who} can't ",
            "What happens if {who} don't ",
            "How do {who} avoid having to ",
        ),
    ),
    (
        r"^How to (?!not|avoid|stop|prevent)",
        ("How not to ", "How to not ", "Why can't I ", "What if I don't ", "How to avoid having to "),
    ),
    (rf"^Why (?P<verb>do|does|did|should|would|could) {_WHO} (?!not|like|hate)", ("Why {verb}n't {who} ",)),
    (rf"^Why can {_WHO} ", ("Why can't {who} ",)),
    (r"^Why (?P<verb>is|are|was|were) (?!n't|not|it )", ("Why {verb}n't ",)),
    (r"^Why (?P<verb>do|does|did) (?=(?:the|a|an|so|most|many|some|[A-Z]\w+|\w+s) )", ("Why {verb}n't ",)),
    (r"^What should (?P<who>I|you|we|one) (?!not)", ("What should {who} not ", "What shouldn't {who} ")),
    (
        r"^(?P<wh>Where|When|Which \w+) (?P<verb>can|should) (?P<who>I|you|we|one) (?!not)",
        ("{wh} {verb} {who} not ",),
    ),
    (r"^What can (?P<who>I|you|we|one) (?!not|'t)", ("What can't {who} ",)),
    (
        rf"(?<=.)\bif {_WHO} (?P<verb>am|are|is|can|have|do|want|get|like)\b(?! not|n't| to)",
        ("if {who} {verb} not ",),
    ),
    (
        (
            r"(?<=.)\b(?P<who>people|someone|those|men|women|students|companies|countries|animals) "
            r"who (?P<verb>are|is|can|do|have)\b(?! not)"
        ),
        ("{who} who {verb} not",),
    ),
    (r"(?<=.)\bwithout\b(?= (?:a|an|any|my|the|having|using|being|\w+ing)\b)", ("with",)),
    (r"(?<=.)\bwith(?= (?:a|an|my|the|money|experience) )", ("without",)),
    (
        (
            r"(?<=\w )to (?=(?:use|buy|eat|drink|sleep|tell|pay|have|take|go|work|vote|marry|study|"
            r"learn|say|wear|watch|drive|cook|talk) )"
        ),
        ("not to ",),
    ),
]
_INSERT = [(re.compile(pattern), news) for pattern, news in _RULES]
_REMOVE = [
    (
        re.compile(
            r"^Why (don|doesn|didn|isn|aren|wasn|weren|won|wouldn|couldn|shouldn|can|haven|hasn)'t\b",
            re.IGNORECASE,
        ),
        "Why {}",
    ),
    (
        re.compile(
            r"(?<=[a-z] )(do|does|did|is|are|was|were|will|would|could|should|can|has|have|am|to)(?: "
            r"not|n't)(?= )"
        ),
        "{}",
    ),
    (re.compile(r"(?<=[a-z] )(do|does|did|is|are|was|were|would|could|should|has|have)n't(?= )"), "{}"),
    (re.compile(r"(?<=[a-z])( )(?:never|no longer) "), " "),
]
_SHORT = {
    "don": "do",
    "doesn": "does",
    "didn": "did",
    "isn": "is",
    "aren": "are",
    "wasn": "was",
    "weren": "were",
    "won": "will",
    "wouldn": "would",
    "couldn": "could",
    "shouldn": "should",
    "haven": "have",
    "hasn": "has",
}
_NEGATED = re.compile(
    r"\b(?:not|never|no|nothing|nobody|none|without|avoid|stop|prevent|\w+n't|or)\b", re.IGNORECASE
)
_YES_NO = re.compile(
    r"(?:Is|Are|Was|Were|Do|Does|Did|Can|Could|Should|Will|Would|Has|Have|Isn't|Don't|Aren't|"
    r"Doesn't|Won't|Can't)\b"
)


def negate(question: str, rng: Random) -> str | None:
    """A negation put in where there is none, or "with" and "without" exchanged."""
    fitting = [(at, news) for pattern, news in _INSERT if (at := pattern.search(question))]
    plain = not _NEGATED.search(question)
    fitting = [(at, news) for at, news in fitting if plain or "without" in at[0]]
    if not fitting:
        return None
    at, news = rng.choice(fitting)
    return replace_word(question, at, rng.choice(news).format(**at.groupdict()))


def remove_negation(question: str, rng: Random) -> str | None:
    """A negation taken out of a question that does not ask for yes or no."""
    if _YES_NO.match(question) or len(_NEGATED.findall(question)) != 1:
        return None
    found = [(at, new) for pattern, new in _REMOVE if (at := pattern.search(question))]
    if not found:
        return None
    at, new = rng.choice(found)
    helper = _SHORT.get(at[1].lower(), at[1].lower())
    return re.sub(r" {2,}", " ", question[: at.start()] + new.format(helper) + question[at.end() :])


def is_negated(question: str) -> bool:
    """Whether there is a word like not, never or without in it."""
    return bool(re.search(r"\b(?:not|never|without|no|\w+n't)\b", question, re.IGNORECASE))
