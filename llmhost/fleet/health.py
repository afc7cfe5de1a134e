"""Waiting until workers answer.

A worker is ready when its model is there and a one-token answer came back through its front door,
not when its provider says that it runs. Its time runs out when nothing has moved for
`ready_timeout`: a slow download that moves may take as long as it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmhost.engines.engine import Progress
from llmhost.errors import EngineError, LlmhostError, ProviderError, RefusingWorker, UntrustedWorker
from llmhost.fleet.clock import Clock
from llmhost.fleet.models import Account, Registered, Worker, WorkerState
from llmhost.fleet.plan import exceeds_drift
from llmhost.fleet.provider import Provider, list_all_workers
from llmhost.fleet.registry import FleetRecords
from llmhost.fleet.results import FleetStatus
from llmhost.fleet.spending import Spending, bills_since, of_whole_lives, tally

__all__ = [
    "MAX_NEWS",
    "PROBE_TIMEOUT",
    "Hooks",
    "OnProgress",
    "Prepare",
    "Probe",
    "ProbeResult",
    "Replace",
    "WorkerProgress",
    "answering",
    "check_workers",
    "is_permanent",
    "probe_worker",
    "sentence",
    "wait_ready",
]

_POLL = 0.1  #: seconds; people see a bar move, and a provider that needs longer paces itself

_LAG = 30.0  #: seconds; a provider's list may need a moment to show what was just bought

_ENDS_SOON = 3600.0  #: seconds; a contract that ends sooner is reported: time to rent another worker

_PAUSE = 1.0  #: seconds before a worker that did not answer is asked again: it may be busy already

#: seconds for one token, so that a stuck worker does not hang the command
PROBE_TIMEOUT = 5.0

#: workers that `status` asks at once; of more, some would seem silent where it is this machine that is slow
_AT_ONCE = 8

#: different things that one worker may report while it boots; one that reports more counts something up and
#: does not move. Two stages of a hundred per cent each, and fifty messages beside them, are fewer.
MAX_NEWS = 250

Probe = Callable[[Worker], Awaitable[None]]
Prepare = Callable[[Worker, Callable[[Progress], None]], Awaitable[None]]
Replace = Callable[[Worker], Coroutine[Any, Any, Worker | None]]


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """How far one worker is, or "fleet" as a whole; `fraction` is 0..1, None while unknown."""

    worker: str
    stage: str
    fraction: float | None = None
    detail: str = ""


OnProgress = Callable[[WorkerProgress], None]


@dataclass(frozen=True, slots=True)
class Hooks:
    """How workers are spoken to. Both raise EngineError for "not yet", UntrustedWorker and any other
    LlmhostError for "never".

    `prepare` makes the model present and tells how far it is; `probe` returns once one token was
    answered.
    """

    prepare: Prepare
    probe: Probe


def sentence(error: LlmhostError) -> str:
    """The error and its hint as one line for people."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


# Does a worker answer? A one-token question through its front door, which is asked in one place: here.


def is_permanent(error: LlmhostError) -> bool:
    """Whether waiting will not help: another server answers, this one refuses, or the error is not about a
    slow start."""
    return isinstance(error, UntrustedWorker | RefusingWorker) or not isinstance(error, EngineError)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How a worker took one question. `error` is why it gave no answer; None where it was only too slow."""

    answered: bool
    error: LlmhostError | None = None

    @property
    def untrusted(self) -> bool:
        return isinstance(self.error, UntrustedWorker)

    @property
    def permanent(self) -> bool:
        return self.error is not None and is_permanent(self.error)


async def probe_worker(
    worker: Worker, hooks: Hooks, prepare: Callable[[Progress], None] | None = None
) -> ProbeResult:
    """Whether it answers within `PROBE_TIMEOUT`. With `prepare`, its model is made present first, which tells
    how far that is."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            if prepare is not None:
                await hooks.prepare(worker, prepare)
            await hooks.probe(worker)
    except TimeoutError:
        return ProbeResult(answered=False)
    except LlmhostError as error:
        return ProbeResult(answered=False, error=error)
    return ProbeResult(answered=True)


async def answering(workers: Sequence[Worker], hooks: Hooks) -> Sequence[Worker]:
    """The same workers, asked all at once; those that answer are READY, also where their provider says that
    they failed."""

    async def ask(worker: Worker) -> Worker:
        if worker.url is None:
            return worker
        if (await probe_worker(worker, hooks)).answered:
            return replace(worker, state=WorkerState.READY)
        failed = worker.state is WorkerState.FAILED
        return worker if failed else replace(worker, state=WorkerState.STARTING)

    return await asyncio.gather(*map(ask, workers))


