"""Admission: which questions are asked, and yet neither stored nor answered from the cache. Pure.

The rules are for English, and lean to the safe side: what is taken for such a question costs one answer of an
engine. The patterns are in `admission.txt`.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

from llmhost.cache.guards.word_lists import read_sections

__all__ = ["Kind", "is_creative", "kind_of"]

#: `changing`: the answer depends on when it is asked; `acting`: it does something; `personal`: it is about
#: one person's own data
Kind = Literal["changing", "acting", "personal"]

#: questions; one that is asked again, as hits are, is not read again
_REMEMBERED = 1000
#: characters; what is asked stands at a text's beginning or end, and the rest is what it is asked about
_READ = 1000


def kind_of(text: str) -> Kind | None:
    """Why an answer to this question should not be kept; None for an ordinary one."""
    return _kind(_read(text))


@lru_cache(_REMEMBERED)
def _kind(read: str) -> Kind | None:
    if _patterns("acting").search(read):
        return "acting"
    if _patterns("own data").search(read):
        return "personal"
    if _patterns("personal").search(read) and not _patterns("general").search(read):
        return "personal"
    if _patterns("changing").search(read):
        return "changing"
    return None


def is_creative(text: str) -> bool:
    """Whether it asks for something that is to be another each time."""
    return bool(_patterns("creative").search(_read(text)))


def _read(text: str) -> str:
    both = text if len(text) <= 2 * _READ else f"{text[:_READ]}\n{text[-_READ:]}"
    return " ".join(both.lower().replace("\u2019", "'").split())


@cache
def _patterns(section: str) -> re.Pattern[str]:
    """The patterns of a section; compiled when a question first needs them."""
    sections = read_sections(Path(__file__).parent / "admission.txt")
    pattern = "|".join(f"(?:{line})" for line in sections[section])
    for name, _, part in (entry.partition(" = ") for entry in reversed(sections["parts"])):
        pattern = pattern.replace(f"<{name}>", part)
    return re.compile(pattern)
