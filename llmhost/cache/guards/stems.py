"""Inflected English words brought to one form, by a small rule and a list of what the rule cannot know.

A stem need not be a word ("increasing" and "increase" are both "increas"): stems are only ever compared
with stems.
"""

from __future__ import annotations

from functools import lru_cache

from llmhost.cache.guards.word_lists import english, related, sections

__all__ = ["stem", "words"]


def _graded(adjective: str) -> tuple[str, ...]:
    """The adjective's comparative and superlative, as they may be spelled."""
    base = adjective[:-1] + "i" if adjective.endswith("y") and adjective[-2:-1] not in "aeiou" else adjective
    base = base.removesuffix("e")
    roots = {base, base + base[-1]}
    return tuple(root + ending for root in roots for ending in ("er", "est"))


def _table() -> dict[str, str]:
    table = {form: adjective for adjective in english("adjectives") for form in _graded(adjective)}
    for base, forms in related(sections("english")["irregular"]):
        table |= dict.fromkeys(forms, base)
    return table


_TABLE = _table()
_VOWELS = frozenset("aeiouy")
#: Endings of words that only look like a plural.
_NO_PLURAL = ("ss", "us", "is")


#: words; more than any conversation uses often, and under a megabyte
@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """`word`, in lower case, without its inflection. Of another language or too short: nearly as it is."""
    known = _TABLE.get(word)
    if known is not None:
        return known if known == word else stem(known)
    if len(word) <= 3:
        return word
    return _bare(_without_ending(word))


def _without_ending(word: str) -> str:
    if word.endswith(("ies", "ied")) and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(_NO_PLURAL):
        return word[:-1]
    for ending in ("ing", "ed", "ly"):
        root = word.removesuffix(ending)
        if root != word and len(root) >= 3 and not word.endswith("eed") and not _VOWELS.isdisjoint(root):
            return root
    return word


def _bare(word: str) -> str:
    """Without what endings come and go with: a silent e, a doubled consonant, y for i."""
    if len(word) > 3 and word[-1] == "e":
        word = word[:-1]
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word[-1] == "y" and word[-2] not in _VOWELS else word


def words(text: str) -> frozenset[str]:
    """The words of a short list."""
    return frozenset(text.split())
