"""The rules of `llmhost doctor`: what is wrong with a setup, and how to fix it.

A `check_…` function judges values that it is given and starts nothing; `now` is Unix seconds. `run_checks`
runs the probes that gather these values.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmhost.engines.engine import Engine, ModelStatus
from llmhost.engines.worker_report import Metrics, WorkerReport
from llmhost.errors import EngineUnavailable, LlmhostError
from llmhost.fleet.budget import Limits, Projection, Spent, projections, runway_hours
from llmhost.fleet.health import PROBE_TIMEOUT, ProbeResult
from llmhost.fleet.models import Account, Intent, Market, Worker, WorkerState
from llmhost.store.keys import SLOTS

if TYPE_CHECKING:
    from llmhost.store.cluster import ClusterNode

__all__ = [
    "Check",
    "Probe",
    "check_account",
    "check_budget",
    "check_cluster",
    "check_costs",
    "check_gateway",
    "check_index",
    "check_machine",
    "check_masters",
    "check_memory",
    "check_offers",
    "check_orphans",
    "check_own_gateway",
    "check_pause",
    "check_redis",
    "check_report",
    "check_server",
    "check_starting",
    "check_state",
    "check_switch",
    "fail",
    "from_error",
    "ok",
    "run_checks",
    "server_version",
    "warn",
]

#: seconds for one probe; hashing a large model file from a slow disk takes a part of it
_PROBE_TIMEOUT = 60.0

_GIB, _MIB = 1024**3, 1024**2
#: bytes; a full cache, its append-only file and the logs of some workers
_LOW_DISK = 2 * _GIB
#: the oldest version with all the commands that llmhost uses
_OLDEST_REDIS = (6, 2)
_SAVE_STATES = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
#: hours; enough to notice and to pay, over a night
_LOW_RUNWAY = 24.0
#: seconds; a model of 6 GB takes 4 minutes at 200 Mbit/s, the minimum of the default filter
_SLOW_PULL = 900.0
#: filter terms that are named; the others reject fewer offers
_TERMS = 3
_HOURS_A_DAY, _HOURS_A_MONTH = 24, 730  # a twelfth of a year, as vendors count it

_PERIODS = {"hour": "this hour", "day": "today", "month": "this month"}
_LEVELS = ("ok", "warn", "fail")
_POLICY_FIX = "set its `maxmemory-policy` to volatile-lru"
_INDEX_REASONS = {
    "configured": "as configured",
    "recorded": "on record in Redis",
    "data": "as the entries that are stored",
    "best": "the best that this server has",
    "refused": "since this server does not tell which is on record",
}
_INDEX_RIGHTS = {
    "vector_set": "give the user, with ACL SETUSER: +vadd +vsim +vrem +vemb +vrandmember",
    "query_engine": "give the user, with ACL SETUSER: +ft.create +ft.search +ft.info +ft.dropindex",
}
_REINDEX_FIX = "`llmhost cache reindex` moves the entries to it, while llmhost serves"
_SPILLED_FIX = "use a smaller `engine.model`, fewer `engine.slots`, or a larger GPU"
_STUCK_FIX = "`llmhost up` waits while it makes progress, else replaces it; see `llmhost logs`"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding, in a sentence. `fix` says what to do where the level is not ok.

    What warns works now, and is better changed before it does not: it is `ok` as well.
    """

    name: str
    ok: bool
    detail: str
    fix: str | None
    level: Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Probe:
    """Gathers what some checks need. If `run` raises LlmhostError, that is one failed check called `name`."""

    name: str
    run: Callable[[], Awaitable[Sequence[Check]]]


def ok(name: str, detail: str) -> Check:
    return Check(name, ok=True, detail=detail, fix=None, level="ok")


def warn(name: str, detail: str, fix: str) -> Check:
    return Check(name, ok=True, detail=detail, fix=fix, level="warn")


def fail(name: str, detail: str, fix: str | None) -> Check:
    return Check(name, ok=False, detail=detail, fix=fix, level="fail")


def from_error(name: str, error: LlmhostError) -> Check:
    return fail(name, error.message, error.hint)


