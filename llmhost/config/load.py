"""Loads the configuration: built-in defaults < file < environment < flags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from llmhost.config import schema
from llmhost.config.document import (
    Document,
    KeyPath,
    Place,
    Value,
    dotted,
    parse_scalar,
    printable,
    read_document,
)
from llmhost.config.fields import UNNAMED_FLEET, BrokenRules, Section
from llmhost.config.inputs import FILE_NAME, find_file
from llmhost.config.models import RENAMED, Config
from llmhost.errors import ConfigError

__all__ = ["FILE_NAME", "LoadedConfig", "load_config"]

_PREFIX = "LLMHOST_"

#: without these it is not known which fleet is meant
_NEEDED = {("fleet", "name"), ("fleet", "provider")}

#: how many problems a message explains; a list of a hundred wrong workers is one mistake
_EXPLAINED = 10

#: user name and password in an address that is not a secret field
_CREDENTIALS = re.compile(r"//[^/\s]*@")

#: what starts a program, and where the account's key belongs
_PROGRAM = ("redis", "server")
#: keys that name programs
_PROGRAMS = (_PROGRAM, ("notify", "command"))
_ACCOUNT_KEY = ("vast", "api_key")
_KEY_IN = re.compile(r"(?<!\$)\$\{(VAST_API_KEY|LLMHOST_VAST__API_KEY)[:}]")

#: keys that may hold a path, and what begins a relative one: others are names
_PATHS = (_PROGRAM, ("engine", "model_path"), ("cache", "embedder"), ("cache", "verifier"))
_RELATIVE = ("./", "../")

_HINTS = {
    "extra_forbidden": "`llmhost config show --all` lists all keys",
    "model_type": "write each key on a line below it, indented, with a space after the colon",
}

#: a key in the message of one of our validators
_KEY = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)`")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """`source` is the file that was read; None is the built-in local fleet. `warnings` name renamed keys, and
    what `dropped`, the sections of which something could not be used, holds instead of it. `origins` says
    where each key was set, by its dotted name; one that is not there has its default.
    """

    config: Config
    source: Path | None
    warnings: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Setting:
    """One key, such as ``fleet.gpus``, set from outside the file."""

    key: str
    value: object = field(repr=False)
    place: Place


class _Problems:
    """What is wrong besides the values that the models refuse. If `lenient`, each is a warning instead."""

    def __init__(self, lenient: bool) -> None:
        self.lenient = lenient
        self.warnings: list[str] = []
        self.dropped: set[str] = set()
        self.errors: list[ConfigError] = []
        self.paths: set[KeyPath] = set()

    def add(self, path: KeyPath, error: ConfigError) -> None:
        """One of them; `path` is what cannot be used in the file, or empty."""
        if not self.lenient:
            self.errors.append(error)
            self.paths.add(path)
        elif path:
            self.warnings.append(f"{error.message}; it is left out")
            self.dropped.add(str(path[0]))
        else:
            self.warnings.append(error.message)

    def explains(self, path: KeyPath) -> bool:
        """Whether what is wrong there may only follow from a value that is missing."""
        return any(path == known[: len(path)] or known == path[: len(known)] for known in self.paths - {()})


def load_config(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] = {},
    lenient: bool = False,
    is_found: bool = False,
) -> LoadedConfig:
    """Finds, reads and checks the configuration.

    Without `path` the file is `LLMHOST_CONFIG`, else ./llmhost.yaml, else llmhost.yaml in the user's
    configuration folder, else none. `overrides` are flags by their dotted key, such as ``fleet.gpus``;
    None is a flag that was not given.

    `lenient` is for commands that stop, look or list: each value that is invalid is left out, with a warning.
    `is_found`: `path` was not named by the user, and so may do no more than a file in the current folder.

    Raises:
        ConfigError: a named file does not exist, or something in file, environment or flags is invalid. If
            `lenient`: the file is not YAML, or the fleet's name or provider is invalid.
    """
    source, is_named = find_file(path, environ)
    problems = _Problems(lenient)
    document = Document({}, {})
    if source:
        document = read_document(source, environ, on_variable=problems.add)
    document = _with_new_names(document, problems)
    if is_found or not is_named:
        _restrict(document, problems)
    if source:
        _resolve_paths(document.values, source.absolute().parent)
    settings = [*_from_environment(environ, problems), *_from_flags(overrides)]
    places: dict[KeyPath, Place] = {
        **document.places,
        (): Place(str(source or "configuration"), document.values),
        **{tuple(setting.key.split(".")): setting.place for setting in settings},
    }
    merged = _merged(document, settings)
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        if not lenient:
            raise _explained(problems, error, places) from error
        found = error.errors(include_url=False, include_input=False)
        # Rules between sections: they leave nothing out, and the commands that ask or buy refuse them.
        problems.warnings.extend(text for one in found if not one["loc"] for text in _describe(one, places))
        config = _what_is_valid(merged, places, problems)
    if config.fleet.name == UNNAMED_FLEET and not lenient:  # `down --fleet unknown` must be possible
        where = _place(("fleet", "name"), places).where
        what = f"{where}: `fleet.name` cannot be `{UNNAMED_FLEET}`, which stands for fleets of unknown name"
        problems.add(("fleet", "name"), ConfigError(what, hint="choose another name"))
    if problems.errors:
        raise _explained(problems, None, places)
    origins = {dotted(path): place.where for path, place in places.items() if schema.is_known(dotted(path))}
    return LoadedConfig(config, source, tuple(problems.warnings), frozenset(problems.dropped), origins)


def _what_is_valid(merged: dict[str, Any], places: Mapping[KeyPath, Place], problems: _Problems) -> Config:
    """Each section with those of its keys that are valid; rules between sections do not count."""
    sections: dict[str, Any] = {}
    for name, info in Config.model_fields.items():
        kind, values = schema.subsection(info), merged.pop(name, {})
        while name not in sections:
            try:
                sections[name] = kind.model_validate(values) if kind else values
            except ValidationError as error:
                is_section = isinstance(values, dict)
                found = error.errors(include_url=False, include_input=False)
                rules = [{**problem, "loc": (name,)} for problem in found if not problem["loc"]]
                if kind and is_section and rules and all((name, key) in _NEEDED for key in values):
                    if name not in problems.dropped:  # else it is a rule about what was left out
                        problems.warnings.extend(text for rule in rules for text in _describe(rule, places))
                    sections[name] = kind.model_construct(**values)
                    break
                for problem in found:
                    path: KeyPath = (name, *problem["loc"])
                    fault = ConfigError("; also ".join(_describe({**problem, "loc": path}, places)))
                    if path[:2] in _NEEDED or not values or (name == "fleet" and not is_section):
                        raise fault from error
                    problems.add(path, fault)
                    if problem["loc"] and is_section:
                        values.pop(problem["loc"][0], None)
                    else:  # a rule of the whole section, or no section at all
                        kept = values.items() if is_section else ()
                        values = {key: value for key, value in kept if (name, key) in _NEEDED}
    for name in merged:
        problems.add((name,), ConfigError(f"{_place((name,), places).where}: {schema.unknown((name,))}"))
    return Config.model_construct(**sections)


def _variable_of(key: str) -> str:
    """The environment variable that sets a key: ``LLMHOST_FLEET__GPUS`` for ``fleet.gpus``."""
    return _PREFIX + key.replace(".", "__").upper()


def _restrict(document: Document, problems: _Problems) -> None:
    """Leaves out what a file that was found, not named, must not do: start a program, and have the account's
    key sent to an address of its own choice."""
    for path, place in list(document.places.items()):
        starts = path in _PROGRAMS and place.written
        sends = path != _ACCOUNT_KEY and isinstance(place.written, str) and _KEY_IN.search(place.written)
        if not starts and not sends:
            continue
        what = "start a program" if starts else "send the account's key anywhere but to vast.ai"
        error = ConfigError(
            f"{place.where}: `{dotted(path)}` would {what}, and this file was not named but found in the "
            "current folder",
            hint=f"if you trust the file, name it: `--config {FILE_NAME}`, or set LLMHOST_CONFIG",
        )
        problems.add(path, error)
        section: Any = document.values
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = None


def _resolve_paths(values: Mapping[str, Value], folder: Path) -> None:
    """Paths that begin with a dot are relative to the file's folder, from whichever folder it is used."""
    for section, key in _PATHS:
        members = values.get(section)
        if (
            isinstance(members, dict)
            and isinstance(path := members.get(key), str)
            and path.startswith(_RELATIVE)
        ):
            members[key] = str(folder / path)


