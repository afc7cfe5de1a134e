"""What is wrong with this set-up, and how to mend it.

A look is one thing to look at; what it raises on purpose is a finding too. Looking starts nothing, stops
nothing and fetches nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhost.engines.engine import Engine
from llmhost.engines.worker_report import Metrics, WorkerReport
from llmhost.errors import LlmhostError
from llmhost.fleet.budget import Limits, Projection, Spent, projections, runway_hours
from llmhost.fleet.models import Account, Intent, Market, Worker, WorkerState

__all__ = [
    "Check",
    "Look",
    "check_account",
    "check_budget",
    "check_costs",
    "check_machine",
    "check_memory",
    "check_offers",
    "check_orphans",
    "check_redis",
    "check_rented",
    "check_report",
    "check_server",
    "check_state",
    "examine",
    "failed",
    "fine",
    "wrong",
]

#: seconds for one look; hashing a large model file from a slow disk takes a part of it
_PATIENCE = 60.0

#: bytes; a full cache, its append-only file and the logs of some workers
_LOW_DISK = 2 * 1024**3
_GIB = 1024**3
_MIB = 1024**2

_SPILLED_HINT = "take a smaller `engine.model`, a lower `engine.slots`, or a larger GPU"

_OLDEST_REDIS = (6, 2)
_POLICY_HINT = "set its `maxmemory-policy` to volatile-lru"
_SAVE_STATES = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding, in a sentence. `fix` says what to do where it is not `ok`."""

    name: str
    ok: bool
    detail: str
    fix: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """Something to look at. `find` may raise LlmhostError, which counts as one failed check called `name`."""

    name: str
    find: Callable[[], Awaitable[Sequence[Check]]]


def fine(name: str, detail: str) -> Check:
    return Check(name, ok=True, detail=detail, fix=None)


def wrong(name: str, detail: str, fix: str | None) -> Check:
    return Check(name, ok=False, detail=detail, fix=fix)


def failed(name: str, error: LlmhostError) -> Check:
    """The check that an error amounts to."""
    return wrong(name, error.message, error.hint)


async def examine(looks: Sequence[Look], patience: float = _PATIENCE) -> Sequence[Check]:
    """Looks at everything at once; the checks come in the order of the looks.

    A look that takes longer than `patience` seconds counts as failed. An error that several looks meet,
    such as a missing key, is told once.
    """
    outcomes = await asyncio.gather(*(_look(look, patience) for look in looks))
    checks: list[Check] = []
    told: set[str] = set()
    for look, outcome in zip(looks, outcomes, strict=True):
        if not isinstance(outcome, LlmhostError):
            checks += outcome
        elif outcome.message not in told:
            told.add(outcome.message)
            checks.append(failed(look.name, outcome))
    return checks


async def _look(look: Look, patience: float) -> Sequence[Check] | LlmhostError:
    try:
        async with asyncio.timeout(patience):
            return await look.find()
    except LlmhostError as error:
        return error
    except TimeoutError:
        return [wrong(look.name, f"no answer within {patience:g} s", "see whether it hangs")]


def check_state(folder: Path) -> Check:
    """Whether the state folder, which is there and can be written, has room."""
    free = shutil.disk_usage(folder).free
    detail = f"{folder}, {free / _GIB:.1f} GiB free"
    if free < _LOW_DISK:
        return wrong(
            "state", detail, "free some disk space, or set LLMHOST_STATE_DIR to a folder on another disk"
        )
    return fine("state", detail)


def check_machine() -> Check:
    """What local workers have to share. Never wrong: how much they need is not known."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    return fine(
        "machine",
        f"{cores} {'core' if cores == 1 else 'cores'}, {memory.available / _GIB:.1f} of"
        f" {memory.total / _GIB:.1f} GiB of memory free",
    )


async def check_server(name: str, engine: Engine, model: str) -> Check:
    """Whether a server answers and has the model. Raises EngineUnavailable, EngineRefused."""
    version = await engine.version()
    answers = f"answers (version {version})" if version else "answers"
    status = await engine.model_status(model)
    if not status.present:
        return wrong(
            name,
            f"{answers}, but has no model {model}",
            "`llmhost up` fetches it, where the server can fetch models",
        )
    if status.spilled:
        return wrong(name, f"{answers}; {model} {status.detail}", _SPILLED_HINT)
    if status.loaded is False:
        return fine(name, f"{answers}; {model} is there and will be loaded with the first question")
    return fine(name, f"{answers}; {model} is {'loaded' if status.loaded else 'there'}")


def check_redis(info: Mapping[str, Any]) -> Sequence[Check]:
    """What a Redis says of itself in INFO: version, role, eviction, persistence."""
    return [_version(info), *_role(info), _eviction(info), _persistence(info)]


def _version(info: Mapping[str, Any]) -> Check:
    version = str(info.get("redis_version", "unknown"))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers and numbers < _OLDEST_REDIS:
        return wrong("redis", f"answers, version {version}", "llmhost needs Redis 6.2 or later")
    return fine("redis", f"answers, version {version}")


def _role(info: Mapping[str, Any]) -> Sequence[Check]:
    if info.get("role") == "slave" and info.get("slave_read_only", 1):
        fix = "this is a replica: give the address of the primary"
        return [wrong("redis role", "read-only: takes no answers and counts nothing", fix)]
    return []


def _eviction(info: Mapping[str, Any]) -> Check:
    """Cache keys have a lifetime; the ledger, the workers and the locks must outlive a full memory. So only
    keys with a lifetime may make room, and they must, or a full Redis takes no more answers."""
    policy, limit = str(info.get("maxmemory_policy", "unknown")), int(info.get("maxmemory", 0))
    detail = f"{policy}, {f'at most {limit / _MIB:,.0f} MiB' if limit else 'no limit of memory'}"
    if policy.startswith("allkeys"):
        return wrong(
            "redis eviction", f"{detail}: may throw away the ledger and the list of workers", _POLICY_HINT
        )
    if limit and policy == "noeviction":
        return wrong("redis eviction", f"{detail}: takes no new answers when it is full", _POLICY_HINT)
    return fine("redis eviction", detail)


def _persistence(info: Mapping[str, Any]) -> Check:
    broken = [state for state in _SAVE_STATES if info.get(state, "ok") != "ok"]
    if broken:
        fix = "free some disk space where Redis runs, and read its log"
        return wrong("redis persistence", f"saving fails: {broken[0]} is {info[broken[0]]}", fix)
    if info.get("aof_enabled"):
        return fine("redis persistence", "append-only file")
    return fine("redis persistence", "snapshots at most: a crash loses what came after the last one")


# What is wrong with a rented fleet, and how to mend it. Pure: everything is an argument, `now` included.


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
            "take a smaller `engine.model`, a lower `engine.slots`, or a larger GPU in `vast.offers`",
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
