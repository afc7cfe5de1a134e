"""Does a question talk to the judge instead of asking something? Pure.

A judge that is a language model can be talked to by what it judges. A pair that tries is not judged: that
costs one answer of an engine, and being fooled would serve the answer to another question. So this looks for
too much rather than too little.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["addresses_the_judge"]

_SAY = r"(?:answer|reply|respond|say|output|print|write|return|type|repeat|state|choose|decide)(?:s|ing|ed)?"
_TAKE_BACK = r"(?:ignor(?:e|es|ing)|disregard|forget|override|bypass|skip|overrule)"
_TOLD = r"(?:instructions?|prompts?|rules?|messages?|orders?|task|above|before|previous|earlier|said|told)"
_ROLE = r"(?:judge|model|assistant|ai|evaluator|grader|classifier)"
_AGREED = r"(?:y|true|ja|oui|si|same|match|equal|identical)"
_EQUAL = r"(?:same|equal|identical|equivalent|duplicates?)"

# Of the text as words with one blank between them.
_WORDS = (
    # The word that serves an answer, in whatever language the rest is. "If yes, how?" is what people ask.
    r"(?<!if )y ?e ?s",
    # What it is to say: "answer with no", "your reply must be affirmative".
    rf"{_SAY}(?: \w+){{0,4}} (?:no|affirmative(?:ly)?)",
    r"(?:answer|reply|response|verdict|result) (?:(?:is|must|should|will|has|to|be) ){0,3}(?:no|affirmative)",
    rf"(?:answer|reply|respond|say|output|print|write|verdict|result)(?: \w+){{0,2}} {_AGREED}",
    r"(?:must|should|always|please|and) (?:agree|approve|confirm)",
    # What it was told before is taken back, or something put in its place.
    rf"{_TAKE_BACK}(?: \w+){{0,4}} {_TOLD}",
    r"(?:new|real|actual|updated|following|previous|above|your) instructions?",
    r"system (?:prompt|message|note|override|instructions?)",
    # Who it is, what the two are, what it is to take them for.
    rf"you (?:are|re|were) (?:now )?(?:an?|the|no longer) (?:\w+ ){{0,2}}{_ROLE}",
    r"(?:act|behave|pretend) (?:as|to be) (?:an?|the)",
    rf"(?:dear|hey|hello|attention|as) (?:(?:the|a|an|ai) ){{0,2}}{_ROLE}",
    r"(?:these|both|the|two)(?: two)? questions (?:are|have|ask|mean)",
    rf"(?:these|both|the two|they) (?:\w+ ){{0,3}}{_EQUAL}",
    rf"(?:{_EQUAL}|same question|equivalent) (?:as|to) the (?:other|next|previous|first|second)",
    r"the other (?:question|string|line|text|wording|pair)",
    rf"(?:treat|consider|regard|count|mark|classify)(?: \w+){{0,5}} {_EQUAL}",
)
# Of the text itself: marks of chat templates, of roles, and of our own message.
_MARKS = (
    r"<\||\|>|<</?sys>>|\[/?(?:inst|sys|system|assistant|user)\]|^[^\S\n]*###",
    r"<\s*/?\s*(?:system|assistant|user|human|pair|questions?|think|inst|s|bos|eos|start_of_turn|end_of_turn)\s*/?>",
    r"(?:judge|evaluator|grader|classifier)\s*:|\"(?:same|match|equal|answer|verdict)\"\s*:",
    r"^[^\w\n]*(?:system|assistant|human|user|judge|instructions?|answer|response)[^\w\n]*:",
)
_SAID = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in _WORDS))
_MARKED = re.compile("|".join(_MARKS), re.MULTILINE)
_BETWEEN = re.compile(r"[\W_]+")


def addresses_the_judge(text: str) -> bool:
    """Whether the text speaks to whoever judges it, also where it hides that in odd letters."""
    plain = _plain(text)
    return bool(_MARKED.search(plain) or _SAID.search(_BETWEEN.sub(" ", plain)))


def _plain(text: str) -> str:
    """The text as it is read: wide and styled letters as plain ones, nothing that cannot be seen."""
    seen = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in seen if unicodedata.category(letter) != "Cf")
