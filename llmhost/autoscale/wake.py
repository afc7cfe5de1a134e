"""From zero: for a question that finds no worker, the autoscaler makes a step, and the question waits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from llmhost.autoscale.models import Observed
from llmhost.autoscale.step import Scaler
from llmhost.errors import LlmhostError, NoWorkerError
from llmhost.fleet.health import wait_ready
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.registry import FleetRecords

__all__ = ["Waker"]

#: seconds between two steps where the first brought nothing: what refused it does not change at once
_PAUSE = 10.0

#: seconds between two steps because all workers fail; cron makes one as often
_DOUBT = 60.0

_NEVER_SCALED = "`llmhost scale` has never run for this fleet, so nothing is started without being asked"
_HINT = "run `llmhost up`, or set `gateway.wake: true`"


@dataclass(slots=True)
class Waker:
    """Makes one step for all questions that wait, and follows the workers that boot until they answer, so
    that every gateway knows them. What was bought stays when nobody waits any more: when it goes is for the
    autoscaler to say.

    A question waits for `timeout` seconds. `unasked`: also where no step was ever made for this fleet.
    """

    scaler: Callable[[], Awaitable[Scaler]]
    timeout: float
    unasked: bool
    clock: Callable[[], float] = time.monotonic
    _step: asyncio.Task[None] | None = field(default=None, init=False)
    _following: asyncio.Task[None] | None = field(default=None, init=False)
    _refusal: tuple[str, str | None] | None = field(default=None, init=False)
    _ended: float = field(default=-math.inf, init=False)

    async def __call__(self) -> None:
        """Returns once a worker may come. Raises NoWorkerError, which says why none will."""
        if self._following is not None:
            return
        if self._step is not None or self.clock() >= self._ended + _PAUSE:
            await asyncio.shield(self._begin())
        if self._refusal is not None:
            reason, hint = self._refusal
            raise NoWorkerError(f"no worker is ready, and none was started: {reason}", hint=hint)

    @property
    def willing(self) -> bool:
        """Whether a worker may come, as far as is known."""
        return self._refusal is None

    def doubt(self) -> None:
        """All workers fail: a step looks whether they still exist. Nobody waits for it."""
        if self._step is None and self._following is None and self.clock() >= self._ended + _DOUBT:
            self._begin()

    async def aclose(self) -> None:
        """Waits for a step that is under way, which may be buying."""
        if self._step is not None:
            await asyncio.wait([self._step])
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])

    def _begin(self) -> asyncio.Task[None]:
        if self._step is None:
            self._step = asyncio.create_task(self._make_step())
        return self._step

    async def _make_step(self) -> None:
        self._refusal = None
        try:
            scaler = await self.scaler()
            self._refusal = await self._objection(scaler)
            if self._refusal is not None:
                return
            result = await scaler.step()
            listed = await scaler.provider.list()
            coming = [worker for worker in listed if worker.state is not WorkerState.FAILED]
            if coming:
                self._following = asyncio.create_task(self._follow(scaler, coming))
            elif result.error is not None:
                self._refusal = result.error.message, result.error.hint
            elif result.decision.observed != Observed():  # else another llmhost is making a step
                self._refusal = result.decision.reason, None
        except LlmhostError as error:
            self._refusal = error.message, error.hint
        finally:
            self._step, self._ended = None, self.clock()

    async def _objection(self, scaler: Scaler) -> tuple[str, str | None] | None:
        """Why no step is made, and what to do. Raises StoreError."""
        if (pause := await scaler.paused()) is not None:
            return f"autoscaling is {pause}", None
        if not self.unasked and not await scaler.history(1):
            return _NEVER_SCALED, _HINT
        return None

    async def _follow(self, scaler: Scaler, workers: Sequence[Worker]) -> None:
        """Until each of them answers, or will not."""
        records = FleetRecords(scaler.registry, scaler.rentals, scaler.clock, scaler.spec.ban_for)

        async def follow(worker: Worker) -> None:
            (seen,) = await wait_ready(
                [worker],
                provider=scaler.provider,
                hooks=scaler.hooks,
                clock=scaler.clock,
                ready_timeout=scaler.silence.booting,
            )
            if seen.state is WorkerState.READY:
                await records.seen(seen)

        try:
            with suppress(LlmhostError):  # the list cannot be read: the next step says so
                await asyncio.gather(*map(follow, workers))
        finally:
            self._following, self._ended = None, self.clock()
