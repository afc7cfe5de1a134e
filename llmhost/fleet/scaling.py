"""How many workers a fleet needs now: the autoscaler's judgement. Pure.

Demand is measured after the cache, supply is what the workers were seen to deliver. More workers are
wanted as soon as the last minute asks for more than the band allows, or a queue is too long; fewer only
when fewer would have kept below the band in the highest minute of a sustained time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean

from llmhost.engines.traffic import KEPT
from llmhost.errors import LimitError
from llmhost.fleet.budget import check, fits
from llmhost.fleet.demand import measure
from llmhost.fleet.metrics import find_lie
from llmhost.fleet.quote import Funds
from llmhost.fleet.scale_models import (
    Blocked,
    Decision,
    FleetView,
    History,
    Observed,
    ScaledWorker,
    ScaleSpec,
)
from llmhost.fleet.schedule import least_at

__all__ = ["decide"]

#: seconds; a purchase that failed longer ago says nothing about the next one
_FAILURES_COUNT = 3600.0

#: workers; more are never wanted, whatever is asked of workers however slow
_MOST = 10**6


def decide(spec: ScaleSpec, history: History, fleet: FleetView, now: float) -> Decision:
    """What is to be done now, Unix seconds. Workers that boot count as if they delivered already.

    Metrics that are stale, or cannot be, lead to `hold` with `blocked` saying which and why.
    """
    size = sum(not worker.draining for worker in fleet.workers)
    lie = find_lie(history, fleet, now)
    if lie is not None:
        blocked = Blocked("metrics", lie, "nothing is changed until the metrics make sense again")
        return Decision("hold", size, size, lie, Observed(), blocked=blocked)
    scene = _Scene(spec, history, fleet, now)
    wanted, reason = scene.wanted()
    return scene.decision(*scene.allowed(wanted), reason)


class _Scene:
    """One decision's facts, worked out once."""

    def __init__(self, spec: ScaleSpec, history: History, fleet: FleetView, now: float) -> None:
        self.spec, self.fleet, self.now = spec, fleet, now
        self.failures = [at for at in history.failures if 0 <= now - at < _FAILURES_COUNT]
        self.traffic = history.traffic
        self.boot = spec.boot_seconds if history.boot_seconds is None else history.boot_seconds
        self.watch = min(max(spec.down_after, self.boot), KEPT)
        self.demand = measure(history.traffic, now, self.watch, spec.tokens_per_answer)
        self.typical = _typical(fleet.workers, spec.tokens_per_s)
        self.staff, self.spare = (
            sorted((w for w in fleet.workers if w.draining is draining), key=self._merit)
            for draining in (False, True)
        )
        #: tokens a second, best first; those that are to be replaced are missed least
        self.speeds = [*map(self._speed, self.staff), *[self.typical] * fleet.lost]
        self.observed = self._observe()

    def wanted(self) -> tuple[int, str]:
        """How many workers there should be, and why, if money were no matter."""
        here = len(self.speeds)
        # What waits now is worked off when one more worker would be there, not before.
        queue = self.observed.waiting * self.demand.tokens_per_answer
        load = self.demand.short + queue / max(self.boot, self.spec.queue_time)
        peak = max(load, self.demand.peak)
        up, down = self._size_for(load / self.spec.busy_above), self._size_for(peak / self.spec.busy_below)
        late = self.observed.queue_seconds > self.spec.queue_time
        if late and not self.observed.booting:
            up = max(up, here + 1)
        size, reason = here, f"{_rate(load)} asked for, {_rate(self.observed.supply_tokens_per_s)} there"
        if up > here:
            size, reason = up, f"{reason}: {self._pressure(load)}"
        elif down < here and late:
            reason = f"{reason}; fewer might do, but {self._queue()}"
        elif down < here and self.demand.watched < self.watch:
            reason = f"{reason}; fewer might do, but the load is known for {_time(self.demand.watched)} only"
        elif down < here:
            size = down
            reason = f"{reason}: {_count(down)} would have done for {_time(self.watch)}"
        floor, ceiling = self.observed.floor, self.observed.ceiling
        if size < floor:
            return floor, f"{reason}; {self._floor_is()}"
        if size > ceiling:
            return ceiling, f"{reason}; {size} would be wanted, max_gpus is {ceiling}"
        return size, reason

    def allowed(self, wanted: int) -> tuple[int, Blocked | None]:
        """How many of them there may be: what is bought costs money, may fail, and is done in steps."""
        here = len(self.staff) + len(self.spare)
        solvent, blocked = self._solvent(min(wanted, here))
        if blocked is not None:
            return solvent, blocked
        if wanted > here and len(self.failures) >= self.spec.max_failures:
            return here, self._tired()
        most, blocked = self._affordable(here, min(wanted, here + self.spec.max_step))
        return min(wanted, most), blocked

    def decision(self, after: int, blocked: Blocked | None, reason: str) -> Decision:
        before = len(self.staff)
        revive = tuple(worker.id for worker in self.spare[: max(0, after - before)])
        if self.fleet.lost:
            reason = f"{_count(self.fleet.lost)} broke and went; {reason}"
        return Decision(
            action="up" if after > before else "down" if after < before else "hold",
            before=before,
            after=after,
            reason=f"{reason}; {blocked.message}" if blocked else reason,
            observed=self.observed,
            buy=max(0, after - before - len(revive)),
            revive=revive,
            drain=tuple(worker.id for worker in reversed(self.staff[after:])),
            blocked=blocked,
        )

    def _observe(self) -> Observed:
        ready = [worker for worker in self.staff if worker.ready]
        counts = [self.traffic.workers[w.id].in_flight for w in self.staff if w.id in self.traffic.workers]
        waiting = max(0, sum(counts) - len(ready) * self.spec.places)
        served, queued = sum(map(self._speed, ready)), waiting * self.demand.tokens_per_answer
        return Observed(
            demand_tokens_per_s=self.demand.short,
            demand_long_tokens_per_s=self.demand.long,
            demand_peak_tokens_per_s=self.demand.peak,
            supply_tokens_per_s=sum(map(self._speed, self.staff)),
            in_flight=sum(counts),
            waiting=waiting,
            queue_seconds=queued / served if served else math.inf if waiting else 0.0,
            tokens_per_answer=self.demand.tokens_per_answer,
            watched_seconds=self.demand.watched,
            idle_seconds=self.demand.idle,
            ready=len(ready),
            booting=len(self.staff) - len(ready),
            draining=len(self.spare),
            lost=self.fleet.lost,
            floor=min(self._floor(), self.spec.max_gpus),
            ceiling=self.spec.max_gpus,
            boot_seconds=self.boot,
        )

    def _floor(self) -> int:
        """The schedule's; the last one goes when all has long been quiet."""
        idle, known = self.demand.idle, self.now - self.traffic.since
        asked = idle is not None and idle < self.spec.idle_after
        unsure = bool(self.speeds) and known < self.spec.idle_after
        return max(self._planned(), 1 if asked or unsure else 0)

    def _planned(self) -> int:
        """What the schedule wants, looked at early enough to boot."""
        moments = (self.now, self.now + self.boot)
        return max(least_at(self.spec.windows, self.spec.min_gpus, at, self.spec.zone) for at in moments)

    def _floor_is(self) -> str:
        idle = self.demand.idle
        if self._planned():
            return f"at least {self.observed.floor} {'is' if self.observed.floor == 1 else 'are'} wanted"
        if idle is not None and idle < self.spec.idle_after:
            return f"the last question came {_time(idle)} ago"
        return "whether somebody asked before is not known"

    def _pressure(self, load: float) -> str:
        supply = self.observed.supply_tokens_per_s
        if self.observed.queue_seconds > self.spec.queue_time:
            return self._queue()
        if not supply:
            return "those that are there deliver nothing" if self.staff else "nobody is there to answer"
        return f"{load / supply:.1%}, over {self.spec.busy_above:.1%}"

    def _queue(self) -> str:
        waiting, wait = self.observed.waiting, self.observed.queue_seconds
        who = "1 question waits" if waiting == 1 else f"{waiting:,} questions wait"
        how_long = "for a worker" if math.isinf(wait) else _time(wait)
        return f"{who} {how_long}, {_time(self.spec.queue_time)} are allowed"

    def _size_for(self, load: float) -> int:
        """The least number of workers, best first, that delivers so many tokens a second."""
        missing = load
        for size, speed in enumerate(self.speeds):
            if missing <= 0:
                return size
            missing -= speed
        more = min(missing / self.typical, _MOST)
        # Sums of fractions are off by a little; that is no reason for one more.
        return len(self.speeds) + max(0, math.ceil(more - 1e-9))

    def _solvent(self, size: int) -> tuple[int, Blocked | None]:
        """How many of those that are there the budget still allows, those that drain after the others."""
        funds = self.fleet.funds
        prices = [worker.price for worker in [*self.staff, *self.spare][:size]]
        if funds is None or fits(funds.limits, funds.spent, sum(prices), self.now):
            return size, None
        left = next(
            count
            for count in reversed(range(size))
            if count == 0 or fits(funds.limits, funds.spent, sum(prices[:count]), self.now)
        )
        return left, self._too_dear(funds, prices[: left + 1], size)

    def _too_dear(self, funds: Funds, prices: Sequence[float], wanted: int) -> Blocked:
        """`prices` are of those that the budget allows, and of one more."""
        *kept, last = prices
        message = f"the budget allows {_count(len(kept))}, not {wanted}"
        try:
            check(funds.limits, funds.spent, sum(kept), last, self.now)
        except LimitError as error:
            message = f"{message}: {error.message}"
        return Blocked("budget", message, "raise `fleet.budget`, or let the fleet rest until it allows more")

    def _affordable(self, here: int, wanted: int) -> tuple[int, Blocked | None]:
        """How many there can be when money is spent for each beyond `here`."""
        funds, burn = self.fleet.funds, sum(worker.price for worker in self.fleet.workers)
        if funds is None:
            return max(here, wanted), None
        for size in range(here, wanted):
            try:
                check(funds.limits, funds.spent, burn, self.fleet.price, self.now, funds.credit)
            except LimitError as error:
                return size, Blocked("budget", error.message, error.hint)
            burn += self.fleet.price
        return max(here, wanted), None

    def _tired(self) -> Blocked:
        # Once this one is forgotten, fewer than `max_failures` are left.
        decisive = sorted(self.failures)[-self.spec.max_failures]
        until = datetime.fromtimestamp(decisive + _FAILURES_COUNT, UTC)
        message = (
            f"{len(self.failures)} purchases came to nothing within an hour, so nothing is bought until"
            f" {until:%H:%M} UTC"
        )
        return Blocked("failures", message, "`llmhost scale --history` shows what went wrong")

    def _speed(self, worker: ScaledWorker) -> float:
        return self.typical if worker.tokens_per_s is None else worker.tokens_per_s

    def _merit(self, worker: ScaledWorker) -> tuple[float, float, bool, float, str]:
        """Best first: tokens for a dollar, then tokens, then who works already, and longest."""
        speed = self._speed(worker)
        bargain = speed / worker.price if worker.price else math.inf if speed else 0.0
        return -bargain, -speed, not worker.ready, worker.started, worker.id


def _typical(workers: Sequence[ScaledWorker], usual: float) -> float:
    """Tokens a second of a worker that was not measured yet: as the others, or as the operator thinks."""
    measured = [worker.tokens_per_s for worker in workers if worker.tokens_per_s]
    return fmean(measured) if measured else usual


def _count(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _rate(tokens: float) -> str:
    return f"{tokens:,.0f} tokens/s" if tokens >= 10 else f"{tokens:.2g} tokens/s"


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
