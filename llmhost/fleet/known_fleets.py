"""The fleets that this machine knows of, so that none is forgotten when a configuration changes.

Each has a folder of its own in the state folder. A fleet is known by the file that says where it came from,
by workers of this machine, or by purchases that were begun there.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmhost.errors import StateError
from llmhost.machine.files import hold_lock, make_folder, names_in, read_json, write_json

__all__ = [
    "EMBEDDED",
    "SOMEWHERE",
    "KnownFleet",
    "forget_fleet",
    "known_file",
    "known_fleets",
    "remember_fleet",
    "take_down",
]

#: one file for each provider: workers of the one before bill on when a fleet's provider is changed
_FILES = {provider: f"fleet-{provider}.json" for provider in ("local", "static", "vast")}
#: what else a fleet leaves, by provider: where, and what the names of it are
_TRACES = {"local": ("workers", "local-*"), "vast": ("intents", "*.json")}


@dataclass(frozen=True, slots=True)
class KnownFleet:
    """A use of a fleet. `config` is the path of a configuration that it was made from; None where that is not
    known. `payer` is the fingerprint of the account's key that was in use then, and `redis` that of where the
    fleet's records were; empty where none is known. `down`: it was taken down here, and other machines may
    use its Redis."""

    name: str
    provider: str
    config: str | None = None
    payer: str = ""
    redis: str = ""
    down: bool = False


#: what is known as the place of records that no other machine uses
EMBEDDED = "embedded"
#: a place that an older llmhost wrote down in a form of its own
SOMEWHERE = "somewhere"
#: uses of one fleet that are known, besides the newest one of each payer and place
_MOST_USES, _MOST_PLACES = 9, 50
#: what is written of each
_USE = ("config", "payer", "redis")
#: seconds; for so long it is known where the records of a fleet are that was taken down
_REMEMBERED = 30 * 86_400.0
#: seconds; another one needs milliseconds for a change. What is not written down after an ending does no harm
_PATIENCE, _SHORT = 5.0, 0.5


async def remember_fleet(fleets: Path, fleet: KnownFleet, *, settled: bool = False) -> None:
    """Writes down a use of a fleet, beside those before; `fleets` is the folder of all. `settled`: the
    operator says that its records are here from now on, wherever they were. What is known already needs no
    room on the disk. Raises StateError."""
    folder = fleets / fleet.name
    make_folder(folder)

    def before_and_after() -> tuple[Sequence[KnownFleet], Sequence[KnownFleet]]:
        known = _written(folder, fleet.provider)
        before = [use for use in known if use != KnownFleet(fleet.name, fleet.provider)]  # that says nothing
        if settled:
            before = [replace(use, redis="") for use in before if use.config != fleet.config]
        return known, _kept([fleet, *before])

    known, uses = before_and_after()
    if known == uses:
        return
    async with _changing(folder, patience=_PATIENCE):
        _write(folder, before_and_after()[1])


def _changing(folder: Path, *, patience: float) -> AbstractAsyncContextManager[None]:
    """One command at a time changes what is known of a fleet."""
    return hold_lock(folder / "known.lock", patience=patience)


def _kept(uses: Sequence[KnownFleet]) -> Sequence[KnownFleet]:
    """Each use is kept once, those without a file last. Of many, the newest are kept, and the newest of each
    payer and place."""
    kept, places = dict[tuple[str | None, ...], KnownFleet](), set[tuple[str, str]]()
    for use in sorted(uses, key=lambda use: use.config is None):
        place = (use.payer, use.redis)
        most = _MOST_PLACES if place not in places else _MOST_USES if use.config else 0
        if len(kept) < most:
            kept.setdefault((use.config, *place), use)
            places.add(place)
    return list(kept.values())


def known_file(fleets: Path, name: str, provider: str) -> Path:
    """The file that says where a fleet came from."""
    return fleets / name / _FILES[provider]


async def take_down(fleets: Path, name: str, provider: str, place: str) -> None:
    """It was taken down where its records are in this `place`. Raises StateError."""
    async with _changing(fleets / name, patience=_SHORT):
        uses = _written(fleets / name, provider)
        if any(use.redis == place and not use.down for use in uses):
            _write(fleets / name, [replace(use, down=use.down or use.redis == place) for use in uses])


async def forget_fleet(fleets: Path, name: str, provider: str) -> None:
    """The fleet is gone; what is known of its workers or purchases stays, and for a month also where its
    records are, if other machines may use them. Raises StateError."""
    path = known_file(fleets, name, provider)
    try:
        if not path.exists():
            return
        async with _changing(path.parent, patience=_SHORT):
            uses = _written(path.parent, provider)
            if all(use.down for use in uses):
                return
            if any(use.redis not in ("", EMBEDDED) for use in uses):
                _write(path.parent, [replace(use, down=True) for use in uses])
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
    written = [use for folder in folders for provider in _FILES for use in _in_force(folder, provider)]
    named = {(fleet.name, fleet.provider) for fleet in written}
    return [*written, *(fleet for fleet in traced if (fleet.name, fleet.provider) not in named)]


def _in_force(folder: Path, provider: str) -> Sequence[KnownFleet]:
    """The uses of a fleet, for a month after it was taken down."""
    uses = _written(folder, provider)
    if uses and all(use.down for use in uses):
        with suppress(OSError):
            if time.time() - (folder / _FILES[provider]).stat().st_mtime > _REMEMBERED:
                return ()
    return uses


def _has_trace(folder: Path, provider: str) -> bool:
    place, pattern = _TRACES[provider]
    try:
        return bool(fnmatch.filter(names_in(folder / place), pattern))
    except StateError:
        return True


def _written(folder: Path, provider: str) -> Sequence[KnownFleet]:
    """What the fleet's file says, each use once; nothing where there is no file. One that cannot be read
    counts."""
    try:
        values = read_json(folder / _FILES[provider])
    except (StateError, ValueError):
        values = {}
    if values is None:
        return ()
    unknown, listed = KnownFleet(folder.name, provider), values.get("uses")
    uses = [use for use in listed if isinstance(use, dict)] if isinstance(listed, list) else _older(values)
    return [
        replace(
            unknown,
            **{name: use[name] for name in _USE if isinstance(use.get(name), str)},
            down=use.get("down") is True,
        )
        for use in uses
    ] or [unknown]


def _write(folder: Path, uses: Sequence[KnownFleet]) -> None:
    (provider,) = {use.provider for use in uses}
    written = [{name: getattr(use, name) for name in (*_USE, "down")} for use in uses]
    write_json(folder / _FILES[provider], {"uses": written})


def _older(values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The uses as an older llmhost wrote them down; it wrote places in another way."""
    before, payer = values.get("before"), values.get("payer")
    redis, down = values.get("redis"), values.get("down")
    redis = redis if redis in (None, "", EMBEDDED) else SOMEWHERE
    configs = [values.get("config"), *(before if isinstance(before, list) else ())]
    named: list[str | None] = [config for config in configs if isinstance(config, str)]
    return [{"config": config, "payer": payer, "redis": redis, "down": down} for config in named or [None]]
