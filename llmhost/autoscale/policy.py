"""How many workers a fleet needs now: the autoscaler's decision. Pure.

Demand is measured after the cache, supply is what the workers were seen to deliver. More workers are needed
as soon as the demand surely exceeds the target utilization, too many questions would wait too long by the
odds, or a queue is longer than chance makes it; fewer only when fewer are surely enough, and would have done
in the highest minute of a sustained time.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
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

#: seconds; a worker that has not answered for longer is broken, and says nothing of how long a boot takes
_LONG_BOOT = 1800.0


def decide(
    spec: ScaleSpec, metrics: Metrics, fleet: FleetView, now: float, pause: str | None = None
) -> ScaleDecision:
    """What is to be done now, Unix seconds. Workers that boot count as if they delivered already.

    Metrics that are stale or invalid lead to `hold` with `blocked` saying which and why. `pause` is why the
    demand does not count: then none is bought, and only the budget drains workers.
    """
    size = sum(not worker.draining for worker in fleet.workers)
    invalid = find_invalid_metric(metrics, fleet, now)
    if invalid is not None:
        blocked = Blocked("metrics", invalid, "nothing is changed until the metrics are valid again")
        return ScaleDecision("hold", size, size, invalid, Observed(), blocked=blocked)
    inputs = _Inputs(spec, metrics, fleet, now)
    if pause is not None:
        return inputs.decision(size, pause)
    return inputs.decision(*inputs.needed())


@dataclass(frozen=True, slots=True)
class _Queue:
    """`waiting` questions have no slot yet, and a new one would wait for `seconds`. `backlog` are those that
    more workers could have spared the wait: a queue before one worker, while another is free, is no sign
    that there are too few. `patience` is for how many seconds a question may have to wait by chance.
    """

    waiting: int
    seconds: float
    backlog: int
    patience: float

    @property
    def is_late(self) -> bool:
        """Whether questions wait for a slot, and for longer than chance explains."""
        return self.backlog > 0 and self.seconds > self.patience


class _Inputs:
    """One decision's facts, computed once."""

    def __init__(self, spec: ScaleSpec, metrics: Metrics, fleet: FleetView, now: float) -> None:
        self.spec, self.fleet, self.now = spec, fleet, now
        self.traffic, self.failures = metrics.traffic, metrics.failures
        self.boot = spec.boot_seconds if metrics.boot_seconds is None else metrics.boot_seconds
        self.watch = min(max(spec.down_after, self.boot), KEPT)
        self.demand = measure(metrics.traffic, now, self.watch, spec.tokens_per_answer)
        self.typical = typical_speed((worker.tokens_per_s for worker in fleet.workers), spec.tokens_per_s)
        self.staff, drained = (
            sorted((w for w in fleet.workers if w.draining is draining), key=self._merit)
            for draining in (False, True)
        )
        #: draining workers that may be kept after all
        self.spare = [worker for worker in drained if self._speed(worker)]
        #: those that are to be replaced come last: they are missed least
        speeds = [*map(self._speed, self.staff), *[self.typical] * fleet.lost]
        self.capacity = Capacity(speeds, self.typical, spec.slots, self.demand.tokens_per_answer)
        self.shares: Mapping[str, int] = {}
        self.shares = self._shares()
        self.queue = self._queue()
        #: what the schedule asks for, looked at early enough to boot
        self.scheduled = least_within(spec.windows, spec.min_gpus, now, self.boot, spec.zone)

    def needed(self) -> tuple[int, str]:
        """How many workers are needed, and why, if money were no limit."""
        demand, late = self.demand, self.queue.is_late
        waits = self.queue.backlog * demand.tokens_per_answer / self._drain_backlog_within() if late else 0.0
        likely = max(demand.sure, demand.short) + waits
        # A queue that chance does not explain is proof enough of what the last minute asked for.
        sure = likely if late else demand.sure
        size, why = self._by_load(sure, likely, max(sure, demand.most, demand.peak))
        shown = likely - waits if size > len(self.capacity.speeds) else demand.long
        waiting = f" and {questions(self.queue.backlog)}" if self.queue.backlog else ""
        supply = self.observed.supply_tokens_per_s
        reason = f"demand {rate(shown)}{waiting}, capacity {rate(supply)} tok/s{why}"
        floor, ceiling = self.observed.floor, self.observed.ceiling
        if size < floor:
            return floor, f"{reason}; {self._why_floor()}"
        if size > ceiling:
            return ceiling, f"{reason}; {size} needed, max_gpus is {ceiling}"
        return size, reason

    def decision(self, needed: int, reason: str) -> ScaleDecision:
        """What of it may be done: a purchase costs money, may fail, and is limited in each step."""
        stay, blocked = within_budget([*self.staff, *self.spare], needed, self.fleet.funds, self.now)
        buy = 0
        if blocked is not None:  # none comes back where others have to go
            stay = [worker for worker in stay if not worker.draining]
        elif needed > len(stay):
            buy, blocked = self._purchases(needed - len(stay))
        before, after = len(self.staff), len(stay) + buy
        kept = {worker.id for worker in stay}
        if self.fleet.lost:
            reason = f"{count(self.fleet.lost)} failed; {reason}"
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
            supply_tokens_per_s=self.capacity.supply(len(self.staff)),
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

    def _drain_backlog_within(self) -> float:
        """Seconds. By default a boot, as one more worker helps no sooner; one that takes longer than was
        learned counts for more than what was learned.
        """
        ages = (self.now - worker.started for worker in self.staff if not worker.ready)
        booting_for = min(max(ages, default=0.0), _LONG_BOOT)
        return self.spec.drain_backlog_within or max(self.boot, booting_for, self.spec.queue_time)

    def _by_load(self, sure: float, likely: float, most: float) -> tuple[int, str]:
        """How many workers, and the reason for it: more where it is `sure` that there are too few, and then
        for what is `likely`; fewer where `most` is not too much for them. All are tokens a second.
        """
        present, spec = len(self.capacity.speeds), self.spec
        up = self._enough(sure, spec.target_utilization_max)
        down = self._enough(most, spec.target_utilization_min)
        if down == 1 and not self.demand.peak:
            down = 0  # whether there is a last one is for the floor to say
        if self.queue.is_late and not (self.observed.booting or self.fleet.lost):
            up = max(up, present + 1)
        if up > present:
            return max(up, self._enough(likely, spec.target_utilization_max)), f": {self._pressure(likely)}"
        least = max(down, self.observed.floor)
        if least >= present:
            return min(down, present), ""
        if self.demand.watched < self.watch:
            return present, f"; not scaling down: only {time(round(self.demand.watched))} of history"
        stay = self._with_ready_workers(self._with_a_free_slot(least))
        if stay >= present:
            return present, f"; not scaling down: {self._held_by(least)}"
        reason = f": {count(down)} {'was' if down == 1 else 'were'} enough for {time(self.watch)}"
        if stay > least:
            return stay, f"{reason}; keeping {stay}: {self._held_by(least)}"
        return down, reason

    def _enough(self, load: float, utilization: float) -> int:
        """The least number of workers that keeps below `utilization`, and begins most questions in time; at
        the lower end of the band with as much to spare as it leaves.
        """
        least = self.capacity.delivering(load / utilization)
        spared = load * self.spec.target_utilization_max / utilization
        return self.capacity.in_time(
            spared, least, wait=self.spec.queue_time, max_late_ratio=self.spec.max_late_ratio
        )

    def _with_a_free_slot(self, least: int) -> int:
        """How many have to stay, `least` or more, so that a new question finds a slot in time."""
        if not least or not self.observed.ready:
            return least
        allowed = self.spec.queue_time
        free = (number for number, worker in enumerate(self.staff, 1) if self._wait_at(worker) <= allowed)
        return max(least, next(free, len(self.capacity.speeds)))

    def _with_ready_workers(self, least: int) -> int:
        """The same, so that no worker that answers is drained for one that still boots."""
        ready = [worker.ready for worker in self.staff]
        answers = max((number for number, answers in enumerate(ready, 1) if answers), default=0)
        return max(least, answers) if not all(ready[:least]) else least

    def _held_by(self, least: int) -> str:
        if self._with_ready_workers(least) > least:
            return "the workers that would stay are still booting"
        waiting = self.queue.waiting
        return questions(waiting) if waiting else "a new question would wait for a slot"

    def _purchases(self, missing: int) -> tuple[int, Blocked | None]:
        blocked = purchase_cooldown(self.failures, self.spec.max_failures, self.now)
        if blocked is not None:
            return 0, blocked
        burn = sum(worker.price for worker in self.fleet.workers)
        # One that drains takes room until it is gone, whether it is needed again or not.
        room = self.spec.max_gpus - len(self.fleet.workers)
        step = max(0, min(missing, self.spec.max_step, room))
        fleet = self.fleet
        return affordable(step, burn, fleet.price, fleet.funds, self.now, fleet.traffic)

    def _shares(self) -> Mapping[str, int]:
        """Those that wait before all workers, by the worker that will get them: who has the fewest."""
        loads = [(self._in_flight(worker), worker.id) for worker in self.staff if worker.ready]
        heapq.heapify(loads)
        shares: Counter[str] = Counter()
        for _ in range(self.traffic.waiting if loads else 0):
            load, worker = loads[0]
            shares[worker] += 1
            heapq.heapreplace(loads, (load + 1, worker))
        return shares

    def _queue(self) -> _Queue:
        """Questions go to the worker that has the fewest, and stay there."""
        ready = [worker for worker in self.staff if worker.ready]
        over = [self._in_flight(worker) - self.spec.slots for worker in ready]
        if not ready:
            waiting = sum(map(self._in_flight, self.staff)) + self.traffic.waiting
            return _Queue(waiting, math.inf if waiting else 0.0, waiting, self.spec.queue_time)
        new, backlog = min(map(self._wait_at, ready)), max(0, min(over)) * len(ready)
        return _Queue(sum(max(0, much) for much in over), new, backlog, self._patience(ready))

    def _patience(self, ready: Sequence[ScaledWorker]) -> float:
        spec = self.spec
        capacity = Capacity(
            [*map(self._speed, ready)], self.typical, spec.slots, self.demand.tokens_per_answer
        )
        return capacity.longest_wait(
            spec.target_utilization_max, wait=spec.queue_time, max_late_ratio=spec.max_late_ratio
        )

    def _wait_at(self, worker: ScaledWorker) -> float:
        """How many seconds a new question would wait at this worker."""
        ahead, speed = self._in_flight(worker) + 1 - self.spec.slots, self._speed(worker)
        if not worker.ready:
            return math.inf
        if ahead <= 0:
            return 0.0
        return ahead * self.demand.tokens_per_answer / speed if speed else math.inf

    def _in_flight(self, worker: ScaledWorker) -> int:
        counted = self.traffic.workers.get(worker.id)
        return (counted.in_flight if counted else 0) + self.shares.get(worker.id, 0)

    def _floor(self) -> int:
        """The schedule's; the last worker goes when all has long been quiet."""
        idle, known = self.demand.idle, self.now - self.traffic.since
        asked = idle is not None and idle < self.spec.scale_to_zero_after
        unsure = bool(self.capacity.speeds) and known < self.spec.scale_to_zero_after
        return max(self.scheduled, 1 if asked or unsure else 0)

    def _why_floor(self) -> str:
        idle = self.demand.idle
        if self.scheduled:
            return f"the minimum is {self.observed.floor}"
        if idle is not None and idle < self.spec.scale_to_zero_after:
            return f"the last question came {time(idle)} ago"
        return "not known yet when the last question came"

    def _pressure(self, load: float) -> str:
        supply, spec = self.observed.supply_tokens_per_s, self.spec
        if self.queue.is_late:
            waiting, wait = questions(self.queue.waiting), self.queue.seconds
            if math.isinf(wait):
                return f"{waiting} for a worker"
            return f"{waiting}, a new one would wait {time(wait)}, over {time(spec.queue_time)}"
        if not supply:
            return "the workers deliver nothing" if self.staff else "no workers"
        if load <= supply * spec.target_utilization_max:
            return f"more than {spec.max_late_ratio:.0%} would wait longer than {time(spec.queue_time)}"
        return f"utilization {load / supply:.1%}, over {spec.target_utilization_max:.1%}"

    def _speed(self, worker: ScaledWorker) -> float:
        return self.typical if worker.tokens_per_s is None else worker.tokens_per_s

    def _merit(self, worker: ScaledWorker) -> tuple[float, float, bool, float, str]:
        """Best first: tokens for a dollar, then tokens, then whether it answers, and how long it has run."""
        speed = self._speed(worker)
        bargain = speed / worker.price if worker.price else math.inf if speed else 0.0
        return -bargain, -speed, not worker.ready, worker.started, worker.id
