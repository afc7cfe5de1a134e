"""That a fleet is to stay down until the next `up`.

Every `down` of a fleet begins a pause of its own. It is kept twice: in Redis, where the autoscaler on every
machine looks, and as a mark on this machine, where the fleet so stays down whatever becomes of Redis, and
whichever Redis a command is configured with. An `up` lifts the pauses that it found when it began, and no
other: one that began since is the word of a `down` that came after it.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.errors import StateError
from llmhost.machine.files import make_folder
from llmhost.store.client import amount, is_sharded, text, translate_errors
from llmhost.store.clock import CompareClocks
from llmhost.store.keys import FleetKeys

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
    `folder`, the fleet's. Its time is when the pause began. None: this machine has nowhere to keep it."""

    folder: Path | None
    provider: str = ""

    def put(self, token: str, at: float) -> bool:
        """Whether it is there now; the pause began `at`, Unix seconds."""
        if self.folder is None:
            return False
        path = self._path(self.folder, token)
        try:
            make_folder(self.folder)
            path.touch(mode=0o600)
            os.utime(path, (at, at))
        except (OSError, StateError):
            return False
        return token in self.read()  # a folder that cannot be listed keeps nothing

    def read(self) -> Pauses:
        """Those that this machine keeps."""
        found: dict[str, float] = {}
        if self.folder is None:
            return found
        with suppress(OSError):
            for path in self.folder.iterdir():
                token = _token_of(path.name, self.provider)
                if token is not None:
                    with suppress(FileNotFoundError):  # lifted just now
                        found[token] = path.stat().st_mtime
        return found

    def remove(self, tokens: Collection[str]) -> None:
        """Those that are not there are fine. Raises StateError."""
        if self.folder is None:
            return
        for token in tokens:
            path = self._path(self.folder, token)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StateError(
                    f"cannot remove {path}, which says that the fleet is to stay down: {error.strerror}"
                ) from error

    def _path(self, folder: Path, token: str) -> Path:
        return folder / ("paused" if token == _OLD else f"paused.{self.provider}.{token}")


_TOKEN = re.compile(r"[0-9a-f]{16}")


def _token_of(name: str, provider: str) -> str | None:
    """The token of a file that is a mark for this provider. An older llmhost's is one for all."""
    if name == "paused":
        return _OLD
    token = name.removeprefix(f"paused.{provider}.")
    return token if _TOKEN.fullmatch(token) else None


#: for a machine that cannot keep them
NOWHERE = PauseMarks(None)


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
        marked and it does not know. The mark of what has been lifted elsewhere is removed."""
        active, lifted = await self._in_redis()
        for token, since in self._marks.read().items():
            if token in lifted:
                with suppress(StateError):  # it is found lifted the next time, too
                    self._marks.remove([token])
            elif token not in active:
                await self._write(token, since)
                active[token] = since
        return active

    async def begin(self, token: str, at: float) -> bool:
        """Whether an autoscaler has ever made a step for this fleet."""
        await self._write(token, at)
        with translate_errors():
            return bool(await self._client.hexists(self._keys.scale, "decisions"))

    async def lift(self, tokens: Collection[str], at: float) -> Pauses:
        """These no longer hold; those that still do."""
        with translate_errors():
            old = _token_in(await self._client.hget(self._keys.scale, _OLD_FIELD))
            pipeline = self._client.pipeline(transaction=False)
            for token in tokens:
                if token != _OLD:
                    pipeline.hset(self._key, token, repr(-at))
            if old in tokens:
                pipeline.hdel(self._keys.scale, _OLD_FIELD)
            await pipeline.execute()
        active, lifted = await self._in_redis()
        with translate_errors():
            if active and old in tokens:  # an older llmhost is to see one that holds
                token = next(iter(active))
                await self._client.hsetnx(self._keys.scale, _OLD_FIELD, f"{active[token]!r} {token}")
            if oldest := sorted(lifted, key=lambda token: lifted[token])[:-_REMEMBERED]:
                await self._client.hdel(self._key, *oldest)
        return active

    async def _in_redis(self) -> tuple[dict[str, float], Pauses]:
        """Those in force, and those that were lifted, each with when."""
        with translate_errors():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hgetall(self._key)
            pipeline.hget(self._keys.scale, _OLD_FIELD)
            kept, old = await pipeline.execute()
        times = {text(token): text(raw) for token, raw in kept.items()}
        lifted = {token: amount(raw[1:]) or 0.0 for token, raw in times.items() if raw.startswith("-")}
        active = {token: amount(raw) or 0.0 for token, raw in times.items() if token not in lifted}
        if active:
            ahead = await self._compare()
            active = {token: ahead.here(since) for token, since in active.items()}
        if _token_in(old) == _OLD:
            active[_OLD] = amount(old) or 0.0
        return active, lifted

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
