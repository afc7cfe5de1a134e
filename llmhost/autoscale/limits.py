"""What stands between the workers that are wanted and those that there may be: money, and bad luck. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from llmhost.autoscale.models import Blocked, ScaledWorker
from llmhost.errors import LimitError
from llmhost.fleet.budget import check, fits
from llmhost.fleet.quote import Funds

__all__ = ["FAILURES_COUNT", "affordable", "solvent", "tired"]

#: seconds; a purchase that failed longer ago says nothing about the next one
FAILURES_COUNT = 3600.0


def solvent(
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
        "budget", message, "raise `fleet.budget`, or let the fleet rest until it allows more"
    )


def affordable(
    count: int, burn: float, price: float, funds: Funds | None, now: float
) -> tuple[int, Blocked | None]:
    """How many of `count` may be bought, each for `price`, beside a fleet that costs `burn` USD an hour."""
    if funds is None:
        return count, None
    for bought in range(count):
        try:
            check(funds.limits, funds.spent, burn + bought * price, price, now, funds.credit)
        except LimitError as error:
            return bought, Blocked("budget", error.message, error.hint)
    return count, None


def tired(failures: Sequence[float], most: int, now: float) -> Blocked | None:
    """Whether so many purchases came to nothing lately that none is tried any more. Unix seconds."""
    recent = sorted(at for at in failures if 0 <= now - at < FAILURES_COUNT)
    if len(recent) < most:
        return None
    # Once this one is forgotten, fewer than `most` are left.
    until = datetime.fromtimestamp(recent[-most] + FAILURES_COUNT, UTC)
    count = len(recent)
    message = (
        f"{count} purchases came to nothing within an hour, so nothing is bought until {until:%H:%M} UTC"
    )
    return Blocked("failures", message, "`llmhost scale --history` shows what went wrong")


def _arithmetic(funds: Funds, burn: float, price: float, now: float) -> str:
    try:
        check(funds.limits, funds.spent, burn, price, now)
    except LimitError as error:
        return f": {error.message}"
    return ""
