"""The fleets that this machine knows of, so that none is forgotten when a configuration changes.

Each has a folder of its own in the state folder. A fleet is known by the file that says where it came from,
by workers of this machine, or by purchases that were begun there.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmhost.errors import StateError
from llmhost.machine.files import make_folder, names_in, read_json, write_json

__all__ = ["EMBEDDED", "KnownFleet", "forget_fleet", "known_file", "known_fleets", "remember_fleet"]

#: one file for each provider: workers of the one before bill on when a fleet's provider is changed
_FILES = {provider: f"fleet-{provider}.json" for provider in ("local", "static", "vast")}
#: what else a fleet leaves, by provider: where, and what the names of it are
_TRACES = {"local": ("workers", "local-*"), "vast": ("intents", "*.json")}


@dataclass(frozen=True, slots=True)
class KnownFleet:
    """`config` is the path of a configuration that it was made from; None where that is not known. `payer` is
    the fingerprint of the account's key that was in use then, and `redis` that of where the fleet's records
    were; empty where none is known. `down`: it was taken down here, and other machines may use its Redis."""

    name: str
    provider: str
    config: str | None = None
    payer: str = ""
    redis: str = ""
    down: bool = False


#: what is known as the place of records that no other machine uses
EMBEDDED = "embedded"
#: configurations of one fleet
_MOST_FILES = 8
#: seconds; for so long it is known where the records of a fleet are that was taken down
_REMEMBERED = 30 * 86_400.0


def remember_fleet(fleets: Path, fleet: KnownFleet) -> None:
    """Writes down where a fleet comes from, beside the files that it came from before; `fleets` is the folder
    of all. Raises StateError."""
    folder = fleets / fleet.name
    make_folder(folder)
    known = [one.config for one in _written(folder, fleet.provider)]
    before = [config for config in known if config not in (None, fleet.config)]
    values = {
        "config": fleet.config,
        "before": before[:_MOST_FILES],
        "payer": fleet.payer,
        "redis": fleet.redis,
    }
    write_json(folder / _FILES[fleet.provider], values)


def known_file(fleets: Path, name: str, provider: str) -> Path:
    """The file that says where a fleet came from."""
    return fleets / name / _FILES[provider]


def forget_fleet(fleets: Path, name: str, provider: str) -> None:
    """The fleet is gone; what is known of its workers or purchases stays, and for a month also where its
    records are, if other machines may use them. Raises StateError."""
    path = known_file(fleets, name, provider)
    known = _written(fleets / name, provider)
    was_down = any(fleet.down for fleet in known)
    try:
        if was_down and time.time() - path.stat().st_mtime <= _REMEMBERED:
            return
        if not was_down and any(fleet.redis not in ("", EMBEDDED) for fleet in known):
            write_json(path, {**(read_json(path) or {}), "down": True})
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"cannot remove {path}: {error.strerror}") from error


def known_fleets(fleets: Path) -> Sequence[KnownFleet]:
    """All of them by name; one whose provider was changed, or that came from several configurations, is there
    more than once, the newest configuration first. One of which something cannot be read counts: what asks it
    for its workers says why. Raises StateError."""
    folders = [fleets / name for name in names_in(fleets) if "." not in name]  # others are no fleet's
    traced = [
        KnownFleet(folder.name, provider)
        for folder in folders
        for provider in _TRACES
        if _has_trace(folder, provider)
    ]
    written = [fleet for folder in folders for provider in _FILES for fleet in _written(folder, provider)]
    named = {(fleet.name, fleet.provider) for fleet in written}
    return [*written, *(fleet for fleet in traced if (fleet.name, fleet.provider) not in named)]


def _has_trace(folder: Path, provider: str) -> bool:
    place, pattern = _TRACES[provider]
    try:
        return bool(fnmatch.filter(names_in(folder / place), pattern))
    except StateError:
        return True


def _written(folder: Path, provider: str) -> Sequence[KnownFleet]:
    """What the fleet's file says, a configuration each; nothing where there is no file. One that cannot be
    read counts."""
    try:
        values = read_json(folder / _FILES[provider])
    except (StateError, ValueError):
        values = {}
    if values is None:
        return ()
    before = values.get("before")
    configs = [values.get("config"), *(before if isinstance(before, list) else ())]
    marks = {name: value for name in ("payer", "redis") if isinstance(value := values.get(name), str)}
    nothing = KnownFleet(folder.name, provider, **marks, down=values.get("down") is True)
    return [replace(nothing, config=path) for path in configs if isinstance(path, str)] or [nothing]
