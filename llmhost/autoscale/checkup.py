"""Which workers are healthy and which are broken, from their status now and their status before.

A worker may be slow to answer because it is busy, or to boot because its model is large. It is broken
when its provider says so, when it is not the worker that was rented, or when it made no progress for long.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llmhost.autoscale.models import time
from llmhost.autoscale.state import WorkerObservation
from llmhost.engines.engine import Progress
from llmhost.engines.traffic import Traffic
from llmhost.errors import UntrustedWorker
from llmhost.fleet.health import MAX_NEWS, Hooks, probe_worker, sentence
from llmhost.fleet.models import FleetSpec, Worker, WorkerState

__all__ = ["BrokenWorker", "Checkup", "SilenceLimits", "probe_workers"]

#: workers; if more were asked at once, their time would run out while it is this machine that is slow
_AT_ONCE = 64

_READY = "ready"


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """Seconds without progress until a worker that boots is broken, and until one is that answered before.

    While questions are in flight, `busy` counts where it is longer: it may be at a single long answer.
    """

    booting: float
    silent: float
    busy: float = 0.0


@dataclass(frozen=True, slots=True)
class BrokenWorker:
    """A worker that is to be replaced, and why. `machine_is_bad`: nothing is to be rented there again.
    `never_answered`: the purchase failed, which is counted once. `outdated`: it works, but for another model
    or engine.
    """

    worker: Worker
    reason: str
    machine_is_bad: bool
    never_answered: bool
    outdated: bool


@dataclass(frozen=True, slots=True)
class Checkup:
    """`healthy` workers are READY where they answer, or did a moment ago. `first_answers` are those of them
    that never had answered before. `observations` is what is to be kept of each.
    """

    healthy: tuple[Worker, ...]
    broken: tuple[BrokenWorker, ...]
    first_answers: tuple[Worker, ...]
    observations: Mapping[str, WorkerObservation]


async def probe_workers(
    listed: Sequence[Worker],
    observations: Mapping[str, WorkerObservation],
    traffic: Traffic,
    *,
    spec: FleetSpec,
    hooks: Hooks,
    silence: SilenceLimits,
) -> Checkup:
    """Asks many of them at once. `observations` is what was kept of each; now is when `traffic` was read.

    Raises:
        UntrustedWorker: none of several is the worker it was, so it is not they that have changed.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    probes = await asyncio.gather(*(_probe(w, observations.get(w.id), hooks, gate) for w in listed))
    _check_line(probes)
    healthy: list[Worker] = []
    broken: list[BrokenWorker] = []
    seen: dict[str, WorkerObservation] = {}
    for probe in probes:
        worker, before = probe.worker, observations.get(probe.worker.id)
        observation = _observe(probe, before, traffic)
        outdated = probe.fatal is None and (worker.model, worker.engine) != (spec.model, spec.engine)
        reason = probe.fatal
        if reason is None and outdated:
            reason = f"serves {worker.model}, not {spec.model}"
        elif reason is None and not probe.answers:
            reason = _too_silent(probe, observation, silence, traffic)
        seen[worker.id] = replace(observation, given_up=reason is not None)
        if reason is None:
            # One that answered before is taken to be busy until it has been silent for too long.
            ready = probe.answers or observation.answered
            healthy.append(replace(worker, state=WorkerState.READY if ready else WorkerState.STARTING))
        else:
            known = before is not None and before.given_up
            never_answered = not (outdated or observation.answered or known)
            broken.append(BrokenWorker(worker, reason, not outdated, never_answered, outdated))
    first = [w for w in healthy if w.state is WorkerState.READY and not _answered(observations.get(w.id))]
    return Checkup(tuple(healthy), tuple(broken), tuple(first), seen)


@dataclass(frozen=True, slots=True)
class _Probe:
    """`fatal` is why the worker will not become ready. `strange`: it is not the worker it was."""

    worker: Worker
    answers: bool
    status: str
    fatal: str | None = None
    strange: bool = False


async def _probe(
    worker: Worker, before: WorkerObservation | None, hooks: Hooks, gate: asyncio.Semaphore
) -> _Probe:
    if worker.state is WorkerState.FAILED:
        return _Probe(worker, False, "", fatal=worker.detail or "its provider reports that it failed")
    if worker.url is None:
        return _Probe(worker, False, f"{worker.stage}: {worker.detail}")
    news: list[Progress] = []
    async with gate:
        result = await probe_worker(worker, hooks, None if _answered(before) else news.append)
    if result.answered:
        return _Probe(worker, True, _READY)
    if result.error is not None and result.permanent:
        return _Probe(worker, False, "", fatal=sentence(result.error), strange=result.untrusted)
    reason = type(result.error or TimeoutError()).__name__
    return _Probe(worker, False, f"{news[-1].stage} {news[-1].fraction or 0:.2f}" if news else reason)


def _check_line(probes: Sequence[_Probe]) -> None:
    """Something between this machine and all workers, such as a proxy that opens TLS, makes each a stranger:
    destroying them would break answers that others are getting.
    """
    strange = sum(probe.strange for probe in probes)
    if strange > 1 and not any(probe.answers for probe in probes):
        raise UntrustedWorker(
            f"none of {strange} workers shows its own certificate to this machine",
            hint="something between may answer in their place, such as a proxy; run this where there is none",
        )


def _answered(observation: WorkerObservation | None) -> bool:
    return observation is not None and observation.answered


def _observe(probe: _Probe, before: WorkerObservation | None, traffic: Traffic) -> WorkerObservation:
    """A time in the future was written by a clock that has gone back since."""
    now = traffic.at
    if probe.answers:
        since = min(before.since, now) if before and before.said == probe.status else now
        return WorkerObservation(probe.status, since, answered=True, silent_since=None)
    heard, checksum = before.heard if before else (), zlib.crc32(probe.status.encode())
    progress = checksum not in heard and len(heard) < MAX_NEWS
    since = now if before is None or progress else min(before.since, now)
    silent_since = min(before.silent_since or now, now) if before else now
    counted = traffic.workers.get(probe.worker.id)
    last = counted.last_answer if counted else None
    if last is not None:  # it finishes answers, so it is only too busy for this one
        silent_since = min(max(last, silent_since), now)
    answered = last is not None or _answered(before)
    heard = () if answered else (*heard, checksum) if progress else heard
    return WorkerObservation(probe.status, since, answered, silent_since, heard)


def _too_silent(
    probe: _Probe, observation: WorkerObservation, silence: SilenceLimits, traffic: Traffic
) -> str | None:
    """Why a worker that does not answer is broken; None while it may be busy, or boot."""
    now, counted = traffic.at, traffic.workers.get(probe.worker.id)
    silent, still = now - (observation.silent_since or now), now - observation.since
    allowed = max(silence.silent, silence.busy if counted and counted.in_flight else 0.0)
    if observation.answered and silent >= allowed:
        return f"no answer for {time(silent)}"
    if not observation.answered and still >= silence.booting:
        return f"no progress for {time(still)} while booting ({probe.status})"
    return None
