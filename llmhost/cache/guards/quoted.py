"""Guard: what is meant to the letter. Quoted text, identifiers, flags, file names, addresses, error codes."""

from __future__ import annotations

import re
from functools import lru_cache

from llmhost.cache.guards.wording import Wording, named
from llmhost.cache.models import Objection

__all__ = ["NAME", "QUOTED", "guard"]

NAME = "quoted"

QUOTED = re.compile(
    r"\"([^\"]+)\"|\u201c([^\u201d]+)\u201d|«([^»]+)»|`([^`]+)`|(?<!\w)['\u2018](\w[^'\u2019]*)['\u2019](?!\w)"
)
_LITERAL = re.compile(
    r"https?://[^\s\"'<>]+|\bwww\.[^\s\"'<>]+"  # addresses
    r"|(?<![\w-])--?[a-zA-Z][\w-]*(?=[\s=,?.]|$)"  # flags
    r"|\b[A-Za-z]\w*_\w+\b"  # snake_case
    r"|\b[a-z]+(?:[A-Z][a-z0-9]+)+\b"  # camelCase
    r"|\b\w+(?:\.\w+)*\(\)"  # calls
    r"|(?<![\w.])\.?[A-Za-z_][\w-]*(?:\.[A-Za-z_]\w*)+\b"  # dotted paths, file names, hosts
    r"|(?<!\w)\.[a-z]{2,4}\b"  # file endings
    r"|\b0x[0-9a-fA-F]+\b|\b[A-Z]{1,4}-?\d{3,}\b"  # codes
)
#: What one of these has in it; most questions have none.
_HINT = re.compile(
    r"[\"\u201c«`_\u2018]|(?<!\w)'|\w\.\w|[a-z][A-Z]|\(\)|(?:^|\s)[-.]{1,2}\w|[A-Z]-?\d{3}|://|0x"
)
#: Written like code, but names or abbreviations.
_NAMES = re.compile(
    r"\w+\.js|asp\.net|i(?:phone|pad|pod|os|cloud|tunes|mac|message|watch|movie|book)s?|ebay|mac(?:os|book)|jquery|e(?:mail|book)|b(?:\.?tech|\.?com)|m(?:\.?tech|\.?com)"
    r"|(?:[a-z]\.)+[a-z]?|ph\.?d|(?:m|b|d)\.[a-z]+|mbbs|etc|\w+\.(?:what|how|is|why|i|the|and|but|so|my)",
    re.IGNORECASE,
)


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when each holds literal text that the other does not mention; doubts when one does."""
    ours, theirs = _literals(question), _literals(stored)
    if ours == theirs:
        return None
    here, there = _missing(ours, stored), _missing(theirs, question)
    if here and there:
        return Objection(NAME, f"one is about {named(here)}, the other about {named(there)}")
    if rest := here or there:
        return Objection(NAME, f"only one mentions {named(rest)}", refuses=False)
    return None


@lru_cache(maxsize=128)
def _literals(wording: Wording) -> frozenset[str]:
    """In lower case for comparison, without closing punctuation."""
    text = wording.text
    if not _HINT.search(text):
        return frozenset()
    found = {next(filter(None, match.groups())) for match in QUOTED.finditer(text)}
    found |= {match.group() for match in _LITERAL.finditer(text) if not _NAMES.fullmatch(match.group())}
    return frozenset(literal.strip(" .,?!").lower() for literal in found) - {""}


def _missing(literals: frozenset[str], other: Wording) -> set[str]:
    """Those that stand nowhere in the other text, quoted or not, however they are punctuated."""
    if not literals:
        return set()
    letters = _letters(other.lower)
    return {
        literal for literal in literals if literal not in other.lower and _letters(literal) not in letters
    }


def _letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum()) or text