async def run_checks(probes: Sequence[Probe], timeout: float = _PROBE_TIMEOUT) -> Sequence[Check]:
    """Runs all probes at once; the checks come in the order of the probes.

    A probe that takes longer than `timeout` seconds fails. An error that several probes meet, such as a
    missing key, is reported once.
    """

    async def run(probe: Probe) -> Sequence[Check] | LlmhostError:
        try:
            async with asyncio.timeout(timeout):
                return await probe.run()
        except LlmhostError as error:
            return error
        except TimeoutError:
            return [fail(probe.name, f"no answer within {timeout:g} s", "check whether it hangs")]

    outcomes = await asyncio.gather(*map(run, probes))
    checks: list[Check] = []
    reported: set[str] = set()
    for probe, outcome in zip(probes, outcomes, strict=True):
        if not isinstance(outcome, LlmhostError):
            checks += outcome
        elif outcome.message not in reported:
            reported.add(outcome.message)
            checks.append(from_error(probe.name, outcome))
    return checks


def check_state(folder: Path) -> Check:
    """Whether the disk of the state folder, which exists and is writable, has room."""
    free = shutil.disk_usage(folder).free
    detail = f"{folder}, {free / _GIB:.1f} GiB free"
    if free < _LOW_DISK:
        return warn("state", detail, "free some disk space, or set LLMHOST_STATE_DIR to a folder elsewhere")
    return ok("state", detail)


def check_machine() -> Check:
    """What local workers have to share. Never fails: how much they need is not known."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    of_memory = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB of memory free"
    return ok("machine", f"{cores} {'core' if cores == 1 else 'cores'}, {of_memory}")


def check_redis(info: Mapping[str, Any]) -> Sequence[Check]:
    """What Redis reports in INFO: version, role, eviction, persistence."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", str(info.get("redis_version")))[:2])
    detail = f"answers, {server_version(info)}"
    old = numbers and numbers < _OLDEST_REDIS
    checks = [fail("redis", detail, "llmhost needs Redis 6.2 or later") if old else ok("redis", detail)]
    if info.get("role") == "slave" and info.get("slave_read_only", 1):
        fix = "set `redis.host` or `redis.url` to the address of the primary"
        checks.append(fail("redis role", "a read-only replica: nothing can be stored", fix))
    return [*checks, _eviction(info), _persistence(info)]


def check_cluster(nodes: Sequence[ClusterNode]) -> Check:
    """Whether all slots of a cluster are served, all its nodes answer, and each master has a replica."""
    masters = [node for node in nodes if node.slots]
    served = sum(node.slots for node in masters if not node.has_failed)
    down = [node.address for node in nodes if node.has_failed]
    followed = {node.master for node in nodes if not node.has_failed}
    alone = [node.address for node in masters if node.id not in followed and not node.has_failed]
    detail = f"{len(masters)} masters, {len(nodes) - len(masters)} other nodes"
    if down:
        detail += f"; {', '.join(down)} {'does' if len(down) == 1 else 'do'} not answer"
    if served < SLOTS:
        lost = f"{detail}; {SLOTS - served:,} of {SLOTS:,} slots are served by no node"
        fix = "start the nodes that are down; a slot that no node has: `redis-cli --cluster fix HOST:PORT`"
        return fail("redis cluster", lost, fix)
    if down:
        return warn("redis cluster", f"{detail}; all slots are served", "start it again, or forget it")
    if alone:
        detail += f"; {', '.join(alone)} {'has' if len(alone) == 1 else 'have'} no replica"
        fix = "add one with `redis-cli --cluster add-node … --cluster-slave`, or what it has is lost with it"
        return warn("redis cluster", detail, fix)
    return ok("redis cluster", f"{detail}, all slots are served")


def check_masters(infos: Mapping[str, Mapping[str, Any]]) -> Sequence[Check]:
    """As `check_redis`, of all masters of a cluster by their addresses: of each check the worst."""
    found: dict[str, Check] = {}
    for address, info in infos.items():
        for check in check_redis(info):
            known = found.setdefault(check.name, check)
            if _LEVELS.index(check.level) > _LEVELS.index(known.level):
                found[check.name] = replace(check, detail=f"{address}: {check.detail}")
    return list(found.values())


def server_version(info: Mapping[str, Any]) -> str:
    """What INFO says: "Redis 8.2.3". A fork names the Redis that it is like, too."""
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', 'of unknown version')}"