def _with_new_names(document: Document, problems: _Problems) -> Document:
    """The document with renamed keys under their new names; a warning for each."""
    values, places = dict(document.values), dict(document.places)
    for old, new in RENAMED.items():
        section, old_key = old.split(".")
        new_key = new.split(".")[1]
        members = values.get(section)
        if not isinstance(members, dict) or old_key not in members:
            continue
        place = places[section, old_key]
        if new_key in members:
            what = f"{place.where}: `{old}` is the old name of `{new}`, which is set too"
            problems.add((), ConfigError(what, hint=f"remove `{old_key}`"))
            values[section] = {key: value for key, value in members.items() if key != old_key}
            continue
        values[section] = {new_key if key == old_key else key: value for key, value in members.items()}
        places[section, new_key] = place
        problems.warnings.append(f"{place.where}: `{old}` is now `{new}`; the old name will stop working")
    return Document(values, places)


def _from_environment(environ: Mapping[str, str], problems: _Problems) -> Iterator[_Setting]:
    known = {_variable_of(key): key for key, _ in schema.fields()}
    renamed = {_variable_of(old): _variable_of(new) for old, new in RENAMED.items()}
    with_one_underscore = {name.replace("__", "_"): name for name in known}
    with_one_underscore |= {name.replace("__", "_"): new for name, new in renamed.items()}
    for name, value in environ.items():
        text = value.rstrip("\r\n")
        if new := renamed.get(name):
            if new in environ:
                what = f"{name} is the old name of {new}, which is set too"
                problems.add((), ConfigError(what, hint=f"unset {name}"))
                continue
            problems.warnings.append(
                f"the environment variable {name} is now {new}; the old name will stop working"
            )
            yield _Setting(known[new], parse_scalar(text), Place(name, text))
        elif key := known.get(name):
            yield _Setting(key, parse_scalar(text), Place(name, text))
        elif meant := with_one_underscore.get(name.replace("__", "_")):
            what = f"the environment variable {name} sets nothing; did you mean {meant}?"
            # Without `__` it need not be ours: Kubernetes sets LLMHOST_REDIS_PORT for a service of that name.
            if "__" in name:
                problems.add((), ConfigError(what))
            else:
                problems.warnings.append(what)
        elif name.startswith(_PREFIX) and "__" in name:
            key = _meant(tuple(name.removeprefix(_PREFIX).lower().split("__")))
            suggestion = f"; did you mean {_variable_of(key)}?" if key else ""
            what = f"the environment variable {printable(name)} sets no known key{suggestion}"
            problems.add((), ConfigError(what))


