"""From zero: for a question that finds no worker, the autoscaler makes a step, and the question waits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
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
    that every gateway knows them. What was bought stays when no question waits any more: the autoscaler
    decides when it goes.

    A question waits for `timeout` seconds. `unasked`: also where no step was ever made for this fleet.
    """

    scaler: Callable[[], Awaitable[Scaler]]
    timeout: float
    unasked: bool
    clock: Callable[[], float] = time.monotonic
    _looking: asyncio.Task[None] | None = field(default=None, init=False)
    _following: asyncio.Task[None] | None = field(default=None, init=False)
    _refusal: tuple[str, str | None] | None = field(default=None, init=False)
    _ended: float = field(default=-math.inf, init=False)
    #: whether workers were followed of which none has answered
    _in_vain: bool = field(default=False, init=False)

    async def __call__(self) -> None:
        """Returns once a worker may come. Raises NoWorkerError, which says why none will."""
        if self._following is not None:
            return
        if self._looking is not None or self.clock() >= self._ended + _PAUSE:
            await asyncio.shield(self._begin(self._bring))
        if self._refusal is not None:
            reason, hint = self._refusal
            raise NoWorkerError(f"no worker is ready, and none was started: {reason}", hint=hint)

    @property
    def willing(self) -> bool:
        """Whether a worker may come, as far as is known."""
        return self._refusal is None

    def doubt(self) -> None:
        """All workers fail: a step in the background looks whether they still exist."""
        if self._looking is None and self.clock() >= self._ended + _DOUBT:
            self._begin(self._step)

    async def aclose(self) -> None:
        """Waits for a step that is under way, which may be buying."""
        if self._looking is not None:
            await asyncio.wait([self._looking])
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])

    def _begin(self, look: Callable[[Scaler], Awaitable[None]]) -> asyncio.Task[None]:
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(look))
        return self._looking

    async def _look(self, look: Callable[[Scaler], Awaitable[None]]) -> None:
        self._refusal = None
        try:
            await look(await self.scaler())
        except LlmhostError as error:
            self._refusal = error.message, error.hint
        finally:
            self._looking, self._ended = None, self.clock()

    async def _bring(self, scaler: Scaler) -> None:
        """A step, unless workers that another process has bought boot already: then it waits for those."""
        coming = [] if self._in_vain else await self._booting(scaler)
        if not coming:
            await self._step(scaler)
            coming = await self._booting(scaler)
        if coming:
            self._refusal = None
            self._following = asyncio.create_task(self._follow(scaler, coming))

    async def _step(self, scaler: Scaler) -> None:
        self._refusal = await self._objection(scaler)
        if self._refusal is not None:
            return
        result = await scaler.step()
        if result.error is not None:
            self._refusal = result.error.message, result.error.hint
        elif not result.decision.after and result.decision.observed != Observed():
            self._refusal = result.decision.reason, None  # else another llmhost is making a step

    async def _booting(self, scaler: Scaler) -> Sequence[Worker]:
        """Workers that may answer some time. Raises ProviderError, StoreError."""
        draining = await scaler.registry.drains.draining()
        return [
            worker
            for worker in await scaler.provider.list()
            if worker.state is not WorkerState.FAILED and worker.id not in draining
        ]

    async def _objection(self, scaler: Scaler) -> tuple[str, str | None] | None:
        """Why no step is made, and what to do. Raises StoreError."""
        if (pause := await scaler.paused()) is not None:
            return f"autoscaling is {pause}", None
        if not self.unasked and not await scaler.history(1):
            return _NEVER_SCALED, _HINT
        return None

    async def _follow(self, scaler: Scaler, workers: Sequence[Worker]) -> None:
        """Until each of them answers, or will not."""
        self._in_vain = True
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
                self._in_vain = False
                if await records.paused() is None:  # else `down` is ending it, and its record with it
                    await records.seen(seen)

        try:
            async with asyncio.TaskGroup() as group:
                for worker in workers:
                    group.create_task(follow(worker))
        except* LlmhostError:  # the list cannot be read: the next step says so
            pass
        finally:
            self._following, self._ended = None, self.clock()
