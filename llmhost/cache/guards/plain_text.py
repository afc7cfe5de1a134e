"""Guards: text that cannot be judged by reading it. Hidden characters, letters that pass for others, and what
is too long to be read whole.
"""

from __future__ import annotations

import re
import unicodedata

from llmhost.cache.guards.wording import MOST_WORDS, Wording
from llmhost.cache.models import Objection

__all__ = ["LENGTH", "NAME", "guard", "length_guard"]

NAME = "plain text"
LENGTH = "length"
#: Joiners that some scripts and emoji need, and marks of direction that Arabic and Hebrew may: odd only
#: beside a Latin letter or a digit.
_JOINERS = frozenset("\u200c\u200d\u200e\u200f")
_LINE_BREAKS = frozenset("\t\n\r\x0b\x0c\x85")
#: Letters that look like Latin ones, by script. Greek letters of formulas and units are not here.
_LOOKALIKES = frozenset(
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03b9\u03ba"
    "\u03bd\u03bf\u03c5\u03c7\u0405\u0406\u0408\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421"
    "\u0422\u0423\u0425\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455\u0456\u0458\u0475\u04bb\u0501"
    "\u051b\u051d\u054f\u0555\u0570\u0578\u057d\u0585\u13a2\u13aa\u13ab\u13ac\u13b7\u13bb\u13c0\u13c3"
    "\u13d2\u13d4\u13d9\u13da\u13de\u13df\u13e2\u13e6\u13f4"
)
#: What is raised in formulas and units.
_EXPONENTS = dict.fromkeys(map(ord, "\u00b2\u00b3"))
_WORD = re.compile(r"[^\W\d_]+")


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when either text hides or forges a character, however alike they look then."""
    both = question.text + stored.text
    if both.isascii() and (both.isprintable() or not any(map(_is_control, both))):
        return None
    fault = _fault(question.text) or _fault(stored.text)
    return Objection(NAME, fault) if fault else None


def length_guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when either goes on after what is read: two long texts often begin alike and end otherwise."""
    if question.cut or stored.cut:
        return Objection(LENGTH, f"one is longer than the {MOST_WORDS} words that are compared")
    return None


def _is_control(letter: str) -> bool:
    return letter not in _LINE_BREAKS and unicodedata.category(letter) == "Cc"


def _fault(text: str) -> str:
    """What is wrong with the text, for people; empty when nothing is."""
    for place, letter in enumerate(text):
        if letter.isalnum() or letter in " .,?!'":
            continue
        if _is_hidden(text, place):
            return f"one holds a character that cannot be seen (U+{ord(letter):04X})"
    for word in _WORD.findall(text):
        if not word.isascii() and (fault := _forged(word, text)):
            return fault
    return ""


def _is_hidden(text: str, place: int) -> bool:
    letter = text[place]
    if letter in _JOINERS:
        around = text[max(place - 1, 0) : place] + text[place + 1 : place + 2]
        return not around or around.isascii()
    return _is_control(letter) or unicodedata.category(letter) in {"Cf", "Co", "Cn", "Cs"}


def _forged(word: str, text: str) -> str:
    """Said of a word that mixes look-alikes with Latin letters, is made of them among Latin words, or is
    Latin only after normalisation.
    """
    odd = [letter for letter in word if letter in _LOOKALIKES]
    latin = [letter for letter in word if letter.isascii()]
    if odd and (latin or (len(odd) == len(word) > 1 and _is_mostly_latin(text))):
        return f"one writes {word!r} with letters of another alphabet that look alike"
    plain = unicodedata.normalize("NFKC", word)
    if word.translate(_EXPONENTS).isascii():  # both models know them: x²
        return ""
    if plain.isascii() and not word.isascii():
        return f"one writes {plain!r} with letters that are not the plain ones"
    return ""


def _is_mostly_latin(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    return 2 * sum(letter.isascii() for letter in letters) > len(letters)
