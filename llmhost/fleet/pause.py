"""That a fleet is to stay down until the next `up`.

Every `down` of a fleet begins a pause of its own. It is kept twice: in Redis, where the autoscaler on every
machine looks, and as a mark on this machine, where the fleet so stays down whatever becomes of Redis, and
whichever Redis a command is configured with. An `up` lifts the pauses that it found when it began, and no
other: one that began since is the word of a `down` that came after it.

`down --all` takes down every rented fleet, those too that this machine does not know: one that was renamed,
or that is about to be rented for the first time. So its pauses stand also where all fleets of the machine,
and those of an account in a Redis, find them; an `up` lifts them for its own fleet.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.errors import StateError
from llmhost.machine.files import make_folder
from llmhost.store.client import amount, is_sharded, text, translate_errors
from llmhost.store.clock import CompareClocks
from llmhost.store.errors import where_allowed
from llmhost.store.keys import FleetKeys, pauses_of_all

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["NOWHERE", "PauseBook", "PauseMarks", "PauseResult", "Pauses", "new_token"]

#: the pauses in force, each with when it began, Unix seconds
Pauses = Mapping[str, float]

#: the token of a pause that an older llmhost began
_OLD = "old"
#: the field of the fleet's scale hash in which an older llmhost looks for one
_OLD_FIELD = "paused"
#: lifted pauses that Redis remembers, for machines that still have the mark
_REMEMBERED = 200
#: pauses of every fleet that are kept, the newest
_EVERYONES = 50


def new_token() -> str:
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class PauseResult:
    """A pause that began at `since`, Unix seconds. Where they could be written, Redis was `told`, and it is
    `marked` on this machine. `scales`: an autoscaler has made a step for this fleet, as far as is known.
    """

    id: str
    since: float
    told: bool
    marked: bool
    scales: bool = False


@dataclass(frozen=True, slots=True)
class PauseMarks:
    """An empty file for each pause, which a full disk mostly has room for: ``paused.{provider}.{token}`` in
    `folder`, the fleet's; in its parent for every fleet, until ``lifted.{provider}.{token}`` is in `folder`.
    Its time is when the pause began. None: this machine has nowhere to keep it. `accounts` gives the names
    of the account that pays for the fleet, of which more may be known later; none where none pays."""

    folder: Path | None
    provider: str = ""
    accounts: Callable[[], Sequence[str]] = tuple

    def put(self, token: str, at: float, *, everywhere: bool = False) -> bool:
        """Whether it is there now; the pause began `at`, Unix seconds. `everywhere`: for every fleet."""
        if self.folder is None:
            return False
        try:
            make_folder(self.folder)
            for folder in (self.folder.parent, self.folder) if everywhere else (self.folder,):
                path = folder / self._name(token)
                path.touch(mode=0o600)
                os.utime(path, (at, at))
        except (OSError, StateError):
            return False
        if everywhere:
            self._remove_oldest(self.folder.parent)
        return token in self.read()  # a folder that cannot be listed keeps nothing

    def read(self) -> Pauses:
        """Those that this machine keeps."""
        if self.folder is None:
            return {}
        lifted = self._in(self.folder, "lifted")
        everyones = self._in(self.folder.parent, "paused")
        everyones.pop(_OLD, None)  # a fleet of that name
        return {
            **{token: at for token, at in everyones.items() if token not in lifted},
            **self._in(self.folder, "seen"),
            **self._in(self.folder, "paused"),
        }

    def own(self) -> Pauses:
        """Those of this fleet alone that began on this machine."""
        return self._in(self.folder, "paused") if self.folder else {}

    def see(self, token: str, at: float) -> None:
        """One of another machine is kept here, too, as far as that can be done: Redis may lose its data."""
        if self.folder is not None and _TOKEN.fullmatch(token):
            with suppress(OSError, StateError):
                make_folder(self.folder)
                path = self.folder / self._name(token, "seen")
                path.touch(mode=0o600)
                os.utime(path, (at, at))

    def remove(self, tokens: Collection[str]) -> None:
        """They no longer hold for this fleet. Those that are not there are fine. Raises StateError."""
        if self.folder is None:
            return
        everyones = self._in(self.folder.parent, "paused")
        for token in (one for one in tokens if one == _OLD or _TOKEN.fullmatch(one)):
            path = self.folder / self._name(token)
            try:
                if token in everyones:
                    make_folder(self.folder)
                    (self.folder / self._name(token, "lifted")).touch(mode=0o600)
                path.unlink(missing_ok=True)
                (self.folder / self._name(token, "seen")).unlink(missing_ok=True)
            except OSError as error:
                raise StateError(
                    f"cannot remove {path}, which says that the fleet is to stay down: {error.strerror}"
                ) from error
        for token in self._in(self.folder, "lifted").keys() - everyones.keys():
            with suppress(OSError):
                (self.folder / self._name(token, "lifted")).unlink()

    def take_back(self, token: str) -> None:
        """For no fleet it holds any more. Raises StateError."""
        self.remove([token])
        if self.folder is not None:
            path = self.folder.parent / self._name(token)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StateError(
                    f"cannot remove {path}, which says that all fleets are to stay down: {error.strerror}"
                ) from error

    def _in(self, folder: Path, kind: str) -> dict[str, float]:
        found: dict[str, float] = {}
        with suppress(OSError):
            for path in folder.iterdir():
                token = _token_of(path.name, kind, self.provider)
                if token is not None:
                    with suppress(FileNotFoundError):  # lifted just now
                        found[token] = path.stat().st_mtime
        return found

    def _remove_oldest(self, folder: Path) -> None:
        """A newer one says the same to every fleet that an older one still holds for."""
        found = self._in(folder, "paused")
        for token in sorted(found.keys() - {_OLD}, key=lambda token: found[token])[:-_EVERYONES]:
            with suppress(OSError):
                (folder / self._name(token)).unlink()

    def _name(self, token: str, kind: str = "paused") -> str:
        return kind if token == _OLD else f"{kind}.{self.provider}.{token}"


_TOKEN = re.compile(r"[0-9a-f]{16}")


def _token_of(name: str, kind: str, provider: str) -> str | None:
    """The token of a file that is such a mark for this provider. An older llmhost's is one for all."""
    if name == "paused" == kind:
        return _OLD
    token = name.removeprefix(f"{kind}.{provider}.")
    return token if _TOKEN.fullmatch(token) else None


