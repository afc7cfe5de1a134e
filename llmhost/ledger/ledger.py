"""The ledger: what happened and what it cost, in Redis.

Questions are summed by minute, hour and day. What workers cost is not summed but computed from their
rentals, so that no cost is lost or counted twice. A worker has one rental for each stretch of one price.
No key has a TTL: a full Redis evicts answers, never what they cost.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from llmhost.errors import StoreRefused
from llmhost.ledger.buckets import DAY, HOUR, MINUTE, Bucket, bucket_of, buckets_at, covering
from llmhost.ledger.events import Outcome, QuestionEvent
from llmhost.ledger.rentals import LONGEST_BOOT, Charge, Rental
from llmhost.ledger.totals import Totals
from llmhost.store.client import amount, is_sharded, load_script, text, translate_errors
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Ledger", "boot_seconds", "learned_boot"]


#: of the boots; three in four are as quick, and one that hung for an hour changes nothing
_QUANTILE = 0.75

#: boots; what came before them was another image, another market
_NEWEST = 20


def learned_boot(times: Sequence[float]) -> float | None:
    """What to expect of the next worker, seconds; None where nothing was seen. `times` has the newest last.

    It is the nearest-rank 75th percentile of the newest twenty.
    """
    newest = sorted(times[-_NEWEST:])
    return newest[math.ceil(_QUANTILE * len(newest)) - 1] if newest else None


def boot_seconds(raw: bytes | str) -> float | None:
    """Of one record in Redis; None where it makes no sense."""
    try:
        seconds = float(json.loads(raw)["seconds"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return seconds if 0 <= seconds <= LONGEST_BOOT else None


#: seconds; the ledger's days are kept as long
_RENTALS_KEPT = DAY.kept

#: boots; more than one decision looks back at
_BOOTS_KEPT = 50

_HITS = (Outcome.EXACT, Outcome.SEMANTIC)
_SUMS = (
    *("prompt_tokens", "completion_tokens", "engine_seconds", "cost_usd", "saved_usd", "shadow_saved_usd"),
    *("served_prompt_tokens", "served_completion_tokens"),
)
#: of each tenant and each model
_OF_ASKER = ("served_prompt_tokens", "served_completion_tokens", "cost_usd", "saved_usd")
#: of each worker
_OF_WORKER = ("prompt_tokens", "completion_tokens", "engine_seconds", "cost_usd")


class Ledger:
    """The ledger of one fleet. Every method raises StoreError where Redis is away or will not write."""

    def __init__(self, client: Redis, fleet: str) -> None:
        self._client = client
        self._keys = FleetKeys(fleet, is_sharded(client))
        self._record, self._observe, self._close, self._booted = (
            client.register_script(load_script("llmhost.ledger", name))
            for name in ("record.lua", "observed.lua", "closed.lua", "booted.lua")
        )

    async def record(self, *events: QuestionEvent) -> None:
        """Counts questions and other work of engines; what is of one minute together."""
        minutes: dict[float, dict[str, float]] = {}
        for event in events:
            minute = event.at // MINUTE.length * MINUTE.length
            _add_event(minutes.setdefault(minute, defaultdict(float)), event)
        for minute, sums in minutes.items():
            await self._add(minute, sums)

    async def record_comparison(self, at: float, shadow: str, right: bool | None) -> None:
        """Counts what came of comparing a hit that was not served with the engine's answer."""
        found = {True: "right", False: "wrong", None: "unclear"}[right]
        await self._add(at, {f"shadow:{shadow}:{found}": 1})

    async def _add(self, at: float, sums: Mapping[str, float]) -> None:
        buckets = buckets_at(at)
        increments = [part for pair in sums.items() for part in pair]
        names = [self._keys.ledger_sums(bucket.period.name, bucket.start) for bucket in buckets]
        with translate_errors():
            await self._record(
                keys=[*names, self._keys.ledger_periods],
                args=[at, *(bucket.end + bucket.period.kept for bucket in buckets), *increments],
            )

    async def totals(self, since: float, now: float) -> Totals:
        """The sums from `since` (rounded down to its minute, or hour, or day) until `now`, Unix seconds."""
        names = {self._keys.ledger_sums(part.period.name, part.start) for part in covering(since, now)}
        with translate_errors():
            kept = await self._client.zrange(self._keys.ledger_periods, 0, -1)
            there = {text(name) for name in kept if isinstance(name, (bytes, str))}
            pipeline = self._client.pipeline(transaction=False)
            for name in names & there:
                pipeline.hgetall(name)
            rows = await pipeline.execute()
        return _totals(rows)

    async def first(self) -> float | None:
        """When the finest period begins that the first question is still counted in, Unix seconds; None
        where nothing was counted."""
        with translate_errors():
            kept = await self._client.zrange(self._keys.ledger_periods, 0, -1)
        starts: dict[str, float] = {}
        for name in kept:
            if not isinstance(name, (bytes, str)):
                continue
            key, _, start = text(name).rpartition(":")
            period = key.rpartition(":")[2]
            if (at := amount(start)) is not None:
                starts[period] = min(at, starts.get(period, at))
        if (day := starts.get(DAY.name)) is None:
            return None
        finest = (starts[period.name] for period in (MINUTE, HOUR) if period.name in starts)
        return next((start for start in finest if day <= start < day + DAY.length), day)

    async def series(self, stretches: Sequence[Sequence[Bucket]]) -> Sequence[Totals]:
        """The sums of each stretch, which is made of these buckets."""
        with translate_errors():
            pipeline = self._client.pipeline(transaction=False)
            for bucket in chain.from_iterable(stretches):
                pipeline.hgetall(self._keys.ledger_sums(bucket.period.name, bucket.start))
            rows = iter(await pipeline.execute())
        return [_totals(islice(rows, len(stretch))) for stretch in stretches]

    async def observed(self, worker: str, price_per_hour: float, started: float, now: float) -> None:
        """A worker that is paid for since `started` costs this much at `now`: USD an hour, Unix seconds.

        Recording it twice changes nothing. What was not observed is counted at the higher price: a price that
        fell holds from `now` on, one that rose since the last observation. A closed one stays closed.
        """
        if not (math.isfinite(price_per_hour) and price_per_hour >= 0):
            raise ValueError(f"no worker costs {price_per_hour} USD an hour")
        field = f"{worker}@{float(started)!r}"
        with translate_errors():
            sound = await self._observe(keys=[self._keys.rentals], args=[field, price_per_hour, started, now])
        if not sound:
            raise _damaged(worker, self._keys.rentals)

    async def closed(self, worker: str, ended: float) -> None:
        """A worker is paid for no longer, since `ended`. An unknown or closed one stays as it is.

        Rentals that ended long before are dropped.
        """
        with translate_errors():
            sound = await self._close(keys=[self._keys.rentals], args=[worker, ended, _RENTALS_KEPT])
        if not sound:
            raise _damaged(worker, self._keys.rentals)

    async def paid_once(self, worker: str, usd: float, started: float) -> None:
        """A worker that is paid for since `started`, Unix seconds, has also cost `usd` once, at that time.

        The first that is said of it counts. It lies beside the worker's rentals, as one that has ended.
        """
        if not (math.isfinite(usd) and usd >= 0):
            raise ValueError(f"nothing costs {usd} USD")
        at = float(started)
        paid = {"price_per_hour": 0.0, "started": at, "ended": at, "once": usd}
        with translate_errors():
            await self._client.hsetnx(self._keys.rentals, f"{worker}@{at!r}/once", json.dumps(paid))

    async def rentals(self) -> Sequence[Rental]:
        """Everything that was paid for in the last 400 days at least, first rented first."""
        with translate_errors():
            rows = await self._client.hgetall(self._keys.rentals)
        found = [_decode(self._keys.rentals, text(name), raw) for name, raw in rows.items()]
        return sorted(found, key=lambda rental: (rental.started, rental.worker))

    async def billed(self, charges: Sequence[Charge], now: float) -> None:
        """The provider's bills of workers' whole lives until now; each replaces the one before of its worker.
        Those that ended 400 days before are dropped."""
        known = {charge.worker: charge for charge in (*await self.charges(), *charges)}
        dropped = [worker for worker, charge in known.items() if now - charge.until > _RENTALS_KEPT]
        with translate_errors():
            if charges:
                await self._client.hset(
                    self._keys.bills,
                    mapping={one.worker: json.dumps([one.usd, one.since, one.until]) for one in charges},
                )
            if dropped:
                await self._client.hdel(self._keys.bills, *dropped)

    async def charges(self) -> Sequence[Charge]:
        """The bills as they were last read, by worker; records that make no sense are left out."""
        with translate_errors():
            rows = await self._client.hgetall(self._keys.bills)
        found = (_charge(text(worker), raw) for worker, raw in sorted(rows.items()))
        return [charge for charge in found if charge is not None]

    async def booted(self, worker: str, seconds: float) -> None:
        """A worker took so long from its purchase to its first answer; the first that is said of it counts.

        What cannot be, because a clock was put back meanwhile, is not written down.
        """
        if not 0 <= seconds <= LONGEST_BOOT:
            return
        with translate_errors():
            await self._booted(keys=[self._keys.boots], args=[worker, float(seconds), _BOOTS_KEPT])

    async def boot_times(self) -> Sequence[float]:
        """Seconds that the last workers took, newest last; records that make no sense are left out."""
        with translate_errors():
            rows = await self._client.lrange(self._keys.boots, 0, -1)
        return [seconds for row in rows if (seconds := boot_seconds(row)) is not None]