def _eviction(info: Mapping[str, Any]) -> Check:
    """Cache keys have a lifetime; the ledger, the workers and the locks must outlive a full memory. So only
    keys with a lifetime may be evicted, and they must be, or a full Redis stores no more answers."""
    policy, limit = str(info.get("maxmemory_policy", "unknown")), int(info.get("maxmemory", 0))
    detail = f"{policy}, {f'at most {limit / _MIB:,.0f} MiB' if limit else 'no memory limit'}"
    if policy.startswith("allkeys"):
        return fail("redis eviction", f"{detail}: may evict the ledger and the list of workers", _POLICY_FIX)
    if limit and policy == "noeviction":
        return fail("redis eviction", f"{detail}: stores no new answers when it is full", _POLICY_FIX)
    return ok("redis eviction", detail)


def _persistence(info: Mapping[str, Any]) -> Check:
    broken = [state for state in _SAVE_STATES if info.get(state, "ok") != "ok"]
    if broken:
        fix = "free some disk space where Redis runs, and read its log"
        return fail("redis persistence", f"saving fails: {broken[0]} is {info[broken[0]]}", fix)
    if info.get("aof_enabled"):
        return ok("redis persistence", "append-only file")
    detail = "no append-only file: a crash loses everything since the last snapshot"
    return warn("redis persistence", detail, "set its `appendonly` to yes")


def check_index(kind: str, reason: str, possible: Sequence[str], forbidden: Sequence[str]) -> Check:
    """The index that the cache uses and why: `reason` as in cache/indexes/choose.py. `possible` is what this
    server lets this user have, best first, `forbidden` what it has besides."""
    detail = f"{kind}, {_INDEX_REASONS[reason]}"
    if kind not in possible:
        lacks = "this user may not use it" if kind in forbidden else "this server does not have it"
        fix = _INDEX_RIGHTS[kind] if kind in forbidden else "set `cache.index: auto`, or use another server"
        return fail("index", f"{detail}, and {lacks}", fix)
    better = [one for one in possible[: possible.index(kind)] if reason != "configured"]
    if better:
        return warn("index", f"{detail}; this server has {better[0]}, which finds faster", _REINDEX_FIX)
    if kind == "flat" and forbidden:
        return warn("index", f"{detail}; {forbidden[0]} finds faster", _INDEX_RIGHTS[forbidden[0]])
    return ok("index", detail)


async def check_server(
    name: str, engine: Engine, model: str, probe: Callable[[], Awaitable[ProbeResult]]
) -> Check:
    """Whether a server has the model, and answers a question: `probe` asks it one, unless that would load the
    model. What else it tells is for the words alone."""
    version, status = "", ModelStatus(present=None, loaded=None)
    with suppress(EngineUnavailable):
        version = await engine.version()
        status = await engine.model_status(model)
    answers = f"answers (version {version})" if version else "answers"
    if status.present is False:
        fix = "`llmhost up` downloads it, if the server can download models"
        return fail(name, f"{answers}, but has no model {model}", fix)
    if status.spilled:
        return fail(name, f"{answers}; {model} {status.detail}", _SPILLED_FIX)
    if status.loaded is False:
        return ok(name, f"{answers}; {model} is available and loads with the first question")
    result = await probe()
    if result.error is not None:
        return from_error(name, result.error)
    if not result.answered:
        detail = f"{answers}, but gave no token within {PROBE_TIMEOUT:g} s: busy, or stuck"
        return fail(name, detail, "look into its log; `llmhost logs` shows that of a worker of llmhost")
    return ok(name, f"{answers}; {model} is {'loaded' if status.loaded else 'available'}")


def check_starting(worker: Worker, timeout: float, now: float) -> Check:
    """A worker that has no address yet, or failed. One that starts for over `timeout` seconds is stuck."""
    name, detail = f"worker {worker.id}", worker.detail or "no reason given"
    if worker.state is WorkerState.FAILED:
        cost = f"; until then it costs {_usd(worker.burn)}/h" if worker.burn else ""
        return fail(name, detail, f"`llmhost up` replaces it{cost}")
    stage = worker.stage or "starting"
    said = f": {worker.detail}" if worker.detail else ""
    if now - worker.started > timeout:
        return fail(name, f"{stage} for {_minutes(now - worker.started)}{said}", _STUCK_FIX)
    return ok(name, stage + said)


