"""The workers of a fleet in Redis, so that `ask` finds them without asking their provider."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from llmhost.config.fields import FLEET_NAME
from llmhost.engines.redis_traffic import DrainMarks, measured_speed
from llmhost.errors import StoreError, StoreRefused, StoreUnavailable
from llmhost.fleet.clock import Clock, SystemClock
from llmhost.fleet.models import FleetSpec, Intent, Payer, Registered, Worker, WorkerState
from llmhost.fleet.pause import NOWHERE, PauseBook, PauseMarks, PauseResult, Pauses, new_token
from llmhost.fleet.provider import ANSWERED_AFTER
from llmhost.fleet.purchases import PurchaseBook
from llmhost.ledger.rentals import Charge, Rental, RentalBook
from llmhost.store.client import is_sharded, text, translate_errors
from llmhost.store.clock import CompareClocks, compare_clocks
from llmhost.store.errors import where_allowed
from llmhost.store.keys import FleetKeys, rented_fleets

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Ban", "FleetRecords", "FleetRegistry", "Origin", "is_machines_fault"]

_TEXTS = ("model", "engine", "gpu", "detail", "log")
_OPTIONAL_TEXTS = ("url", "token", "certificate")
_PAYER = ("account", "fingerprint")
_BOUGHT = "bought"
_SIGNATURE = "signature"


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose records are read and written, and what proves that they are.

    `owner`: processes of this machine mean nothing to another one that shares the Redis, and are not its to
    declare gone; rented machines are the same for everybody. `provider` and `rents` are the configuration's:
    no record says what kind of worker it describes. `key` signs the records, None where there is none: then
    nothing on record can be verified.
    """

    owner: str
    provider: str
    rents: bool = False
    key: bytes | None = field(default=None, repr=False)


#: stages of workers that ended for reasons that are not their machine's: another customer paid more, the
#: credit ran out, its owner's network was away, or what the provider lists of it was changed
_NOT_THE_MACHINES = {"outbid", "stopped", "frozen", "unknown", "offline", "relabelled", "unreadable"}


def is_machines_fault(worker: Worker) -> bool:
    """Whether a worker that failed speaks against its machine; never where that has no name."""
    return bool(worker.machine) and worker.stage not in _NOT_THE_MACHINES


@dataclass(frozen=True, slots=True)
class Ban:
    """Why a machine is not rented, since `at`, Unix seconds."""

    reason: str
    at: float


_BAN = TypeAdapter(Ban)