def _add_event(sums: dict[str, float], event: QuestionEvent) -> None:
    sums[f"outcome:{event.outcome}"] += 1
    is_hit = event.outcome in _HITS
    if event.outcome is Outcome.MISS or (is_hit and not event.waited):
        kind = "hit" if is_hit else "miss"
        sums[f"{kind}_ms:{bucket_of(event.latency_ms)}"] += 1
        if event.user_ms is not None:
            sums[f"{kind}_user_ms:{bucket_of(event.user_ms)}"] += 1
    for name in _SUMS:
        if value := getattr(event, name):
            sums[name] += value
    if event.shadow is not None:
        sums[f"shadow:{event.shadow}"] += 1
    if event.kind:
        sums[f"kind:{event.kind}"] += 1
    for step, milliseconds in event.steps.items():
        sums[f"step:{step}:{bucket_of(milliseconds)}"] += 1
    _add_parts(sums, event)


def _add_parts(sums: dict[str, float], event: QuestionEvent) -> None:
    """Whose it was. The name comes last, as it may hold a colon."""
    for kind, name in (("tenant", event.tenant), ("model", event.model)):
        if name := name.encode("utf-8", "replace").decode():
            sums[f"by:{kind}:{event.outcome}:{name}"] += 1
            _add_values(sums, kind, name, event, _OF_ASKER)
    for answer in event.answers:
        if answer.worker:
            sums[f"by:worker:answers:{answer.worker}"] += 1
            _add_values(sums, "worker", answer.worker, answer, _OF_WORKER)


