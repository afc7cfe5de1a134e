"""Does a text talk to the model that is shown it, instead of asking something? Pure.

A language model can be talked to by what it reads. A text that tries is not shown to it: that costs one
answer of an engine, and being fooled would serve the answer to another question. So this looks for too much
rather than too little. The patterns are in `injection.txt`.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from llmhost.cache.guards.word_lists import read_sections

__all__ = ["addresses_model", "looks_like_injection"]

_PATTERNS = read_sections(Path(__file__).parent / "injection.txt")


def _said(section: str) -> re.Pattern[str]:
    pattern = "|".join(rf"\b(?:{line})\b" for line in _PATTERNS[section])
    for name, _, part in (entry.partition(" = ") for entry in _PATTERNS["parts"]):
        pattern = pattern.replace(f"<{name}>", part)
    return re.compile(pattern)


_VERDICT, _SAID = _said("verdict"), _said("words")
_MARKED = re.compile("|".join(_PATTERNS["marks"]), re.MULTILINE)
_BETWEEN = re.compile(r"[\W_]+")


def looks_like_injection(text: str) -> bool:
    """Whether the text addresses the model that judges it, also where it hides that in odd letters."""
    return addresses_model(text) or bool(_VERDICT.search(_words(_plain(text))))


def addresses_model(text: str) -> bool:
    """The same, but for the words of a verdict: people say yes and no."""
    plain = _plain(text)
    return bool(_MARKED.search(plain) or _SAID.search(_words(plain)))


def _plain(text: str) -> str:
    """As it is read: wide and styled letters as plain ones, nothing that cannot be seen."""
    letters = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in letters if unicodedata.category(letter) != "Cf")


def _words(plain: str) -> str:
    return _BETWEEN.sub(" ", plain)