async def wait_ready(
    workers: Sequence[Worker],
    *,
    provider: Provider,
    hooks: Hooks,
    clock: Clock,
    ready_timeout: float,
    timeout: float | None = None,
    on_progress: OnProgress = lambda _: None,
    replace_failed: Replace | None = None,
) -> tuple[Worker, ...]:
    """Waits for all workers at once and returns them in the order given, each with how it ended.

    READY: it answered. FAILED: it never will, or nothing moved for `ready_timeout` seconds. STARTING:
    `timeout` seconds in all were over first. GONE: another command took it down. `detail` says why.
    `replace_failed` is asked once for each that failed while the others are waited for; the worker that it
    gives is waited for too, and comes last in the answer.

    Raises:
        ProviderError: the provider's list cannot be read; nothing can be said about any worker.
    """
    end = None if timeout is None else clock.monotonic() + timeout

    def watch(worker: Worker) -> _Watch:
        return _Watch(worker, hooks, clock, ready_timeout, on_progress)

    waiting = _Waiting([watch(worker) for worker in workers], watch, replace_failed)
    try:
        while waiting.goes_on:
            waiting.step(await list_all_workers(provider, waiting.followed))
            if end is not None and clock.monotonic() >= end:
                await waiting.replacements_done()
                break
            if waiting.goes_on:
                await clock.sleep(_POLL)
    finally:
        await waiting.stop()
    return tuple(watch.outcome(timeout) for watch in waiting.watches)


