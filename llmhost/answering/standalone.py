"""Can a turn of a conversation be understood without the others, and does a text say what it asks? Pure.

The fleet's model turns the last turn of a conversation into a question that stands alone. What it says is
taken for that only where it can be shown: by words, not by trust in the model. The rules are for English, and
lean to the safe side: a question that is not condensed costs one answer of an engine. The words are in
`standalone.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from llmhost.cache.guards.languages import language
from llmhost.cache.guards.numbers import in_digits
from llmhost.cache.guards.stems import stem
from llmhost.cache.guards.word_lists import english, read_sections
from llmhost.cache.guards.wording import FILLERS, read
from llmhost.engines.engine import Message

__all__ = ["objection", "says_it", "shown_turns", "tidied"]

#: turns; what is further away is seldom meant, and costs time to read
_MOST_TURNS = 6
#: characters of an assistant's turn that are shown: what it is about stands at its beginning
_SHOWN = 800
#: characters of a user's turn; one that is longer brings more than a question can carry
_LONGEST_TURN = 600
#: characters and words of a question that stands alone
_LONGEST, _FEWEST_WORDS = 300, 3
#: content words with which a turn says what it is about, where it has no name
_SPECIFIC = 4
#: content words of a turn that others may refer to
_TOPIC = 2

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
    """The turns that are needed to understand the last one: back to the nearest question or statement of the
    user that needs no other. None where the last turn is not to be condensed: it asks nothing by itself, the
    user has said how to answer or whom, or what it refers to is too far away, too long, or not in English.
    """
    if not _asks(last) or len(last) > _LONGEST_TURN:
        return ()
    if any(turn.role not in ("user", "assistant") or not _is_plain(turn) for turn in history):
        return ()
    begin = _topic(history)
    if begin is None:
        return ()
    users = [(place, str(turn.content)) for place, turn in enumerate(history) if turn.role == "user"]
    if any(_found("standing", text) or (place < begin and _found("facts", text)) for place, text in users):
        return ()
    shown = tuple(Message(turn.role, str(turn.content)[:_SHOWN]) for turn in history[begin:])
    return shown if _is_english(last, shown) else ()


def _is_english(last: str, turns: Sequence[Message]) -> bool:
    """The rules know the words of English alone. A turn may be too short to tell its language."""
    asked = [last, *(str(turn.content) for turn in turns if turn.role == "user")]
    said = [str(turn.content) for turn in turns if turn.role != "user"]
    spoken = [language(read(text)) for text in (last, " ".join(asked), " ".join(asked + said))]
    return set(spoken) <= {"", "English"} and "English" in spoken


def _topic(history: Sequence[Message]) -> int | None:
    """The place of the nearest user's turn that can be understood without others."""
    for place in range(len(history) - 1, max(-1, len(history) - 1 - _MOST_TURNS), -1):
        text = str(history[place].content)
        if history[place].role == "user" and len(text) > _LONGEST_TURN:
            return None
        if history[place].role != "user" or not _is_topic(text):
            continue
        answers = place and str(history[place - 1].content).rstrip().endswith("?")
        if not answers or _has_form(_opened(text)):
            return place
    return None


def _is_topic(text: str) -> bool:
    opened = _opened(text)
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
    opened = _without_ellipsis(last)
    wanted, has = _content(opened), _content(text)
    if missing := wanted - has:
        return f"it lacks what the last turn says: {_named(missing)}"
    added = has - wanted
    if invented := added - _spoken(turns):
        return f"nobody has said: {_named(invented)}"
    found = added - _kept() - _generic()
    if open_word := _refers(text, found):
        return f"it refers to something else: {open_word}"
    if not found:
        return _objection_to_echo(text, last, turns)
    if lost := _dropped(turns, last, has):
        return f"it lacks what the user has named: {_named(lost)}"
    return ""


def _objection_to_echo(text: str, last: str, turns: Sequence[Message]) -> str:
    """The last turn itself, or little more: it must be about something else than the turns before, and say
    about what."""
    content = _content(text) - _kept()
    if _elliptical(last) or _refers(_opened(last), frozenset()):
        return "it does not say what the last turn refers to"
    if content & _spoken(turns) or not (_has_name(text) or len(content) >= _SPECIFIC):
        return "it does not say what it is about"
    return ""


