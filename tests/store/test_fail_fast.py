"""One question uses Redis in several steps; only the first of them waits for a server that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable
from llmhost.store import client as connecting
from llmhost.store.client import connect, translate_errors


@dataclass
class Silent:
    """A server that takes connections and never says a word."""

    port: int = 0
    connections: list[asyncio.StreamWriter] = field(default_factory=list)


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    made = Silent()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections.append(writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    for writer in made.connections:
        writer.close()
    await server.wait_closed()


async def fails(client: object) -> str:
    with pytest.raises(StoreUnavailable) as caught, translate_errors():
        await client.get("key")
    return caught.value.message


async def test_after_a_silent_server_nothing_more_is_tried_for_a_while(silent: Silent) -> None:
    client = connect(RedisConfig(host="127.0.0.1", port=silent.port, timeout=0.1))
    messages = {await fails(client) for _ in range(5)}
    assert (messages, len(silent.connections)) == ({"Redis does not answer in time"}, 1)
    await client.aclose()


async def test_after_that_while_it_is_tried_again(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_PAUSE", 0.0)
    client = connect(RedisConfig(host="127.0.0.1", port=silent.port, timeout=0.1))
    for _ in range(2):
        await fails(client)
    assert len(silent.connections) == 2
    await client.aclose()
