"""Harmless rewordings: another dress for the same question."""

from __future__ import annotations

import re
from random import Random

from .text import Mutation, core, like, lower_first, replace_word, sentence
from .words import ACRONYMS, BRITISH, CONTRACTIONS, NUMBER_WORDS, SYNONYMS

__all__ = [
    "LIGHT",
    "exchange_acronym",
    "exchange_contraction",
    "exchange_number_word",
    "exchange_spelling",
    "keywords",
    "mistype",
    "other_opening",
    "plain",
    "polite",
    "synonym",
    "without_article",
]


class _Exchange:
    """One word for its partner in a table; both ways unless `one_way`."""

    def __init__(self, pairs: list[tuple[str, str]], *, one_way: bool = False, exact: bool = False) -> None:
        self._partners: dict[str, list[str]] = {}
        self._exact = exact
        for left, right in pairs:
            self._partners.setdefault(self._key(left), []).append(right)
            if not one_way:
                self._partners.setdefault(self._key(right), []).append(left)
        longest = sorted(self._partners, key=len, reverse=True)
        alternatives = "|".join(re.escape(word) for word in longest)
        self._pattern = re.compile(rf"(?<![\w'-])(?:{alternatives})(?![\w'-])", 0 if exact else re.IGNORECASE)

    def _key(self, word: str) -> str:
        return word if self._exact else word.lower()

    def __call__(self, question: str, rng: Random) -> str | None:
        found = list(self._pattern.finditer(question))
        if not found:
            return None
        at = rng.choice(found)
        new = rng.choice(self._partners[self._key(at[0])])
        if self._exact and at.start():  # capitals of an acronym are not those of a sentence
            return question[: at.start()] + new + question[at.end() :]
        return replace_word(question, at, new)


exchange_acronym = _Exchange(ACRONYMS, exact=True)
exchange_contraction = _Exchange(CONTRACTIONS)
exchange_spelling = _Exchange(BRITISH)
synonym = _Exchange(SYNONYMS, one_way=True)
_number_word = _Exchange([(str(value), word) for value, word in enumerate(NUMBER_WORDS) if value > 1])


def exchange_number_word(question: str, rng: Random) -> str | None:
    """7 for seven, or seven for 7."""
    return (
        _number_word(question, rng)
        if not re.search(r"\d[.,:/-]\d|[a-zA-Z]\d|\d[a-zA-Z]|-\d|\d-", question)
        else None
    )


_GREETINGS = [
    "Hi, {q}",
    "Hello, {q}",
    "Hey, {q} thanks",
    "Quick question: {q}",
    "Please help: {q}",
    "I was wondering: {q}",
    "{q} Thanks!",
    "{q} Thank you in advance.",
    "Hi there! {q}",
    "Can anyone tell me: {q}",
    "{q} Please explain.",
    "A question for you: {q}",
    "ok so {q}",
    "Sorry if this was asked before. {q}",
    "Could you tell me: {q} Thanks",
    "{q} Anyone?",
    "Just curious, {q}",
]


def polite(question: str, rng: Random) -> str | None:
    """The question inside a friendly frame."""
    return rng.choice(_GREETINGS).format(q=question if rng.random() < 0.5 else lower_first(question))


def plain(question: str, rng: Random) -> str | None:
    """Lower case, no question mark, or both."""
    return rng.choice(
        [
            question.lower(),
            core(question),
            core(question).lower(),
            f"{core(question)} ?",
            core(question) + "??",
        ]
    )


def without_article(question: str, rng: Random) -> str | None:
    """One article left out."""
    found = list(re.finditer(r"(?<= )(?:the|an?) (?!few|lot|bit|little|same|first|last|most)", question))
    if not found:
        return None
    at = rng.choice(found)
    return question[: at.start()] + question[at.end() :]


#: Shorter words turn into others when a letter goes.
_TYPED = re.compile(r"\b[a-z]{6,}\b")


def mistype(question: str, rng: Random) -> str | None:
    """Two letters inside a long word exchanged, one left out or one doubled."""
    found = list(_TYPED.finditer(question))
    if not found:
        return None
    at = rng.choice(found)
    word = at[0]
    cut = rng.randrange(2, len(word) - 2)
    wrong = rng.choice(
        [
            word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :],
            word[:cut] + word[cut + 1 :],
            word[:cut] + word[cut] + word[cut:],
        ]
    )
    return question[: at.start()] + wrong + question[at.end() :] if wrong != word else None