#: for a machine that cannot keep them
NOWHERE = PauseMarks(None)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What Redis has: the pauses in force, and those that were lifted for this fleet, each with when; and
    which are of every fleet."""

    active: Pauses
    lifted: Pauses
    everyones: frozenset[str]


class PauseBook:
    """The pauses in Redis, and what this machine's `marks` add to them. Each method raises StoreError.

    A hash: each token with when its pause began, and those that were lifted with when that was, as a negative
    number; there by the clock of Redis, here by this machine's. An older llmhost on another machine looks
    elsewhere, and finds one of them there.
    """

    def __init__(self, client: Redis, fleet: str, marks: PauseMarks, compare: CompareClocks) -> None:
        self._client = client
        self._compare = compare
        self._keys = FleetKeys(fleet, is_sharded(client))
        self._marks = marks
        self._key = self._keys.pauses(marks.provider)

    async def read(self) -> Pauses:
        """Those in force. A damaged one was still written by a `down`. Redis is told what this machine has
        marked and it does not know, and this machine marks what Redis knows, which may lose its data. The
        mark of what has been lifted elsewhere is removed."""
        kept, own, marked = await self._in_redis(), self._marks.own(), self._marks.read()
        active = dict(kept.active)
        for token in kept.active.keys() - marked.keys():
            self._marks.see(token, kept.active[token])
        for token, since in marked.items():
            if token in kept.lifted:
                with suppress(StateError):  # it is found lifted the next time, too
                    self._marks.remove([token])
            elif token not in active:
                if token in own:  # one of every fleet says nothing about an `up` that came after it elsewhere
                    await self._write(token, since)
                active[token] = since
        return active

    async def begin(self, token: str, at: float, *, everywhere: bool = False) -> bool:
        """Whether an autoscaler has ever made a step for this fleet. `everywhere`: the pause is one of every
        fleet of the account."""
        await self._write(token, at)
        if everywhere:
            there = (await self._compare()).there(at)
            with where_allowed(), translate_errors():
                for key in self._everyones():
                    await self._client.hset(key, token, repr(there))
                    times = {one: amount(raw) or 0.0 for one, raw in (await self._of_all([key])).items()}
                    if oldest := sorted(times, key=lambda one: times[one])[:-_EVERYONES]:
                        await self._client.hdel(key, *oldest)
        with translate_errors():
            return bool(await self._client.hexists(self._keys.scale, "decisions"))

    async def take_back(self, token: str, at: float) -> None:
        """For no fleet it holds any more."""
        with where_allowed(), translate_errors():
            for key in self._everyones():
                await self._client.hdel(key, token)
        await self.lift([token], at)

    async def lift(self, tokens: Collection[str], at: float) -> Pauses:
        """These no longer hold for this fleet; those that still do."""
        with translate_errors():
            old = _token_in(await self._client.hget(self._keys.scale, _OLD_FIELD))
            pipeline = self._client.pipeline(transaction=False)
            for token in tokens:
                if token != _OLD:
                    pipeline.hset(self._key, token, repr(-at))
            if old in tokens:
                pipeline.hdel(self._keys.scale, _OLD_FIELD)
            await pipeline.execute()
        kept = await self._in_redis()
        past = {token: when for token, when in kept.lifted.items() if token not in kept.everyones}
        with translate_errors():
            if kept.active and old in tokens:  # an older llmhost is to see one that holds
                token = next(iter(kept.active))
                await self._client.hsetnx(self._keys.scale, _OLD_FIELD, f"{kept.active[token]!r} {token}")
            if oldest := sorted(past, key=lambda token: past[token])[:-_REMEMBERED]:
                await self._client.hdel(self._key, *oldest)
        return kept.active

    def _everyones(self) -> Sequence[str]:
        """The keys with the pauses of every fleet of the account."""
        return [pauses_of_all(self._marks.provider, account) for account in self._marks.accounts()]

    async def _of_all(self, keys: Iterable[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        with where_allowed(), translate_errors():
            for key in keys:
                kept = await self._client.hgetall(key)
                found |= {text(token): text(raw) for token, raw in kept.items()}
        return found

    async def _in_redis(self) -> _Kept:
        with translate_errors():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hgetall(self._key)
            pipeline.hget(self._keys.scale, _OLD_FIELD)
            own, old = await pipeline.execute()
        everyones = await self._of_all(self._everyones())
        times = everyones | {text(token): text(raw) for token, raw in own.items()}
        lifted = {token: amount(raw[1:]) or 0.0 for token, raw in times.items() if raw.startswith("-")}
        active = {token: amount(raw) or 0.0 for token, raw in times.items() if token not in lifted}
        if active:
            ahead = await self._compare()
            active = {token: ahead.here(since) for token, since in active.items()}
        if _token_in(old) == _OLD:
            active[_OLD] = amount(old) or 0.0
        return _Kept(active, lifted, frozenset(everyones))

    async def _write(self, token: str, since: float) -> None:
        at = (await self._compare()).there(since)
        with translate_errors():
            if token == _OLD:
                await self._client.hset(self._keys.scale, _OLD_FIELD, repr(since))
                return
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hset(self._key, token, repr(at))
            pipeline.hsetnx(self._keys.scale, _OLD_FIELD, f"{at!r} {token}")
            await pipeline.execute()


def _token_in(old: bytes | str | None) -> str | None:
    """The pause of which an older llmhost is told: one of ours, or its own; None where there is none."""
    if old is None:
        return None
    token = text(old).partition(" ")[2]
    return token if _TOKEN.fullmatch(token) else _OLD
