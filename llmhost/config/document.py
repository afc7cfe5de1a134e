"""A configuration file as text: YAML mappings, lists and scalars, with the place of each value.

Scalars stay text until the models parse them: so `password: ${REDIS_PASSWORD}` may be all digits, and the
value of a `${VAR}` or `${VAR:-default}` never becomes structure (`$${` is a literal `${`). YAML's tags,
anchors and aliases are rejected. Only parser events are used, so no input can construct or call anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yaml.reader import ReaderError

from llmhost.config.inputs import MAX_SIZE, read_bytes
from llmhost.errors import ConfigError

__all__ = [
    "Document",
    "KeyPath",
    "Place",
    "Value",
    "dotted",
    "parse_scalar",
    "printable",
    "read_document",
    "substitute",
]


#: Names and list positions from the top: ``("fleet", "workers", 0, "url")``.
KeyPath = tuple[str | int, ...]

Value = str | None | list["Value"] | dict[str, "Value"]

#: Keys, values and brackets; a thousand workers with their tokens are five thousand.
MAX_EVENTS = 20_000
#: Mappings and lists inside one another; the models need three.
MAX_DEPTH = 10

#: characters of a value in a message: enough to recognise it, short enough for one line
LONGEST = 60

#: What YAML reads as null, if it is not quoted.
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})

_BRACKET = re.compile(r"[\[\]{}]")

#: A `${` that is neither an escape nor a complete reference matches with no group.
_REFERENCE = re.compile(
    r"(?P<escape>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_]\w*)(?::-(?P<default>(?:(?!\$\{)[^}])*))?\})?",
    re.ASCII,
)

_NOT_USED = "anchors (`&`), aliases (`*`) and tags (`!`) are not supported"
_TOO_DEEP = f"more than {MAX_DEPTH} levels inside one another"
_QUOTE_HINT = "quote a value that begins with a special character, or contains `: ` or ` #`"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was set, and how it was written there. `written` may be a secret."""

    where: str
    written: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class Document:
    """The file's values by section and key, and the place of every value and section in it."""

    values: dict[str, Value] = field(repr=False)
    places: Mapping[KeyPath, Place]


def read_document(
    path: Path,
    environ: Mapping[str, str],
    *,
    on_variable: Callable[[KeyPath, ConfigError], None] | None = None,
) -> Document:
    """Reads a file and puts in its variables. An empty file is an empty configuration. With `on_variable` a
    value whose variable is not set, or not well written, is handed to it and left out.

    Raises:
        ConfigError: it cannot be read, is larger than 1 MB, is not UTF-8, is not YAML or not a mapping,
            has a key twice, goes beyond the bounds above, or names a variable that is not set.
    """
    return _Reader(path, _read_text(path), environ, on_variable).document()


def parse_scalar(text: str) -> str | None:
    """The value of an unquoted scalar whose text came from elsewhere, such as a variable."""
    return None if text.strip() in _NULLS else text


