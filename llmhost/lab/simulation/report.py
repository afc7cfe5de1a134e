"""A trace played by llmhost's policy and by its baselines, and what each of them cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from llmhost.autoscale.models import ScaleSpec
from llmhost.fleet.budget import Limits
from llmhost.lab.simulation.baselines import (
    BLOCK,
    Fixed,
    Planned,
    RequestRate,
    clairvoyant_plan,
    first_need,
    for_mean,
    for_peak,
)
from llmhost.lab.simulation.play import Played, Rule, play
from llmhost.lab.simulation.policy import AutoscalePolicy
from llmhost.lab.simulation.workload import IN_TIME, Settings, Trace, Workload, make_workload

__all__ = ["CLAIRVOYANT", "POLICY", "REQUEST_RATE", "Row", "Scenario", "SimulationReport", "simulate"]

POLICY = "llmhost"
CLAIRVOYANT = "clairvoyant"
REQUEST_RATE = "requests per second"

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Row:
    """One fleet. Waits are seconds until an answer began, infinite where it never did; `in_time` is the share
    that began within 5 s. Both are of the questions that the cache did not answer.

    `cost_per_1000` answers counts the cache's too. `utilisation` is the share of the paid time of all
    slots in which they worked. `versus_clairvoyant` is the cost over the clairvoyant fleet's.
    """

    name: str
    cost_usd: float
    cost_per_1000: float
    in_time: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    utilisation: float
    purchases: int
    failed_purchases: int
    mean_size: float
    peak_size: int
    versus_clairvoyant: float
    played: Played = field(repr=False)  # nor printed as JSON


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """`floor_usd` is what the work alone would cost on workers whose slots are always full: no fleet can be
    cheaper. `load` is what was played.
    """

    rows: tuple[Row, ...]
    floor_usd: float
    load: Workload

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


class Scenario:
    """One workload with all that rules have in common: the settings, the limits, the first workers."""

    def __init__(
        self, trace: Trace, settings: Settings, spec: ScaleSpec, limits: Limits | None = None
    ) -> None:
        """Workers are as fast as `settings` says, which `spec` gets; raises UsageError."""
        self.settings, self.limits = settings, limits
        self.spec = replace(
            spec, tokens_per_s=settings.worker_tokens_per_s, boot_seconds=settings.boot_seconds
        )
        self.load = make_workload(trace, settings, spec.slots)
        self.least, self.most = min(spec.min_gpus, spec.max_gpus), spec.max_gpus
        self.start = self._within(first_need(self.load, spec.target_utilization_max))

    @property
    def floor_usd(self) -> float:
        return self.load.work / _HOUR * self.settings.price

    @property
    def target_qps(self) -> float:
        """Questions a second with which a worker has the policy's target utilization."""
        return self.load.slots / float(self.load.service.mean()) * self.spec.target_utilization_max

    def policy(self) -> AutoscalePolicy:
        return AutoscalePolicy(self.spec, self.settings.interval, self.settings.price, self.limits)

    def request_rate(self, target_qps: float | None = None) -> RequestRate:
        return RequestRate(target_qps or self.target_qps, self.start, self.least, self.most)

    def clairvoyant(self) -> Planned:
        return Planned(clairvoyant_plan(self.load, self.settings.boot_seconds, self.least, self.most), BLOCK)

    def for_peak(self) -> Fixed:
        return Fixed(self._within(for_peak(self.load, self.most)), self.settings.interval)

    def for_mean(self) -> Fixed:
        return Fixed(self._within(for_mean(self.load)), self.settings.interval)

    def row(self, name: str, rule: Rule, on_progress: Callable[[float], None] = lambda _: None) -> Row:
        """Plays it. A fixed fleet is there from the beginning. The clairvoyant cost is not known yet."""
        start, load = rule.size if isinstance(rule, Fixed) else self.start, self.load
        outcome = play(load, self.settings, rule, start, on_progress)
        waits = outcome.waits
        answered = np.isfinite(waits)
        cost = outcome.paid / _HOUR * self.settings.price
        answers = int(answered.sum()) + load.hits
        median, p95, p99 = np.percentile(waits, (50, 95, 99), method="inverted_cdf").tolist()
        return Row(
            name=name,
            cost_usd=cost,
            cost_per_1000=cost / answers * 1000 if answers else 0.0,
            in_time=float((waits <= IN_TIME).mean()),
            wait_p50=median,
            wait_p95=p95,
            wait_p99=p99,
            utilisation=_share(float(load.service[answered].sum()), outcome.paid * load.slots),
            purchases=outcome.purchases,
            failed_purchases=outcome.failures,
            mean_size=outcome.paid / load.span,
            peak_size=int(outcome.sizes.max()),
            versus_clairvoyant=0.0,
            played=outcome,
        )

    def _within(self, size: int) -> int:
        return min(self.most, max(self.least, size))


def simulate(
    trace: Trace,
    settings: Settings,
    spec: ScaleSpec,
    on_progress: Callable[[str, float], None] = lambda *_: None,
    *,
    limits: Limits | None = None,
) -> SimulationReport:
    """The policy and its baselines on the same trace, prices and boot time, from the same workers at first.

    `on_progress` gets the row that is being played, and the share of it that is done. `limits` bind only the
    policy: the others know no budget. Raises UsageError where it is too much to simulate, or there is nothing
    to simulate.
    """
    scenario = Scenario(trace, settings, spec, limits)
    contestants: dict[str, Callable[[], Rule]] = {
        POLICY: scenario.policy,
        CLAIRVOYANT: scenario.clairvoyant,
        REQUEST_RATE: scenario.request_rate,
        "fixed at peak": scenario.for_peak,
        "fixed at mean": scenario.for_mean,
    }
    rows = {}
    for name, make in contestants.items():
        on_progress(name, 0.0)
        rows[name] = scenario.row(name, make(), partial(on_progress, name))
    # By what they were paid for, which says the same as money and also holds where workers are free.
    best = rows[CLAIRVOYANT].mean_size
    compared = (replace(row, versus_clairvoyant=_share(row.mean_size, best)) for row in rows.values())
    return SimulationReport(tuple(compared), scenario.floor_usd, scenario.load)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
