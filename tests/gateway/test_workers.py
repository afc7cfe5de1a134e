"""Which worker a request to the gateway goes to, and what happens where none is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from doubles.gateway_house import House, Serve
from doubles.held_server import HeldServer
from doubles.waiting import until
from plugins.redis_servers import RedisServer

from llmhost.config.models import Config
from llmhost.engines import breaker
from llmhost.engines.redis_traffic import RedisTraffic
from llmhost.gateway import asking
from llmhost.wiring import Wiring

TALK = [
    {"role": "user", "content": "Say hello."},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Again."},
]


@pytest.fixture
async def servers() -> AsyncIterator[Sequence[HeldServer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(HeldServer()) for _ in range(3)]


Fleet = Callable[..., Any]


@pytest.fixture
def fleet(serve: Serve, servers: Sequence[HeldServer]) -> Fleet:
    """Serves these servers; those that are `up` answer `up`'s question."""

    @asynccontextmanager
    async def run(*, workers: int = 3, slots: int = 4, **gateway: Any) -> AsyncIterator[House]:
        for server in servers:
            server.open.set()
        sections = {**sections_of(servers, slots), "gateway": gateway}
        async with serve(workers=workers, **sections) as house:
            for server in servers:
                server.requests.clear()
                server.most = 0
            yield house

    return run


def sections_of(servers: Sequence[HeldServer], slots: int) -> dict[str, Any]:
    return {
        "fleet": {"provider": "static", "workers": [{"url": server.url} for server in servers]},
        "engine": {"kind": "openai", "model": "tiny", "slots": slots},
        "cache": {"enabled": False},
    }


async def post(house: House, *, messages: Any = TALK, headers: Any = None, **fields: Any) -> httpx.Response:
    body = {"model": "tiny", "messages": messages, **fields}
    return await house.http.post("/v1/chat/completions", json=body, headers=headers)


def worker_of(answer: httpx.Response) -> str:
    return str(answer.headers["x-llmhost-worker"])


async def test_a_conversation_stays_with_one_worker_in_every_gateway(fleet: Fleet) -> None:
    async with fleet() as house:
        first = {worker_of(await post(house)) for _ in range(4)}
        longer = [*TALK, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "More."}]
        first.add(worker_of(await post(house, messages=longer)))
    async with fleet() as house:
        first.add(worker_of(await post(house)))
    assert len(first) == 1


async def test_a_session_stays_with_one_worker_and_single_questions_are_spread(fleet: Fleet) -> None:
    alone = [{"role": "user", "content": "Say hello."}]
    async with fleet() as house:
        session = {worker_of(await post(house, messages=alone, prompt_cache_key="s")) for _ in range(4)}
        chat = {
            worker_of(await post(house, messages=alone, headers={"X-OpenWebUI-Chat-Id": "c"}))
            for _ in range(4)
        }
        body = {"model": "tiny", "messages": alone, "max_tokens": 9}
        code = {"X-Claude-Code-Session-Id": "s"}
        claude = {worker_of(await house.http.post("/v1/messages", json=body, headers=code)) for _ in range(4)}
        single = {worker_of(await post(house, messages=alone)) for _ in range(6)}
    assert (len(session), len(chat), len(claude), len(single)) == (1, 1, 1, 3)


async def test_where_all_slots_are_taken_a_request_waits_and_then_is_refused_with_when_to_come_again(
    fleet: Fleet, servers: Sequence[HeldServer], redis_client: Any
) -> None:
    async with fleet(workers=2, slots=2, queue=2) as house:
        for server in servers:
            server.open.clear()
        asked = [asyncio.create_task(post(house)) for _ in range(6)]
        await until(lambda: sum(server.under_way for server in servers) == 4)
        await until(lambda: waiting(redis_client, 2))
        refused = await post(house)
        for server in servers:
            server.open.set()
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert max(server.most for server in servers) == 2
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert refused.json()["error"]["code"] == "queue_full"


async def waiting(client: Any, count: int) -> bool:
    """Whether that many are seen by the autoscaler."""
    return (await RedisTraffic(client, "local", 1).read([])).waiting == count


async def test_a_request_that_waits_for_too_long_is_status_503(
    fleet: Fleet, servers: Sequence[HeldServer]
) -> None:
    async with fleet(workers=1, slots=1, queue_timeout=0.05) as house:
        for server in servers:
            server.open.clear()
        asked = asyncio.create_task(post(house))
        await until(lambda: sum(server.under_way for server in servers) == 1)
        refused = await post(house)
        for server in servers:
            server.open.set()
        assert (await asked).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["error"]["message"].startswith("all workers were busy for 0.05 s")


async def test_a_stream_that_waits_for_a_slot_shows_signs_of_life(
    fleet: Fleet, servers: Sequence[HeldServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PING_PERIOD", 0.01)
    async with fleet(workers=1, slots=1) as house:
        for server in servers:
            server.open.clear()
        asked = asyncio.create_task(post(house))
        await until(lambda: sum(server.under_way for server in servers) == 1)
        body = {"model": "tiny", "messages": TALK, "stream": True}
        async with house.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith(":")
            for server in servers:
                server.open.set()
            assert [line async for line in lines if line][-1] == "data: [DONE]"
        assert (await asked).status_code == 200


async def test_a_client_that_leaves_while_it_waits_is_not_waited_for(
    fleet: Fleet, servers: Sequence[HeldServer], redis_client: Any
) -> None:
    async with fleet(workers=1, slots=1) as house:
        for server in servers:
            server.open.clear()
        asked = asyncio.create_task(post(house))
        await until(lambda: sum(server.under_way for server in servers) == 1)
        leaving = asyncio.create_task(post(house))
        await until(lambda: waiting(redis_client, 1))
        leaving.cancel()
        await until(lambda: waiting(redis_client, 0))
        for server in servers:
            server.open.set()
        assert (await asked).status_code == 200
    assert sum(len(server.requests) for server in servers) == 1


async def test_workers_that_join_are_asked_without_a_restart(
    fleet: Fleet, servers: Sequence[HeldServer], redis_server: RedisServer
) -> None:
    config = Config.model_validate(
        {**sections_of(servers, 4), "redis": {"url": f"unix://{redis_server.socket}"}}
    )
    alone = [{"role": "user", "content": "Say hello."}]
    async with fleet(workers=1) as house:
        assert len({worker_of(await post(house, messages=alone)) for _ in range(3)}) == 1
        async with Wiring(config, warn=lambda _: None, note=lambda _: None) as wiring:
            await (await wiring.fleet()).up(3)
        seen: set[str] = set()

        async def all_asked() -> bool:
            seen.add(worker_of(await post(house, messages=alone)))
            return len(seen) == 3

        await until(all_asked)


async def test_where_all_workers_are_dead_requests_fail_at_once_and_say_when_to_come_again(
    fleet: Fleet, servers: Sequence[HeldServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "_PAUSE", 20.0)  # seconds; longer than two requests take
    async with fleet(workers=3) as house:
        for server in servers:
            await server.__aexit__()
        first, second = await post(house), await post(house)
        for server in servers:
            await server.__aenter__()
    assert (first.status_code, second.status_code) == (502, 503)
    assert 1 <= int(second.headers["retry-after"]) <= 20
    assert "have failed" in second.json()["error"]["message"]
