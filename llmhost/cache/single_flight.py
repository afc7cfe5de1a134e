"""One question, one engine call: of all that miss at once, one leads and the others wait.

Within a process they wait for an event of asyncio. Of each other process one waits, for the message that the
leader publishes when it is done. The lease in Redis, which the leader renews, ends the wait where it died.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmhost.errors import StoreError
from llmhost.store.client import load_script, text, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

__all__ = ["SingleFlight"]

#: seconds; a leader that died keeps the others waiting for this long
_LIFETIME = 10.0
#: seconds; often enough that one lost renewal does not end a flight
_RENEWAL = 3.0


class SingleFlight:
    """Flights by entry. Raises StoreError where Redis is away; then none leads."""

    def __init__(self, client: Redis, keys: NamespaceKeys) -> None:
        self._client = client
        self._keys = keys
        self._release = client.register_script(load_script("llmhost.cache", "release.lua"))
        self._renew = client.register_script(load_script("llmhost.cache", "renew.lua"))
        #: flights that this process leads or waits for in Redis
        self._local: dict[str, asyncio.Event] = {}
        self._ends = _Ends(client)

    @asynccontextmanager
    async def join(self, entry: str) -> AsyncIterator[bool]:
        """True within the block for the one that leads, until the block ends. All others get False, once that
        one has finished or died. Raises StoreError where Redis is away.
        """
        if (under_way := self._local.get(entry)) is not None:
            await under_way.wait()
            yield False
            return
        done = self._local[entry] = asyncio.Event()
        try:
            key, token = self._keys.flight(entry), secrets.token_hex(16)
            with translate_errors():
                leads = bool(await self._client.set(key, token, nx=True, px=round(_LIFETIME * 1000)))
            if leads:
                async with self._led(key, token):
                    yield True
                return
            await self._ends.wait(key)
        finally:
            del self._local[entry]
            done.set()
        yield False

    @asynccontextmanager
    async def _led(self, key: str, token: str) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._keep(key, token))
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(StoreError), translate_errors():
                await self._release(keys=[key], args=[token])

    async def _keep(self, key: str, token: str) -> None:
        while True:
            await asyncio.sleep(_RENEWAL)
            with suppress(StoreError), translate_errors():
                await self._renew(keys=[key], args=[token, round(_LIFETIME * 1000)])


@dataclass(slots=True)
class _Watch:
    """One flight that is waited for. `woken` is set when there is something to look at."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False


class _Ends:
    """Waits for the ends of flights that other processes lead: over one connection, however many they are."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._watched: dict[str, _Watch] = {}
        self._messages: PubSub | None = None
        self._listener: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def wait(self, key: str) -> None:
        """Returns when the flight has ended, or its lease has. Raises StoreError."""
        watch = self._watched[key] = _Watch()
        try:
            with translate_errors():
                await self._subscribe(key)
                remaining = _LIFETIME
                while remaining > 0:
                    # Woken first by the subscription's own confirmation: an end before it was not heard.
                    with suppress(TimeoutError):
                        async with asyncio.timeout(remaining):
                            await watch.woken.wait()
                    watch.woken.clear()
                    if watch.ended:
                        return
                    remaining = await self._client.pttl(key) / 1000
        finally:
            del self._watched[key]
            await self._unsubscribe(key)

    async def _subscribe(self, key: str) -> None:
        async with self._turn:
            if self._messages is None:
                self._messages = self._client.pubsub()
            await self._messages.subscribe(key)
            if self._listener is None or self._listener.done():
                self._listener = asyncio.create_task(self._listen(self._messages))

    async def _unsubscribe(self, key: str) -> None:
        """Closes the connection where no flight is waited for any more."""
        async with self._turn:
            messages, listener = self._messages, self._listener
            with suppress(StoreError), translate_errors():
                if messages is not None and self._watched:
                    await messages.unsubscribe(key)
                elif messages is not None:
                    self._messages = self._listener = None
                    if listener is not None:
                        listener.cancel()
                    await messages.aclose()  # type: ignore[no-untyped-call]

    async def _listen(self, messages: PubSub) -> None:
        with suppress(StoreError), translate_errors():
            while True:
                message = await messages.get_message(timeout=_LIFETIME)
                watch = None if message is None else self._watched.get(text(message["channel"]))
                if message is not None and watch is not None:
                    watch.ended = watch.ended or message["type"] == "message"
                    watch.woken.set()
        # The connection is lost, or Redis refuses it: each looks once more, and then when its lease ends.
        for watch in self._watched.values():
            watch.woken.set()
