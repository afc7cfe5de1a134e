"""Inflected English words brought to one form, by a small rule and a list of what the rule cannot know.

A stem need not be a word ("increasing" and "increase" are both "increas"): stems are only ever compared
with stems.
"""

from __future__ import annotations

from functools import lru_cache

from llmhost.cache.guards.word_lists import english, related, sections

__all__ = ["stem", "words"]

#: What each irregular form, comparative and superlative comes from, as they may be spelled.
_TABLE: dict[str, str] = {}
for _adjective in english("adjectives"):
    _ends_in_y = _adjective.endswith("y") and _adjective[-2:-1] not in "aeiou"
    _root = (_adjective[:-1] + "i" if _ends_in_y else _adjective).removesuffix("e")
    for _ending in ("er", "est"):
        _TABLE |= dict.fromkeys((_root + _ending, _root + _root[-1] + _ending), _adjective)
for _base, _forms in related(sections("english")["irregular"]):
    _TABLE |= dict.fromkeys(_forms, _base)
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
    word = _without_ending(word)
    # What endings come and go with: a silent e, a doubled consonant, y for i.
    if len(word) > 3 and word[-1] == "e":
        word = word[:-1]
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word[-1] == "y" and word[-2] not in _VOWELS else word


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


def words(text: str) -> frozenset[str]:
    """The words of a short list."""
    return frozenset(text.split())
