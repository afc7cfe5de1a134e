"""Does with Redis what llmhost does with it: each command on keys made for that, and a script on each key.

A server that answers `PING` may still refuse a write, a script or a key: for want of a permission, of memory,
of a slot of its cluster, or because a command was renamed. What is written is deleted, and has a lifetime.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from llmhost.doctor.checks import Check, fail, ok
from llmhost.errors import StoreError, StoreRefused
from llmhost.store.client import translate_errors
from llmhost.store.errors import LACKS_PERMISSION
from llmhost.store.keys import FleetKeys, GatewayKeys, NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.config.models import Config

__all__ = ["commands", "keys", "try_redis", "try_worker_user"]

_NAME, _OF_WORKERS = "redis use", "worker redis"
#: milliseconds; what a doctor that was killed has left behind is gone after this time
_LIFETIME = 60_000
#: commands and keys that are named; the fix is the same for the others
_NAMED = 6
#: what a restricted user needs; the channels only since Redis 7
_GRANT = (
    "give the user, with ACL SETUSER: ~{fleet}:* ~{cache}:* &{cache}:* "
    "+@read +@write +@connection +@transaction +@scripting +@pubsub +info +time"
)
_GRANT_ON_CLUSTER = " +cluster|slots +cluster|nodes"
#: seconds until a subscription is confirmed; Redis itself answers at once
_CONFIRMED = 5.0


async def try_redis(client: Redis, config: Config) -> Sequence[Check]:
    """One check if all works, else one for each thing that has to be fixed.

    Raises StoreUnavailable where the connection is lost.
    """
    mark = secrets.token_hex(8)
    fleet, cache = _names(config)
    trial = f"{fleet.trial}:{mark}"
    failures = _Failures()
    try:
        await _try_commands(client, trial, failures)
        await _try_scripts(client, keys(config, mark), failures)
        await _try_channel(client, cache.flight(mark), failures)
    finally:
        with suppress(StoreError), translate_errors():
            await client.delete(*_kinds(trial))
    return failures.checks(config) or [ok(_NAME, "every command and key that llmhost uses works")]


async def try_worker_user(client: Redis, worker: Redis, config: Config) -> Sequence[Check]:
    """Whether the user of `redis.worker_url` can do what a worker's gateway does, and no more. `worker` is
    connected as that user, `client` as the operator.

    Raises StoreUnavailable where a connection is lost.
    """
    mark = secrets.token_hex(8)
    trial = _names(config)[1].flight(mark)
    with translate_errors():
        await client.set(trial, b"1", px=_LIFETIME)
    try:
        return [await _check_worker_user(worker, config, mark)]
    finally:
        with suppress(StoreError), translate_errors():
            await client.delete(trial)


async def _check_worker_user(worker: Redis, config: Config, mark: str) -> Check:
    """The operator has just written the key of the flight `mark`."""
    fleet, cache = _names(config)
    readable = (fleet.trust(_labels(config, mark)), fleet.weights)
    rights = "give it the rights that docs/worker.md names, and no others"
    trial, failures = cache.flight(mark), _Failures()
    ours = [name for name in keys(config, mark) if name.startswith(f"{config.cache.namespace}:")]
    await _try_scripts(worker, ours, failures)
    await _try_channel(worker, trial, failures)
    for name in readable:
        with failures.of(f"the key {name}"):
            await worker.hgetall(name)
    if failures.found:
        refused = [name for _, names in failures.found.values() for name in names]
        return fail(_OF_WORKERS, f"the user of workers is refused {', '.join(refused[:_NAMED])}", rights)
    with translate_errors():
        if await worker.get(trial) != b"1":
            detail = "`redis.worker_url` leads to another Redis than yours, or to another database"
            return fail(_OF_WORKERS, detail, "write the address there by which workers reach yours")
    others = [name for name in keys(config, mark) if name not in (*ours, *readable)]
    reached = await _reached(worker, [*others, GatewayKeys.all, GatewayKeys.key(mark)], readable)
    if reached:
        return fail(_OF_WORKERS, f"the user of workers can use {', '.join(reached[:_NAMED])}", rights)
    return ok(_OF_WORKERS, "the user of workers reaches the cache and nothing else")


async def _reached(worker: Redis, names: Sequence[str], readable: Sequence[str]) -> Sequence[str]:
    """Which of these keys the user of workers can use, which of the `readable` ones it can write, and whether
    it can list all keys. To give a key to a script that touches none needs the right to write it.
    """
    script = worker.register_script("return 0")
    tries = [(name, partial(script, keys=[name])) for name in readable]
    tries += [(name, partial(worker.execute_command, "EXISTS", name)) for name in names]
    tries.append(("SCAN", partial(worker.execute_command, "SCAN", 0, "COUNT", 1)))
    reached = []
    for what, use in tries:
        with suppress(StoreRefused), translate_errors():
            await use()
            reached.append(what)
    return reached


@dataclass(frozen=True, slots=True)
class _Failures:
    """What failed, by what fixes it: the names of commands and keys, and the first error."""

    found: dict[str, tuple[StoreError, list[str]]] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Around what is tried, which is called `name`."""
        try:
            with translate_errors():
                yield
        except StoreError as error:
            self.found.setdefault(error.hint or "", (error, []))[1].append(name)

    def checks(self, config: Config) -> Sequence[Check]:
        checks = []
        for hint, (error, names) in self.found.items():
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            fix = _GRANT.format(
                fleet=_names(config)[0].prefix,
                cache=config.cache.namespace,
            )
            fix += _GRANT_ON_CLUSTER if config.redis.cluster else ""
            lacks_right = error.message.startswith(LACKS_PERMISSION)
            detail = f"{error.message}; refused: {', '.join(names[:_NAMED])}{more}"
            checks.append(fail(_NAME, detail, fix if lacks_right else hint))
        return checks


