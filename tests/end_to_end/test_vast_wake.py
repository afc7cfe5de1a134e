"""A request that wakes a rented fleet: the real gateway, TLS and nginx, at the double of vast.ai."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from doubles.free_port import free_port
from doubles.waiting import until
from plugins.rented_commands import ENDLESS, QUICK, RentedHouse

pytestmark = pytest.mark.slow

ASKED: Any = {"model": "tiny", "messages": [{"role": "user", "content": "Say hello."}]}


def configure(house: RentedHouse, *, budget: float = 5.0, **gateway: Any) -> None:
    house.configure(
        fleet={"max_gpus": 3, "budget": {"per_hour": budget}, "ready_timeout": "20m"},
        engine={"first_token_timeout": "60s"},
        scale={"tokens_per_s": 10_000},  # one worker is enough for all
        gateway=gateway,
    )


@asynccontextmanager
async def serving(house: RentedHouse) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    serving = await house.start("serve", "--port", str(port))
    await serving.until("err", f":{port}/v1")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        yield http
    serving.interrupt()
    await serving.end()


async def test_a_request_without_a_worker_rents_one_and_gets_its_answer(rented_house: RentedHouse) -> None:
    configure(rented_house, wake=True)
    async with serving(rented_house) as http:
        answers = await asyncio.gather(*(_ask(http, f"Say hello {number}.") for number in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
        assert {answer.headers["x-llmhost-worker"] for answer in answers} == set(rented_house.alive())
    assert (len(rented_house.alive()), rented_house.server.created_total) == (1, 1)
    assert len((await rented_house.ok("scale", "history"))["decisions"]) == 1
    assert [worker["ready"] for worker in (await rented_house.status()).values()] == [True]
    await rented_house.ok("down", "--all")


async def _ask(http: httpx.AsyncClient, prompt: str) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": prompt}]}
    return await http.post("/v1/chat/completions", json=body)


async def test_a_client_that_leaves_meanwhile_does_not_undo_the_purchase(rented_house: RentedHouse) -> None:
    configure(rented_house, wake=True)
    rented_house.server.world.boot = ENDLESS
    async with serving(rented_house) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=ASKED))
        await until(rented_house.alive)
        asking.cancel()
        await asyncio.wait([asking])
    assert len(rented_house.alive()) == 1


async def test_what_keeps_a_fleet_asleep_is_told_at_once(rented_house: RentedHouse) -> None:
    told = []
    for budget, wake in ((5.0, None), (5.0, False), (0.01, True)):
        configure(rented_house, budget=budget, **({} if wake is None else {"wake": wake}))
        async with serving(rented_house) as http:
            answer = await http.post("/v1/chat/completions", json=ASKED)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text
            told.append(answer.json()["error"]["message"])
    assert "or set `gateway.wake: true`" in told[0]
    assert "run `llmhost up`" in told[1]
    assert "fleet.budget.per_hour" in told[2]
    assert rented_house.server.created_total == 0


async def test_a_fleet_that_was_taken_down_stays_down(rented_house: RentedHouse) -> None:
    configure(rented_house, wake=True)
    rented_house.server.world.boot = QUICK
    await rented_house.ok("up", "--yes")
    await rented_house.ok("down", "--all", "--yes")
    async with serving(rented_house) as http:
        answer = await http.post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 503
    assert "by `llmhost down`; `llmhost up` resumes" in answer.json()["error"]["message"]
    assert rented_house.alive() == []
