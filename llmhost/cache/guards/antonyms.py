"""Which words are opposed to each other, from `words/opposites.txt`."""

from __future__ import annotations

from llmhost.cache.guards.stems import stem
from llmhost.cache.guards.word_lists import related, sections

__all__ = ["OPPOSITES"]

#: The stems that a stem is opposed to.
OPPOSITES: dict[str, set[str]] = {}
for _left, _right in related(sections("opposites")["opposites"]):
    _ones, _others = set(map(stem, _left.split())), set(map(stem, _right))
    for _here, _there in ((_ones, _others), (_others, _ones)):
        for _word in _here:
            OPPOSITES.setdefault(_word, set()).update(_there - _here)