def says_it(text: str, right: str, last: str) -> bool:
    """Whether a question names all that the right one names besides what the last turn says, which it has.
    `right` is empty where the last turn asks nothing by itself."""
    found = _content(right) - _content(_without_ellipsis(last)) - _kept() - _generic()
    return bool(right) and found <= _content(text)


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


def _dropped(turns: Sequence[Message], last: str, has: frozenset[str]) -> frozenset[str]:
    """What the user has named, and what the turn is about that all refers to, where the question does not say
    it. Where the last turn puts another thing in the place of one, as "and in Lisbon?" does, that one may be
    missing.
    """
    wanted = _content(last)
    things = _things(str(turns[0].content))
    apart = [thing for thing in things if thing.isdisjoint(wanted)]
    missing = [thing for thing in apart if not thing - _generic() <= has]
    lost = (frozenset[str]().union(*missing) | _names_and_numbers(turns)) - has - _generic()
    # "the freezing point" after "the boiling point" takes the place of that, and of nothing else.
    replaced = len(apart) == len(things) and len(missing) == 1 and _replaces(last)
    return frozenset() if replaced and lost <= missing[0] else lost


def _replaces(last: str) -> bool:
    """ "And the freezing point?", "and in Lisbon?", but not "and on mobile?"."""
    rest = _without_ellipsis(last)
    return _elliptical(last) and (not _found("setting", rest) or _has_name(rest))


@cache
def _things(text: str) -> tuple[frozenset[str], ...]:
    """What stands in a text behind an article, a preposition or an auxiliary, up to the next such word, in
    stems; behind "I" and "who" comes what is done with it. "Is a late payment bad?", "Does a vaccine work?":
    what ends the question says something of it."""
    wording = read(in_digits(_opened(text)))
    found: list[tuple[list[str], str]] = []
    within = False
    for word, one, before in zip(wording.words, wording.stems, ("", *wording.words), strict=False):
        if one not in _silent() and one not in _kept():
            if within:
                found[-1][0].append(one)
            continue
        kind = next((name for name in _BEFORE_THINGS if word in _words(name)), "")
        if kind == "before things" and before in _words("auxiliaries"):
            kind = "auxiliaries"
        within = bool(kind)
        if within:
            found.append(([], kind))
    return tuple(frozenset(thing) for thing in (_thing(*one, wording.stems[-1]) for one in found) if thing)


#: sections of words that a thing stands behind
_BEFORE_THINGS = ("before things", "auxiliaries", "before verbs")


def _thing(stems: list[str], kind: str, last: str) -> list[str]:
    if kind == "before verbs":
        return stems[1:]
    return stems[:-1] if kind == "auxiliaries" and len(stems) > 1 and stems[-1] == last else stems


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
    while found := _pattern("openers").match(line.lower()):
        line = line[found.end() :]
    return line


def _elliptical(last: str) -> bool:
    line = _one_line(last)
    return bool(_pattern("elliptical").match(line) or _pattern("elliptical").match(_opened(last).lower()))


def _without_ellipsis(last: str) -> str:
    """What an elliptical question adds to the earlier one; of another question all."""
    opened = _opened(last)
    found = _pattern("elliptical").match(opened.lower())
    return opened[found.end() :] if found else opened


def _has_form(text: str) -> bool:
    return text.rstrip().endswith("?") or bool(_found("asks", text))


@cache
def _content(text: str) -> frozenset[str]:
    """The stems that say something, numbers in digits."""
    return read(in_digits(text)).stem_set - _silent()


def _spoken(turns: Sequence[Message]) -> frozenset[str]:
    """What was said in these turns; of words that turn a question's meaning, what the user has said."""
    users = [_content(str(turn.content)) for turn in turns if turn.role == "user"]
    others = [_content(str(turn.content)) - _kept() for turn in turns if turn.role != "user"]
    return frozenset[str]().union(*users, *others)


def _names_and_numbers(turns: Sequence[Message]) -> frozenset[str]:
    """What the user has named in these turns."""
    found: set[str] = set()
    for turn in turns:
        if turn.role == "user":
            found |= {stem(word.lower()) for word in _names(_opened(str(turn.content)))}
            found |= {one for one in _content(str(turn.content)) if one[:1].isdecimal()}
    return frozenset(found) - _silent()


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
