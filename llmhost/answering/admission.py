"""Admission: of what kind a question is, by which it is known whether an answer to it may be kept. Pure.

The rules are for English, and lean to the safe side: what is taken for a question whose answer does not keep
costs one answer of an engine. The patterns are in `admission.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from llmhost.cache.guards.word_lists import lowered, read_sections
from llmhost.config.patterns import READ, ways_to_fit

__all__ = [
    "EXACT_ONLY",
    "PLAIN",
    "Admitted",
    "Kind",
    "admit",
    "brings_own_data",
    "find_denied",
    "writing_tool",
]

#: `changing`: the answer depends on when it is asked; `acting`: it does something; `personal`: it is about
#: one person's own data; `creative`: another answer each time is wanted; `random`: each asker needs another
#: one, a password or a draw; `denied`: the operator says so
Kind = Literal["plain", "changing", "acting", "personal", "creative", "random", "denied"]

#: kinds whose answers, where they are kept at all, are served to the same text only, and never embedded
EXACT_ONLY: frozenset[Kind] = frozenset({"acting", "personal", "creative", "random", "denied"})

#: pieces of texts; one that is asked again, as hits are, is not read again
_REMEMBERED = 2000
#: characters at a text's beginning and end, where what is asked stands; the rest is what it is asked about
_ASKED = READ // 2
#: characters that two pieces of a text share: what is longer may be cut by both
_SHARED = 500
#: characters in which a piece's end is moved to a blank
_BLANK_WITHIN = 200
#: characters that are read for own data, and the ways in which the operator's patterns may fit them: each
#: takes half a second at worst
_LONGEST, _MOST_WAYS = 100_000, 75_000_000
_QUOTED = re.compile(r'"([^"\n]{1,300})"|“([^”\n]{1,300})”|(?<!\w)[\'\u2018]([^\'\u2018\n]{2,300})\'(?!\w)')
#: a question that is wrapped in another one, "I wonder whether the shop is open"
_WRAPPED = re.compile(
    r"(?:(?:hi|hello|hey|please|pls|i|i'm|im|i'd|id|am|was|just|really|would|like|want|need|to|can|could|do"
    r"|does|you|u|anyone|anybody|someone|somebody|me|let|so|ok|and|thanks|quick question|happen|we),? ){0,7}"
    r"(?:wondering|wonder|curious|know|tell me|find out|check|see|any idea|no idea|not sure|ask|asking) "
    r"(?:(?:if|whether) (?P<whether>.+)|(?P<asked>(?:what|who|which|when|where|why|how)\b.+))"
)
_SUBJECT = re.compile(r"(.{1,80}?)(?:'s| (is|are|was|were|has|have|had|will|can|did|does))\b(.*)")
#: where a request begins that follows what it is about, "I'm late, could you move my lunch"
_REQUEST = re.compile(
    r"(?:,| -+| \u2013| \u2014|:| so| but| and) (?=(?:(?:so|but|and|then) )?"
    r"(?:(?:can|could|would|will) (?:you|u|someone|somebody|anyone)|please|pls|plz)\b)",
    re.IGNORECASE,
)
#: where a clause begins; how the answer is to look is said by one within these last characters of a text
_CLAUSE = re.compile(r"[,.?!;:] (?:(?:and|but|so) )?| (?:and|but|so|-+|\u2013|\u2014) ")
_LOOKS = 120
_SENTENCE_END = re.compile(r"(?<=[.!?;])(?<!\b[DMS][rst]\.)(?<!\bMrs\.)\s+|\n+")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A question's kind, and the words that say so; empty for a plain one that no pattern of the operator's
    allows."""

    kind: Kind
    because: str = ""


PLAIN = Admitted("plain")


