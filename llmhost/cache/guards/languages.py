"""Guard: the two are written in different languages. Whoever asks wants to be answered in their own."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from llmhost.cache.guards.wording import Wording
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "languages"

_STOP_WORDS = {
    "English": (
        "the is are what how do does to of and in for can you with why who my it that which where "
        "when be i a an on was this from at will should did as by me your if would there have has or "
        "best get one not"
    ),
    "German": (
        "der das ist sind wie und ich nicht ein eine einen von mit für wer wo wann warum dem zu kann "
        "mein auf wird gibt"
    ),
    "French": (
        "le la les est sont que quoi comment et je pas une des du de pour qui où quand pourquoi "
        "quelle quel dans mon sur"
    ),
    "Spanish": (
        "el la los las es qué que cómo como y yo una un de del para quién quien dónde donde cuándo "
        "cuál por mi en"
    ),
    "Italian": (
        "il lo la gli le è sono che cosa e io non un una di del chi quando perché qual della posso mio si"
    ),
    "Portuguese": (
        "os é são que como eu não um uma da para quem onde quando porque qual em por meu posso faço fazer"
    ),
    "Dutch": "de het een zijn wat hoe en ik niet met voor wie waar wanneer waarom kan je dat mijn moet wordt",
    "Swedish": "en ett är vad hur och jag inte av för vem var när varför det som på att mitt",
    "Polish": "jest są co jak nie kto gdzie kiedy dlaczego czy się jaki jakie dla mogę moje",
    "Turkish": "bir ve bu ne nas\u0131l m\u0131 mi için ile kim nerede zaman neden nedir çok",
    "Indonesian": "yang dan apa bagaimana adalah untuk dengan siapa kapan mengapa tidak ini itu saya cara",
    "Hindi in Latin letters": "kya hai kaise ka ki ke ko mein kaun kab kahan kyun nahi aur hota karna karen",
}


def _speakers() -> dict[str, tuple[str, ...]]:
    """The languages that each stop word belongs to."""
    table: dict[str, tuple[str, ...]] = {}
    for language, stop_words in _STOP_WORDS.items():
        for word in stop_words.split():
            table[word] = (*table.get(word, ()), language)
    return table


_LANGUAGES_OF = _speakers()
#: words; fewer that tell a language are chance, as "die" and "in" are in English
_ENOUGH = 2
#: letters of a script, one in so many; fewer are a quoted word in a text of another script
_SHARE = 2
#: Scripts of one language, by the first word of their letters' names in Unicode.
_LANGUAGE_OF_SCRIPT = {"HIRAGANA": "Japanese", "KATAKANA": "Japanese", "CJK": "Chinese", "HANGUL": "Korean"}


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when both languages are plain to see and differ."""
    ours, theirs = _language(question), _language(stored)
    if not ours or not theirs or ours == theirs:
        return None
    return Objection(NAME, f"one is written in {ours}, the other in {theirs}")


@lru_cache(maxsize=128)
def _language(wording: Wording) -> str:
    """The language or, where letters tell no more, the script; "" when it cannot be told."""
    if not wording.text.isascii() and (script := _script(wording.text)) != "LATIN":
        return script
    counts: dict[str, int] = {}
    for word in wording.word_set & _LANGUAGES_OF.keys():
        for language in _LANGUAGES_OF[word]:
            counts[language] = counts.get(language, 0) + 1
    best = sorted(counts.items(), key=lambda item: -item[1])[:2]
    if not best or best[0][1] < _ENOUGH or (len(best) == 2 and best[0][1] == best[1][1]):
        return ""
    return best[0][0]


def _script(text: str) -> str:
    """The script of half of the letters or more: "LATIN", another's name for people, or ""."""
    counts: dict[str, int] = {}
    letters = [letter for letter in text if letter.isalpha()]
    for letter in letters:
        script = "LATIN" if letter.isascii() else unicodedata.name(letter, "").partition(" ")[0]
        counts[script] = counts.get(script, 0) + 1
    if "HIRAGANA" in counts or "KATAKANA" in counts:
        return "Japanese" if counts.get("LATIN", 0) * _SHARE <= len(letters) else "LATIN"
    script = max(counts, key=lambda name: counts[name], default="LATIN")
    return "LATIN" if script == "LATIN" else _LANGUAGE_OF_SCRIPT.get(script, f"{script.capitalize()} letters")
