"""One question, one engine call: of several processes that miss at once, one leads and the others wait."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from llmhost.errors import StoreError
from llmhost.store.client import load_script, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["SingleFlight"]

#: seconds; a leader that died keeps the others waiting for this long
_LIFETIME = 10.0

#: seconds; often enough that one lost renewal does not end a flight
_RENEWAL = 3.0

#: seconds; how often a waiting process looks
_POLL = 0.05


class SingleFlight:
    """Flights by entry, held in Redis by a lease that its leader renews."""

    def __init__(self, client: Redis, keys: NamespaceKeys) -> None:
        self._client = client
        self._keys = keys
        self._release = client.register_script(load_script("llmhost.cache.lua", "release.lua"))
        self._renew = client.register_script(load_script("llmhost.cache.lua", "renew.lua"))

    @asynccontextmanager
    async def lead(self, entry: str) -> AsyncIterator[bool]:
        """True within the block for the one that leads, False for all others.

        Raises:
            StoreError: Redis is away; nobody leads.
        """
        key, token = self._keys.flight(entry), secrets.token_hex(16)
        with translate_errors():
            leads = bool(await self._client.set(key, token, nx=True, px=round(_LIFETIME * 1000)))
        if not leads:
            yield False
            return
        renewing = asyncio.create_task(self._keep(key, token))
        try:
            yield True
        finally:
            renewing.cancel()
            with suppress(StoreError), translate_errors():
                await self._release(keys=[key], args=[token])

    async def wait(self, entry: str) -> None:
        """Returns when nobody leads this entry's flight any more."""
        while True:
            with translate_errors():
                if not await self._client.exists(self._keys.flight(entry)):
                    return
            await asyncio.sleep(_POLL)

    async def _keep(self, key: str, token: str) -> None:
        while True:
            await asyncio.sleep(_RENEWAL)
            with suppress(StoreError), translate_errors():
                await self._renew(keys=[key], args=[token, round(_LIFETIME * 1000)])
