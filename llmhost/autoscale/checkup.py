"""Which workers are healthy and which are broken, from their status now and their status before.

A worker may be slow to answer because it is busy, or to boot because its model is large. It is broken
when its provider says so and it does not answer, when it is not the worker that was rented, or when it made
no progress for long. Evidence can be wrong for many workers at once, so few end on the same kind of it.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmhost.autoscale.models import time
from llmhost.autoscale.state import WorkerObservation
from llmhost.engines.engine import Progress
from llmhost.engines.traffic import Traffic
from llmhost.errors import UntrustedWorker
from llmhost.fleet.health import MAX_NEWS, Hooks, probe_worker, sentence
from llmhost.fleet.models import FleetSpec, Worker, WorkerState
from llmhost.fleet.plan import exceeds_drift

__all__ = ["DEARER", "BrokenWorker", "Checkup", "SilenceLimits", "probe_workers"]

#: workers; if more were asked at once, their time would run out while it is this machine that is slow
_AT_ONCE = 8

#: of the fleet, at least one worker: what a step ends of those that have answered, on one kind of evidence
_MOST_ENDED = 1 / 3

_READY = "ready"

#: of a worker that is given back
DEARER = "costs more than its offer said"

#: what says that a worker is broken: its provider, its silence, its refusal, that it serves another model, or
#: what it costs
Evidence = Literal["provider", "silence", "refusal", "outdated", "price"]


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
    """A worker that is to be replaced, and why. `has_answered`: once, to any process. `is_new`: it was not
    known to be broken before.
    """

    worker: Worker
    reason: str
    evidence: Evidence
    has_answered: bool
    is_new: bool

    @property
    def outdated(self) -> bool:
        """Whether it works, but for another model or engine."""
        return self.evidence == "outdated"

    @property
    def failed_purchase(self) -> bool:
        """Whether its purchase failed; true once."""
        useless = not (self.has_answered or self.outdated)
        return self.is_new and (useless or self.evidence == "price")


@dataclass(frozen=True, slots=True)
class Checkup:
    """`healthy` workers are READY where they answer, or did a moment ago. `broken` ones are to be ended now;
    `spared` ones are broken too, and left to the next step, so that it sees whether they still are.
    `first_answers` are those that never had answered before. `observations` is what is to be kept of each.
    """

    healthy: tuple[Worker, ...]
    broken: tuple[BrokenWorker, ...]
    spared: tuple[BrokenWorker, ...]
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
    agreed: Mapping[str, float],
) -> Checkup:
    """Asks many of them at once. `observations` is what was kept of each; now is when `traffic` was read.
    `agreed` is what those on record cost an hour: for one that no step has seen, what its offer said.

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
        reason, evidence = probe.fatal, probe.evidence
        is_first = before is None or before.given_up
        if is_first and exceeds_drift(worker.price_per_hour, agreed.get(worker.id, math.inf)):
            reason, evidence = DEARER, "price"
        elif reason is None and (worker.model, worker.engine) != (spec.model, spec.engine):
            reason, evidence = f"serves {worker.model}, not {spec.model}", "outdated"
        elif reason is None and not probe.answers:
            reason = _too_silent(probe, observation, silence, traffic)
        seen[worker.id] = replace(observation, given_up=reason is not None)
        if reason is None:
            # One that answered before is taken to be busy until it has been silent for too long.
            ready = probe.answers or observation.answered
            healthy.append(replace(worker, state=WorkerState.READY if ready else WorkerState.STARTING))
        else:
            is_new = before is None or not before.given_up
            broken.append(BrokenWorker(worker, reason, evidence, observation.answered, is_new))
    now, later = _rationed(broken, len(listed))
    first = [w for w in healthy if w.state is WorkerState.READY and not _answered(observations.get(w.id))]
    return Checkup(tuple(healthy), now, later, tuple(first), seen)


def _rationed(
    broken: Sequence[BrokenWorker], fleet: int
) -> tuple[tuple[BrokenWorker, ...], tuple[BrokenWorker, ...]]:
    """Those to end now, and those that the next step judges again. One that never answered gives no answers
    that could break, and one with another model was said to go by the operator. What one costs is no evidence
    that can be wrong for many.
    """
    most, ended = max(1, int(fleet * _MOST_ENDED)), Counter[Evidence]()
    now: list[BrokenWorker] = []
    later: list[BrokenWorker] = []
    for one in broken:
        counts = one.has_answered and one.evidence not in ("outdated", "price")
        (later if counts and ended[one.evidence] >= most else now).append(one)
        ended[one.evidence] += counts
    return tuple(now), tuple(later)


@dataclass(frozen=True, slots=True)
class _Probe:
    """`fatal` is why the worker will not become ready, by `evidence`. `strange`: it is not who it was."""

    worker: Worker
    answers: bool
    status: str
    fatal: str | None = None
    evidence: Evidence = "silence"
    strange: bool = False


async def _probe(
    worker: Worker, before: WorkerObservation | None, hooks: Hooks, gate: asyncio.Semaphore
) -> _Probe:
    failed = worker.detail or "its provider reports that it failed"
    failure = failed if worker.state is WorkerState.FAILED else None
    if worker.url is None:
        return _Probe(worker, False, f"{worker.stage}: {worker.detail}", failure, "provider")
    news: list[Progress] = []
    async with gate:
        result = await probe_worker(worker, hooks, None if _answered(before) else news.append)
    if result.answered:
        return _Probe(worker, True, _READY)
    if failure is not None and not (_answered(before) and result.error is None):  # it may be busy
        return _Probe(worker, False, "", failure, "provider")
    if result.error is not None and result.permanent:
        return _Probe(worker, False, "", sentence(result.error), "refusal", strange=result.untrusted)
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
