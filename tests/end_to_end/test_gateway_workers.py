"""Several processes of the gateway are as one to the workers behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from doubles.held_server import HeldServer
from doubles.waiting import until
from plugins.commands import House, configure_static

pytestmark = pytest.mark.slow

TALK = [
    {"role": "user", "content": "Say hello."},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Again."},
]


@pytest.fixture
async def servers() -> AsyncIterator[list[HeldServer]]:
    async with HeldServer() as one, HeldServer() as other:
        yield [one, other]


async def test_they_keep_to_the_slots_together_and_a_conversation_to_its_worker(
    house: House, servers: list[HeldServer]
) -> None:
    configure_static(
        house,
        *servers,
        engine={"kind": "openai", "model": "tiny", "slots": 2},
        cache={"enabled": False},
        gateway={"autostart": False},
    )
    for server in servers:
        server.open.set()
    await house.ok("up")
    ports = free_ports(2)
    serving = [await house.start("serve", "--port", str(port)) for port in ports]
    for one in serving:
        await one.until("err", "/v1")
    async with httpx.AsyncClient(timeout=60) as http:

        async def ask(port: int, **fields: Any) -> httpx.Response:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            return await http.post(url, json={"model": "tiny", "messages": TALK, **fields})

        same = {(await ask(port)).headers["x-llmhost-worker"] for port in ports * 2}
        for server in servers:
            server.open.clear()
            server.most = 0
        asked = [asyncio.create_task(ask(port)) for port in ports * 5]
        await until(lambda: sum(server.under_way for server in servers) == 4)
        for server in servers:
            server.open.set()
        answers = await asyncio.gather(*asked)
    for one in serving:
        one.interrupt()
        await one.end()
    assert (len(same), [answer.status_code for answer in answers]) == (1, [200] * 10)
    assert [server.most for server in servers] == [2, 2]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
