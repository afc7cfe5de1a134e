"""A restriction put in, taken out or exchanged."""

from __future__ import annotations

import re
from random import Random

from .names import PLACES
from .text import core, lower_first

__all__ = ["drop_restriction", "move_restriction", "one_restriction", "restrict", "two_restrictions"]

#: Questions about a task or a choice, whose answer a restriction changes.
_OPEN = re.compile(
    r"(?:How (?:do|can|should|could) (?:I|you|we|one) |How to |What(?:'s| is) the best |What "
    r"are (?:the|some) (?:good |best )|"
    r"Which is the best |Where can I |What are some ways to |How much does )",
    re.IGNORECASE,
)
#: A question with one of these has a restriction already.
_BOUND = re.compile(
    r"\b(?:in|for|without|on|at|after|before|under|during|while|if|when|as|using|with|from|"
    r"near|through|via|by)\b"
)
#: Restrictions by what they bind: two of one line never hold together.
_RESTRICTIONS = [
    [f"in {place}" for place in PLACES],
    ["on Android", "on an iPhone", "on Windows", "on Linux", "on a Mac", "on a tablet"],
    [
        "for beginners",
        "for experts",
        "for children",
        "for old people",
        "for teenagers",
        "for a large company",
        "for a wedding",
    ],
    [
        "without money",
        "without any experience",
        "without internet",
        "without a computer",
        "without a degree",
        "without a car",
    ],
    [
        "after 12th",
        "after a divorce",
        "after an accident",
        "after retirement",
        "after surgery",
        "before an exam",
    ],
    [
        "during pregnancy",
        "during winter",
        "during a recession",
        "during Ramadan",
        "while travelling",
        "at night",
        "at work",
    ],
    ["as a foreigner", "as a student", "as a single parent", "as a vegetarian", "as a woman", "under 18"],
    [
        "using Excel",
        "using Python",
        "with one hand",
        "with a broken arm",
        "on a tight budget",
        "by hand",
        "with dogs around",
    ],
]
_END = re.compile(
    r"^(?P<rest>.{12,}?) (?P<bound>(?:in (?!Him\b)(?:[A-Z]\w+(?: [A-Z]\w+)?|the US|the UK|a (?:week|"
    r"month|day|year))|without [\w ]{3,20}|for (?:beginners|free|a beginner|kids|"
    r"students|men|women|girls|freshers)|on (?:Android|iPhone|Windows|my phone|a budget|"
    r"[A-Z]\w+)|after (?:\w+ing|12th|\w+ing [\w ]{3,15})|under \d+\w*|at (?:home|night|work)|"
    r"in \d+ (?:days|weeks|months|years)|during \w+|before \w+|using \w+))$"
)


def restrict(question: str, rng: Random) -> str | None:
    """A restriction put at the end of a question that has none."""
    if not _free(question):
        return None
    return f"{core(question)} {rng.choice(rng.choice(_RESTRICTIONS))}?"


def _free(question: str) -> bool:
    return bool(_OPEN.match(question)) and not _BOUND.search(question)


def drop_restriction(question: str, _: Random) -> str | None:
    """The restriction at the end of a question taken out."""
    found = _END.match(core(question)) if _OPEN.match(question) else None
    return f"{found['rest']}?" if found else None


def two_restrictions(question: str, rng: Random) -> tuple[str, str] | None:
    """One question with two restrictions that exclude each other."""
    if not _free(question):
        return None
    first, second = rng.sample(rng.choice(_RESTRICTIONS), 2)
    return f"{core(question)} {first}?", f"{core(question)} {second}?"


def one_restriction(question: str, rng: Random) -> tuple[str, str] | None:
    """One restriction put in on both sides, at the end and in front: the same is asked."""
    restricted = restrict(question, rng)
    moved = move_restriction(restricted, rng) if restricted else None
    return (restricted, moved) if restricted and moved else None


def move_restriction(question: str, rng: Random) -> str | None:
    """The restriction at the end of a question put first: the same is asked."""
    found = _END.match(core(question))
    if found is None:
        return None
    bound = found["bound"]
    comma = rng.choice([",", ""])
    return f"{bound[:1].upper()}{bound[1:]}{comma} {lower_first(found['rest'])}?"