def check_report(worker: Worker, report: WorkerReport, timeout: float, now: float) -> Check:
    """The progress that a rented worker reports before it is ready."""
    name, age = f"worker {worker.id}", now - worker.started
    progress = report.stage if report.fraction is None else f"{report.stage} {report.fraction:.0%}"
    progress += f": {report.detail}" if report.detail else ""
    if report.stage == "failed":
        return fail(name, progress, "`llmhost up` replaces it; see `llmhost logs`")
    after = f"{progress}, {_minutes(age)} after it was rented"
    if report.stage == "pulling" and age > _SLOW_PULL:
        fix = "wait, use a smaller `engine.model`, or a faster connection: `inet_down>=500` in `vast.offers`"
        return (fail if age > timeout else warn)(name, after, fix)
    if report.stage != "ready" and age > timeout:
        return fail(name, after, _STUCK_FIX)
    return ok(name, progress)


def check_memory(worker: Worker, metrics: Metrics) -> Sequence[Check]:
    """Models that the CPU works on, because they do not fit on the GPU or it is not used; else nothing."""
    name = f"worker {worker.id}"
    if any(model.size_vram == 0 for model in metrics.spilled):
        fix = "`llmhost up` replaces it; keep `cuda_max_good>=12.4` in `vast.offers`"
        return [fail(name, "its engine does not use the GPU: the model runs on the CPU", fix)]
    return [
        fail(
            name,
            f"{(model.size - model.size_vram) / _GIB:.1f} of the {model.size / _GIB:.1f} GiB of {model.name}"
            " do not fit on the GPU and run slowly, on the CPU",
            f"{_SPILLED_FIX} in `vast.offers`",
        )
        for model in metrics.spilled
    ]


def check_switch(worker: Worker, metrics: Metrics) -> Sequence[Check]:
    """A dead-man switch that would not work; else nothing."""
    fault = metrics.switch_fault
    fix = f"`llmhost down {worker.id}` and `llmhost up` replace it; until then, do not leave it alone"
    return [] if fault is None else [fail(f"worker {worker.id}", fault, fix)]


def check_own_gateway(worker: Worker, metrics: Metrics) -> Sequence[Check]:
    """The gateway that the worker is to have, where it does not serve; else nothing."""
    name = f"worker {worker.id}"
    if metrics.gateway is None:
        fix = f"`llmhost down {worker.id}` and `llmhost up` rent one that has"
        return [warn(name, "has no gateway, as it was rented without `fleet.gateway_on_worker`", fix)]
    fault = metrics.gateway_fault
    fix = "its engine answers meanwhile; look into /dev/shm/llmhost/gateway.log on it (`llmhost ssh`)"
    return [] if fault is None else [warn(name, fault, fix)]


def check_account(account: Account | None, workers: Iterable[Worker]) -> Check:
    """Whether there is credit, and for how long. That there is an answer means that the key is valid."""
    if account is None:
        return ok("account", "no payment needed")
    rate = _rate(workers)
    runway = runway_hours(account.credit, rate)
    detail = f"the key is valid; {_usd(account.credit)} of credit"
    if runway is not None:
        detail += f", {runway:,.1f} h at {_usd(rate)}/h"
    if account.credit <= 0:
        return fail("account", detail, "add credit on vast.ai: without it, nothing can be rented")
    if runway is not None and runway < _LOW_RUNWAY:
        return warn("account", detail, "add credit on vast.ai: when it runs out, the workers are stopped")
    return ok("account", detail)


def check_gateway(keys: int | None, proxy: str | None) -> Check:
    """One that other machines reach; `keys` are the API keys that are valid, None where that is not known."""
    tls = "a certificate of its own" if proxy is None else f"TLS of the proxy at {proxy}"
    if keys is None:
        detail = f"{tls}; its API keys are not known while the embedded Redis does not run"
        return warn("gateway", detail, "`llmhost keys ls` starts it, and shows them")
    if not keys:
        fix = "llmhost keys add --tenant NAME"
        return fail("gateway", "other machines reach it and there is no API key, so it does not start", fix)
    return ok("gateway", f"{keys} {'API key' if keys == 1 else 'API keys'}, {tls}")


def check_offers(market: Market, missing: int) -> Check:
    """Whether `missing` more workers could be rented now; if not, which filter terms reject the most."""
    count = len(market.offers)
    detail = f"{count} {'fits' if count == 1 else 'fit'} now"
    if count:
        detail += f", from {_usd(min(offer.price_per_hour for offer in market.offers))}/h"
    most = sorted(market.rejected.items(), key=lambda item: -item[1])[:_TERMS]
    named = ", ".join(f"{number:,} by {reason}" for reason, number in most if number)
    rejected = f"; rejected: {named}" if named else ""
    if count < missing:
        fix = (
            "relax the terms of `vast.offers` that reject the most, or raise `vast.max_price`; "
            "see `llmhost offers`"
        )
        return fail("offers", f"{detail}, {missing} needed{rejected}", fix)
    return ok("offers", detail if count else detail + rejected)


