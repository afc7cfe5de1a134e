"""Whether one more worker may be bought: spending limits by the clock hour, day and month, in UTC. Pure.

What `check` approves keeps its promise for the periods that are running: if the fleet is left as it is
then, or shrinks, this hour, this day and this month end within their limits. What is bought later in
them is checked again, so that holds for every period in which something is bought.

Over a period's end it promises this:

* No later hour costs more than `per_hour` either, because the whole fleet must cost no more than that.
* A later day in which nothing is bought costs what the fleet costs, which may be over `per_day`: four
  workers bought at 11 p.m. cost one hour of this day and all of the next. `Projection.whole` says so
  beforehand. A `per_hour` of at most a 24th of `per_day` rules it out; the same goes for months.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from llmhost.errors import LimitError

__all__ = ["Limits", "Projection", "Spent", "check", "fits", "period_starts", "projections", "runway_hours"]

_HOUR = 3_600.0
_DAY = 86_400.0

#: of a limit; what is over it by less is a rounding error: three times 0.4 is more than 1.2 to a computer
_ROUNDING = 1e-9

#: of a limit; a fleet that was bought within its budget is not ended because a bill is off by so little
_TOLERANCE = 0.01

#: hours that the credit must last, or the fleet is stopped before it has done anything
_LEAST_RUNWAY = 1.0

_UNTIL = {"hour": "until the hour ends", "day": "until midnight UTC", "month": "until the month ends, UTC"}
_SINCE = {"hour": "this hour", "day": "today", "month": "this month"}


@dataclass(frozen=True, slots=True)
class Limits:
    """USD for each clock hour, day and calendar month, UTC; None is no limit.

    Raises:
        ValueError: one is negative or not finite.
    """

    per_hour: float | None = None
    per_day: float | None = None
    per_month: float | None = None

    def __post_init__(self) -> None:
        limits = {"per_hour": self.per_hour, "per_day": self.per_day, "per_month": self.per_month}
        _check_numbers(**{name: limit for name, limit in limits.items() if limit is not None})

    @property
    def any(self) -> bool:
        return any(limit is not None for limit in (self.per_hour, self.per_day, self.per_month))


@dataclass(frozen=True, slots=True)
class Spent:
    """USD since the start of the current hour, day and month, UTC.

    Raises:
        ValueError: one is negative or not finite.
    """

    hour: float = 0.0
    day: float = 0.0
    month: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers(hour=self.hour, day=self.day, month=self.month)


@dataclass(frozen=True, slots=True)
class Projection:
    """What one limited period will have cost at its end, if the fleet burns `burn` USD an hour until then.

    `period` is hour, day or month. `hours` are left of it. `whole` is what all of the next one would cost.
    `traffic` is what the downloads of a purchase cost beside, once.
    """

    period: str
    limit: float
    spent: float
    burn: float
    hours: float
    whole: float
    traffic: float = 0.0

    @property
    def name(self) -> str:
        """Its key in the configuration, below `fleet.budget`."""
        return f"per_{self.period}"

    @property
    def projected(self) -> float:
        return self.spent + self.traffic + self.burn * self.hours

    @property
    def breaks_now(self) -> bool:
        """Whether the limit breaks in this period."""
        return _is_over(self.projected, self.limit)

    @property
    def breaks(self) -> bool:
        """Whether the limit breaks in this period, or an hour's limit in the next hour, which is near."""
        return self.breaks_now or (self.period == "hour" and self.breaks_later)

    @property
    def breaks_later(self) -> bool:
        """Whether the limit would break in the next period, if nothing is taken down before."""
        return _is_over(self.whole, self.limit)


def period_starts(now: float) -> tuple[float, float, float]:
    """When the hour, the day and the month (UTC) began that `now` is in. Unix seconds."""
    hour, day, month = _bounds(now)
    return hour[0], day[0], month[0]


def projections(limits: Limits, spent: Spent, burn: float, now: float) -> tuple[Projection, ...]:
    """A row for each limit that is set: how the period that `now` is in ends at `burn` USD an hour.

    Raises:
        ValueError: a number is negative or not finite.
    """
    _check_numbers(burn=burn, now=now)
    return tuple(_rows(limits, spent, burn, now))


