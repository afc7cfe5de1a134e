"""What is wrong with a rented fleet, and how to mend it. Pure: everything is an argument, `now` included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from llmhost.doctor.checks import Check, fine, wrong
from llmhost.engines.worker_report import Metrics, WorkerReport
from llmhost.fleet.budget import Limits, Projection, Spent, projections, runway_hours
from llmhost.fleet.models import Account, Intent, Market, Worker, WorkerState

__all__ = [
    "check_account",
    "check_budget",
    "check_costs",
    "check_memory",
    "check_offers",
    "check_orphans",
    "check_rented",
    "check_report",
]

#: hours; time to notice and to pay, over a night
_LOW_RUNWAY = 24.0

#: seconds; at 100 Mbit/s, the least of the default filter, the paper's model takes 9 minutes
_SLOW_PULL = 900.0

#: terms of the filter that are named; the others turn fewer away
_TERMS = 3

_PERIODS = {"hour": "this hour", "day": "today", "month": "this month"}

_STUCK = "`llmhost up` waits for it as long as anything moves, else replaces it; `llmhost logs` says more"

_DAY = 24  #: hours
_MONTH = 730  #: hours; a twelfth of a year, as vendors count it
_GIB = 1024**3


def check_account(account: Account | None, workers: Iterable[Worker]) -> Check:
    """Whether there is credit, and for how long. That there is an answer means that the key is good."""
    if account is None:
        return fine("account", "nothing has to be paid")
    rate = _rate(workers)
    runway = runway_hours(account.credit, rate)
    detail = f"the key is accepted; {_usd(account.credit)} of credit"
    if runway is not None:
        detail += f", {runway:,.1f} h at {_usd(rate)} an hour"
    if account.credit <= 0:
        return wrong("account", detail, "add credit on vast.ai: without it, nothing can be rented")
    if runway is not None and runway < _LOW_RUNWAY:
        return wrong("account", detail, "add credit on vast.ai: when it is used up, the workers are stopped")
    return fine("account", detail)


def check_offers(market: Market, missing: int) -> Check:
    """Whether `missing` more workers could be rented now; where not, what turns offers away."""
    count = len(market.offers)
    detail = f"{count} {'fits' if count == 1 else 'fit'} now"
    if count:
        detail += f", from {_usd(min(offer.price_per_hour for offer in market.offers))} an hour"
    turned_away = _turned_away(market.rejected)
    if count < missing:
        return wrong(
            "offers",
            f"{detail}, {missing} wanted{turned_away}",
            "relax what turns most away in `vast.offers`, or raise `vast.max_price`; "
            "`llmhost offers` shows what there is",
        )
    return fine("offers", detail + ("" if count else turned_away))


def _turned_away(rejected: Mapping[str, int]) -> str:
    most = sorted(rejected.items(), key=lambda item: -item[1])[:_TERMS]
    named = ", ".join(f"{count:,} by {reason}" for reason, count in most if count)
    return f"; turned away: {named}" if named else ""


def check_rented(worker: Worker, patience: float, now: float) -> Check:
    """A worker that cannot be asked: it failed, or is on its way, or is stuck: for `patience` seconds."""
    name, detail = _name(worker), worker.detail or "no reason given"
    if worker.state is WorkerState.FAILED:
        return wrong(
            name, detail, f"`llmhost up` replaces it; until then it costs {_usd(worker.burn)} an hour"
        )
    stage = worker.stage or "starting"
    said = f": {worker.detail}" if worker.detail else ""
    if now - worker.started > patience:
        return wrong(name, f"{stage} for {_minutes(now - worker.started)} already{said}", _STUCK)
    return fine(name, stage + said)


def check_report(worker: Worker, report: WorkerReport, patience: float, now: float) -> Check:
    """How far a worker is by its own word, before it is ready."""
    name, age = _name(worker), now - worker.started
    said = report.stage if report.fraction is None else f"{report.stage} {report.fraction:.0%}"
    said += f": {report.detail}" if report.detail else ""
    if report.stage == "failed":
        return wrong(name, said, "`llmhost up` replaces it; `llmhost logs` says more")
    if report.stage == "pulling" and age > _SLOW_PULL:
        return wrong(
            name,
            f"{said}, {_minutes(age)} after it was rented",
            "wait, take a smaller `engine.model`, or a faster line: `inet_down>=500` in `vast.offers`",
        )
    if report.stage != "ready" and age > patience:
        return wrong(name, f"{said}, {_minutes(age)} after it was rented", _STUCK)
    return fine(name, said)


def check_memory(worker: Worker, metrics: Metrics) -> Sequence[Check]:
    """A model that does not fit on the GPU, so that the CPU slows every answer down; else nothing."""
    return [
        wrong(
            _name(worker),
            f"{_gib(model.size - model.size_vram)} of the {_gib(model.size)} GiB of {model.name} do not fit "
            "on the GPU: the CPU works on them, slowly",
            "take a smaller `engine.model`, a lower `engine.parallel`, or a larger GPU in `vast.offers`",
        )
        for model in metrics.spilled
    ]


def check_budget(limits: Limits, spent: Spent, workers: Iterable[Worker], now: float) -> Check:
    """Whether spending is limited, and whether the limits hold if everything goes on as it is, in this
    period and in the next."""
    if not limits.any:
        return wrong(
            "budget",
            "there is no limit to what this fleet may cost",
            "set `fleet.budget.per_day`, such as 50, and `fleet.budget.per_hour`",
        )
    rows = projections(limits, spent, _rate(workers), now)
    broken = [row for row in rows if row.breaks or row.breaks_later]
    if broken:
        return wrong(
            "budget",
            "; ".join(map(_excess, broken)),
            "take workers down with `llmhost down WORKER`; "
            f"`fleet.budget.{broken[0].name}` keeps llmhost from buying more, not what runs from running on",
        )
    within = (f"{_usd(row.projected)} of {_usd(row.limit)} {_PERIODS[row.period]}" for row in rows)
    return fine("budget", f"if nothing changes: {', '.join(within)}")


def _excess(row: Projection) -> str:
    """How the limit breaks: in this period, or, at the latest, in the next one."""
    if row.breaks_now:
        return (
            f"{row.name}: {_usd(row.spent)} spent {_PERIODS[row.period]} + {_usd(row.burn)} x "
            f"{row.hours:.3g} h = {_usd(row.projected)}, over the limit of {_usd(row.limit)}"
        )
    return (
        f"{row.name}: a whole {row.period} at {_usd(row.burn)} an hour costs {_usd(row.whole)}, "
        f"over the limit of {_usd(row.limit)}"
    )


def check_costs(workers: Sequence[Worker], *, interruptible: bool) -> Check:
    """What the workers cost, in words. Never wrong: whether it is worth that is not known here."""
    if not workers:
        return fine("costs", "nothing is rented")
    rate = _rate(workers)
    detail = (
        f"{len(workers)} {'worker costs' if len(workers) == 1 else 'workers cost'} {_usd(rate)} an hour, "
        f"{_usd(rate * _DAY)} a day, {_usd(rate * _MONTH)} a month"
    )
    return fine("costs", detail if interruptible else f"{detail}; `vast.interruptible` bids for less")


def check_orphans(
    workers: Iterable[Worker], known: frozenset[str] | None, intents: Sequence[Intent]
) -> Check:
    """What may be paid for without being used. `known` are the ids on record; None where nobody can tell."""
    unknown = [worker for worker in workers if known is not None and worker.id not in known]
    found = []
    if unknown:
        names = ", ".join(worker.id for worker in unknown)
        found.append(f"{names}: rented for this fleet and not on record, {_usd(_rate(unknown))} an hour")
    if intents:
        number = len(intents)
        found.append(
            f"{number} {'purchase' if number == 1 else 'purchases'} begun of which vast.ai lists no instance"
        )
    if found:
        take_over = "`llmhost up` takes over what was rented, " if unknown else ""
        return wrong("orphans", "; ".join(found), f"{take_over}`llmhost down --orphans` clears up")
    return fine("orphans", "none" if known is not None else "not known without Redis")


def _name(worker: Worker) -> str:
    return f"worker {worker.id}"


def _rate(workers: Iterable[Worker]) -> float:
    return sum(worker.rate for worker in workers)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min"


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f}"


def _usd(amount: float) -> str:
    return f"{'-' if round(amount, 2) < 0 else ''}${abs(amount):,.2f}"
