"""A gateway over a static fleet: real HTTP, a real Redis, and the double of an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from doubles.gateway_house import AddKey, House, Serve
from doubles.openai_server import OpenAIServer

from llmhost.config.models import Config
from llmhost.gateway.api_keys import ApiKey, Limits, make_key
from llmhost.gateway.key_store import KeyStore
from llmhost.gateway.observe import Observation
from llmhost.gateway.server import GatewayServer, listen
from llmhost.gateway.tls import certificate_of
from llmhost.wiring import Wiring
from llmhost.wiring.gateways import make_gateway

if TYPE_CHECKING:
    from plugins.redis_servers import RedisServer
    from redis.asyncio import Redis


@pytest.fixture
async def engine() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@pytest.fixture
def serve(engine: OpenAIServer, redis_server: RedisServer, redis_client: Redis) -> Serve:
    """Serves with these sections of the configuration, and that many workers; `beside` are those of a second
    fleet, which has none."""

    @asynccontextmanager
    async def run(
        *, workers: int = 1, verify: Any = True, beside: Any = None, **sections: Any
    ) -> AsyncIterator[House]:
        common: dict[str, Any] = {
            "fleet": {"provider": "static", "workers": [{"url": engine.url}]},
            "engine": {"kind": "openai", "model": "tiny"},
            "redis": {"url": f"unix://{redis_server.socket}"},
        }
        config = Config.model_validate(common | sections)
        listener = listen("127.0.0.1", 0)
        scheme = "https" if "tls_certificate" in sections.get("gateway", {}) else "http"
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        async with AsyncExitStack() as stack:
            wirings = [
                await stack.enter_async_context(Wiring(one, warn=lambda _: None, note=lambda _: None))
                for one in (config, *([Config.model_validate(common | beside)] if beside else []))
            ]
            wiring = wirings[0]
            if workers:
                await (await wiring.fleet()).up(workers)
                engine.requests.clear()
                engine.asked.clear()
            observation = Observation()
            observation.configure(config.gateway)
            server = GatewayServer(
                (await make_gateway(wirings, observation)).app(),
                [listener],
                observation.backlog,
                certificate=certificate_of(config.gateway),
                behind=config.gateway.behind_proxy,
            )
            running = asyncio.create_task(server.run())
            try:
                async with httpx.AsyncClient(base_url=url, timeout=30, verify=verify) as http:
                    yield House(url, http, engine, server, observation)
            finally:
                server.stop()
                await running
                listener.close()
                observation.close()

    return run


@pytest.fixture
async def house(serve: Serve) -> AsyncIterator[House]:
    async with serve() as served:
        yield served


@pytest.fixture
def add_key(redis_client: Redis) -> AddKey:
    """Makes an API key of a tenant, with limits, and returns its text."""

    async def add(
        tenant: str = "acme", *, expires: float | None = None, operator: bool = False, **limits: Any
    ) -> str:
        text, made = make_key()
        key = ApiKey(
            made.id, tenant, Limits(**limits), time.time(), made.digest, expires=expires, operator=operator
        )
        await KeyStore(redis_client).add(key)
        return text

    return add