def check_budget(limits: Limits, spent: Spent, workers: Iterable[Worker], now: float) -> Check:
    """Whether spending is limited, and whether the limits hold in this period and in the next if nothing
    changes."""
    if not limits.any:
        fix = "set `fleet.budget.per_day`, such as 50, and `fleet.budget.per_hour`"
        return fail("budget", "nothing limits what this fleet may cost", fix)
    rows = projections(limits, spent, _rate(workers), now)
    broken = [row for row in rows if row.breaks or row.breaks_later]
    if broken:
        fix = (
            "destroy workers with `llmhost down WORKER`; "
            f"`fleet.budget.{broken[0].name}` stops new purchases, not running workers"
        )
        return warn("budget", "; ".join(map(_excess, broken)), fix)
    within = (f"{_usd(row.projected)} of {_usd(row.limit)} {_PERIODS[row.period]}" for row in rows)
    return ok("budget", f"if nothing changes: {', '.join(within)}")


def _excess(row: Projection) -> str:
    """How the limit breaks: in this period or, at the latest, in the next one."""
    if row.breaks_now:
        return (
            f"{row.name}: {_usd(row.spent)} spent {_PERIODS[row.period]} + {_usd(row.burn)}/h x "
            f"{row.hours:.3g} h = {_usd(row.projected)}, over the limit of {_usd(row.limit)}"
        )
    return (
        f"{row.name}: a whole {row.period} at {_usd(row.burn)}/h costs {_usd(row.whole)}, "
        f"over the limit of {_usd(row.limit)}"
    )


def check_costs(workers: Sequence[Worker], *, interruptible: bool) -> Check:
    """What the workers cost. Never fails: whether they are worth it is not known here."""
    if not workers:
        return ok("costs", "nothing is rented")
    rate = _rate(workers)
    detail = (
        f"{len(workers)} {'worker costs' if len(workers) == 1 else 'workers cost'} {_usd(rate)}/h, "
        f"{_usd(rate * _HOURS_A_DAY)} a day, {_usd(rate * _HOURS_A_MONTH)} a month"
    )
    return ok("costs", detail if interruptible else f"{detail}; `vast.interruptible` bids for less")


def check_orphans(
    workers: Iterable[Worker], known: frozenset[str] | None, intents: Sequence[Intent]
) -> Check:
    """What may be paid for without being used. `known` are the ids on record; None if that is not known."""
    unknown = [worker for worker in workers if known is not None and worker.id not in known]
    found = []
    if unknown:
        names = ", ".join(worker.id for worker in unknown)
        found.append(f"{names}: rented for this fleet but not on record, {_usd(_rate(unknown))}/h")
    if intents:
        count = f"{len(intents)} {'purchase' if len(intents) == 1 else 'purchases'}"
        found.append(f"{count} pending for which vast.ai lists no instance")
    if found:
        adopt = "`llmhost up` adopts rented workers, " if unknown else ""
        return fail("orphans", "; ".join(found), f"{adopt}`llmhost down --orphans` cleans up")
    return ok("orphans", "none" if known is not None else "not known without Redis")


def check_pause(since: float, workers: Sequence[Worker]) -> Check:
    """An autoscaler that `llmhost down` paused, `since` Unix seconds; meanwhile no worker should exist."""
    paused = f"paused since {datetime.fromtimestamp(since).astimezone():%Y-%m-%d %H:%M}"
    if not workers:
        return warn("autoscaling", paused, "`llmhost up` resumes it")
    count = f"{len(workers)} {'worker exists' if len(workers) == 1 else 'workers exist'}"
    fix = "`llmhost down` destroys them, `llmhost up` resumes autoscaling"
    return fail("autoscaling", f"{paused}, but {count}, {_usd(_rate(workers))}/h", fix)


def _rate(workers: Iterable[Worker]) -> float:
    return sum(worker.rate for worker in workers)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min"


def _usd(amount: float) -> str:
    return f"{'-' if round(amount, 2) < 0 else ''}${abs(amount):,.2f}"