def _read_text(path: Path) -> str:
    try:
        data = read_bytes(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise ConfigError(
            f"cannot read the configuration {path}: {reason}",
            hint="check --config and LLMHOST_CONFIG; `llmhost init` writes a new file",
        ) from error
    if len(data) > MAX_SIZE:
        raise ConfigError(f"{path} is larger than 1 MB, so it is no configuration of llmhost")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text", hint="save the file as UTF-8") from error


def _parse(text: str) -> Iterator[yaml.Event]:
    events: Iterator[yaml.Event] = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return events


def _end_of_brackets(text: str) -> int:
    """After the bracket that may be one level too deep; it counts those in quotes and comments as well."""
    depth = 0
    for bracket in _BRACKET.finditer(text):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            return bracket.end()
    return 0


class _Reader:
    """One pass over the events of one file."""

    def __init__(
        self,
        path: Path,
        text: str,
        environ: Mapping[str, str],
        on_variable: Callable[[KeyPath, ConfigError], None] | None,
    ) -> None:
        self._on_variable = on_variable
        self._path = path
        self._text = text
        self._environ = environ
        self._room = MAX_SIZE  # characters, after substitution
        self._places: dict[KeyPath, Place] = {}
        self._events = self._bounded_events()

    def document(self) -> Document:
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return Document({}, {})
        root = next(self._events)
        values = self._value(root, ())
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise self._refused(root, "not a mapping", "write `section:` and its keys below it, indented")
        next(self._events)  # the document's end
        if not isinstance(last := next(self._events), yaml.StreamEndEvent):
            raise self._refused(last, "a second document begins here", "remove the line `---`")
        return Document(values, self._places)

    def _bounded_events(self) -> Iterator[yaml.Event]:
        try:
            for count, event in enumerate(_parse(self._text)):
                if count > MAX_EVENTS:
                    raise self._refused(event, f"more than {MAX_EVENTS} keys and values")
                yield event
        except yaml.YAMLError as error:
            # Without its cause, which may quote the line, and with it a secret.
            raise self._not_yaml(error) from None

    def _value(self, event: yaml.Event, path: KeyPath) -> Value:
        self._check_plain(event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if len(path) == MAX_DEPTH:
            raise self._refused(event, _TOO_DEEP)
        value = self._list(path) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(path)
        self._places[path] = Place(self._where(event), value)
        return value

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> str | None:
        self._places[path] = Place(self._where(event), event.value)
        where = f"{self._where(event)}: `{dotted(path)}`"
        try:
            text = substitute(event.value, self._environ, where=where, limit=self._room)
        except ConfigError as error:
            if self._on_variable is None:
                raise
            self._on_variable(path, error)
            return None
        self._room -= len(text)
        return parse_scalar(text) if event.implicit[0] else text

    def _list(self, path: KeyPath) -> Value:
        items: list[Value] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: KeyPath) -> Value:
        members: dict[str, Value] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            if key in members:
                raise self._refused(event, f"`{dotted((*path, key))}` is given twice")
            members[key] = self._value(next(self._events), (*path, key))
        return members

    def _key(self, event: yaml.Event) -> str:
        self._check_plain(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refused(event, "a key that is not text")
        return str(event.value)

    def _check_plain(self, event: yaml.Event) -> None:
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise self._refused(event, _NOT_USED, _QUOTE_HINT)

    def _find_too_deep(self) -> yaml.Event | None:
        """The bracket that opens one level too many, if the text is YAML up to there."""
        depth = 0
        with suppress(yaml.YAMLError):
            for event in _parse(self._text[: _end_of_brackets(self._text)]):
                depth += isinstance(event, yaml.CollectionStartEvent)
                depth -= isinstance(event, yaml.CollectionEndEvent)
                if depth > MAX_DEPTH:
                    return event
        return None

    def _where(self, event: yaml.Event) -> str:
        return self._line(event.start_mark.line if event.start_mark else 0)

    def _line(self, number: int) -> str:
        return f"{self._path}:{number + 1}"

    def _refused(self, event: yaml.Event, what: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self._where(event)}: {what}", hint=hint)

    def _not_yaml(self, error: yaml.YAMLError) -> ConfigError:
        # A parser reads ahead, so it may refuse deep nesting, in words of its own, before `_value` sees it.
        if too_deep := self._find_too_deep():
            return self._refused(too_deep, _TOO_DEEP)
        if isinstance(error, ReaderError):
            number = self._text.count("\n", 0, self._text.find(chr(error.character)))
            return ConfigError(f"{self._line(number)}: not text: it contains a control character")
        if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
            return ConfigError(f"{self._path}: not YAML")
        number = error.problem_mark.line
        line = "".join(self._text.splitlines()[number : number + 1])
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return ConfigError(f"{self._line(number)}: a tab begins this line", hint="indent with spaces")
        problem = error.problem or "it cannot be read"
        what = _NOT_USED if "tag" in problem else f"not YAML: {problem}"
        return ConfigError(f"{self._line(number)}: {what}", hint=_QUOTE_HINT)


def substitute(text: str, environ: Mapping[str, str], *, where: str, limit: int) -> str:
    """The text with its variables' values, in which no further variables are replaced.

    As in a shell, the default also stands in for an empty variable. `where` begins an error's message.

    Raises:
        ConfigError: a variable is not set, a reference is not well formed, or the result would have
            more than `limit` characters.
    """

    def value(match: re.Match[str]) -> str:
        return _value(match, environ, where)

    # Measured first: a file of references to one long value must not be expanded before it is rejected.
    grown = sum(len(value(match)) - len(match[0]) for match in _REFERENCE.finditer(text))
    if len(text) + grown > limit:
        raise ConfigError(f"{where}: the variables' values are too long")
    return _REFERENCE.sub(value, text)


def _value(match: re.Match[str], environ: Mapping[str, str], where: str) -> str:
    if match["escape"]:
        return "${"
    name, default = match["name"], match["default"]
    if name is None:
        raise ConfigError(
            f"{where}: a `${{` without a variable",
            hint="write ${NAME} or ${NAME:-default}; $${ stands for a literal ${",
        )
    found = environ.get(name)
    if found is not None:  # read from a file, a secret often has a line end, which no secret ends with
        found = found.rstrip("\r\n")
    if default is not None:
        return found or default
    if found is None:
        raise ConfigError(
            f"{where}: the environment variable {name} is not set",
            hint=f"set it, or write ${{{name}:-default}}",
        )
    return found


def dotted(path: Sequence[str | int]) -> str:
    """As in messages: ``fleet.workers[0].url``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def printable(text: str) -> str:
    """The text with control characters escaped, and cut if it is long."""
    escaped = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: LONGEST + 1])
    return escaped if len(escaped) <= LONGEST else escaped[: LONGEST - 1] + "…"
