"""How many workers a fleet needs now: the autoscaler's judgement. Pure.

Demand is measured after the cache, supply is what the workers were seen to deliver. More workers are
wanted as soon as more is asked for than the band allows, too many would wait too long by the odds, or a
queue is too long already; fewer only when fewer would have done in the highest minute of a sustained time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from llmhost.autoscale.demand import Capacity, measure, typical_speed
from llmhost.autoscale.limits import affordable, find_invalid_metric, purchase_cooldown, within_budget
from llmhost.autoscale.models import (
    Blocked,
    FleetView,
    Metrics,
    Observed,
    ScaleDecision,
    ScaledWorker,
    ScaleSpec,
    count,
    questions,
    rate,
    time,
)
from llmhost.config.hours import least_within
from llmhost.engines.traffic import KEPT

__all__ = ["decide"]

#: seconds; who has not answered for longer is ill, and says nothing of how long a boot takes
_LONG_BOOT = 1800.0


def decide(spec: ScaleSpec, history: Metrics, fleet: FleetView, now: float) -> ScaleDecision:
    """What is to be done now, Unix seconds. Workers that boot count as if they delivered already.

    Metrics that are stale, or cannot be, lead to `hold` with `blocked` saying which and why.
    """
    size = sum(not worker.draining for worker in fleet.workers)
    lie = find_invalid_metric(history, fleet, now)
    if lie is not None:
        blocked = Blocked("metrics", lie, "nothing is changed until the metrics make sense again")
        return ScaleDecision("hold", size, size, lie, Observed(), blocked=blocked)
    inputs = _Inputs(spec, history, fleet, now)
    wanted, reason = inputs.wanted()
    return inputs.decision(wanted, reason)


@dataclass(frozen=True, slots=True)
class _Queue:
    """`waiting` questions have no place yet, and a new one would wait for `seconds`. `backlog` are those that
    more workers could have spared the wait: a queue before one worker, while another is free, is no sign
    that there are too few.
    """

    waiting: int
    seconds: float
    backlog: int

    def is_late(self, allowed: float) -> bool:
        """Whether somebody waits for a place, and for longer than `allowed` seconds."""
        return self.backlog > 0 and self.seconds > allowed


class _Inputs:
    """One decision's facts, worked out once."""

    def __init__(self, spec: ScaleSpec, history: Metrics, fleet: FleetView, now: float) -> None:
        self.spec, self.fleet, self.now = spec, fleet, now
        self.traffic, self.failures = history.traffic, history.failures
        self.boot = spec.boot_seconds if history.boot_seconds is None else history.boot_seconds
        self.watch = min(max(spec.down_after, self.boot), KEPT)
        self.demand = measure(history.traffic, now, self.watch, spec.tokens_per_answer)
        self.typical = typical_speed((worker.tokens_per_s for worker in fleet.workers), spec.tokens_per_s)
        self.staff, drained = (
            sorted((w for w in fleet.workers if w.draining is draining), key=self._merit)
            for draining in (False, True)
        )
        #: draining workers that may be kept after all
        self.spare = [worker for worker in drained if self._speed(worker)]
        #: those that are to be replaced come last: they are missed least
        speeds = [*map(self._speed, self.staff), *[self.typical] * fleet.lost]
        self.here = Capacity(speeds, self.typical, spec.places, self.demand.tokens_per_answer)
        self.queue = self._queue()

    def wanted(self) -> tuple[int, str]:
        """How many workers there should be, and why, if money were no matter."""
        backlog = self.queue.backlog * self.demand.tokens_per_answer / self._catch_up()
        asked = max(self.demand.sure, self.demand.long)
        size, why = self._by_load(asked + backlog, max(asked + backlog, self.demand.peak))
        waiting = f" and {questions(self.queue.backlog)}" if self.queue.backlog else ""
        reason = f"{rate(asked)} asked for{waiting}, {rate(self.observed.supply_tokens_per_s)} there{why}"
        floor, ceiling = self.observed.floor, self.observed.ceiling
        if size < floor:
            return floor, f"{reason}; {self._floor_is()}"
        if size > ceiling:
            return ceiling, f"{reason}; {size} would be wanted, max_gpus is {ceiling}"
        return size, reason

    def _catch_up(self) -> float:
        """In how many seconds what waits is to be worked off. One more worker is there no sooner."""
        return self.spec.drain_backlog_within or max(self.boot, self._booting_for(), self.spec.queue_time)

    def decision(self, wanted: int, reason: str) -> ScaleDecision:
        """What of it may be done: what is bought costs money, may fail, and is done in steps."""
        there = [*self.staff, *self.spare]
        stay, blocked = within_budget(there, wanted, self.fleet.funds, self.now)
        buy = 0
        if blocked is not None:  # nobody comes back where somebody has to go
            stay = [worker for worker in stay if not worker.draining]
        elif wanted > len(stay):
            buy, blocked = self._purchases(wanted - len(stay))
        before, after = len(self.staff), len(stay) + buy
        kept = {worker.id for worker in stay}
        if self.fleet.lost:
            reason = f"{count(self.fleet.lost)} broke; {reason}"
        return ScaleDecision(
            action="up" if after > before else "down" if after < before else "hold",
            before=before,
            after=after,
            reason=f"{reason}; {blocked.message}" if blocked else reason,
            observed=self.observed,
            buy=buy,
            revive=tuple(worker.id for worker in stay if worker.draining),
            drain=tuple(worker.id for worker in reversed(self.staff) if worker.id not in kept),
            blocked=blocked,
        )

    @cached_property
    def observed(self) -> Observed:
        ready = sum(worker.ready for worker in self.staff)
        return Observed(
            demand_tokens_per_s=self.demand.short,
            demand_long_tokens_per_s=self.demand.long,
            demand_peak_tokens_per_s=self.demand.peak,
            supply_tokens_per_s=self.here.supply(len(self.staff)),
            in_flight=sum(map(self._in_flight, self.staff)),
            waiting=self.queue.waiting,
            queue_seconds=self.queue.seconds,
            tokens_per_answer=self.demand.tokens_per_answer,
            watched_seconds=self.demand.watched,
            idle_seconds=self.demand.idle,
            ready=ready,
            booting=len(self.staff) - ready,
            draining=sum(worker.draining for worker in self.fleet.workers),
            lost=self.fleet.lost,
            floor=min(self._floor(), self.spec.max_gpus),
            ceiling=self.spec.max_gpus,
            boot_seconds=self.boot,
        )

    def _by_load(self, load: float, peak: float) -> tuple[int, str]:
        """How many workers, and what is to be said about it."""
        here, spec = len(self.here.speeds), self.spec
        up = self._enough(load, spec.target_utilization_max)
        down = self._enough(peak, spec.target_utilization_min)
        if self.queue.is_late(spec.queue_time) and not self.observed.booting:
            up = max(up, here + 1)
        if up > here:
            return up, f": {self._pressure(load)}"
        least = max(down, self.observed.floor)
        if least >= here:
            return min(down, here), ""
        if self.demand.watched < self.watch:
            return here, f"; fewer might do, but the load is known for {time(self.demand.watched)} only"
        stay = self._with_who_answers(self._with_a_place(least))
        if stay >= here:
            return here, f"; fewer might do, but {self._held_by(least)}"
        reason = f": {count(down)} would have done for {time(self.watch)}"
        return (down, reason) if stay == least else (stay, f"{reason}, but {self._held_by(least)}")

    def _with_a_place(self, least: int) -> int:
        """How many have to stay, `least` or more, so that a new question finds a place in time."""
        if not least or not self.observed.ready:
            return least
        allowed = self.spec.queue_time
        free = (number for number, worker in enumerate(self.staff, 1) if self._finds(worker) <= allowed)
        return max(least, next(free, len(self.here.speeds)))

    def _with_who_answers(self, least: int) -> int:
        """The same, so that nobody who answers is ended for one who still boots."""
        ready = [worker.ready for worker in self.staff]
        answers = max((number for number, answers in enumerate(ready, 1) if answers), default=0)
        return max(least, answers) if not all(ready[:least]) else least

    def _held_by(self, least: int) -> str:
        if self._with_who_answers(least) > least:
            return "those that would stay still boot"
        waiting = self.queue.waiting
        return questions(waiting) if waiting else "a new question would wait for a place there"

    def _booting_for(self) -> float:
        """Seconds; a boot that takes longer than was learned says more than what was learned."""
        ages = (self.now - worker.started for worker in self.staff if not worker.ready)
        return min(max(ages, default=0.0), _LONG_BOOT)

    def _enough(self, load: float, busy: float) -> int:
        """The least number of workers that keeps below `busy`, and whose questions mostly begin in time; at
        the lower end of the band with as much to spare as it leaves.
        """
        least = self.here.delivering(load / busy)
        spared = load * self.spec.target_utilization_max / busy
        return self.here.in_time(spared, least, wait=self.spec.queue_time, late=self.spec.max_late_ratio)

    def _purchases(self, missing: int) -> tuple[int, Blocked | None]:
        blocked = purchase_cooldown(self.failures, self.spec.max_failures, self.now)
        if blocked is not None:
            return 0, blocked
        burn = sum(worker.price for worker in self.fleet.workers)
        # One that drains is there until it is gone, whether it is wanted again or not.
        room = self.spec.max_gpus - len(self.fleet.workers)
        step = max(0, min(missing, self.spec.max_step, room))
        return affordable(step, burn, self.fleet.price, self.fleet.funds, self.now)

    def _queue(self) -> _Queue:
        """Questions go to the worker that has the fewest, and stay there."""
        ready = [worker for worker in self.staff if worker.ready]
        over = [self._in_flight(worker) - self.spec.places for worker in ready]
        if not ready:
            waiting = sum(map(self._in_flight, self.staff))
            return _Queue(waiting, math.inf if waiting else 0.0, waiting)
        new = min(map(self._finds, ready))
        return _Queue(sum(max(0, much) for much in over), new, max(0, min(over)) * len(ready))

    def _finds(self, worker: ScaledWorker) -> float:
        """How many seconds a new question would wait before this worker."""
        ahead, speed = self._in_flight(worker) + 1 - self.spec.places, self._speed(worker)
        if not worker.ready:
            return math.inf
        if ahead <= 0:
            return 0.0
        return ahead * self.demand.tokens_per_answer / speed if speed else math.inf

    def _in_flight(self, worker: ScaledWorker) -> int:
        counted = self.traffic.workers.get(worker.id)
        return counted.in_flight if counted else 0

    def _floor(self) -> int:
        """The schedule's; the last one goes when all has long been quiet."""
        idle, known = self.demand.idle, self.now - self.traffic.since
        asked = idle is not None and idle < self.spec.scale_to_zero_after
        unsure = bool(self.here.speeds) and known < self.spec.scale_to_zero_after
        return max(self._planned(), 1 if asked or unsure else 0)

    def _planned(self) -> int:
        """What the schedule wants, looked at early enough to boot."""
        spec = self.spec
        return least_within(spec.windows, spec.min_gpus, self.now, self.boot, spec.zone)

    def _floor_is(self) -> str:
        idle = self.demand.idle
        if self._planned():
            return f"at least {self.observed.floor} {'is' if self.observed.floor == 1 else 'are'} wanted"
        if idle is not None and idle < self.spec.scale_to_zero_after:
            return f"the last question came {time(idle)} ago"
        return "whether somebody asked before is not known"

    def _pressure(self, load: float) -> str:
        supply = self.observed.supply_tokens_per_s
        if self.queue.is_late(self.spec.queue_time):
            return self._queue_is()
        if not supply:
            return "those that are there deliver nothing" if self.staff else "nobody is there to answer"
        if load <= supply * self.spec.target_utilization_max:
            late, wait = self.spec.max_late_ratio, self.spec.queue_time
            return f"more than {late:.0%} would wait longer than {time(wait)}"
        return f"{load / supply:.1%}, over {self.spec.target_utilization_max:.1%}"

    def _queue_is(self) -> str:
        who, wait = questions(self.queue.waiting), self.queue.seconds
        if math.isinf(wait):
            return f"{who} for a worker"
        return f"{who}, and a new one would for {time(wait)}; {time(self.spec.queue_time)} are allowed"

    def _speed(self, worker: ScaledWorker) -> float:
        return self.typical if worker.tokens_per_s is None else worker.tokens_per_s

    def _merit(self, worker: ScaledWorker) -> tuple[float, float, bool, float, str]:
        """Best first: tokens for a dollar, then tokens, then who works already, and longest."""
        speed = self._speed(worker)
        bargain = speed / worker.price if worker.price else math.inf if speed else 0.0
        return -bargain, -speed, not worker.ready, worker.started, worker.id
