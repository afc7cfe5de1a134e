"""The real vastai SDK, called from async tests."""

from __future__ import annotations

import asyncio
from typing import Any

from doubles.vast.server import VastServer

from llmhost.fleet.clock import Clock

#: seconds of real time; only a call that is never answered waits as long.
PATIENCE = 5.0

#: What a worker of ours asks for, roughly.
ORDER: dict[str, Any] = {
    "image": "ollama/ollama:0.5",
    "disk": 50.0,
    "label": "llmhost/home/1700000000-0123abcd",
    "env": {"LLMHOST_MODEL": "qwen2:0.5b", "-p 8443:8443": "1"},
    "onstart_cmd": "echo hello",
    "ssh": True,
    "direct": True,
    "cancel_unavail": True,
}


class Sdk:
    """`await sdk("show_instances")` calls that method of `VastAI` in a thread, once, without retries.

    `timeout` is seconds that it waits for an answer.
    """

    def __init__(self, server: VastServer, key: str | None = None) -> None:
        from vastai import VastAI

        self._api = VastAI(server.key if key is None else key, server_url=server.url, retry=1)
        self.timeout = PATIENCE

    async def __call__(self, method: str, *args: Any, **named: Any) -> Any:
        self._api.client.timeout = self.timeout
        return await asyncio.to_thread(getattr(self._api, method), *args, **named)

    async def client(self, method: str, path: str, **named: Any) -> Any:
        """The answer as it came, from the HTTP client under the SDK."""
        return await asyncio.to_thread(getattr(self._api.client, method), path, **named)


class Tenant:
    """Somebody with an account at the double, who uses the SDK. `sdk` may call as often as it likes."""

    def __init__(self, server: VastServer, clock: Clock) -> None:
        self.server = server
        self.clock = clock
        self.sdk = Sdk(server)

    async def rent(self, offer: int | None = None, **changes: Any) -> int:
        """Buys an instance of `offer`, or of a new good one, and gives its id."""
        chosen = self.server.market.add()["id"] if offer is None else offer
        bought = await self.sdk("create_instance", chosen, **{**ORDER, **changes})
        return int(bought["new_contract"])

    async def rent_running(self, offer: int | None = None, **changes: Any) -> int:
        """The same, and waits until it runs."""
        id = await self.rent(offer, **changes)
        await self.clock.sleep(self.server.world.boot.running)
        return id

    async def row(self, id: int) -> dict[str, Any]:
        """As the list shows it."""
        return next(row for row in await self.sdk("show_instances") if row["id"] == id)
