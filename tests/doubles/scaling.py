"""What the autoscaler is told, built from a load; and a fleet that does what it decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from llmhost.autoscale.models import FleetView, Metrics, ScaleDecision, ScaledWorker, ScaleSpec
from llmhost.autoscale.policy import decide
from llmhost.config.models import Config
from llmhost.engines.traffic import BUCKET, KEPT, Traffic, WorkerTraffic
from llmhost.fleet.plan import Funds
from llmhost.wiring.fleets import scale_spec

#: a Wednesday, 10:30 UTC
NOW = datetime(2026, 6, 10, 10, 30, tzinfo=UTC).timestamp()

#: of an answer; so short that questions come evenly
TOKENS = 10

#: tokens a second of every worker here
SPEED = 50.0

Rate = Callable[[float], float]
Counts = Mapping[int, int]


def sized(decision: ScaleDecision) -> tuple[str, int, int]:
    """What a decision does, from how many workers to how many."""
    return decision.action, decision.before, decision.after


def even_questions(tokens_per_s: float | Rate, start: float, end: float) -> Counts:
    """Questions by bucket that ask for so many tokens a second at a time, as evenly as they can."""
    rate = tokens_per_s if callable(tokens_per_s) else lambda _: tokens_per_s
    counts, owed = {}, 0.0
    for bucket in range(int(start) // BUCKET * BUCKET, int(end), BUCKET):
        owed += rate(bucket + BUCKET / 2) * BUCKET / TOKENS
        counts[bucket] = int(owed + 1e-6)
        owed -= counts[bucket]
    return counts


def random_questions(tokens_per_s: float, start: float, end: float, seed: int) -> Counts:
    """The same as a Poisson process."""
    chance, counts, moment = random.Random(seed), dict.fromkeys(range(int(start), int(end), BUCKET), 0), start
    while True:
        moment += chance.expovariate(tokens_per_s / TOKENS)
        if moment >= end:
            return counts
        counts[int(moment) // BUCKET * BUCKET] += 1


def make_traffic(
    load: float | Rate | Counts, now: float = NOW, *, since: float | None = None, **more: Any
) -> Traffic:
    """What was counted until `now` of a load, which is tokens a second or questions by bucket. Every question
    was answered at once."""
    since = now - KEPT if since is None else since
    counts = load if isinstance(load, Mapping) else even_questions(load, since, now + BUCKET)
    asked = {bucket: count for bucket, count in counts.items() if now - KEPT <= bucket <= now}
    newest = max(asked, default=0)
    if newest + BUCKET > now:
        asked[newest] = int(asked[newest] * (now - newest) / BUCKET)
    tokens = {bucket: count * TOKENS for bucket, count in asked.items()}
    return Traffic(**{"at": now, "since": since, "asked": asked, "answered": asked, "tokens": tokens, **more})


#: what the configuration says by default, for rented workers of one slot
SPEC = replace(scale_spec(Config()), max_gpus=8, slots=1, boot_seconds=180.0)


def make_scale(**changes: Any) -> ScaleSpec:
    return replace(SPEC, **{"tokens_per_answer": float(TOKENS), **changes})


def make_worker(id: str = "w", **changes: Any) -> ScaledWorker:
    values = {"ready": True, "price": 0.4, "started": NOW - 7200, "tokens_per_s": SPEED}
    return ScaledWorker(id=id, **{**values, **changes})


def make_workers(count: int, first: str = "w", **changes: Any) -> tuple[ScaledWorker, ...]:
    return tuple(make_worker(f"{first}{number}", **changes) for number in range(count))


def in_flight(questions: Mapping[str, int]) -> dict[str, WorkerTraffic]:
    return {worker: WorkerTraffic(in_flight=count) for worker, count in questions.items()}


def judge(
    load: float | Rate | Counts,
    workers: Iterable[ScaledWorker] | int = 1,
    now: float = NOW,
    *,
    spec: ScaleSpec | None = None,
    traffic: Mapping[str, Any] | None = None,
    history: Mapping[str, Any] | None = None,
    **fleet: Any,
) -> ScaleDecision:
    """The decision on a fleet under a load. `traffic` and `history` change what is known of it."""
    staff = make_workers(workers) if isinstance(workers, int) else tuple(workers)
    known = Metrics(make_traffic(load, now, **(traffic or {})), **(history or {}))
    return decide(spec or make_scale(), known, FleetView(staff, **{"price": 0.4, **fleet}), now)


@dataclass
class LivingFleet:
    """A fleet that a cron job scales every `every` seconds. Workers take `boot` seconds to their first
    answer; one that drains is gone at the next step; what is asked too much waits.
    """

    spec: ScaleSpec
    counts: Counts
    every: float = 300.0
    boot: float = 180.0
    price: float = 0.4
    funds: Callable[[LivingFleet], Funds] | None = None
    now: float = NOW
    workers: list[ScaledWorker] = field(default_factory=list)
    waiting: float = 0.0  # questions
    sizes: list[int] = field(default_factory=list)
    spent: float = 0.0  # USD
    bought: int = 0

    def run(self, until: float) -> LivingFleet:
        while self.now < until:
            self._judge()
            self._wait()
        return self

    def _judge(self) -> None:
        self.workers = [self._aged(worker) for worker in self.workers if not worker.draining]
        ready = [worker.id for worker in self.workers if worker.ready]
        share = self.waiting / len(ready) + self.spec.slots if ready and self.waiting >= 1 else 0
        traffic = make_traffic(
            self.counts, self.now, since=min(self.counts), workers=in_flight(dict.fromkeys(ready, int(share)))
        )
        view = FleetView(
            tuple(self.workers), price=self.price, funds=None if self.funds is None else self.funds(self)
        )
        decision = decide(self.spec, Metrics(traffic, boot_seconds=self.boot), view, self.now)
        self.sizes.append(decision.after)
        self._apply(decision)

    def _aged(self, worker: ScaledWorker) -> ScaledWorker:
        ready = self.now - worker.started >= self.boot
        return replace(worker, ready=ready, tokens_per_s=SPEED if ready else None)

    def _apply(self, decision: ScaleDecision) -> None:
        self.workers = [replace(w, draining=w.id in decision.drain) for w in self.workers]
        for _ in range(decision.buy):
            self.bought += 1
            self.workers.append(
                ScaledWorker(f"n{self.bought}", ready=False, price=self.price, started=self.now)
            )

    def _wait(self) -> None:
        """Until the next step: what was asked is worked on by whoever is ready."""
        end = self.now + self.every
        self.spent += sum(worker.price for worker in self.workers) * self.every / 3600
        for bucket in range(int(self.now) // BUCKET * BUCKET, int(end) // BUCKET * BUCKET, BUCKET):
            ready = sum(bucket - w.started >= self.boot and not w.draining for w in self.workers)
            done = ready * SPEED * BUCKET / TOKENS
            self.waiting = max(0.0, self.waiting + self.counts.get(bucket, 0) - done)
        self.now = end
