"""How often the user is warned, and when a Redis that was away is asked again."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from doubles.waiting import until
from plugins.cache import MakeCache
from redis.exceptions import RedisError

from llmhost.answering.cache_session import CacheSessions, RecordedWeights, WarnOnce
from llmhost.answering.question import Question
from llmhost.cache.single_flight import SingleFlight
from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable, UntrustedWorker
from llmhost.store import connections
from llmhost.store.client import connect
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from plugins.redis_servers import PortServer
    from redis.asyncio import Redis


class Clock:
    """Seconds; moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def warn_once(told: list[str], clock: Clock) -> WarnOnce:
    return WarnOnce(told.append, period=60.0, clock=clock)


def test_an_effect_is_told_once_whatever_its_cause(warn_once: WarnOnce, told: list[str]) -> None:
    warn_once.warn("the cache is off", ValueError("this"))
    warn_once.warn("the cache is off", ValueError("that"))
    assert told == ["the cache is off: this"]


def test_what_still_fails_after_the_period_is_told_again(
    warn_once: WarnOnce, told: list[str], clock: Clock
) -> None:
    for _ in range(5):
        warn_once.warn("the cache is off", ValueError("this"))
        clock.now += 20.0
    assert told == ["the cache is off: this"] * 2


def test_what_was_told_does_not_grow_for_ever(warn_once: WarnOnce) -> None:
    for number in range(10_000):
        warn_once.warn(f"effect {number}", ValueError(f"cause {number}"))
    assert len(warn_once.warned) < 1_000


def test_each_worker_that_is_not_itself_is_told_once(warn_once: WarnOnce, told: list[str]) -> None:
    for number in (1, 1, 2):
        warn_once.warn_untrusted(f"vast-{number}", UntrustedWorker(f"https://w{number} shows another"))
    assert told == [
        f"worker vast-{number} is not asked until `llmhost up` replaces it: https://w{number} shows another"
        for number in (1, 2)
    ]


async def test_a_redis_that_dies_is_left_alone_for_the_pause_and_then_used_again(
    redis_port_server: PortServer,
    warn_once: WarnOnce,
    clock: Clock,
    make_cache: MakeCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "_PAUSE", 0.0)
    server = redis_port_server()
    client = connect(RedisConfig(host="127.0.0.1", port=server.port))
    keys, restored = NamespaceKeys("test"), []
    started: list[subprocess.Popen[bytes]] = []

    async def restore() -> None:
        restored.append(clock.now)
        if len(restored) == 1:
            raise StoreUnavailable("not yet")
        started.append(subprocess.Popen(server.process.args, cwd=server.folder, stdout=subprocess.DEVNULL))  # noqa: ASYNC220
        await until(lambda: answers(client))

    sessions = CacheSessions(
        make_cache(client=client),
        lambda: SingleFlight(client, keys),
        warn_once,
        restore=restore,
        pause=5.0,
        clock=clock,
    )
    asked = Question("what is it", "m", "t")
    assert await (await sessions.open(asked)).exact() is None
    server.kill()
    lost = await sessions.open(asked)
    assert (await lost.exact(), lost.available) == (None, False)
    availables = []
    for seconds in (4.9, 0.2, 4.0, 2.0):
        clock.now += seconds
        session = await sessions.open(asked)
        availables.append(session.available)
    assert availables == [False, False, False, True]
    assert restored == [pytest.approx(1005.1), pytest.approx(1011.1)]
    await client.aclose()
    for again in started:
        again.kill()
        again.wait()


async def answers(client: Redis) -> bool:
    try:
        return bool(await client.ping())
    except RedisError:
        return False


async def test_what_workers_were_seen_to_serve_is_known_without_them(redis_client: Redis) -> None:
    weights = RecordedWeights(redis_client, "f")
    assert await weights.digest("tiny") == ""
    await weights.seen("tiny", "sha256:a")
    again = [await RecordedWeights(redis_client, fleet).digest("tiny") for fleet in ("f", "g")]
    assert again == ["sha256:a", ""]