def _meant(path: tuple[str, ...]) -> str | None:
    """The most similar key; for a section, its first one. No variable sets an item of a list."""
    found = None if any(part.isdigit() for part in path) else schema.nearest(path)
    return found and next((key for key, _ in schema.fields() if f"{key}.".startswith(f"{found}.")), None)


def _from_flags(overrides: Mapping[str, object]) -> Iterator[_Setting]:
    for key, value in overrides.items():
        if not schema.is_known(key):
            raise ConfigError(schema.unknown(tuple(key.split("."))))
        if value is not None:
            yield _Setting(key, value, Place("command line", value))


def _merged(document: Document, settings: Iterable[_Setting]) -> dict[str, Any]:
    """The file's values, overridden by the settings."""
    merged: dict[str, Any] = _copied(document.values, Config)
    for setting in settings:
        *parents, key = setting.key.split(".")
        section = merged
        for name in parents:
            # If the file has something else there, validation reports it.
            section = section.setdefault(name, {}) if isinstance(section, dict) else section
        if isinstance(section, dict):
            section[key] = setting.value
    return merged


def _copied(value: Value, section: type[Section] | None) -> Any:
    """A copy that may be changed. A section with all its keys commented out is empty."""
    if section is None:
        return value
    if not isinstance(value, dict):
        return {} if value is None else value
    inner = {name: schema.subsection(field) for name, field in section.model_fields.items()}
    return {name: _copied(item, inner.get(name)) for name, item in value.items()}


