"""The fleets that this machine knows of, so that none is forgotten when a configuration changes.

Each has a folder of its own in the state folder. A fleet is known by the file that says where it came from,
by workers of this machine, or by purchases that were begun there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmhost.errors import StateError
from llmhost.machine.files import make_folder, read_json, write_json

__all__ = ["KnownFleet", "forget_fleet", "known_fleets", "remember_fleet"]

_FILE = "fleet.json"


@dataclass(frozen=True, slots=True)
class KnownFleet:
    """`config` is the path of the configuration that it was last made from; None where that is not known."""

    name: str
    provider: str
    config: str | None = None


def remember_fleet(fleets: Path, fleet: KnownFleet) -> None:
    """Writes down where a fleet comes from; `fleets` is the folder of all. Raises StateError."""
    folder = fleets / fleet.name
    make_folder(folder)
    write_json(folder / _FILE, {"provider": fleet.provider, "config": fleet.config})


def forget_fleet(fleets: Path, name: str) -> None:
    """The fleet is gone; what is known of its workers or purchases stays. Raises StateError."""
    try:
        (fleets / name / _FILE).unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"cannot remove {fleets / name / _FILE}: {error.strerror}") from error


def known_fleets(fleets: Path) -> Sequence[KnownFleet]:
    """All of them by name; one whose provider was changed may be there twice. Raises StateError."""
    try:
        folders = sorted(path for path in fleets.iterdir() if path.is_dir()) if fleets.is_dir() else []
        found = {
            (folder.name, provider): KnownFleet(folder.name, provider)
            for folder in folders
            for provider, trace in (("local", "workers/local-*"), ("vast", "intents/*.json"))
            if any(folder.glob(trace))
        }
    except OSError as error:
        raise StateError(f"cannot read the folder {fleets}: {error.strerror}") from error
    for folder in folders:
        if (written := _written(folder)) is not None:
            found[written.name, written.provider] = written
    return list(found.values())


def _written(folder: Path) -> KnownFleet | None:
    """What the fleet's file says; None where it says nothing that makes sense."""
    try:
        values = read_json(folder / _FILE) or {}
    except (StateError, ValueError, RecursionError):
        return None
    provider, config = values.get("provider"), values.get("config")
    if provider not in ("local", "static", "vast"):
        return None
    return KnownFleet(folder.name, provider, config if isinstance(config, str) else None)
