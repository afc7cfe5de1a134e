"""What a test of the gateway speaks to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from doubles.openai_server import OpenAIServer

from llmhost.gateway.observe import Observation
from llmhost.gateway.server import GatewayServer


@dataclass(frozen=True, slots=True)
class House:
    """A gateway that serves the model `tiny` of `engine`; `http` speaks to it."""

    url: str
    http: httpx.AsyncClient
    engine: OpenAIServer
    server: GatewayServer
    observation: Observation

    async def chat(self, prompt: str = "Say hello.", headers: Any = None, **fields: Any) -> httpx.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": prompt}], **fields}
        return await self.http.post("/v1/chat/completions", json=body, headers=headers)

    async def passes_on(self, path: str, body: Any, named: str) -> Any:
        """What reaches the engine where unknown fields are `named` and passed on around the cache."""
        for stream in (False, True):
            answer = await self.http.post(path, json={**body, "stream": stream})
            assert answer.status_code == 200
            assert answer.headers["x-llmhost-cache"] == "bypass"
            assert answer.headers["x-llmhost-unknown-fields"] == named
        return self.engine.requests[-1].json


Serve = Callable[..., Any]
AddKey = Callable[..., Awaitable[str]]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