def _explained(
    problems: _Problems, refused: ValidationError | None, places: Mapping[KeyPath, Place]
) -> ConfigError:
    """The error for all problems, each with its place. Secret values are left out.

    `places` says where values were set; its entry for the empty path is the default.
    """
    found = refused.errors(include_url=False, include_input=False) if refused else []
    # A mistyped key first: a missing key is often that one.
    own = [problem for problem in found if not problems.explains(problem["loc"])]
    own.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    texts = dict.fromkeys(error.message for error in problems.errors)
    texts |= dict.fromkeys(text for problem in own for text in _describe(problem, places))
    message = "; also ".join(list(texts)[:_EXPLAINED])
    if len(texts) > _EXPLAINED:
        message += f"; and {len(texts) - _EXPLAINED} more"
    hints = [*(error.hint for error in problems.errors), *(_HINTS.get(problem["type"]) for problem in own)]
    return ConfigError(message, hint=hints[0])


def _describe(problem: Any, places: Mapping[KeyPath, Place]) -> list[str]:
    """One sentence, or one for each broken rule of a section."""
    path: KeyPath = problem["loc"]
    field = schema.find(path) or schema.value_above(path)
    place = _place(path, places)
    if problem["type"] == "value_error":
        error = problem["ctx"]["error"]
        if field is None or schema.section_in(field):
            rules = error.rules if isinstance(error, BrokenRules) else (str(error),)
            return [f"{_place_of_rule(rule, path, places).where}: {rule}" for rule in rules]
        if schema.says_why(field):
            of_many = isinstance(place.written, list | tuple | dict)
            refused = f"`{dotted(path)}`" if of_many else _refused(path, field, place)
            return [f"{place.where}: {refused}: {error}"]
    return [f"{place.where}: {_what(problem['type'], path, field, place)}"]


def _what(problem: str, path: KeyPath, field: FieldInfo | None, place: Place) -> str:
    if problem == "extra_forbidden":
        return schema.unknown(path)
    if problem == "missing":
        return f"`{dotted(path)}` is missing"
    return f"{_refused(path, field, place)}; allowed: {schema.allowed(field)}"


def _refused(path: KeyPath, field: FieldInfo | None, place: Place) -> str:
    return f"`{dotted(path)}` cannot be {_shown(field, place.written)}"


def _shown(field: FieldInfo | None, written: object) -> str:
    if written is None or written == "":
        return "empty"
    if isinstance(written, dict):
        return "a mapping"
    if isinstance(written, list | tuple):
        return f"a list of {len(written)}" if field and schema.section_in(field) else "a list"
    # Text instead of keys may be `password:secret` with a missing space.
    if field is None or schema.section_in(field):
        return "text"
    if schema.is_secret(field):
        return "its value, which is secret"
    if "${" in str(written):
        return f"the value of `{printable(str(written))}`"
    return f"`{printable(_CREDENTIALS.sub('//***@', str(written)))}`"


def _place(path: KeyPath, places: Mapping[KeyPath, Place]) -> Place:
    """The place of the value, else of its section."""
    while path and path not in places:
        path = path[:-1]
    return places[path]


def _place_of_rule(rule: str, path: KeyPath, places: Mapping[KeyPath, Place]) -> Place:
    """The place of the first key that the rule names, else of their section."""
    named = (tuple(key.split(".")) for key in _KEY.findall(rule))
    return next((places[key] for key in named if key in places), _place(path, places))
