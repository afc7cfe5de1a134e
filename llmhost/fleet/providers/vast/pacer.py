"""Keeps vast.ai's documented pauses between calls, over all processes of this machine.

A small file holds the time at which each endpoint may be called next. A caller holds its lock
meanwhile, which the system lets go of when the command ends, however it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

from llmhost.errors import StateError
from llmhost.fleet.clock import Clock
from llmhost.machine.files import Patience, hold_lock, make_folder, read_json, write_json

__all__ = ["INTERVALS", "Pacer"]

#: seconds between two calls of one endpoint; `x-rate-limit` in vast.ai's OpenAPI files. Reading the user
#: and the logs has none written down, and is treated as the other reads are.
INTERVALS = {
    "create": 4.5,
    "destroy": 3.0,
    "list": 1.0,
    "show": 2.0,
    "search": 6.0,  # 10 a minute
    "charges": 1.0,
    "user": 1.0,
    "logs": 1.0,
}

#: turns, one for each command that waits. A longer queue is a clock that was put back.
_LONGEST_QUEUE = 100
#: seconds; the longest that vast.ai is obeyed when it asks for patience
_LONGEST_PENALTY = 60.0
_SLOW = 3.0  #: seconds after which a wait is told of


class Pacer:
    """`file` belongs to the machine, not to a fleet. `scale` multiplies every pause.

    Pacing is a courtesy to vast.ai and stands in no call's way: where the file cannot be used, or another
    process holds it for too long, this process keeps its pauses by itself. `patience` is that of the command:
    another one that was suspended may hold a lock for ever, and an ending takes many calls.
    """

    def __init__(
        self, file: Path, clock: Clock, scale: float = 1.0, patience: Patience | None = None
    ) -> None:
        self._file = file
        self._clock = clock
        self.scale = scale
        self._slots: dict[str, object] = {}  #: what the file says, where there is none
        self._queues: Mapping[str, asyncio.Lock] = {endpoint: asyncio.Lock() for endpoint in INTERVALS}
        self._patience = patience or Patience()

    @asynccontextmanager
    async def turn(self, endpoint: str, on_wait: Callable[[], object] = lambda: None) -> AsyncIterator[None]:
        """Inside, the endpoint may be called once. One such call is made at a time, over all processes, and
        the pause begins at its end: when vast.ai counted it is not known. `on_wait` is called where another
        process takes long over its own."""
        interval = INTERVALS[endpoint] * self.scale
        lock = self._file.with_name(f"{self._file.stem}-{endpoint}.lock")
        async with self._queues[endpoint], AsyncExitStack() as stack:
            slow = asyncio.get_running_loop().call_later(_SLOW, on_wait)
            with suppress(StateError), ExitStack() as waiting:
                waiting.callback(slow.cancel)
                make_folder(self._file.parent)
                await stack.enter_async_context(self._held(lock))
            await self._reserve(endpoint, interval)
            try:
                yield
            finally:
                await self.postpone(endpoint, interval)

    async def postpone(self, endpoint: str, seconds: float) -> None:
        """The endpoint is not called for that long."""
        until = self._clock.now() + seconds
        await self._change(endpoint, lambda free: max(free, until))

    async def _reserve(self, endpoint: str, interval: float) -> None:
        slot = self._clock.now()

        def take(free: float) -> float:
            nonlocal slot
            slot = max(slot, free)
            return slot + interval

        await self._change(endpoint, take)
        if (wait := slot - self._clock.now()) > 0:
            await self._clock.sleep(wait)

    async def _change(self, endpoint: str, change: Callable[[float], float]) -> None:
        with suppress(StateError):
            make_folder(self._file.parent)
            async with self._held(self._file.with_suffix(".lock")):
                slots = self._read()
                slots[endpoint] = change(self._next(slots, endpoint))
                write_json(self._file, slots)
                return
        self._slots[endpoint] = change(self._next(self._slots, endpoint))

    @asynccontextmanager
    async def _held(self, lock: Path) -> AsyncIterator[None]:
        """Raises StateError as `hold_lock`."""
        held = StateError(f"another llmhost has held {lock} for too long")
        try:
            async with hold_lock(lock, patience=self._patience.left, held=held):
                yield
        except StateError as error:
            if error is held:
                self._patience.end()
            raise

    def _next(self, slots: dict[str, object], endpoint: str) -> float:
        """When the endpoint may be called next, Unix seconds; 0 where the file says nothing sensible."""
        free = slots.get(endpoint)
        queue = max(INTERVALS[endpoint] * self.scale * _LONGEST_QUEUE, _LONGEST_PENALTY)
        if isinstance(free, int | float) and 0 <= free <= self._clock.now() + queue:
            return float(free)
        return 0.0

    def _read(self) -> dict[str, object]:
        try:
            return read_json(self._file) or {}
        except ValueError:
            return {}
