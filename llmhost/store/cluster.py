"""One client for all nodes of a Redis Cluster: each command goes to the master that has its key.

redis-py's own sends a command that the cluster redirects for once over another connection than the permission
for it, cuts off the commands of others at every fifth redirection, tries a command twice that may have been
carried out, and silently leaves UNLINK out of a pipeline (all seen in 8.1). Nothing is tried twice here but
what the cluster has refused.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    CrossSlotTransactionError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from llmhost.store.connections import Client, FailFastPool, NeverCutPipeline, client_of
from llmhost.store.errors import NoCluster
from llmhost.store.keys import SLOTS

__all__ = ["Address", "ClusterClient", "ClusterNode", "raise_lost"]

#: host and port
Address = tuple[str, int]
_Stack = Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]

#: redirections of one command that are followed at once; a cluster that is well needs two
_MOST_REDIRECTIONS = 4
#: seconds; for so long a command is tried again while its slot moves, with so much time between the tries
_MOVING, _MOVING_STEP = 1.0, 0.02
#: seconds between two readings of which node has what, while one of them does not answer
_READ_AGAIN = 0.5

_LOST = (RedisConnectionError, RedisTimeoutError, OSError)
#: commands that have no key; what `_FAMILIES` begin has none either
_KEYLESS = frozenset({"PING", "INFO", "TIME", "PUBLISH", "SCAN", "DBSIZE", "WAIT", "COMMAND", "FLUSHALL"})
_FAMILIES = ("FT.", "CLUSTER", "SCRIPT", "ACL", "CONFIG", "CLIENT", "LATENCY", "SLOWLOG", "PUBSUB")
#: commands whose arguments are all keys, each on its own
_OF_SEVERAL_KEYS = frozenset({"MGET", "UNLINK", "DEL", "EXISTS", "TOUCH"})
#: figures of INFO that are added up over the masters
_ADDED_UP = (
    *("used_memory", "maxmemory", "evicted_keys", "expired_keys", "keyspace_hits", "keyspace_misses"),
)


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node as the others see it: `master` is its master's id, empty for a master. `slots` it serves."""

    id: str
    address: str
    master: str
    slots: int
    has_failed: bool


