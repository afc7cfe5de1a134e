"""Can a turn of a conversation be understood without the others, and does a text say what it asks? Pure.

The fleet's model turns the last turn of a conversation into a question that stands alone. What it says is
taken for that only where it can be shown: by words, not by trust in the model. The rules are for English, and
lean to the safe side: a question that is not condensed costs one answer of an engine. The words are in
`standalone.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

from llmhost.cache.guards.languages import language
from llmhost.cache.guards.numbers import in_digits
from llmhost.cache.guards.stems import stem
from llmhost.cache.guards.word_lists import english, lowered, read_sections
from llmhost.cache.guards.wording import FILLERS, read
from llmhost.engines.engine import Message

__all__ = ["objection", "says_it", "shown_turns", "tidied"]

#: characters of an assistant's turn that are shown: what it is about stands at its beginning
_SHOWN = 800
#: characters of a user's turn; one that is longer brings more than a question can carry
_LONGEST_TURN = 600
#: characters and words of a question that stands alone
_LONGEST, _FEWEST_WORDS = 300, 3
#: content words of a turn that others may refer to
_TOPIC = 2
#: texts that are not read again while one conversation is looked at
_REMEMBERED = 128

#: stems, in their order
_Line = tuple[str, ...]

#: of a verb that goes with one thing or with many, the one
_SAME_VERB = {"are": "is", "were": "was", "does": "do", "have": "has"}

_QUOTES = "\"'\u201c\u201d\u2018\u2019`"
_SENTENCE_END = re.compile(r"[.!?](?=\s+\S)(?<!\b[A-Za-z]\.)(?<!\b(?:St|Dr|Mr|vs|No)\.)(?<!\bMrs\.)")
_LABEL = re.compile(
    r"^(?:(?:stand-?alone|rewritten|condensed|full|the) )*(?:question|message|request|answer)\s*:\s*",
    re.IGNORECASE,
)
#: a number, as which it is read
_ROMAN = re.compile("[IVX]+")
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


# What the last turn may refer to.


def shown_turns(history: Sequence[Message], last: str) -> tuple[Message, ...]:
    """The turns that are needed to understand the last one: the user's turn before it, where that needs no
    other, and what was said since. None where the last turn is not to be condensed: it asks nothing by
    itself, the user has said how to answer or whom, or what it refers to is further away, too long, or not in
    English.
    """
    if not _asks(last) or len(last) > _LONGEST_TURN:
        return ()
    if any(turn.role not in ("user", "assistant") or not _is_plain(turn) for turn in history):
        return ()
    users = [place for place, turn in enumerate(history) if turn.role == "user"]
    if not users or any(_found("standing", str(history[place].content)) for place in users):
        return ()
    *earlier, begin = users
    if any(_found("facts", str(history[place].content)) for place in earlier) or not _is_topic(
        history, begin
    ):
        return ()
    shown = tuple(Message(turn.role, str(turn.content)[:_SHOWN]) for turn in history[begin:])
    return shown if _is_english(last, shown) else ()


def _is_english(last: str, turns: Sequence[Message]) -> bool:
    """The rules know the words of English alone. A turn may be too short to tell its language."""
    asked = [last, *(str(turn.content) for turn in turns if turn.role == "user")]
    said = [str(turn.content) for turn in turns if turn.role != "user"]
    spoken = [language(read(text)) for text in (last, " ".join(asked), " ".join(asked + said))]
    return set(spoken) <= {"", "English"} and "English" in spoken


def _is_topic(history: Sequence[Message], place: int) -> bool:
    """Whether this turn of the user can be understood without others."""
    text = str(history[place].content)
    opened = _opened(text)
    answers = place > 0 and str(history[place - 1].content).rstrip().endswith("?")
    if len(text) > _LONGEST_TURN or (answers and not _has_form(opened)):
        return False
    if _found("continuing", opened) or _elliptical(text) or _open_word(opened):
        return False
    content = _content(opened) - _kept()
    tells = _has_name(opened) or _found("introductions", opened)
    return len(content) >= _TOPIC or bool(content and tells)


def _is_plain(turn: Message) -> bool:
    return isinstance(turn.content, str) and not turn.fields


def _asks(last: str) -> bool:
    """Whether the last turn asks something, rather than to agree, to choose, or to go on."""
    opened = _opened(last)
    if not _WORD.search(opened) or _found("continuing", opened) or _found("continuing", _one_line(last)):
        return False
    return _has_form(opened) or _elliptical(last)


# Is this the question?


def tidied(said: str) -> str:
    """What a model said, without what it likes to put around: a label, quotation marks, blanks."""
    return _LABEL.sub("", said.strip()).strip().strip(_QUOTES).strip()


def objection(text: str, last: str, turns: Sequence[Message]) -> str:
    """Why `text` is not the question that the last turn asks after these turns, said so that it stands alone;
    "" where it is.
    """
    if len(text) > _LONGEST or "\n" in text or len(_WORD.findall(text)) < _FEWEST_WORDS:
        return "it is too long, or too short, or more than one paragraph"
    if _SENTENCE_END.search(text) or not _has_form(text):
        return "it is no single question"
    topic = str(turns[0].content)
    if open_word := _refers(text, _content(text) - _content(_without_ellipsis(last)) - _kept() - _generic()):
        return f"it refers to something else: {open_word}"
    said = _line(text)
    if _elliptical(last):
        filled = _is_filled(said, last, topic)
        return "" if filled else "it is not the earlier question with one thing replaced"
    if not _is_referred(said, _line(last), _line(topic)):
        return "it is not the last turn with the thing in the place of the word that refers to it"
    if lost := frozenset(_line(topic)) - frozenset(said) - _one_by_one("frame"):
        return f"it lacks what the user has said: {_named(lost)}"
    return ""


def says_it(text: str, right: str) -> bool:
    """Whether a question says the same as the right one, with the same words in the same order. `right` is
    empty where the last turn asks nothing by itself."""
    return bool(right) and _line(text) == _line(right)


def _is_referred(said: _Line, last: _Line, topic: _Line) -> bool:
    """Whether it is the last turn with words of the topic, as they stand there, in the place of one that
    refers to them."""
    for place, word in enumerate(last):
        after = len(said) - (len(last) - place - 1)
        if (
            word not in _one_by_one("in place")
            or said[:place] != last[:place]
            or said[after:] != last[place + 1 :]
        ):
            continue
        thing = said[place:after]
        if word == stem("there") and thing[:1] in (("in",), ("at",), ("on",)):
            thing = thing[1:]
        if thing and any(topic[at : at + len(thing)] == thing for at in range(len(topic))):
            return True
    return False


def _is_filled(said: _Line, last: str, topic: str) -> bool:
    """Whether it is the topic with what an elliptical turn says in the place of the one thing that it can
    replace, or behind it all."""
    rest, asked = _without_ellipsis(last), _line(topic)
    new = _line(rest)
    named = _has_name(rest)
    joins = bool(new) and new[0] in _one_by_one("joining")
    if not new or not _is_one_thing(new[1:] if joins else new) or _one_by_one("in place") & set(asked):
        return False
    for begin in range(len(asked) + 1):
        end = len(asked) - (len(said) - begin - len(new))
        if end < begin or said != asked[:begin] + new + asked[end:]:
            continue
        old = asked[begin:end]
        if joins and not old:
            if begin == len(asked) and new[0] not in asked and _takes_more(asked, topic, named=named):
                return True
        elif joins:
            if _joins_alike(new, old, asked, begin, named=named and _is_named(old[1:], topic)):
                return True
        elif _is_one_thing(old) and _is_alone(asked, begin, end):
            return True
    return False


def _is_one_thing(words: _Line) -> bool:
    others = _one_by_one("joining") | _one_by_one("in place") | _kept() | _one_by_one("frame")
    return bool(words) and others.isdisjoint(words)


def _joins_alike(new: _Line, old: _Line, asked: _Line, begin: int, *, named: bool) -> bool:
    """ "And to dogs?", "and in Lisbon?": in the place of what is joined by the same word, which is there
    once; where, when and for whom may all be joined so, and only two names are surely of one kind."""
    if new[0] != old[0] or asked.count(old[0]) != 1 or not _is_one_thing(old[1:]):
        return False
    follows = asked[begin + len(old) : begin + len(old) + 1]
    ends = not follows or follows[0] in _one_by_one("joining")
    return ends and (old[0] in _one_by_one("of one kind") or named)


def _takes_more(asked: _Line, topic: str, *, named: bool) -> bool:
    """ "And when abroad?": whether that surely comes behind all that is asked, and in the place of nothing: a
    name that is joined to it stays, but beside another name."""
    starts = [at for at, word in enumerate(asked) if at and word in _one_by_one("joining") and word != "of"]
    parts = [asked[at + 1 : end] for at, end in zip(starts, [*starts, len(asked)][1:], strict=True)]
    return not parts or (not named and all(_is_named(part, topic) for part in parts))


def _is_alone(asked: _Line, begin: int, end: int) -> bool:
    """Whether nothing else of the question could be replaced: besides this, it says one word at most of what
    is asked of it. "Can a cat eat a mouse?" has two things, "What is the capital of France?" has one."""
    before, after = asked[:begin], asked[end:]
    others = _one_by_one("frame") | _one_by_one("joining") | _one_by_one("not counted")
    if before and before[-1] not in others and before[-2:-1] not in (("i",), ("you",), ("we",)):
        return False  # a part of a name, as "point" of "boiling point"
    if before[-1:] == ("of",):
        before = before[:-1]
        while before and before[-1] not in _one_by_one("frame") | _one_by_one("joining"):
            before = before[:-1]
    elif after[:1] == ("of",):
        after = after[1:]
        while after and after[0] not in _one_by_one("frame") | _one_by_one("joining"):
            after = after[1:]
    rest = before + after
    if not _one_by_one("joining").isdisjoint(rest[1:]):  # "When was" joins nothing
        return False
    return sum(word not in _one_by_one("frame") | _one_by_one("not counted") for word in rest) <= 1


def _is_named(words: _Line, text: str) -> bool:
    names = {stem(word.lower()) for word in _names(_opened(text))}
    return bool(words) and not names.isdisjoint(words) and _one_by_one("dates").isdisjoint(words)


def _refers(text: str, added: frozenset[str]) -> str:
    """A word that stands for something that the text does not name. `added` are the content words that were
    found in earlier turns."""
    return _open_word(text) or next(_open_definites(text, added), "")


def _open_word(text: str) -> str:
    found = _pattern("references").search(_pattern("no reference").sub(" ", _one_line(text)))
    return "" if found is None else found[0].strip()


def _open_definites(text: str, added: frozenset[str]) -> Iterator[str]:
    """ "the plan": of which it is not said which one. "The plan of", "the Pro plan" and "the moon" say it."""
    words = _WORD.findall(text)
    for place, word in enumerate(words):
        if word.lower() != "the":
            continue
        noun: list[str] = []
        for following in words[place + 1 :]:
            if following.lower() in _FUNCTION:
                break
            noun.append(following)
        after = place + 1 + len(noun)
        behind = words[after].lower() if after < len(words) else ""
        if added and added.isdisjoint(map(stem, map(str.lower, noun))):
            continue  # it was said with the rest, which is named
        if not _is_definite(noun, behind, words[after + 1 : after + 4], added):
            yield " ".join(("the", *noun))


def _is_definite(noun: Sequence[str], behind: str, rest: Sequence[str], added: frozenset[str]) -> bool:
    if not noun:
        return False
    named = any(word[:1].isupper() or word[:1].isdecimal() for word in noun)
    if named or noun[0].lower() in _words("unique") or behind in _words("complements"):
        return True
    superlative = any(word.lower() in ("best", "most", "least") or word.endswith("est") for word in noun)
    if superlative and behind:
        return True
    if behind in _words("maybe complements") and any(
        word[:1].isupper() or stem(word.lower()) in added for word in rest
    ):
        return True
    return len(noun) > 1 and any(stem(word.lower()) in added for word in noun)


# Words.


@cache
def _sections() -> dict[str, tuple[str, ...]]:
    return dict(read_sections(Path(__file__).parent / "standalone.txt"))


@cache
def _words(section: str) -> frozenset[str]:
    return frozenset(_sections()[section])


@cache
def _pattern(section: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{line})" for line in _sections()[section]))


@cache
def _kept() -> frozenset[str]:
    return frozenset(map(stem, _words("kept")))


@cache
def _generic() -> frozenset[str]:
    return frozenset(map(stem, _words("generic")))


@cache
def _silent() -> frozenset[str]:
    return (FILLERS | frozenset(map(stem, _words("silent")))) - _kept()


#: words that end what "the" begins
_FUNCTION = frozenset(english("fillers"))


def _found(section: str, text: str) -> re.Match[str] | None:
    return _pattern(section).search(_one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.lower().replace("\u2019", "'").split())


def _opened(text: str) -> str:
    """The text without what is said before one asks; in its own letters."""
    line = " ".join(text.replace("\u2019", "'").split())
    while found := _pattern("openers").match(lowered(line)):
        line = line[found.end() :]
    return line


def _elliptical(last: str) -> bool:
    line = _one_line(last)
    return bool(_pattern("elliptical").match(line) or _pattern("elliptical").match(_opened(last).lower()))


def _without_ellipsis(last: str) -> str:
    """What an elliptical question adds to the earlier one; of another question all."""
    opened = _opened(last)
    found = _pattern("elliptical").match(lowered(opened))
    return opened[found.end() :] if found else opened


def _has_form(text: str) -> bool:
    return text.rstrip().endswith("?") or bool(_found("asks", text))


@cache
def _one_by_one(section: str) -> frozenset[str]:
    """The words of a section as `_line` has them."""
    return frozenset(_SAME_VERB.get(word, stem(word)) for word in _words(section))


@lru_cache(_REMEMBERED)
def _line(text: str) -> _Line:
    """What it says, word by word: numbers in digits, stems, without what is said before one asks and without
    words that say nothing anywhere. "Is" and "are", "do" and "does" are one word."""
    wording = read(in_digits(_opened(text)))
    both = zip(wording.words, wording.stems, strict=True)
    return tuple(_SAME_VERB.get(word, one) for word, one in both if word not in _words("says nothing"))


@lru_cache(_REMEMBERED)
def _content(text: str) -> frozenset[str]:
    """The stems that say something, numbers in digits."""
    return read(in_digits(text)).stem_set - _silent()


def _has_name(text: str) -> bool:
    return any(True for _ in _names(text))


def _names(text: str) -> Iterator[str]:
    """Words with a capital where grammar wants none."""
    wording = read(text)
    if text.isupper() or text.istitle():
        return
    for place, word in enumerate(wording.written):
        if place in wording.opening or not word[:1].isupper() or _ROMAN.fullmatch(word):
            continue
        if word.lower() not in english("no names"):
            yield wording.words[place]


def _named(stems: frozenset[str]) -> str:
    return ", ".join(sorted(stems)[:3])