_EMPTY = re.compile(
    r"\b(?:a|an|the|do|does|did|i|you|we|one|is|are|some|of|should|can|my|your|it|there|any|to)\b ?",
    re.IGNORECASE,
)
#: Questions that keep their sense as key words: a task or "the X of Y", with no pronoun or order to lose.
_KEYED = re.compile(
    r"(?:How (?:do|can) (?:I|you|we) |What (?:is|are) (?:the|some) |Where can I |Which (?:is|are) "
    r"the )(?!it\b|that\b|difference)"
)


def keywords(question: str, _: Random) -> str | None:
    """The question without its small words, as typed into a search box."""
    if not _KEYED.match(question) or re.search(r"\bfrom\b|\bto .*\bto\b|\bnot\b|n't|\bby\b|[,.]", question):
        return None
    kept = _EMPTY.sub("", core(question)).replace("'s", "").strip().lower()
    kept = re.sub(r"^(?:what|which) ", "", kept)
    return kept if len(kept.split()) > 2 else None


_OPENINGS = [
    (
        r"^How (?:do|can) I ",
        [
            "How can I ",
            "How do I ",
            "How do you ",
            "How to ",
            "What is the best way to ",
            "What should I do to ",
        ],
    ),
    (r"^How to ", ["How do I ", "How can I ", "How can one "]),
    (
        r"^What(?:'s| is) the best way to ",
        ["How do I ", "What's the way to ", "How can I ", "What is the right way to "],
    ),
    (
        r"^What are the best ",
        ["Which are the best ", "What are some of the best ", "Name the best ", "Best "],
    ),
    (
        r"^What is the best (?!way)",
        ["Which is the best ", "What's the best ", "Which would be the best ", "Best "],
    ),
    (r"^Which is the best ", ["What is the best ", "What's the best "]),
    (r"^What are some ", ["Can you name some ", "Give me some ", "What are a few "]),
    (r"^Why (?=(?:do|does|did|is|are) )", ["Why exactly ", "For what reason "]),
    (r"^Is it possible to ", ["Can I ", "Is there a way to ", "Would it be possible to "]),
    (r"^Is there any way to ", ["Is it possible to ", "Is there a way to "]),
    (r"^Where can I ", ["Where could I ", "In which place can I ", "Where do I "]),
    (r"^How much time does it take to ", ["How long does it take to "]),
    (r"^How long does it take to ", ["How much time does it take to ", "How much time is needed to "]),
    (r"^How much does (?P<x>.+) cost\?$", ["What does {x} cost?", "What is the price of {x}?"]),
    (r"^What does it feel like to ", ["How does it feel to ", "What is it like to "]),
    (r"^What would happen if ", ["What will happen if ", "What if "]),
    (r"^What do you think (?:about|of) ", ["What is your opinion on ", "What are your thoughts on "]),
    (r"^What caused ", ["What was the cause of ", "What led to "]),
    (r"^How many people live in ", ["What is the population of "]),
    (r"^Is it true that ", ["Is it a fact that ", "Is it really true that "]),
    (
        r"^Who (?P<v>invented|discovered|directed|founded|built|created|painted) (?P<x>.+)\?$",
        ["Who was {x} {v} by?", "By whom was {x} {v}?"],
    ),
    (
        (
            r"^Does (?P<a>[\w ]{3,25}?) (?P<v>cause|affect|influence|kill|help|increase|reduce) "
            r"(?P<b>[\w ]{3,30})\?$"
        ),
        ["Can {a} {v} {b}?", "Is it true that {a} {v}s {b}?"],
    ),
]
_OPENED = [(re.compile(pattern, re.IGNORECASE), news) for pattern, news in _OPENINGS]


def other_opening(question: str, rng: Random) -> str | None:
    """Another beginning that asks the same."""
    for pattern, news in _OPENED:
        at = pattern.match(question)
        if at:
            new = rng.choice(news).format(**at.groupdict())
            return sentence(question[: at.start()] + like(at[0], new) + question[at.end() :])
    return None


#: Rewordings that keep nearly every word.
LIGHT: list[Mutation] = [
    exchange_acronym,
    exchange_contraction,
    exchange_number_word,
    exchange_spelling,
    synonym,
    synonym,
    polite,
    plain,
    without_article,
    mistype,
    keywords,
    other_opening,
    other_opening,
]