def admit(text: str, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> Admitted:
    """What kind of question it is. What a pattern of `deny` finds is denied, and what is too long to be read
    whole; what a pattern of `allow` finds is plain, unless it brings a person's own data."""
    if found := find_denied([text], deny):
        return Admitted("denied", found)
    admitted = _kind(_begin_and_end(text), allow)
    if admitted.kind != "random" and (found := brings_own_data(text)):
        return Admitted("personal", found)
    return admitted


def find_denied(texts: Sequence[str], deny: tuple[str, ...]) -> str:
    """Why what is sent together is denied: the words that a pattern finds in one of the texts, or that they
    are too long to be read whole. "" where it is not."""
    if sum(map(len, texts)) > _readable(deny):
        return "too long to be read whole"
    found = (_search(deny, piece) for text in texts for piece in _pieces(text)) if deny else ()
    return next(filter(None, found), "")


def brings_own_data(text: str) -> str:
    """The words with which a text brings a person's own data, "" where it brings none."""
    return next(filter(None, map(_own_data, _pieces(text))), "")


@lru_cache(_REMEMBERED)
def _own_data(piece: str) -> str:
    lower = piece.lower()
    return _shown(_find("own data", lower) or _find("names", piece))


def _find(section: str, text: str) -> re.Match[str] | None:
    """What one of a section's patterns finds."""
    return next(filter(None, (pattern.search(text) for pattern in _patterns(section))), None)


@lru_cache(_REMEMBERED)
def _kind(read: str, allow: tuple[str, ...]) -> Admitted:
    """What kind of question it is by its wording."""
    if found := _search(allow, read):
        return Admitted("plain", found)
    kinds = [_kind_of_sentence(sentence) for sentence in _sentences(_QUOTED.sub(_unquoted, read))]
    order: tuple[Kind, ...] = ("random", "acting", "personal", "changing", "creative")
    return next((one for kind in order for one in kinds if one.kind == kind), PLAIN)


def _kind_of_sentence(sentence: str) -> Admitted:
    lower = _unwrapped(sentence.lower())
    for kind, strong, weak, general in _ORDER:
        found = _find(strong, lower)
        if not found and weak and not _find(general, lower):
            found = _find(weak, lower)
        if not found and kind == "acting":
            found = _find("acting as written", sentence)
        if found:
            return Admitted(kind, _shown(found))
    return PLAIN


#: kinds in the order in which they are looked for: patterns that tell it whatever else there is, and some
#: that tell it where none of the last ones is there
_ORDER: tuple[tuple[Kind, str, str, str], ...] = (
    ("random", "drawn", "random", "not random"),
    ("acting", "acting on one's own", "acting", "not acting"),
    ("personal", "own state", "personal", "not personal"),
    ("changing", "now", "changing", "not changing"),
    ("creative", "creative", "", ""),
)


def writing_tool(tools: object) -> str:
    """The name of the first tool of a request that does something, rather than to read; "" where none does.
    `tools` as a client sent them."""
    for tool in tools if isinstance(tools, list | tuple) else ():
        name = _name_of(tool)
        if _find("writing tools", re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\-./]+", " ", name).lower()):
            return name
    return ""


def _name_of(tool: Any) -> str:
    """The name of a tool in the form of one of the APIs."""
    if not isinstance(tool, Mapping):
        return ""
    inner = tool.get("function")
    name = inner.get("name") if isinstance(inner, Mapping) else tool.get("name") or tool.get("type")
    return name if isinstance(name, str) else ""


@lru_cache(_REMEMBERED)
def _search(patterns: tuple[str, ...], read: str) -> str:
    """What the first of the operator's patterns finds, in either case."""
    return next((_shown(found) for one in patterns if (found := _compiled(one).search(read))), "")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


#: characters; of the words that tell a kind
_SHOWN = 60


def _shown(found: re.Match[str] | None) -> str:
    return "" if found is None else (found[0].strip()[:_SHOWN] or "…")


@cache
def _readable(deny: tuple[str, ...]) -> int:
    """Characters that can be read whole."""
    return min(_LONGEST, _MOST_WAYS // max(1, sum(map(ways_to_fit, deny))))


def _begin_and_end(text: str) -> str:
    return _tidied(text if len(text) <= READ else f"{text[:_ASKED]}\n{text[-_ASKED:]}")


def _pieces(text: str) -> Iterator[str]:
    """The whole text, in pieces that overlap and are cut at blanks: each takes no longer than the others."""
    tidied, begin = _tidied(text), 0
    while begin + READ < len(tidied):
        end = _after_blank(tidied, begin + READ)
        yield tidied[begin:end]
        begin = _after_blank(tidied, end - _SHARED)
    yield tidied[begin:]


def _after_blank(text: str, place: int) -> int:
    """The place after the last blank that is shortly before this place, else this place."""
    return max(text.rfind(blank, place - _BLANK_WITHIN, place) for blank in " \n") + 1 or place


def _tidied(text: str) -> str:
    """The text with one blank between its words, and without empty lines."""
    lines = (" ".join(line.split()) for line in text.replace("\u2019", "'").split("\n"))
    return "\n".join(line for line in lines if line)


def _unquoted(quotation: re.Match[str]) -> str:
    """What a text says with a quotation: nothing where it is about those words, else the words."""
    text = quotation.string
    before = text[: quotation.start()].lower().rpartition("\n")[2]
    after = text[quotation.end() :].lower().partition("\n")[0]
    about = _find("before a quotation", before) or _find("after a quotation", after)
    return '""' if about else quotation[quotation.lastindex or 0]


def _sentences(read: str) -> Iterator[str]:
    """The sentences of a text, and the requests in them that follow what they are about."""
    sentences = map(_without_given, _SENTENCE_END.split(_without_looks(read)))
    return filter(None, (part for sentence in sentences for part in _REQUEST.split(sentence)))


def _without_looks(text: str) -> str:
    """The text without what it says at its end of how the answer is to look."""
    for clause in _CLAUSE.finditer(text, max(0, len(text) - _LOOKS)):
        before = text[: clause.start()]
        if _find("how it is to look", f"{before} | {text[clause.end() :]}".lower()):
            return _without_looks(before)
    return text


def _without_given(sentence: str) -> str:
    """The sentence without what it gives to be translated."""
    if found := _find("to be translated", lowered(sentence)):
        begin, end = found.span(found.lastindex or 0)
        return f'{sentence[:begin]} ""{sentence[end:]}'
    return sentence


def _unwrapped(sentence: str) -> str:
    """The question that a sentence asks in a roundabout way, in the order of words of a direct one."""
    if not (found := _WRAPPED.match(sentence)):
        return sentence
    if found["asked"]:
        return found["asked"]
    if not (clause := _SUBJECT.match(found["whether"])):
        return f"did {found['whether']}"
    return f"{clause[2] or 'is'} {clause[1]}{clause[3]}"


#: how patterns begin that begin alike, and how they are then searched for: `re` is quick to find a letter,
#: and slow to find where a word begins
_BEGINNINGS = {
    "<ask>": "<ask>",
    "^<polite>": "^<polite>",
    r"\bmy ": r"my (?<=\bmy )",
    r"\bi": r"i(?<=\bi)",
    r"\b(?=\d)": r"\b(?=\d)",
    r"\b": r"\b",
}


@cache
def _patterns(section: str) -> Sequence[re.Pattern[str]]:
    """The patterns of a section; compiled when a question first needs them. Those that begin alike are one,
    so that a text is searched once for their beginning."""
    sections = read_sections(Path(__file__).parent / "admission.txt")
    alike: dict[str, list[str]] = {}
    for line in sections[section]:
        begin = next(filter(line.startswith, _BEGINNINGS), line)
        alike.setdefault(begin, []).append(line.removeprefix(begin))
    patterns = [f"{_BEGINNINGS.get(begin, begin)}(?:{'|'.join(rests)})" for begin, rests in alike.items()]
    return [re.compile(_with_parts(pattern, sections["parts"])) for pattern in patterns]


def _with_parts(pattern: str, parts: Sequence[str]) -> str:
    for name, _, part in (entry.partition(" = ") for entry in reversed(parts)):
        pattern = pattern.replace(f"<{name}>", part)
    return pattern