class FleetRegistry:
    """Reads and writes the records of one fleet. Every method raises StoreError and nothing else.

    A record says where prompts go, so each is signed: who can write to Redis can remove workers, not add one.
    `marks` is where this machine keeps pauses, and `compare` compares its clock with that of Redis.
    """

    def __init__(
        self,
        client: Redis,
        fleet: str,
        origin: Origin,
        marks: PauseMarks = NOWHERE,
        compare: CompareClocks | None = None,
    ) -> None:
        compare = compare or compare_clocks(client, SystemClock().now)
        self._client = client
        self._fleet = fleet
        self._origin = origin
        self.marks = marks
        self._keys = FleetKeys(fleet, is_sharded(client))
        self.drains = DrainMarks(client, fleet)
        self.pauses = PauseBook(client, fleet, marks, compare)
        self.purchases = PurchaseBook(client, fleet, compare)

    async def begin(self, intent: Intent) -> None:
        """Something is about to be bought: who asks this Redis learns of the fleet, and of the purchase."""
        with where_allowed(), translate_errors():
            for account in self.marks.accounts():
                await self._client.sadd(rented_fleets(self._origin.provider, account), self._fleet)
        await self.purchases.write(intent)

    async def fleets(self) -> frozenset[str]:
        """The fleets that were ever bought for with this Redis and this account."""
        names: set[str] = set()
        with where_allowed(), translate_errors():
            for account in self.marks.accounts():
                key = rented_fleets(self._origin.provider, account)
                names |= {text(name) for name in await self._client.smembers(key)}
        return frozenset(name for name in names if FLEET_NAME.fullmatch(name))

    async def workers(self) -> Registered:
        """Every worker of this owner on record. A damaged record is named, never trusted."""
        with translate_errors():
            raw_ids = await self._client.smembers(self._keys.workers)
            ids = sorted(text(raw) for raw in raw_ids)
            pipeline = self._client.pipeline(transaction=False)
            for worker_id in ids:
                pipeline.hgetall(self._keys.worker(worker_id))
            records = await pipeline.execute() if ids else []
        # One without a record was removed by another process between the two reads.
        texts = [{text(name): text(value) for name, value in raw.items()} for raw in records]
        decoded = {
            worker_id: self._verified(worker_id, record)
            for worker_id, record in zip(ids, texts, strict=True)
            if record and record.get("owner", self._origin.owner) == self._origin.owner
        }
        found = [worker for worker in decoded.values() if worker is not None]
        return Registered(
            workers=tuple(sorted(found, key=lambda worker: (worker.started, worker.id))),
            damaged=tuple(worker_id for worker_id, worker in decoded.items() if worker is None),
            payers={
                worker_id: _payer(record)
                for worker_id, record in zip(ids, texts, strict=True)
                if worker_id in decoded
            },
            bought=frozenset(
                worker_id
                for worker_id, record in zip(ids, texts, strict=True)
                if worker_id in decoded and _BOUGHT in record
            ),
        )

    async def known(self, now: float) -> Registered:
        """As `workers`, with the purchases that were begun; `now` is Unix seconds."""
        return replace(await self.workers(), begun=tuple(await self.purchases.read(now)))

    async def states(self) -> Mapping[str, int]:
        """How many workers are in each state, among which those that drain are one of their own."""
        workers, draining = (await self.workers()).workers, await self.drains.draining()
        counts = dict.fromkeys([*map(str, WorkerState), "draining"], 0)
        for worker in workers:
            counts["draining" if worker.id in draining else str(worker.state)] += 1
        return counts

    async def save(self, worker: Worker, *, bought: bool = False) -> None:
        """Writes the worker's record, in place of an earlier one. Who pays for it remains known, and that its
        buyer uses this Redis, which it says with `bought`."""
        key, kept = self._keys.worker(worker.id), (*_PAYER, _BOUGHT)
        with translate_errors():
            raw = await self._client.hmget(key, kept)
        known = {name: text(value) for name, value in zip(kept, raw, strict=True) if value is not None}
        payer = Payer(
            worker.payer.account or known.get("account", ""),
            worker.payer.fingerprint or known.get("fingerprint", ""),
        )
        record = _encode(replace(worker, payer=payer), self._origin.owner)
        if bought or _BOUGHT in known:
            record[_BOUGHT] = "here"
        pipeline = self._client.pipeline(transaction=True)  # of one key, so it works on shards too
        pipeline.delete(key)
        fields = {**record, _SIGNATURE: self._signature(worker.id, record) or ""}
        pipeline.hset(key, items=[part for field in fields.items() for part in field])
        with translate_errors():
            await pipeline.execute()
            await self._client.sadd(self._keys.workers, worker.id)

    async def bans(self) -> Mapping[str, Ban]:
        """Machines that a worker of this fleet failed on, rented from any machine, however long ago. What is
        damaged is left out."""
        with translate_errors():
            raw = await self._client.hgetall(self._keys.machines)
        found = {}
        for machine, ban in raw.items():
            with suppress(ValueError):
                found[text(machine)] = _BAN.validate_json(ban)
        return found

    async def ban(self, machine: str, ban: Ban) -> None:
        """Remembers a machine and why it is not to be rented."""
        with translate_errors():
            await self._client.hset(self._keys.machines, machine, _BAN.dump_json(ban))

    async def lift_bans(self, machines: Iterable[str]) -> None:
        """They may be rented again. Those that are not banned are fine."""
        if names := tuple(machines):
            with translate_errors():
                await self._client.hdel(self._keys.machines, *names)

    async def speeds(self, model: str, gpus: Collection[str], slots: int) -> Mapping[str, float]:
        """Tokens per second that workers with these GPUs generate with all `slots` in use, where measured."""
        names = sorted(gpus)
        with translate_errors():
            pipeline = self._client.pipeline(transaction=False)
            for gpu in names:
                pipeline.hgetall(self._keys.gpu_speed(model, gpu))
            rows = await pipeline.execute()
        measured = {gpu: measured_speed(row, slots) for gpu, row in zip(names, rows, strict=True)}
        return {gpu: speed for gpu, speed in measured.items() if speed}

    async def forget(self, worker_id: str) -> None:
        """Removes the worker's record, and what was counted of it. One that is not there is fine."""
        with translate_errors():
            await self._client.srem(self._keys.workers, worker_id)
            await self._client.delete(self._keys.worker(worker_id))
        await self.drains.forget(worker_id)

    def _verified(self, worker_id: str, record: Mapping[str, str]) -> Worker | None:
        """The worker, or None where its record is damaged or was not written by this fleet."""
        signature = self._signature(worker_id, record)
        if signature is None or not hmac.compare_digest(
            signature.encode(), record.get(_SIGNATURE, "").encode(errors="replace")
        ):
            return None
        worker = _decode(worker_id, self._origin.provider, record)
        return worker if worker and (_is_pinned(worker) or not self._origin.rents) else None

    def _signature(self, worker_id: str, record: Mapping[str, str]) -> str | None:
        """Over all that the record says, and of which worker and fleet; None without a key."""
        if self._origin.key is None:
            return None
        fields = sorted((name, value) for name, value in record.items() if name != _SIGNATURE)
        signed = json.dumps(["llmhost worker", self._fleet, worker_id, fields])
        return hmac.digest(self._origin.key, signed.encode(), "sha256").hex()


