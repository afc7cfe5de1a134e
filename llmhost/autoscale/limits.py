"""What limits the workers that are needed: money, failed purchases, and metrics that are invalid. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from llmhost.autoscale.models import Blocked, FleetView, Metrics, ScaledWorker
from llmhost.engines.traffic import Traffic
from llmhost.errors import LimitError
from llmhost.fleet.budget import check, fits
from llmhost.fleet.plan import Funds
from llmhost.ledger.rentals import LONGEST_BOOT

__all__ = ["affordable", "find_invalid_metric", "purchase_cooldown", "within_budget"]

#: seconds; a purchase that failed longer ago says nothing about the next one
_FAILURES_COUNT = 3600.0


def within_budget(
    workers: Sequence[ScaledWorker], most: int, funds: Funds | None, now: float
) -> tuple[list[ScaledWorker], Blocked | None]:
    """The first `most` workers that the budget allows to stay, in the order given: a dear one may have to go
    where a cheap one behind it may stay.
    """
    stay: list[ScaledWorker] = []
    refused: list[str] = []
    burn = 0.0
    for worker in workers:
        if len(stay) == most:
            break
        if funds is None or fits(funds.limits, funds.spent, burn + worker.price, now):
            stay.append(worker)
            burn += worker.price
        else:
            refused.append(_arithmetic(funds, burn, worker.price, now))
    if not refused:
        return stay, None
    message = f"the budget allows {len(stay)} of {len(stay) + len(refused)} workers{refused[0]}"
    return stay, Blocked(
        "budget", message, "raise `fleet.budget`, or run `llmhost down` until it allows more"
    )


def affordable(
    count: int, burn: float, price: float, funds: Funds | None, now: float, traffic: float = 0.0
) -> tuple[int, Blocked | None]:
    """How many of `count` may be bought, each for `price`, beside a fleet that costs `burn` USD an hour. Each
    downloads for `traffic` USD.
    """
    if funds is None:
        return count, None
    for bought in range(count):
        try:
            downloads = (bought + 1) * traffic
            check(funds.limits, funds.spent, burn + bought * price, price, now, funds.credit, downloads)
        except LimitError as error:
            return bought, Blocked("budget", error.message, error.hint)
    return count, None


def purchase_cooldown(failures: Sequence[float], most: int, now: float) -> Blocked | None:
    """Why no purchase is tried for now: `most` or more failed within an hour. Unix seconds."""
    recent = sorted(at for at in failures if 0 <= now - at < _FAILURES_COUNT)
    if len(recent) < most:
        return None
    # Once this one is forgotten, fewer than `most` are left.
    until = datetime.fromtimestamp(recent[-most] + _FAILURES_COUNT, UTC)
    # Not how many there are by now: the operator is told once, and the number falls while the hour passes.
    message = f"{most} purchases failed within an hour; no purchases until {until:%H:%M} UTC"
    return Blocked("failures", message, "`llmhost scale history` shows what went wrong")


def _arithmetic(funds: Funds, burn: float, price: float, now: float) -> str:
    try:
        check(funds.limits, funds.spent, burn, price, now)
    except LimitError as error:
        return f": {error.message}"
    return ""


# Invalid metrics: scaling on them would buy or destroy workers for nothing.


#: seconds; counts are read a moment before they are judged
_STALE = 120.0

_MOST = 10**10  #: questions or tokens in one bucket, or at once; more than the world asks
_FASTEST = 10**7  #: tokens a second of one machine
_DEAREST = 10**5  #: USD an hour of one machine
_LATEST = 10**11  #: Unix seconds; the year 5138


def find_invalid_metric(metrics: Metrics, fleet: FleetView, now: float) -> str | None:
    """A sentence on the first number that cannot be, or that is too old; None where all make sense."""
    return next(_invalid(metrics, fleet, now), None)


def _invalid(metrics: Metrics, fleet: FleetView, now: float) -> Iterator[str]:
    yield from _untimely(metrics.traffic, now)
    counts = (("questions", metrics.traffic.asked), ("answers", metrics.traffic.answered))
    for name, by_bucket in (*counts, ("tokens", metrics.traffic.tokens)):
        # There are thousands of them: nothing is put into words before one is wrong.
        for bucket, count in ((b, c) for b, c in by_bucket.items() if not 0 <= c <= _MOST):
            yield from _outside(f"{name} counted at {bucket}", count, _MOST)
    yield from _outside("questions waiting", metrics.traffic.waiting, _MOST)
    for name, worker in metrics.traffic.workers.items():
        yield from _outside(f"questions in flight on {name}", worker.in_flight, _MOST)
    for scaled in fleet.workers:
        if scaled.tokens_per_s is not None:
            yield from _outside(f"tokens per second of {scaled.id}", scaled.tokens_per_s, _FASTEST)
        yield from _outside(f"price of {scaled.id}", scaled.price, _DEAREST)
    yield from _outside("price of one more worker", fleet.price, _DEAREST)
    yield from _outside("traffic of one more worker", fleet.traffic, _DEAREST)
    credit = fleet.funds.credit if fleet.funds else None
    if credit is not None and not math.isfinite(credit):
        yield f"invalid metric: credit of the account: {credit}"
    if metrics.boot_seconds is not None:
        yield from _outside("seconds that a worker takes to boot", metrics.boot_seconds, LONGEST_BOOT)


def _untimely(traffic: Traffic, now: float) -> Iterator[str]:
    yield from _outside("this machine's clock", now, _LATEST)
    yield from _outside("when they were read", traffic.at, _LATEST)
    for moments in ((traffic.since,), traffic.asked, traffic.answered, traffic.tokens):
        furthest = max(map(abs, moments), default=0)
        yield from _outside("seconds from 1970 to a count", furthest, _LATEST)
    age = now - traffic.at
    if age > _STALE:
        yield f"stale metrics: read {age:,.0f} s ago"
    elif age < -_STALE:
        yield f"metrics from the future: {-age:,.0f} s ahead of this machine's clock"


def _outside(name: str, value: float, most: float) -> Iterator[str]:
    if not 0 <= value <= most:  # nor does NaN lie between two numbers
        yield f"invalid metric: {name}: {_shown(value)}"


def _shown(value: float) -> str:
    try:
        return f"{value:,.15g}"
    except OverflowError:  # a whole number may be of any length
        return "a number of hundreds of digits"
