"""Real Redis Clusters and Sentinels: processes of Redis 8.2 on free ports of 127.0.0.1."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from doubles.free_port import free_port
from doubles.waiting import wait_until
from plugins.redis_servers import RedisServer, start_on_a_port

from llmhost.config.redis import RedisConfig
from llmhost.store.client import connect
from llmhost.store.cluster import ClusterClient

_SLOTS = 16384
#: milliseconds until a node that does not answer is replaced; a busy machine answers later than usual
_NODE_TIMEOUT = 2000
#: a replica is sent its master's data at once
_AT_ONCE = ("--repl-diskless-sync-delay", "0")
_NODE = (
    *_AT_ONCE,
    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(_NODE_TIMEOUT)),
    # A replica takes over however long ago it last heard of its master, which it gets back as its replica.
    *("--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no"),
)


@dataclass(frozen=True, slots=True)
class RedisCluster:
    """The first half of the nodes began as masters, the node `i + half` as the replica of the node `i`."""

    nodes: Sequence[RedisServer]

    def config(self, **others: Any) -> RedisConfig:
        """Configured with one node; the others are found."""
        return RedisConfig(host="127.0.0.1", port=self.nodes[0].port, cluster=True, timeout=5.0, **others)

    def ask(self, node: int, *command: str | bytes | int) -> Any:
        return ask(self.nodes[node], *command)

    def owner(self, slot: int) -> int:
        """The node that serves the slot, as the first one says that runs."""
        asked = next(server for server in self.nodes if server.process.poll() is None)
        owners = [row[2][1] for row in ask(asked, "CLUSTER", "SLOTS") if row[0] <= slot <= row[1]]
        return [server.port for server in self.nodes].index(owners[0])

    def move(self, slot: int, target: int) -> None:
        """Moves a slot and its keys to another master, as `redis-cli --cluster reshard` does."""
        source = self.owner(slot)
        ids = {node: self.ask(node, "CLUSTER", "MYID") for node in (source, target)}
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        while names := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            address = ("127.0.0.1", self.nodes[target].port)
            self.ask(source, "MIGRATE", *address, "", 0, 5000, "KEYS", *names)
        for node in (target, source):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])

    def names(self, node: int) -> frozenset[bytes]:
        """The keys that this node has, as a replica too."""
        return frozenset(self.ask(node, "KEYS", "*"))

    def is_well(self) -> bool:
        """Whether all nodes that run agree that all slots are served."""
        return all(
            b"cluster_state:ok" in ask(server, "CLUSTER", "INFO")
            for server in self.nodes
            if server.process.poll() is None
        )


def ask(server: RedisServer, *command: str | bytes | int) -> Any:
    with redis.Redis(port=server.port, protocol=2) as client:
        client.response_callbacks.clear()  # what Redis says, as it says it
        return client.execute_command(*command)


def start_cluster(
    folder: Path, stack: ExitStack, *, masters: int = 3, replicas: bool = True, name: str = "redis-8.2"
) -> RedisCluster:
    """Ready: all slots are served, and each replica has what its master has."""
    count = 2 * masters if replicas else masters
    nodes = []
    for number in range(count):
        home = folder / f"node-{number}"
        home.mkdir()
        # The usual port of the cluster's own traffic is 10000 further, which may be none.
        options = (*_NODE, "--cluster-port", str(free_port()))
        nodes.append(start_on_a_port(home, *options, name=name))
        stack.callback(nodes[-1].kill)
    cluster = RedisCluster(nodes)
    for number in range(masters):
        first, last = number * _SLOTS // masters, (number + 1) * _SLOTS // masters - 1
        cluster.ask(number, "CLUSTER", "ADDSLOTSRANGE", first, last)
        cluster.ask(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    bus = cluster.ask(0, "CONFIG", "GET", "cluster-port")[1]

    def have_met() -> bool:
        """A node that is slow to answer is forgotten, so they meet until all know all."""
        strangers = [server for server in nodes if not _knows(server, count)]
        for server in strangers:
            if server is not nodes[0]:
                ask(server, "CLUSTER", "MEET", "127.0.0.1", nodes[0].port, bus)
        return not strangers

    wait_until(have_met)
    for number in range(masters, count):
        master = cluster.ask(number - masters, "CLUSTER", "MYID").decode()
        cluster.ask(number, "CLUSTER", "REPLICATE", master)
    wait_until(lambda: cluster.is_well() and all(map(_follows, nodes[masters:])))
    return cluster


def _knows(server: RedisServer, count: int) -> bool:
    """Whether it has heard of so many nodes by their names."""
    known = ask(server, "CLUSTER", "NODES").decode().splitlines()
    return sum("handshake" not in line for line in known) == count


def _follows(server: RedisServer) -> bool:
    return b"master_link_status:up" in ask(server, "INFO", "replication")


@dataclass(frozen=True, slots=True)
class RedisSentinels:
    """Three sentinels, a master that they watch, and its replica."""

    master: RedisServer
    replica: RedisServer
    ports: Sequence[int]

    def config(self, **others: Any) -> RedisConfig:
        hosts = ", ".join(f"127.0.0.1:{port}" for port in self.ports)
        return RedisConfig.model_validate({"sentinel": {"hosts": hosts, "master": "cached"}, **others})


@pytest.fixture
def redis_sentinels(tmp_path: Path) -> Iterator[RedisSentinels]:
    """They know each other and the replica, so that they can replace the master."""
    with ExitStack() as stack:

        def start(name: str, *options: str, is_sentinel: bool = False) -> RedisServer:
            (tmp_path / name).mkdir()
            server = start_on_a_port(tmp_path / name, *options, name="redis-8.2", is_sentinel=is_sentinel)
            stack.callback(server.kill)
            return server

        master = start("master", *_AT_ONCE)
        replica = start("replica", "--replicaof", "127.0.0.1", str(master.port))
        sentinels = [start(f"sentinel-{number}", is_sentinel=True) for number in range(3)]
        for server in sentinels:
            ask(server, "SENTINEL", "MONITOR", "cached", "127.0.0.1", master.port, 2)
            ask(server, "SENTINEL", "SET", "cached", "down-after-milliseconds", 1000)
        wait_until(lambda: all(map(_sees_all, sentinels)) and _follows(replica))
        yield RedisSentinels(master, replica, [server.port for server in sentinels])


def _sees_all(sentinel: RedisServer) -> bool:
    return b"slaves=1,sentinels=3" in ask(sentinel, "INFO", "sentinel")


@pytest.fixture(scope="session")
def _shared_cluster() -> Iterator[RedisCluster]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmhost-cluster-")))
        yield start_cluster(folder, stack)


@pytest.fixture
def redis_cluster(_shared_cluster: RedisCluster) -> RedisCluster:
    """Three masters and three replicas, empty. The same processes serve all tests: a test that moves slots or
    kills a node takes `own_redis_cluster`."""
    for node in range(3):
        _shared_cluster.ask(node, "FLUSHALL")
        _shared_cluster.ask(node, "SCRIPT", "FLUSH")
    return _shared_cluster


@pytest.fixture
def own_redis_cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """As `redis_cluster`, for this test alone."""
    with ExitStack() as stack:
        yield start_cluster(tmp_path, stack)


@pytest.fixture
async def cluster_client(redis_cluster: RedisCluster) -> AsyncIterator[ClusterClient]:
    """Connected to `redis_cluster` as llmhost connects."""
    client = connect(redis_cluster.config())
    assert isinstance(client, ClusterClient)
    yield client
    await client.aclose()