def _is_pinned(worker: Worker) -> bool:
    """Whether another server at its address is found out. What failed or has no address is never asked."""
    if worker.url is None or worker.state is WorkerState.FAILED:
        return True
    return bool(worker.certificate) and worker.url.startswith("https:")


def _encode(worker: Worker, owner: str) -> dict[str, str]:
    fields = {name: getattr(worker, name) for name in (*_TEXTS, *_OPTIONAL_TEXTS)}
    return {
        "state": worker.state.value,
        "price_per_hour": repr(worker.price_per_hour),
        "started": repr(worker.started),
        "machine": worker.machine,
        "digest": worker.digest,
        "owner": owner,
        **{name: value for name in _PAYER if (value := getattr(worker.payer, name))},
        **({} if worker.billing is None else {"billing": repr(worker.billing)}),
        **{name: _encodable(value) for name, value in fields.items() if value is not None},
    }


def _encodable(value: str) -> str:
    """Without what UTF-8 has no bytes for, as a path in the words of a worker may have."""
    return value.encode("utf-8", "replace").decode()


def _decode(worker_id: str, provider: str, record: Mapping[str, str]) -> Worker | None:
    try:
        return Worker(
            id=worker_id,
            provider=provider,
            state=WorkerState(record["state"]),
            price_per_hour=_amount(record["price_per_hour"]),
            started=_amount(record["started"]),
            url=_url(record.get("url")),
            token=record.get("token"),
            certificate=record.get("certificate"),
            machine=record.get("machine", ""),
            digest=record.get("digest", ""),
            billing=_amount(record["billing"]) if "billing" in record else None,
            ends=None,  # only the provider's list says
            nameless=False,  # of one without a name there is no record
            payer=_payer(record),
            **{name: record[name] for name in _TEXTS},
        )
    except (KeyError, ValueError):
        return None


def _payer(record: Mapping[str, str]) -> Payer:
    return Payer(**{name: record.get(name, "") for name in _PAYER})


def _amount(raw: str) -> float:
    value = float(raw)
    if not math.isfinite(value) or value < 0:
        raise ValueError(raw)
    return value