def check(
    limits: Limits,
    spent: Spent,
    burn: float,
    price: float,
    now: float,
    credit: float | None = None,
    traffic: float = 0.0,
) -> None:
    """Approves one more worker of `price` USD an hour beside a fleet that costs `burn` USD an hour.

    `traffic` is what its downloads are expected to cost beside, once, USD. `credit` is what the account has
    left, USD; it may be in debt. `now` is Unix seconds.

    Raises:
        LimitError: a limit would break in the period that `now` is in, or the whole fleet would cost more
            than `per_hour`, or the credit would not last for an hour. The message shows the arithmetic.
        ValueError: a number is negative or not finite.
    """
    _check_numbers(burn=burn, price=price, traffic=traffic)
    after = burn + price
    rows = (replace(row, traffic=traffic) for row in projections(limits, spent, after, now))
    broken = [row for row in rows if row.breaks]
    if broken:
        raise _refusal(max(broken, key=_excess))
    runway = runway_hours(None if credit is None else credit - traffic, after)
    if runway is not None and runway < _LEAST_RUNWAY:
        left = f"{_usd(credit or 0.0)}{_less(traffic)}"
        raise LimitError(
            f"the account's credit of {left} would last {runway:.2f} h at {_rate(after)}, "
            f"less than {_LEAST_RUNWAY:g} h",
            hint="add credit to the account, or ask for fewer or cheaper workers",
        )


def fits(limits: Limits, spent: Spent, burn: float, now: float) -> bool:
    """Whether a fleet that costs `burn` USD an hour may stay as it is. Nothing at all always may.

    Raises:
        ValueError: a number is negative or not finite.
    """
    if not burn:
        return True
    rows = projections(limits, spent, burn, now)
    return not any(replace(row, limit=row.limit * (1 + _TOLERANCE)).breaks for row in rows)


def runway_hours(credit: float | None, burn: float) -> float | None:
    """How long `credit` lasts at `burn` USD an hour; None where it is not known, or nothing burns.

    Raises:
        ValueError: `burn` is negative, or a number is not finite.
    """
    _check_numbers(burn=burn)
    if credit is None:
        return None
    if not math.isfinite(credit):
        raise ValueError(f"credit cannot be {credit}")
    return max(0.0, credit / burn) if burn else None


def _bounds(now: float) -> tuple[tuple[float, float], ...]:
    """Start and end of the hour, the day and the month."""
    _check_numbers(now=now)
    hour, day = now - now % _HOUR, now - now % _DAY
    first = datetime.fromtimestamp(day, UTC).replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return (hour, hour + _HOUR), (day, day + _DAY), (first.timestamp(), following.timestamp())


def _rows(limits: Limits, spent: Spent, burn: float, now: float) -> Iterator[Projection]:
    for period, (start, end) in zip(("hour", "day", "month"), _bounds(now), strict=True):
        limit: float | None = getattr(limits, f"per_{period}")
        if limit is None:
            continue
        so_far: float = getattr(spent, period)
        following = _length(period, start, end)
        yield Projection(period, limit, so_far, burn, (end - now) / _HOUR, burn * following / _HOUR)


def _length(period: str, start: float, end: float) -> float:
    """Seconds of the next period: months differ."""
    if period != "month":
        return end - start
    _, _, (first, last) = _bounds(end)
    return last - first


def _check_numbers(**numbers: float) -> None:
    for name, value in numbers.items():
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} cannot be {value}")


def _is_over(amount: float, limit: float) -> bool:
    return amount > limit * (1 + _ROUNDING)


def _excess(row: Projection) -> float:
    """By how much the limit breaks, as a multiple of it."""
    worst = max(row.projected, row.whole) if row.period == "hour" else row.projected
    return worst / row.limit if row.limit else math.inf


def _refusal(row: Projection) -> LimitError:
    of_what = f"of fleet.budget.{row.name}"
    if row.breaks_now:
        total, limit = _apart(row.projected, row.limit)
        so_far = f"{_usd(row.spent)} spent {_SINCE[row.period]}{_plus(row.traffic)}"
        message = (
            f"{row.name}: {so_far} + {_rate(row.burn)} x "
            f"{row.hours:.4g} h {_UNTIL[row.period]} = {total}, over the {limit} {of_what}"
        )
    else:
        total, limit = _apart(row.burn, row.limit)
        message = (
            f"{row.name}: with one more worker the fleet costs {total} an hour, over the {limit} {of_what}"
        )
    return LimitError(
        message, hint=f"raise fleet.budget.{row.name}, ask for fewer or cheaper workers, or take some down"
    )


def _plus(traffic: float) -> str:
    return f" + {_usd(traffic)} for traffic" if traffic else ""


def _less(traffic: float) -> str:
    return f", less {_usd(traffic)} for traffic," if traffic else ""


def _apart(one: float, other: float) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart."""
    for digits in (2, 3, 4, 6):
        if _usd(one, digits) != _usd(other, digits):
            break
    return _usd(one, digits), _usd(other, digits)


def _usd(amount: float, digits: int = 2) -> str:
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{digits}f}"


def _rate(usd: float) -> str:
    return f"{_usd(usd, 3).removesuffix('0')}/h"