class ClusterClient(Client):
    """`pool_of` makes the connections to a node. `seeds` are asked for the others."""

    sharded = True

    def __init__(self, seeds: Sequence[Address], pool_of: Callable[[str, int], FailFastPool]) -> None:
        self._seeds = seeds
        self._pool_of = pool_of
        self._nodes: dict[Address, Client] = {}
        #: the master of each slot
        self._owners: list[Address | None] = []
        #: all nodes, replicas too, as they were last listed
        self._listed: Sequence[Address] = ()
        #: the node that answered last when it was asked for the others
        self._reader = seeds[0]
        self._is_stale, self._read_at = False, 0.0
        self._reading = asyncio.Lock()
        super().__init__(connection_pool=self._node(seeds[0]).connection_pool)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] in _OF_SEVERAL_KEYS and len({_slot(key) for key in args[1:]}) > 1:
            return await self._of_several(*args)
        if args[0] == "SCRIPT LOAD":
            return (await self._on_all(*args))[0]
        return await self._send(args, options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ClusterPipeline:  # noqa: ARG002
        return ClusterPipeline(self, transaction)

    def pubsub(self, **options: Any) -> Any:
        """On any node: each passes on what is published on another."""
        return self._node(self._reader).pubsub(**options)

    async def scan_iter(self, *args: Any, **options: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        for node in (await self.masters()).values():
            async for key in node.scan_iter(*args, **options):
                yield key

    async def info(self, *args: Any, **options: Any) -> dict[str, Any]:
        """That of one master, with the sums of all where a figure can be added up."""
        masters = (await self.masters()).values()
        infos = await asyncio.gather(*(node.info(*args, **options) for node in masters))
        sums = {name: sum(int(info.get(name, 0)) for info in infos) for name in _ADDED_UP if name in infos[0]}
        return infos[0] | sums

    async def masters(self) -> Mapping[Address, Client]:
        """The nodes that have slots. Raises ClusterDownError where none has any."""
        await self._look()
        found = {address: self._node(address) for address in dict.fromkeys(self._owners) if address}
        if not found:
            self._is_stale = True
            raise ClusterDownError("CLUSTERDOWN no node serves a slot")
        return found

    async def nodes(self) -> Sequence[ClusterNode]:
        """All nodes, as the one sees them that answered last."""
        await self._look()
        raw = await self._node(self._reader).execute_command(
            "CLUSTER", "NODES"
        )  # as two words, it is not parsed
        return [_node(line.split()) for line in raw.decode().splitlines()]

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await asyncio.gather(*(node.aclose(close_connection_pool) for node in self._nodes.values()))

    async def run(self, stack: _Stack, scripts: Iterable[Any], *, raise_on_error: bool) -> list[Any]:
        """A pipeline: what belongs to one node is sent at once, and to all nodes at the same time. Commands
        on one key are carried out in their order. Where a node fails, that is the answer to its commands
        alone: others have carried out theirs."""
        await self._look()
        groups: dict[Address, list[int]] = {}
        answers: list[Any] = [None] * len(stack)
        for place, (args, _) in enumerate(stack):
            try:
                groups.setdefault(self._owner(args), []).append(place)
            except ClusterDownError as error:
                answers[place] = error
        commands = ([stack[place] for place in places] for places in groups.values())
        found = await asyncio.gather(
            *(self._send_all(*group, scripts) for group in zip(groups, commands, strict=True))
        )
        for places, values in zip(groups.values(), found, strict=True):
            for place, value in zip(places, values, strict=True):
                answers[place] = value
        for place, answer in enumerate(answers):
            if isinstance(answer, AskError | TryAgainError):
                answers[place] = await self._again(*stack[place], scripts)
        if raise_on_error:
            raise_lost(answers)
            ClusterPipeline(self, False).raise_first_error(stack, answers)  # type: ignore[arg-type]
        return answers

    async def _again(self, args: tuple[Any, ...], options: Mapping[str, Any], scripts: Iterable[Any]) -> Any:
        """The answer to a command of a pipeline that was redirected, or why there is none. The other node may
        not know its script."""
        texts = {script.sha: script.script for script in scripts}
        if args[0] == "EVALSHA" and args[1] in texts:
            args = ("EVAL", texts[args[1]], *args[2:])
        try:
            return await self._send(args, options)
        except (RedisError, *_LOST) as error:
            return error

    async def _send_all(self, address: Address, stack: _Stack, scripts: Iterable[Any]) -> list[Any]:
        """The answers of a node; where it is lost, that is each."""
        pipeline = self._node(address).pipeline(transaction=False)
        pipeline.scripts.update(scripts)
        for args, options in stack:
            pipeline.execute_command(*args, **options)
        try:
            return await pipeline.execute(raise_on_error=False)
        except (RedisError, *_LOST) as error:
            self._is_stale = self._is_stale or isinstance(error, _LOST)
            return [error] * len(stack)

    async def transact(self, stack: _Stack, *, raise_on_error: bool) -> list[Any]:
        """A transaction, whose keys are in one slot."""
        if len({_slot(key) for args, _ in stack if (key := _key(args)) is not None}) > 1:
            raise CrossSlotTransactionError("the keys of a transaction are in several slots")

        async def send(node: Client, *, asking: bool) -> list[Any]:
            pipeline = node.pipeline(transaction=True)
            if asking:  # over the connection that the transaction takes
                await pipeline.immediate_execute_command("ASKING")  # type: ignore[no-untyped-call]
            for args, options in stack:
                pipeline.execute_command(*args, **options)
            return await pipeline.execute(raise_on_error)

        return await self._redirected(stack[0][0], send)  # type: ignore[no-any-return]

    async def _of_several(self, name: str, *keys: Any) -> Any:
        """A command on keys of several slots: a list where it reads them, else a number."""
        places: dict[int, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(_slot(key), []).append(place)
        stack: _Stack = [((name, *(keys[place] for place in group)), {}) for group in places.values()]
        answers = await self.run(stack, (), raise_on_error=True)
        if name != "MGET":
            return sum(answers)
        found: list[Any] = [None] * len(keys)
        for group, values in zip(places.values(), answers, strict=True):
            for place, value in zip(group, values, strict=True):
                found[place] = value
        return found

    async def _on_all(self, *args: Any) -> list[Any]:
        nodes = (await self.masters()).values()
        return list(await asyncio.gather(*(node.execute_command(*args) for node in nodes)))

    async def _send(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        async def send(node: Client, *, asking: bool) -> Any:
            if not asking:
                return await node.execute_command(*args, **options)
            pipeline = node.pipeline(transaction=False)
            pipeline.execute_command("ASKING")
            pipeline.execute_command(*args, **options)
            _, answer = await pipeline.execute(raise_on_error=False)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return await self._redirected(args, send)

    async def _redirected(self, args: tuple[Any, ...], send: Callable[..., Any]) -> Any:
        """Follows what the cluster says of where the keys are."""
        await self._look()
        address, asking = self._owner(args), False
        redirections, until = 0, time.monotonic() + _MOVING
        while True:
            try:
                return await send(self._node(address), asking=asking)
            except MovedError as error:
                address, asking = (error.host or address[0], error.port), False
                self._owners[error.slot_id] = address
                self._is_stale = True  # more may have moved
                refusal: RedisError = error
            except AskError as error:
                address, asking, refusal = (error.host or address[0], error.port), True, error
            except TryAgainError as error:  # some of the keys are here, others there
                address, asking, refusal = self._owner(args), False, error
                redirections = _MOST_REDIRECTIONS
            except (ClusterDownError, *_LOST):
                self._is_stale = True
                raise
            if time.monotonic() >= until:
                raise refusal
            redirections += 1
            if redirections > _MOST_REDIRECTIONS:
                await asyncio.sleep(_MOVING_STEP)

    def _node(self, address: Address) -> Client:
        if address not in self._nodes:
            self._nodes[address] = client_of(self._pool_of(*address))
        return self._nodes[address]

    def _owner(self, args: Sequence[Any]) -> Address:
        key = _key(args)
        address = self._reader if key is None else self._owners[_slot(key)]
        if address is None:
            self._is_stale = True
            raise ClusterDownError("CLUSTERDOWN no node serves the slot of a key")
        return address

    async def _look(self) -> None:
        """Reads which node has what, where that is not known, or may have changed."""
        if self._owners and not self._is_due:
            return
        async with self._reading:
            if self._owners and not self._is_due:
                return
            self._read_at, self._is_stale = time.monotonic(), False
            try:
                await self._read()
            except (RedisError, *_LOST):
                self._is_stale = True
                if not self._owners:
                    raise

    @property
    def _is_due(self) -> bool:
        return self._is_stale and time.monotonic() >= self._read_at + _READ_AGAIN

    async def _read(self) -> None:
        failure: Exception | None = None
        for address in dict.fromkeys([*random.sample(self._listed, len(self._listed)), *self._seeds]):
            try:
                rows = await self._node(address).execute_command("CLUSTER SLOTS")
            except _LOST as error:
                failure = error
                continue
            except ResponseError as error:
                if type(error) is ResponseError:
                    raise NoCluster(str(error)) from error
                raise
            owners: list[Address | None] = [None] * SLOTS
            listed: list[Address] = []
            for first, last, *nodes in rows:
                addresses = [_address(node, address[0]) for node in nodes]
                owners[first : last + 1] = [addresses[0]] * (last + 1 - first)
                listed += addresses
            self._owners, self._listed, self._reader = owners, [*dict.fromkeys(listed)], address
            return
        raise failure or RedisConnectionError("no node of the cluster answers")


class ClusterPipeline(NeverCutPipeline):
    """Commands for several nodes; with `transaction`, for keys of one slot."""

    def __init__(self, client: ClusterClient, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, scripts = self.command_stack, self.scripts
        await self.reset()  # type: ignore[no-untyped-call]
        if not stack:
            return []
        if self.is_transaction:
            return await self._client.transact(stack, raise_on_error=raise_on_error)
        return await self._client.run(stack, scripts, raise_on_error=raise_on_error)


def raise_lost(answers: Iterable[Any]) -> None:
    """Raises the first error among the answers of a pipeline that Redis has not answered with."""
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
            raise answer


def _address(node: Sequence[Any], asked: str) -> Address:
    """A node as CLUSTER SLOTS names it; one that knows no name of its own has that of the one that was
    asked."""
    host = node[0].decode() if isinstance(node[0], bytes) else node[0]
    return (asked if host in (None, "", "?") else host), int(node[1])


def _node(words: Sequence[str]) -> ClusterNode:
    """A line of CLUSTER NODES. Of a slot that moves, the node that has it still serves it."""
    id, address, flags, master = words[:4]
    ranges = (word.partition("-") for word in words[8:] if not word.startswith("["))
    return ClusterNode(
        id=id,
        address=address.partition("@")[0],
        master=master.strip("-"),
        slots=sum(int(last or first) - int(first) + 1 for first, _, last in ranges),
        has_failed=not {"fail", "fail?", "noaddr"}.isdisjoint(flags.split(",")),
    )


def _key(args: Sequence[Any]) -> Any:
    """The first key of a command that llmhost sends, None where it has none."""
    name = args[0]
    if name in ("EVALSHA", "EVAL"):
        return args[3] if int(args[2]) else None
    if name in _KEYLESS or name.startswith(_FAMILIES):
        return None
    return args[1] if len(args) > 1 else None


def _slot(key: bytes | str) -> int:
    return key_slot(key if isinstance(key, bytes) else str(key).encode())