def _names(config: Config) -> tuple[FleetKeys, NamespaceKeys]:
    sharded = config.redis.has_shards
    return FleetKeys(config.fleet.name, sharded), NamespaceKeys(config.cache.namespace, sharded)


def _labels(config: Config, mark: str) -> str:
    """What the labels are kept by: of another verifier than the usual one, by its id."""
    return "verified" if config.cache.verifier == "builtin" else mark


def keys(config: Config, mark: str) -> Sequence[str]:
    """A key of each name that llmhost uses; where a part of the name varies, it is `mark`."""
    fleet, cache = _names(config)
    return (
        *(fleet.workers, fleet.worker(mark), fleet.machines, fleet.scale, fleet.pauses(mark)),
        *(fleet.purchases, fleet.notices, fleet.weights, fleet.traffic),
        *(
            fleet.draining,
            fleet.waiting,
            fleet.fronts,
            fleet.load(mark),
            fleet.speed(mark),
            fleet.gpu_speed(mark, mark),
        ),
        *(fleet.ledger_sums("day", 0), fleet.ledger_periods, fleet.rentals, fleet.bills),
        fleet.boots,
        *(fleet.trust(_labels(config, mark)), fleet.audits(config.cache.policy)),
        *(fleet.judge, fleet.condenser, fleet.trial),
        *(cache.response(mark), cache.metadata(mark), cache.embedding(mark), cache.flight(mark)),
        *(
            cache.index(mark, mark),
            cache.flat(mark, mark),
            cache.vectors(mark, mark),
            cache.vector(mark, mark),
            cache.vector_log(mark, mark),
        ),
        *(cache.layout, cache.recent, cache.volume, cache.judged(mark)),
        *(cache.condensed(mark), cache.served(mark, mark)),
    )


def commands(trial: str) -> Sequence[tuple[Any, ...]]:
    """Each command that llmhost needs or that its scripts call, on keys whose names begin with `trial`."""
    string, hashed, members, ranked, listed = _kinds(trial)
    return (
        ("SET", string, "1", "NX", "PX", _LIFETIME),
        *((name, string) for name in ("GET", "MGET", "PTTL", "TOUCH", "EXISTS")),
        *(("APPEND", string, "2"), ("GETRANGE", string, 0, 0), ("EXPIRE", string, _LIFETIME // 1000)),
        *(("STRLEN", string), ("COPY", string, f"{string}2", "REPLACE")),
        *(("HSET", hashed, "a", "1"), ("HSETNX", hashed, "b", "1"), ("HINCRBY", hashed, "a", 1)),
        *(("HINCRBYFLOAT", hashed, "a", "0.5"), ("HGET", hashed, "a"), ("HMGET", hashed, "a")),
        *(("HEXISTS", hashed, "a"), ("HGETALL", hashed), ("HKEYS", hashed), ("HDEL", hashed, "b")),
        *(("SADD", members, "a"), ("SMEMBERS", members), ("SISMEMBER", members, "a"), ("SREM", members, "b")),
        *(("ZADD", ranked, 1, "a"), ("ZCARD", ranked), ("ZCOUNT", ranked, 0, 1), ("ZRANGE", ranked, 0, 0)),
        *(
            ("ZRANGEBYSCORE", ranked, 0, 1),
            ("ZSCORE", ranked, "a"),
            ("ZREM", ranked, "b"),
            ("ZREMRANGEBYSCORE", ranked, 2, 3),
            ("ZREMRANGEBYRANK", ranked, 0, -9),
        ),
        *(("RPUSH", listed, "a", "b"), ("LRANGE", listed, 0, 0), ("LLEN", listed), ("LTRIM", listed, 0, 1)),
        ("LPOP", listed),
        *(("PEXPIRE", key, _LIFETIME) for key in (string, hashed, members, ranked, listed)),
        *(("TIME",), ("SCAN", 0, "MATCH", f"{trial}:*", "COUNT", 1)),
        *(("DEL", string, f"{string}2"), ("UNLINK", hashed, members, ranked, listed)),
    )


def _kinds(trial: str) -> Sequence[str]:
    """The keys of a trial, one of each type."""
    return tuple(f"{trial}:{kind}" for kind in ("string", "hash", "set", "zset", "list"))


async def _try_commands(client: Redis, trial: str, failures: _Failures) -> None:
    pipeline, tried = client.pipeline(transaction=False), commands(trial)
    for command in tried:
        pipeline.execute_command(*command)
    with translate_errors():
        answers = await pipeline.execute(raise_on_error=False)
    for command, answer in zip(tried, answers, strict=True):
        with failures.of(str(command[0])):
            if isinstance(answer, Exception):
                raise answer
    with failures.of("MULTI"):
        transaction = client.pipeline(transaction=True)
        transaction.execute_command("GET", f"{trial}:string")
        await transaction.execute()


async def _try_scripts(client: Redis, names: Sequence[str], failures: _Failures) -> None:
    """A script that is given each key and touches none: it could read and write them, so both are checked."""
    script = client.register_script("return 0")
    with failures.of("scripts (EVALSHA, SCRIPT LOAD)"):
        await script()
        for name in names:
            with failures.of(f"the key {name}"):
                await script(keys=[name])


async def _try_channel(client: Redis, channel: str, failures: _Failures) -> None:
    with failures.of("PUBLISH"):
        await client.publish(channel, b"")
    with failures.of("SUBSCRIBE"):
        async with client.pubsub() as messages:
            await messages.subscribe(channel)
            await messages.get_message(timeout=_CONFIRMED)