def _add_values(sums: dict[str, float], kind: str, name: str, source: object, values: Sequence[str]) -> None:
    for value in values:
        if number := getattr(source, value):
            sums[f"by:{kind}:{value}:{name}"] += number


def _totals(rows: Iterable[Mapping[bytes, bytes]]) -> Totals:
    """The sums of what some buckets hold."""
    sums: Counter[str] = Counter()
    for row in rows:
        for name, value in row.items():
            sums[text(name)] += _amount(value)  # type: ignore[assignment]  # floats add too
    outcomes = {outcome: round(sums.get(f"outcome:{outcome}", 0)) for outcome in Outcome}
    return Totals(
        outcomes={outcome: count for outcome, count in outcomes.items() if count},
        prompt_tokens=round(sums.get("prompt_tokens", 0)),
        completion_tokens=round(sums.get("completion_tokens", 0)),
        engine_seconds=sums.get("engine_seconds", 0.0),
        cost_usd=sums.get("cost_usd", 0.0),
        saved_usd=sums.get("saved_usd", 0.0),
        hit_ms=_histogram(sums, "hit_ms:"),
        miss_ms=_histogram(sums, "miss_ms:"),
        hit_user_ms=_histogram(sums, "hit_user_ms:"),
        miss_user_ms=_histogram(sums, "miss_user_ms:"),
        shadow=_named(sums, "shadow:"),
        kinds=_named(sums, "kind:"),
        served_prompt_tokens=round(sums.get("served_prompt_tokens", 0)),
        served_completion_tokens=round(sums.get("served_completion_tokens", 0)),
        steps=_steps(sums),
        by=_parts(sums),
        shadow_saved_usd=sums.get("shadow_saved_usd", 0.0),
    )


def _named(sums: Mapping[str, float], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): round(count) for name, count in sums.items() if name.startswith(prefix)
    }


def _histogram(sums: Mapping[str, float], prefix: str) -> dict[int, int]:
    buckets = {name.removeprefix(prefix): count for name, count in sums.items() if name.startswith(prefix)}
    return {int(bucket): round(count) for bucket, count in buckets.items() if bucket.isdecimal()}


def _steps(sums: Mapping[str, float]) -> Mapping[str, Mapping[int, int]]:
    steps = {name.split(":")[1] for name in sums if name.startswith("step:")}
    return {step: _histogram(sums, f"step:{step}:") for step in sorted(steps)}


def _parts(sums: Mapping[str, float]) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, value in sums.items():
        if name.startswith("by:") and name.count(":") >= 3:
            _, kind, what, whose = name.split(":", 3)
            found.setdefault(kind, {}).setdefault(whose, {})[what] = value
    return found


def _amount(raw: bytes | str) -> float:
    value = amount(raw)
    if value is None:
        raise StoreRefused(
            "the ledger in Redis holds something that is no amount",
            hint="another program writes to keys that begin with `llmhost:`; give each its own database",
        )
    return value


def _decode(key: str, field: str, raw: bytes | str) -> Rental:
    worker = field.rpartition("@")[0]
    try:
        data = json.loads(raw)
        ended = data["ended"]
        return Rental(
            worker,
            float(data["price_per_hour"]),
            float(data["started"]),
            None if ended is None else float(ended),
            float(data.get("once", 0.0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _damaged(worker, key) from error


def _charge(worker: str, raw: bytes | str) -> Charge | None:
    try:
        numbers = [float(number) for number in json.loads(raw)]
        return Charge(worker, *numbers) if all(map(math.isfinite, numbers)) else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _damaged(worker: str, key: str) -> StoreRefused:
    return StoreRefused(
        f"the ledger's record of worker {worker!r} in Redis is damaged",
        hint=f"delete the fields of the key {key} that begin with {worker}@: its cost is not counted then",
    )