def _url(raw: str | None) -> str | None:
    if raw is None:
        return None
    parts = urlsplit(raw)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(raw)
    return raw


# What one command writes about workers. The provider's list is the truth and these records follow it: what is
# missed while Redis is away, which is a warning, is made good by the next command that sees the list.


#: seconds by which two clocks may seem to differ that do not
_SLACK = 5.0

#: what comes of answers that no Redis gives
_NONSENSE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

_T = TypeVar("_T")
_Store = TypeVar("_Store")


class FleetRecords:
    """Registry and rentals during one command. Either may be None: then it is not kept. A machine that failed
    is not rented for `ban_for` seconds. `marks` is where this machine keeps pauses."""

    def __init__(
        self,
        registry: FleetRegistry | None,
        rentals: RentalBook | None,
        clock: Clock,
        ban_for: float,
        marks: PauseMarks | None = None,
    ) -> None:
        self._registry = registry
        self._marks = marks or (registry.marks if registry else NOWHERE)
        self._rentals = rentals
        self._clock = clock
        self._ban_for = ban_for
        self._bad: set[str] = set()
        self._away = False
        self._turn = asyncio.Lock()
        self._warnings: list[str] = []
        #: whether a request to destroy a worker may have been sent, successful or not
        self.ended_some = False

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    def warn(self, sentence: str) -> None:
        self._warnings.append(sentence)

    @property
    def away(self) -> bool:
        """Whether Redis did not do something, and was not asked for more since."""
        return self._away

    async def known(self, *, certain: bool = False) -> Registered:
        """What is on record; nothing where Redis is away, so nothing may be concluded from an absence. Where
        it has to be `certain`, StoreError is raised then, and Redis asked also where it was away before."""
        now = self._clock.now()
        if certain and self._registry is not None:
            self._away = False
        registered = await self._try(self._registry, lambda registry: registry.known(now))
        if certain and self._away:
            raise StoreUnavailable(self._warnings.pop(), hint="see `llmhost doctor`")
        if registered is None:
            return Registered()
        for worker_id in registered.damaged:
            self.warn(f"the record of worker {worker_id} in Redis was damaged, or is not of this fleet")
        return registered

    async def begin(self, intent: Intent) -> None:
        """It is about to be bought: other machines are told, where there is a Redis to tell them. Raises
        StoreError, also where it was away before: what cannot be told is not bought."""
        if self._registry is not None:
            await self._registry.begin(intent)

    async def refused(self, intent: Intent) -> None:
        """The provider says now that it does not sell it, and may show it all the same."""
        refused = replace(intent, refused=True, written=self._clock.now())
        await self._try(self._registry, lambda registry: registry.purchases.write(refused))

    async def bought(self, intent: Intent, worker: Worker) -> None:
        """What came of a purchase."""
        named = replace(intent, worker=worker.id, payer=worker.payer)
        await self._try(self._registry, lambda registry: registry.purchases.write(named))

    async def fleets(self) -> frozenset[str]:
        """The fleets that were ever bought for with this Redis and this account, as far as is known."""
        return await self._try(self._registry, lambda registry: registry.fleets()) or frozenset()

    async def begun(self) -> Sequence[Intent]:
        """The purchases that were begun on any machine a short time ago, as far as is known."""
        now = self._clock.now()
        return await self._try(self._registry, lambda registry: registry.purchases.read(now)) or ()

    async def tell(self, intents: Iterable[Intent]) -> None:
        """Of purchases that Redis could not be told when they were begun, a short time ago."""
        now = self._clock.now()
        young = [intent for intent in intents if abs(now - intent.written) < ANSWERED_AFTER]

        async def write(registry: FleetRegistry) -> None:
            for intent in young:
                await registry.purchases.write(intent)

        if young:
            await self._try(self._registry, write)

    async def answered(self, ids: Collection[str]) -> None:
        """It is known by now what these purchases bought, or they were not asked for after all."""
        await self._try(self._registry, lambda registry: registry.purchases.drop(ids))

    async def rentals(self) -> Sequence[Rental]:
        """What every worker has cost, gone ones included. Raises StoreError: a sum must be of all of them."""
        if self._rentals is None:
            raise StoreUnavailable(
                "what was spent is not known without Redis",
                hint="see `llmhost doctor`, or take the budget out",
            )
        return await self._rentals.rentals()

    async def rentals_or_none(self) -> Sequence[Rental]:
        """As `rentals`; empty, with a warning, where Redis is away."""
        return await self._try(self._rentals, lambda rentals: rentals.rentals()) or ()

    async def billed(self, charges: Sequence[Charge]) -> None:
        """What the provider billed for whole lives, for those who do not ask it."""
        now = self._clock.now()
        if charges:
            await self._try(self._rentals, lambda book: book.billed(charges, now))

    async def charges(self) -> Sequence[Charge]:
        """The bills as they were last read, as far as is known."""
        return await self._try(self._rentals, lambda book: book.charges()) or ()

    async def bans(self) -> Mapping[str, Ban]:
        """Machines that are not rented now, as far as is known. One that was banned in the future was banned
        by a clock that has gone back since."""
        now = self._clock.now()
        known = await self._try(self._registry, lambda registry: registry.bans())
        return {machine: ban for machine, ban in (known or {}).items() if abs(now - ban.at) < self._ban_for}

    async def speeds(self, spec: FleetSpec, gpus: Collection[str]) -> Mapping[str, float]:
        """Tokens per second that a rented worker of this fleet generates, by the name of its GPU; only those
        that were measured."""
        if not (spec.rents and gpus):
            return {}
        known = await self._try(
            self._registry, lambda registry: registry.speeds(spec.model, gpus, spec.stay.slots)
        )
        return known or {}

    async def bad_machines(self) -> frozenset[str]:
        """Machines not to buy on: those banned, and those that failed during this command."""
        return frozenset(await self.bans()) | self._bad

    async def lift_bans(self, machines: Iterable[str]) -> None:
        """They may be rented again."""
        await self._try(self._registry, lambda registry: registry.lift_bans(machines))

    async def failed_on(self, worker: Worker, reason: str) -> None:
        """Nothing is bought on its machine for now, where it is the machine's fault."""
        if is_machines_fault(worker):
            self._bad.add(worker.machine)
            ban = Ban(reason, self._clock.now())
            await self._try(self._registry, lambda registry: registry.ban(worker.machine, ban))

    async def draining(self) -> frozenset[str]:
        """Workers that are given no more questions, as far as is known."""
        draining = await self._try(self._registry, lambda registry: registry.drains.draining())
        return draining or frozenset()

    async def pause(self, *, everywhere: bool = False) -> PauseResult:
        """The fleet is to be gone, and is not to come back by itself; `everywhere`: nor any other one."""
        token, now = new_token(), self._clock.now()
        marked = self._marks.put(token, now, everywhere=everywhere)
        scales = await self._try(
            self._registry, lambda registry: registry.pauses.begin(token, now, everywhere=everywhere)
        )
        return PauseResult(token, now, scales is not None, marked, bool(scales))

    async def undo_pause(self, pause: PauseResult) -> None:
        """The fleet runs on after all, as far as this pause is concerned. Raises StateError."""
        self._marks.take_back(pause.id)
        now = self._clock.now()
        await self._try(self._registry, lambda registry: registry.pauses.take_back(pause.id, now))

    async def pauses(self, *, certain: bool = False) -> Pauses:
        """Those in force, as far as is known. Redis is asked each time, also where it was away before: money
        may depend on the answer. Where it has to be `certain`, StoreError is raised, unless this machine has
        marked one."""
        if self._registry is not None:
            try:
                return await self._registry.pauses.read()
            except StoreError:
                if certain and not self._marks.read():
                    raise
            except _NONSENSE as error:
                if certain and not self._marks.read():
                    raise StoreRefused(f"what Redis says makes no sense ({type(error).__name__})") from error
        return self._marks.read()

    async def pauses_before(self, began: float) -> Collection[str]:
        """Those that a command lifts which began then, Unix seconds: older ones. A mark of this machine that
        is from the future is of a clock that was put back since."""
        found, later = await self.pauses(), self._clock.now() + _SLACK
        marks = self._marks.read()
        return [
            token for token, since in found.items() if since <= began or (since > later and token in marks)
        ]

    async def paused(self) -> float | None:
        """Since when the autoscaler is paused, as far as is known, Unix seconds; None where it is not."""
        since = await self.pauses()
        return min(*since.values(), self._clock.now()) if since else None  # clocks are put back

    async def lift(self, tokens: Collection[str]) -> Pauses:
        """These pauses are over; those that still hold, as far as is known. Raises StateError."""
        now = self._clock.now()
        self._marks.remove(tokens)  # first: where one cannot be removed, the fleet stays paused
        left = await self._try(self._registry, lambda registry: registry.pauses.lift(tokens, now))
        return {**self._marks.read(), **(left or {})}

    async def drain(self, workers: Iterable[Worker]) -> None:
        """They are given no more questions, because they are to be destroyed."""
        ids = [worker.id for worker in workers]
        await self._try(self._registry, lambda registry: registry.drains.drain(ids))

    async def busy(self, workers: Iterable[Worker]) -> frozenset[str]:
        """Which of them work on questions, as far as is known."""
        ids = [worker.id for worker in workers]
        counts = await self._try(self._registry, lambda registry: registry.drains.in_flight(ids))
        return frozenset(worker for worker, count in (counts or {}).items() if count)

    async def revive(self, workers: Sequence[Worker]) -> None:
        """They stay, whatever the autoscaler had in mind with them."""
        ids = [worker.id for worker in workers]
        await self._try(self._registry, lambda registry: registry.drains.revive(ids))

    async def opened(self, worker: Worker) -> None:
        """The provider lists this worker, so it is paid for. Of one without a name that is counted when its
        name is known, from its start on; it may be one that is counted already."""
        if worker.nameless:
            return
        now = self._clock.now()
        await self._try(
            self._rentals, lambda book: book.observed(worker.id, worker.burn, worker.started, now)
        )

    async def downloads(self, worker: Worker, usd: float) -> None:
        """The worker was bought, and its image and model are expected to cost so much traffic."""
        if usd:
            await self._try(self._rentals, lambda book: book.paid_once(worker.id, usd, worker.started))

    async def seen(self, worker: Worker, *, bought: bool = False) -> None:
        """As `opened`, and others may know the worker as it is here; `bought`: by this command."""
        await self.opened(worker)
        await self._try(self._registry, lambda registry: registry.save(worker, bought=bought))

    async def gone(self, worker_id: str) -> None:
        """The worker is confirmed gone. Its record goes last: it is what reminds us to close the rental."""
        now = self._clock.now()
        await self._try(self._rentals, lambda book: book.closed(worker_id, now))
        await self._try(self._registry, lambda registry: registry.purchases.drop_of(worker_id, now))
        await self._try(self._registry, lambda registry: registry.forget(worker_id))

    async def forget_gone(self, known: Registered, listed: Iterable[Worker]) -> None:
        """`known` was read before `listed`, so what only `known` has is gone, and not newer than the list."""
        for worker_id in sorted(known.ids - {worker.id for worker in listed}):
            await self.gone(worker_id)
            self.warn(f"worker {worker_id} is gone: its provider no longer lists it")

    async def _try(self, store: _Store | None, action: Callable[[_Store], Awaitable[_T]]) -> _T | None:
        """The action's answer, or None. After the first failure nothing is tried: each try may hang."""
        if store is None:
            return None
        async with self._turn:  # a hundred at once would each open a connection of their own
            if self._away:
                return None
            try:
                return await action(store)
            except StoreError as error:
                why = error.message
            except _NONSENSE as error:
                why = f"what it answers makes no sense ({type(error).__name__})"
            self._away = True  # no answer of it stands between a worker and its end
            self.warn(f"the fleet's records in Redis were not brought up to date: {why}")
            return None