class _Waiting:
    """All workers that are waited for, and the replacements that are being bought meanwhile."""

    def __init__(
        self, watches: list[_Watch], watch: Callable[[Worker], _Watch], replace_failed: Replace | None
    ) -> None:
        self.watches = watches
        self._watch = watch
        self._replace = replace_failed
        self._replacements: set[asyncio.Task[Worker | None]] = set()

    @property
    def goes_on(self) -> bool:
        return bool(self._replacements) or any(not watch.settled for watch in self.watches)

    @property
    def followed(self) -> Registered:
        """Those whose end is open: one that the list lacks may be found by its id."""
        return Registered(tuple(watch.worker for watch in self.watches if not watch.settled))

    def step(self, listed: Sequence[Worker]) -> None:
        """Takes the provider's newest word, read after the newest watch was added."""
        known = {worker.id: worker for worker in listed}
        for watch in self.watches:
            if not watch.settled:
                watch.step(known.get(watch.worker.id))
                if self._replace and watch.settled and watch.worker.state is WorkerState.FAILED:
                    self._replacements.add(asyncio.ensure_future(self._replace(watch.worker)))
        self._take_over()

    async def replacements_done(self) -> None:
        """What is being bought is bought: half a purchase would go unrecorded."""
        if self._replacements:
            await asyncio.wait(self._replacements)
        self._take_over()

    async def stop(self) -> None:
        for task in self._replacements:
            task.cancel()
        talks = (watch.stop() for watch in self.watches)
        await asyncio.gather(*talks, *self._replacements, return_exceptions=True)

    def _take_over(self) -> None:
        done = {task for task in self._replacements if task.done()}
        self._replacements -= done
        for task in done:
            worker = task.result()
            if worker is not None:
                self.watches.append(self._watch(worker))


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
        self._last_progress: WorkerProgress | None = None
        self._reached: set[WorkerProgress] = set()
        self._since = self._moved = clock.monotonic()
        self._seen = False
        self._answered = worker.state is WorkerState.READY
        self._prepared = False
        self._excuse = ""
        self._ask_again = 0.0
        self._probing: asyncio.Task[None] | None = None

    def step(self, listed: Worker | None) -> None:
        """Takes the provider's newest word on this worker and goes on from there."""
        if listed is None:
            if self._seen or self._clock.monotonic() - self._since > _LAG:
                self._settle(WorkerState.GONE, "it was taken down by another command")
            return
        agreed, new = self.worker.price_per_hour, not self._seen
        self._seen = True
        if self._answered and listed.state is WorkerState.FAILED and listed.url is not None:
            listed = replace(listed, state=WorkerState.STARTING)  # it is asked, whatever its provider says
        self.worker = listed
        if new and exceeds_drift(listed.price_per_hour, agreed):
            dearer = f"it costs ${listed.price_per_hour:.3f} an hour, and was offered for ${agreed:.3f}"
            self._settle(WorkerState.FAILED, dearer)
        elif listed.state is WorkerState.FAILED:
            self._settle(WorkerState.FAILED, listed.detail)
        elif self._probing is not None and self._probing.done():
            self._take_result(self._probing)
        elif listed.url is None:
            self._report(listed.stage or "starting", detail=listed.detail)
        elif self._probing is None and self._clock.monotonic() >= self._ask_again:
            self._probing = asyncio.create_task(self._first_answer(listed))
        self._check_patience()

    async def stop(self) -> None:
        """Cancels the probe, whatever it is at."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    def outcome(self, timeout: float | None) -> Worker:
        if self.settled:
            return self.worker
        detail = f"not ready after {timeout:g} s{self._excuse}"
        return replace(self.worker, state=WorkerState.STARTING, detail=detail)

    async def _first_answer(self, worker: Worker) -> None:
        if not self._prepared:
            await self._hooks.prepare(worker, lambda step: self._report(step.stage, step.fraction))
            self._prepared = True
        self._report("loading")
        await self._hooks.probe(worker)

    def _take_result(self, probing: asyncio.Task[None]) -> None:
        self._probing = None
        try:
            probing.result()
        except LlmhostError as error:
            if is_permanent(error):
                self._settle(WorkerState.FAILED, sentence(error))
            else:
                self._excuse = f": {error.message}"
                self._ask_again = self._clock.monotonic() + _PAUSE
        else:
            self._settle(WorkerState.READY, "")

    def _check_patience(self) -> None:
        silent = self._clock.monotonic() - self._moved
        if not self.settled and silent > self._ready_timeout:
            stage = self._last_progress.stage if self._last_progress else "starting"
            reason = f"nothing moved for {self._ready_timeout:g} s while {stage}{self._excuse}"
            self._settle(WorkerState.FAILED, reason)

    def _settle(self, state: WorkerState, detail: str) -> None:
        self.settled = True
        if self._probing is not None:
            self._probing.cancel()
        self.worker = replace(self.worker, state=state, detail=detail)
        self._report(state.value, detail=detail)

    def _report(self, stage: str, fraction: float | None = None, detail: str = "") -> None:
        """Hands news on. Only what was never reached before counts as moving: a retry repeats itself."""
        percent = None if fraction is None else round(fraction, 2)
        progress = WorkerProgress(self.worker.id, stage, percent, detail)
        if progress not in self._reached and len(self._reached) < MAX_NEWS:
            self._reached.add(progress)
            self._moved = self._clock.monotonic()
        if progress != self._last_progress:
            self._last_progress = progress
            self._on_progress(progress)


# `status`: does each worker answer, and what has it cost.


async def check_workers(
    listed: Sequence[Worker], provider: Provider, hooks: Hooks, records: FleetRecords, clock: Clock
) -> FleetStatus:
    """Asks all of them at once whether they answer, and adds up what they cost. The records follow what is
    seen. What the provider does not say about money is a warning."""
    gate = asyncio.Semaphore(_AT_ONCE)
    checked = await asyncio.gather(*(_check(worker, hooks, records, gate) for worker in listed))
    draining, now = await records.draining(), clock.now()
    workers = tuple(_marked(worker, draining, now) for worker in checked)
    spending, account = await asyncio.gather(
        find_spending(listed, provider, records, clock), _account(provider, records)
    )
    return FleetStatus(workers, records.warnings, spending, account, await records.paused())


async def find_spending(
    listed: Sequence[Worker], provider: Provider, records: FleetRecords, clock: Clock
) -> Spending:
    """What all workers have cost, by the ledger and the provider's bill, which goes into the ledger. Where
    the bill cannot be read, the last one counts, with a warning."""
    rentals = await records.rentals_or_none()
    try:
        charges = await provider.charges(bills_since(clock.now()))
    except ProviderError as error:
        records.warn(f"what was billed could not be read: {error.message}")
        charges = await records.charges()
    else:
        await records.billed(of_whole_lives(charges, rentals, listed, clock.now()))
    return tally(rentals, charges, listed, clock.now())


async def _check(worker: Worker, hooks: Hooks, records: FleetRecords, gate: asyncio.Semaphore) -> Worker:
    """The worker as it is now. One that is merely slow to answer stays in use: it may be busy."""
    if worker.state is WorkerState.FAILED or worker.url is None:
        await records.seen(worker)
        return worker
    async with gate:
        result = await probe_worker(worker, hooks)
    if not result.answered and result.error is None:
        await records.opened(worker)
        detail = f"no answer within {PROBE_TIMEOUT:g} s: busy, or stuck"
        return replace(worker, state=WorkerState.STARTING, detail=detail)
    state, detail = WorkerState.READY, ""
    if result.error is not None:
        state = WorkerState.FAILED if result.permanent else WorkerState.STARTING
        detail = sentence(result.error) if result.permanent else f"does not answer: {sentence(result.error)}"
    seen = replace(worker, state=state, detail=detail)
    await records.seen(seen)
    return seen


async def _account(provider: Provider, records: FleetRecords) -> Account | None:
    try:
        return await provider.account()
    except ProviderError as error:
        records.warn(f"the account's credit could not be read: {error.message}")
        return None


def _marked(worker: Worker, draining: Collection[str], now: float) -> Worker:
    """With what is known of its near end in its detail."""
    detail = worker.detail
    if worker.id in draining:
        detail = detail or "draining: takes no more questions, and goes when its last answer is out"
    if worker.ends is not None and 0 < worker.ends - now < _ENDS_SOON:
        minutes = (worker.ends - now) / 60
        ending = f"its contract ends in {minutes:.0f} min; then it is stopped and cannot be restarted"
        detail = f"{detail}; {ending}" if detail else ending
    return replace(worker, detail=detail)
