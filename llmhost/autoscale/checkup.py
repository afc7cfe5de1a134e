"""Which workers are healthy and which are broken, told from what they say now and what they said before.

A worker may be slow to answer because it is busy, or to boot because its model is large. It is broken
when its provider says so, when it is not the worker that was rented, or when nothing has moved for long.
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

__all__ = ["Broken", "Checkup", "SilenceLimits", "probe_workers"]

#: workers; if more were asked at once, their time would run out while it is this machine that is slow
_AT_ONCE = 64

_READY = "ready"


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """Seconds without news until a worker that boots is broken, and until one is that answered before.

    While questions are in flight, `busy` counts where it is longer: it may be at a single long answer.
    """

    booting: float
    silent: float
    busy: float = 0.0


@dataclass(frozen=True, slots=True)
class Broken:
    """A worker that is to be replaced, and why. `machine_is_bad`: nothing is to be rented there again.
    `never_answered`: the purchase came to nothing, which is told once. `outdated`: it works, but for another
    model or engine.
    """

    worker: Worker
    reason: str
    machine_is_bad: bool
    never_answered: bool
    outdated: bool


@dataclass(frozen=True, slots=True)
class Checkup:
    """`healthy` workers are READY where they answer, or did a moment ago. `first_answers` are those of them
    that never had answered before. `sights` is what is to be remembered of each.
    """

    healthy: tuple[Worker, ...]
    broken: tuple[Broken, ...]
    first_answers: tuple[Worker, ...]
    sights: Mapping[str, WorkerObservation]


async def probe_workers(
    listed: Sequence[Worker],
    sights: Mapping[str, WorkerObservation],
    traffic: Traffic,
    *,
    spec: FleetSpec,
    hooks: Hooks,
    patience: SilenceLimits,
) -> Checkup:
    """Asks many of them at once. `sights` is what was remembered of each; now is when `traffic` was read.

    Raises:
        UntrustedWorker: none of several is who it was, so it is not they who have changed.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    looks = await asyncio.gather(*(_look(worker, sights.get(worker.id), hooks, gate) for worker in listed))
    _check_line(looks)
    healthy: list[Worker] = []
    broken: list[Broken] = []
    seen: dict[str, WorkerObservation] = {}
    for look in looks:
        before = sights.get(look.worker.id)
        sight = _remember(look, before, traffic)
        reason = _why_broken(look, sight, spec, patience, traffic)
        seen[look.worker.id] = replace(sight, given_up=reason is not None)
        if reason is None:
            healthy.append(replace(look.worker, state=_state(look, sight)))
        else:
            known = before is not None and before.given_up
            broken.append(_broken(look, sight, spec, reason, known=known))
    first = [w for w in healthy if w.state is WorkerState.READY and not _answered(sights.get(w.id))]
    return Checkup(tuple(healthy), tuple(broken), tuple(first), seen)


@dataclass(frozen=True, slots=True)
class _Look:
    """`said` is what the worker told last, `never` why it will not become ready. `strange`: it is not who it
    was.
    """

    worker: Worker
    answers: bool
    said: str
    never: str | None = None
    strange: bool = False


async def _look(
    worker: Worker, before: WorkerObservation | None, hooks: Hooks, gate: asyncio.Semaphore
) -> _Look:
    if worker.state is WorkerState.FAILED:
        return _Look(
            worker, answers=False, said="", never=worker.detail or "its provider says that it failed"
        )
    if worker.url is None:
        return _Look(worker, answers=False, said=f"{worker.stage}: {worker.detail}")
    news: list[Progress] = []
    async with gate:
        result = await probe_worker(worker, hooks, None if _answered(before) else news.append)
    if result.answered:
        return _Look(worker, answers=True, said=_READY)
    if result.error is not None and result.permanent:
        return _Look(worker, answers=False, said="", never=sentence(result.error), strange=result.untrusted)
    reason = type(result.error or TimeoutError()).__name__
    told = f"{news[-1].stage} {news[-1].fraction or 0:.2f}" if news else reason
    return _Look(worker, answers=False, said=told)


def _check_line(looks: Sequence[_Look]) -> None:
    """Something between this machine and all workers, such as a proxy that opens TLS, makes each a stranger:
    ending them would end answers that others are getting.
    """
    strange = sum(look.strange for look in looks)
    if strange > 1 and not any(look.answers for look in looks):
        raise UntrustedWorker(
            f"none of {strange} workers shows its own certificate to this machine",
            hint="something between may answer in their place, such as a proxy; run this where there is none",
        )


def _answered(sight: WorkerObservation | None) -> bool:
    return sight is not None and sight.answered


def _remember(look: _Look, before: WorkerObservation | None, traffic: Traffic) -> WorkerObservation:
    """A time that lies ahead was written by a clock that has gone back since."""
    now = traffic.at
    if look.answers:
        since = min(before.since, now) if before and before.said == look.said else now
        return WorkerObservation(look.said, since, answered=True, silent_since=None)
    heard, told = before.heard if before else (), zlib.crc32(look.said.encode())
    news = told not in heard and len(heard) < MAX_NEWS
    since = now if before is None or news else min(before.since, now)
    silent_since = min(before.silent_since or now, now) if before else now
    counted = traffic.workers.get(look.worker.id)
    last = counted.last_answer if counted else None
    if last is not None:  # it finishes answers, so it is only too busy for this one
        silent_since = min(max(last, silent_since), now)
    answered = last is not None or _answered(before)
    heard = () if answered else (*heard, told) if news else heard
    return WorkerObservation(look.said, since, answered, silent_since, heard)


def _why_broken(
    look: _Look, sight: WorkerObservation, spec: FleetSpec, patience: SilenceLimits, traffic: Traffic
) -> str | None:
    if look.never is not None:
        return look.never
    if _is_outdated(look, spec):
        return f"it serves {look.worker.model}, not {spec.model}"
    if look.answers:
        return None
    now, counted = traffic.at, traffic.workers.get(look.worker.id)
    silent = now - (sight.silent_since or now)
    allowed = max(patience.silent, patience.busy if counted and counted.in_flight else 0.0)
    if sight.answered and silent >= allowed:
        return f"it has not answered for {time(silent)}"
    still = now - sight.since
    if not sight.answered and still >= patience.booting:
        return f"nothing has moved for {time(still)} while it boots ({look.said})"
    return None


def _state(look: _Look, sight: WorkerObservation) -> WorkerState:
    """One that has answered before is thought to be busy until it has been silent for too long."""
    return WorkerState.READY if look.answers or sight.answered else WorkerState.STARTING


def _is_outdated(look: _Look, spec: FleetSpec) -> bool:
    return look.never is None and (look.worker.model, look.worker.engine) != (spec.model, spec.engine)


def _broken(look: _Look, sight: WorkerObservation, spec: FleetSpec, reason: str, *, known: bool) -> Broken:
    outdated = _is_outdated(look, spec)
    return Broken(
        look.worker,
        reason,
        machine_is_bad=not outdated,
        never_answered=not (outdated or sight.answered or known),
        outdated=outdated,
    )
