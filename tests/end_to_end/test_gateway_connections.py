"""Ten thousand clients that connect and say nothing keep no other client from its answer."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import psutil
import pytest
from plugins.commands import House

pytestmark = pytest.mark.slow

IDLE = 10_000
#: bytes of the gateway's memory for each of them; it is about 6,000
MOST_MEMORY = 30_000


@pytest.fixture
def descriptors() -> Iterator[None]:
    """This process may have as many as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE * 1.5:
        pytest.skip(f"the system allows a process {hard} file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(IDLE * 1.5), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_idle_connections_keep_nobody_from_an_answer(static_house: House, descriptors: None) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    serving = await static_house.start("serve", "--port", str(port))
    await serving.until("err", "/v1")
    process = psutil.Process(serving.process.pid)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        await ask(http)
        before = process.memory_info().rss
        with ExitStack() as stack:
            for _ in range(IDLE):
                await connect(stack, port)
            await ask(http)
            grown = process.memory_info().rss - before
    serving.interrupt()
    await serving.end()
    assert grown < IDLE * MOST_MEMORY


async def connect(stack: ExitStack, port: int) -> None:
    client = stack.enter_context(closing(socket.socket()))
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))


async def ask(http: httpx.AsyncClient) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Say hello."}]}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
