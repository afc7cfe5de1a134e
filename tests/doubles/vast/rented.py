"""A worker in a real container, and a client that trusts its certificate and no other."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx
from doubles.http_server import HttpServer, Reply, Request
from doubles.vast.containers import Container, RealContainers
from doubles.waiting import until

from llmhost.fleet.providers.vast.identity import (
    FRONT_PORT,
    Identity,
    WorkerBootConfig,
    environment,
    make_identity,
    onstart,
)

#: The number of the only instance of most tests.
INSTANCE = 7

#: Nobody listens there.
NOWHERE = "http://127.0.0.1:9"


class Receiver(HttpServer):
    """vast.ai as far as a worker speaks to it: it knows the key of each instance, and ends it. It refuses
    the first calls with `status`, and hangs if told to.
    """

    def __init__(self, refuses: int = 0, status: int = 500, hangs: bool = False) -> None:
        super().__init__()
        self.refuses = refuses
        self.status = status
        self.hangs = hangs

    @property
    def endings(self) -> list[Request]:
        return [request for request in self.requests if request.method == "DELETE"]

    async def answer(self, request: Request, reply: Reply) -> None:
        if request.method == "DELETE" and self.hangs:
            return await self.wait(reply)
        if len(self.requests) <= self.refuses:
            return await reply.body(b"try later", self.status, "text/plain")
        return await reply.json({"success": True})


#: vast.ai's key of one instance.
KEY = "5ec4e7" * 8


def orders(**changes: Any) -> WorkerBootConfig:
    values = {
        "model": "tiny",
        "parallel": 2,
        "context": 4096,
        "keep_alive": None,
        "orphan_after": 3600.0,
        "max_body": 65_536,
        "read_timeout": 60.0,
        "api_url": NOWHERE,
    }
    return WorkerBootConfig(**{**values, **changes})


class Rented:
    """Boots at the beginning of `async with` and is stopped at its end."""

    def __init__(self, containers: RealContainers, *, api_url: str = "", **changes: Any) -> None:
        """Without `api_url` there is a vast.ai that accepts its key."""
        self.containers = containers
        self.identity = make_identity(time.time())
        self.env = environment(orders(**changes), self.identity)
        self.container: Container
        self.client: httpx.AsyncClient
        self._api_url = api_url
        self._vast = Receiver()

    async def __aenter__(self) -> Self:
        await self._vast.__aenter__()
        api_url = self._api_url or self._vast.url
        self.container = await self.containers.start(INSTANCE, onstart(), self.env, api_url, KEY)
        self.client = self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
        await self.container.stop()
        await self._vast.__aexit__(None, None, None)

    def connect(self, token: str | None = "", trusting: Identity | None = None) -> httpx.AsyncClient:
        """A client with the worker's own token, another, or none; `trusting` its certificate or another's."""
        token = self.identity.token if token == "" else token
        return httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{self.container.ports[FRONT_PORT]}",
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            verify=pinned(trusting or self.identity),
            trust_env=False,
            timeout=30,
            limits=httpx.Limits(max_connections=10),
        )

    async def statuses(self, path: str, count: int) -> list[int]:
        """Of so many requests that are sent at once, which takes no time on a busy machine either."""
        port = self.container.ports[FRONT_PORT]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=pinned(self.identity))
        head = f"GET {path} HTTP/1.1\r\nHost: worker\r\nAuthorization: Bearer {self.identity.token}\r\n\r\n"
        writer.write(head.encode() * count)
        found, read = list[int](), b""
        while len(found) < count and (part := await reader.read(1 << 16)):
            read += part
            found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", read)]
        writer.close()
        return found

    async def answer(self, path: str) -> Any:
        """What it says there; None while it does not answer."""
        with suppress(httpx.HTTPError):
            response = await self.client.get(path)
            return response.json() if response.status_code == 200 else None

    async def until_stage(self, stage: str) -> dict[str, Any]:
        """Its progress once it is at this stage; a stage that it does not come from there fails the test."""

        async def arrived() -> Any:
            progress = await self.answer("/llmhost/progress")
            if progress and progress["stage"] in {"ready", "failed"}:
                assert progress["stage"] == stage, progress
            return progress if progress and progress["stage"] == stage else None

        found: dict[str, Any] = await until(arrived)
        return found

    async def until_metrics(self, **expected: Any) -> dict[str, Any]:
        """Its metrics once they say this."""

        async def said() -> Any:
            metrics = await self.answer("/llmhost/metrics")
            return metrics if metrics and {**metrics, **expected} == metrics else None

        found: dict[str, Any] = await until(said)
        return found

    async def metrics_with_models(self) -> dict[str, Any] | None:
        """Its metrics once a model is loaded."""
        metrics: dict[str, Any] | None = await self.answer("/llmhost/metrics")
        return metrics if metrics and metrics["models"] else None

    async def chat(self) -> httpx.Response:
        return await self.client.post("/api/chat", json=question())

    async def again(self) -> int:
        """Runs the onstart text once more, beside what runs already; gives its exit status."""
        process = await self.container.run_onstart("bash", self.container.group)
        async with asyncio.timeout(10):
            return await process.wait()


def question(text: str = "Hello?") -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}]}


def pinned(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=identity.certificate)
    return context
