"""Guard: the two are written in different languages: an answer is wanted in that of its question."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

from llmhost.cache.guards.word_lists import sections
from llmhost.cache.guards.wording import Wording
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard", "language"]

NAME = "languages"
#: The languages that each frequent word belongs to.
_LANGUAGES_OF: dict[str, list[str]] = {}
for _speech, _frequent in sections("languages").items():
    for _word in _frequent:
        _LANGUAGES_OF.setdefault(_word, []).append(_speech)
#: words; fewer that tell a language are chance, as "die" and "in" are in English
_ENOUGH = 2
#: one letter in this many is of the script; fewer are a quoted word in a text of another script
_SHARE = 2
#: Scripts of one language, by the first word of their letters' names in Unicode.
_LANGUAGE_OF_SCRIPT = {"HIRAGANA": "Japanese", "KATAKANA": "Japanese", "CJK": "Chinese", "HANGUL": "Korean"}


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when both languages are plain to see and differ."""
    ours, theirs = language(question), language(stored)
    if not ours or not theirs or ours == theirs:
        return None
    return Objection(NAME, f"one is written in {ours}, the other in {theirs}")


@lru_cache(maxsize=128)
def language(wording: Wording) -> str:
    """The language or, where letters tell no more, the script; "" when it cannot be told."""
    if not wording.text.isascii() and (script := _script(wording.text)) != "LATIN":
        return script
    known = wording.word_set & _LANGUAGES_OF.keys()
    best = Counter(language for word in known for language in _LANGUAGES_OF[word]).most_common(2)
    if not best or best[0][1] < _ENOUGH or (len(best) == 2 and best[0][1] == best[1][1]):
        return ""
    return best[0][0]


def _script(text: str) -> str:
    """The script of half of the letters or more: "LATIN", another's name for people, or ""."""
    letters = [letter for letter in text if letter.isalpha()]
    counts = Counter(
        "LATIN" if letter.isascii() else unicodedata.name(letter, "").partition(" ")[0] for letter in letters
    )
    if "HIRAGANA" in counts or "KATAKANA" in counts:
        return "Japanese" if counts["LATIN"] * _SHARE <= len(letters) else "LATIN"
    script = max(counts, key=lambda name: counts[name], default="LATIN")
    return "LATIN" if script == "LATIN" else _LANGUAGE_OF_SCRIPT.get(script, f"{script.capitalize()} letters")
