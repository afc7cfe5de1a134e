"""What the page at `/` shows of a fleet: what there is of it, what happened, and what it cost.

Everything is read from the records in Redis, whose size does not depend on how much was asked. No worker is
asked and no provider: the page looks again every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from llmhost.autoscale.state import ScaleStateStore
from llmhost.cache.calibration import LabelsReport, calibrate, served_error
from llmhost.cache.models import Asker
from llmhost.cache.policy import shifted
from llmhost.config.models import Config
from llmhost.errors import LlmhostError
from llmhost.fleet.models import Worker
from llmhost.fleet.registry import FleetRegistry
from llmhost.fleet.spending import tally
from llmhost.ledger.buckets import DAY, HOUR, MINUTE, Period, stretches
from llmhost.ledger.cost import corrected, spent
from llmhost.ledger.ledger import Ledger
from llmhost.ledger.rentals import Rental
from llmhost.ledger.report import Targets, make_point, make_report
from llmhost.trust.review import Review

__all__ = ["PERIODS", "FleetFigures"]

#: decisions of the autoscaler that are shown
_DECISIONS = 10
#: semantic hits that are shown
_HITS = 50
#: characters of an answer that are shown beside the two questions
_ANSWER_SHOWN = 600

#: what may be looked at: the ledger's period, how many of them make one point, and how many points
PERIODS: Mapping[str, tuple[Period, int, int]] = {
    "1h": (MINUTE, 2, 30),
    "24h": (HOUR, 1, 24),
    "7d": (HOUR, 6, 28),
    "30d": (DAY, 1, 30),
}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFigures:
    """The figures of one fleet. `registry` raises StateError; `reachable` are the workers that may be asked,
    as far as is known without Redis, and raises LlmhostError.
    """

    config: Config
    ledger: Ledger
    registry: Callable[[], FleetRegistry]
    reachable: Callable[[], Awaitable[Sequence[Worker]]]
    scale: ScaleStateStore
    review: Review
    targets: Targets
    clock: Callable[[], float] = time.time

    async def overview(self, period: str) -> dict[str, Any]:
        """All but the hits. What cannot be read is None, and `problems` says why."""
        now, problems = self.clock(), _Problems()
        rentals = await problems.unless(self._rentals(now))
        figures = None
        if rentals is not None:
            figures = await problems.unless(self._figures(period, rentals, now))
        workers = await problems.unless(self._workers())
        if workers is None:
            workers = await problems.unless(self.reachable())
        paused = await problems.unless(self._paused_since())
        labels = await problems.unless(self.review.labels.report())
        decisions = await problems.unless(self.scale.history(_DECISIONS))
        return {
            "now": now,
            "period": period,
            "workers": None if workers is None else [_worker(one, rentals or (), now) for one in workers],
            "hourly_cost_usd": None if workers is None else sum(worker.rate for worker in workers),
            "spent_estimated": self.config.fleet.rents,
            "paused_since": paused,
            "figures": figures,
            "served_error": None if labels is None else self._served_error(labels),
            "decisions": None if decisions is None else [step.summary() for step in reversed(decisions)],
            "problems": problems.found,
        }

    async def hits(self, asker: Asker) -> dict[str, Any]:
        """The newest semantic hits of an asker, newest first, one for each entry. Raises StoreError."""
        served = await self.review.recent(asker, _HITS)
        shift = calibrate(await self.review.labels.report()).shift
        return {
            "learns": self.config.cache.policy == "verified",
            "hits": [
                {
                    "entry": hit.entry.entry,
                    "at": hit.at,
                    "asked": hit.asked,
                    "stored": hit.entry.question,
                    "answer": None if hit.entry.answer is None else hit.entry.answer.text[:_ANSWER_SHOWN],
                    "hit_count": hit.entry.hit_count,
                    "confidence": None if hit.raw is None else shifted(hit.raw, shift),
                    "doubts": hit.doubts,
                }
                for hit in served
            ],
        }

    async def _rentals(self, now: float) -> Sequence[Rental]:
        """At what they cost by the provider's bill, where there is one."""
        rentals = await self.ledger.rentals()
        by_worker = tally(rentals, await self.ledger.charges(), None, now).by_worker
        return corrected(rentals, by_worker, now)

    async def _workers(self) -> Sequence[Worker]:
        return (await self.registry().workers()).workers

    async def _paused_since(self) -> float | None:
        pauses = await self.registry().pauses.read()
        return min(pauses.values()) if pauses else None

    async def _figures(self, period: str, rentals: Sequence[Rental], now: float) -> dict[str, Any]:
        parts = stretches(*PERIODS[period], now)
        series = await self.ledger.series(parts)
        since = float(parts[0][0].start)
        totals = await self.ledger.totals(since, now)
        report = make_report(totals, rentals, self.targets, since, now)
        return {
            "since": since,
            "requests": report.requests,
            "exact": report.exact_hits,
            "semantic": report.semantic_hits,
            "misses": report.misses,
            "bypassed": report.bypassed,
            "errors": report.errors,
            "hit_ratio": report.hit_ratio,
            "hit_ms": asdict(report.hit_user_ms),
            "miss_ms": asdict(report.miss_user_ms),
            "cost": asdict(report.money),
            "targets": [asdict(target) for target in report.targets],
            "series": [
                asdict(make_point(part, sums, rentals, now)) for part, sums in zip(parts, series, strict=True)
            ],
        }

    def _served_error(self, labels: LabelsReport) -> dict[str, Any]:
        audited = served_error(labels.total("audit"))
        operators = labels.total("forget")
        return {
            **asdict(audited),
            "max_error": self.config.cache.max_error,
            "raised": labels.raised,
            "audit_share": self.config.cache.audit_share,
            "operator": {"same": operators.right, "other": operators.wrong},
        }


class _Problems:
    """Why parts of the page are missing, each reason once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    async def unless(self, reading: Awaitable[_T]) -> _T | None:
        """What is read; None where it cannot be."""
        try:
            return await reading
        except LlmhostError as error:
            words = f"{error.message} ({error.hint})" if error.hint else error.message
            if words not in self.found:
                self.found.append(words)
            return None


def _worker(worker: Worker, rentals: Sequence[Rental], now: float) -> dict[str, Any]:
    own = [rental for rental in rentals if rental.worker == worker.id]
    return {
        "id": worker.id,
        "state": worker.state.value,
        "detail": worker.detail or worker.stage,
        "url": worker.url,
        "gpu": worker.gpu,
        "started": worker.started,
        "price_per_hour": worker.price_per_hour,
        "spent_usd": spent(own, 0.0, now) if own else None,
    }
