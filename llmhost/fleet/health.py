"""Waiting until workers answer.

A worker is ready when its model is there and a one-token answer came back through its front door,
not when its provider says that it runs. Its time runs out when nothing has moved for
`ready_timeout`: a slow download that moves may take as long as it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from llmhost.engines.engine import Progress
from llmhost.errors import EngineError, LlmhostError
from llmhost.fleet.clock import Clock
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.provider import Provider

__all__ = ["Hooks", "OnProgress", "Prepare", "Probe", "WorkerProgress", "sentence", "wait_ready"]

_POLL = 0.1  #: seconds; people see a bar move, and a provider that needs longer paces itself

Probe = Callable[[Worker], Awaitable[None]]
Prepare = Callable[[Worker, Callable[[Progress], None]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """How far one worker is; `fraction` is 0..1, None while unknown."""

    worker: str
    stage: str
    fraction: float | None = None
    detail: str = ""


OnProgress = Callable[[WorkerProgress], None]


@dataclass(frozen=True, slots=True)
class Hooks:
    """How workers are spoken to. Both raise EngineError for "not yet", any other LlmhostError for "never".

    `prepare` makes the model present and tells how far it is; `probe` returns once one token was
    answered.
    """

    prepare: Prepare
    probe: Probe


def sentence(error: LlmhostError) -> str:
    """The error and its hint as one line for people."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


async def wait_ready(
    workers: Sequence[Worker],
    *,
    provider: Provider,
    hooks: Hooks,
    clock: Clock,
    ready_timeout: float,
    timeout: float | None = None,
    on_progress: OnProgress = lambda _: None,
) -> tuple[Worker, ...]:
    """Waits for all workers at once and returns them in the order given, each with how it ended.

    READY: it answered. FAILED: it never will, or nothing moved for `ready_timeout` seconds. STARTING:
    `timeout` seconds in all were over first. GONE: somebody else took it down. `detail` says why.

    Raises:
        ProviderError: the provider's list cannot be read; nothing can be said about any worker.
    """
    watches = [_Watch(worker, hooks, clock, ready_timeout, on_progress) for worker in workers]
    end = None if timeout is None else clock.monotonic() + timeout
    pending = watches
    try:
        while pending:
            listed = {worker.id: worker for worker in await provider.list()}
            for watch in pending:
                watch.step(listed.get(watch.worker.id))
            pending = [watch for watch in pending if not watch.settled]
            if end is not None and clock.monotonic() >= end:
                break
            if pending:
                await clock.sleep(_POLL)
    finally:
        await asyncio.gather(*(watch.stop() for watch in watches))
    return tuple(watch.outcome(timeout) for watch in watches)


class _Watch:
    """One worker on its way to its first answer."""

    def __init__(
        self, worker: Worker, hooks: Hooks, clock: Clock, ready_timeout: float, on_progress: OnProgress
    ) -> None:
        self.worker = worker
        self.settled = False
        self._hooks = hooks
        self._clock = clock
        self._ready_timeout = ready_timeout
        self._on_progress = on_progress
        self._told: WorkerProgress | None = None
        self._reached: set[WorkerProgress] = set()
        self._moved = clock.monotonic()
        self._prepared = False
        self._excuse = ""
        self._talk: asyncio.Task[None] | None = None

    def step(self, listed: Worker | None) -> None:
        """Takes the provider's newest word on this worker and goes on from there."""
        if listed is None:
            self._settle(WorkerState.GONE, "it was taken down by somebody else")
            return
        self.worker = listed
        if listed.state is WorkerState.FAILED:
            self._settle(WorkerState.FAILED, listed.detail)
        elif self._talk is not None and self._talk.done():
            self._hear(self._talk)
        elif listed.url is None:
            self._tell("starting", detail=listed.detail)
        elif self._talk is None:
            self._talk = asyncio.create_task(self._first_answer(listed))
        self._check_patience()

    async def stop(self) -> None:
        """Ends the talk with the worker, whatever it is at."""
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.gather(self._talk, return_exceptions=True)

    def outcome(self, timeout: float | None) -> Worker:
        if self.settled:
            return self.worker
        detail = f"not ready after {timeout:g} s{self._excuse}"
        return replace(self.worker, state=WorkerState.STARTING, detail=detail)

    async def _first_answer(self, worker: Worker) -> None:
        if not self._prepared:
            await self._hooks.prepare(worker, lambda step: self._tell(step.stage, step.fraction))
            self._prepared = True
        self._tell("loading")
        await self._hooks.probe(worker)

    def _hear(self, talk: asyncio.Task[None]) -> None:
        self._talk = None
        try:
            talk.result()
        except EngineError as error:
            self._excuse = f": {error.message}"
        except LlmhostError as error:
            self._settle(WorkerState.FAILED, sentence(error))
        else:
            self._settle(WorkerState.READY, "")

    def _check_patience(self) -> None:
        silent = self._clock.monotonic() - self._moved
        if not self.settled and silent > self._ready_timeout:
            stage = self._told.stage if self._told else "starting"
            reason = f"nothing moved for {self._ready_timeout:g} s while {stage}{self._excuse}"
            self._settle(WorkerState.FAILED, reason)

    def _settle(self, state: WorkerState, detail: str) -> None:
        self.settled = True
        if self._talk is not None:
            self._talk.cancel()
        self.worker = replace(self.worker, state=state, detail=detail)
        self._tell(state.value, detail=detail)

    def _tell(self, stage: str, fraction: float | None = None, detail: str = "") -> None:
        """Hands news on. Only what was never reached before counts as moving: a retry repeats itself."""
        percent = None if fraction is None else round(fraction, 2)
        progress = WorkerProgress(self.worker.id, stage, percent, detail)
        if progress not in self._reached:
            self._reached.add(progress)
            self._moved = self._clock.monotonic()
        if progress != self._told:
            self._told = progress
            self._on_progress(progress)
