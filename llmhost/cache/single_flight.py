"""One question, one engine call: of all processes that miss at once, one leads and the others follow it.

A lease in Redis says who leads, and ends where the leader died. On the channel of the same name the leader
tells what comes, some times a second, and last the answer. Each follower leaves a mark on the lease, so that
the leader sees that a new one has come, which has heard nothing yet.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmhost.cache.models import Answer
from llmhost.cache.stored import answer_of, decode_answer, encode_answer
from llmhost.errors import StoreError
from llmhost.store.client import is_sharded, load_script, run_or_undo, text, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

__all__ = ["Follow", "Lead", "Piece", "SingleFlight"]

#: seconds; a leader that died keeps the others waiting for this long
_LIFETIME = 10.0
#: seconds; often enough that one lost renewal does not end a flight
_RENEWAL = 3.0
#: seconds; how long the last message may take once the lease has ended
_LAST_MESSAGE = 1.0

#: a part of an answer: what it is, and its text
Piece = tuple[str, str]


class Lead:
    """This process is to ask an engine. What it gives is told to the processes that follow."""

    def __init__(self, flights: SingleFlight, key: str) -> None:
        self._flights = flights
        self._key = key
        self.token = secrets.token_hex(16)
        self._told = 0
        self._marks = 0
        #: how many other processes listened when they were last told
        self.followers = 0
        #: the answer that is stored: the process that led before may have stored one meanwhile
        self.stored: Answer | None = None
        #: the whole answer, which they are told when the flight ends; None where there is none to share
        self.answer: Answer | None = None

    async def tell(self, pieces: Sequence[Piece]) -> None:
        """Tells those that follow what is new in `pieces`, which are all that came until now. Where Redis is
        away, they are told nothing."""
        new = pieces[self._told :] if self.followers else ()
        message = json.dumps({"from": self._told, "pieces": list(new)})
        with suppress(StoreError), translate_errors():
            listening, marks = await self._flights.told(keys=[self._key], args=[self.token, message])
            # Of a cluster, Redis counts those that listen to one node: there, all count that ever followed.
            self.followers = marks if self._flights.sharded else listening
            # A new follower has heard nothing yet; the others skip what they have.
            self._told = 0 if marks != self._marks else self._told + len(new)
            self._marks = marks

    async def keep(self) -> None:
        """Renews the lease until it is cancelled."""
        while True:
            await asyncio.sleep(_RENEWAL)
            with suppress(StoreError), translate_errors():
                await self._flights.renew(keys=[self._key], args=[self.token, round(_LIFETIME * 1000)])

    async def end(self) -> None:
        answer = None if self.answer is None else encode_answer(self.answer)
        last = json.dumps({"end": True, "answer": answer})
        with suppress(StoreError), translate_errors():
            await self._flights.release(keys=[self._key], args=[self.token, last])


class Follow:
    """Another process asks an engine, and tells what it gives."""

    def __init__(self, channels: _Channels, key: str) -> None:
        self._channels = channels
        self._key = key
        #: the whole answer, once the pieces have ended; None where the leader failed or died
        self.answer: Answer | None = None

    async def pieces(self) -> AsyncGenerator[Piece]:
        """What the leader's answer consists of, as it comes. It ends with the flight, or with its lease.
        Raises StoreError where Redis is away."""
        seen = 0
        async for message in self._channels.messages(self._key):
            if message.get("end"):
                answer = message.get("answer")
                self.answer = decode_answer(answer) if isinstance(answer, str) else None
                return
            begin, pieces = _checked(message)
            if begin <= seen:  # else what came before is still to be told
                for piece in pieces[seen - begin :]:
                    seen += 1
                    yield piece


def _checked(message: dict[str, Any]) -> tuple[int, Sequence[Piece]]:
    """What a message says; nothing where it is not one of ours."""
    begin, pieces = message.get("from"), message.get("pieces")
    if not isinstance(begin, int) or begin < 0 or not isinstance(pieces, list):
        return 0, ()
    if not all(
        isinstance(piece, list) and len(piece) == 2 and all(isinstance(part, str) for part in piece)
        for piece in pieces
    ):
        return 0, ()
    return begin, [(kind, words) for kind, words in pieces]


class SingleFlight:
    """Flights by entry. Raises StoreError where Redis is away; then none leads."""

    def __init__(self, client: Redis, keys: NamespaceKeys) -> None:
        self._client = client
        self._keys = keys
        self._channels = _Channels(client)
        self.sharded = is_sharded(client)
        self.release = client.register_script(load_script("llmhost.cache", "release.lua"))
        self.renew = client.register_script(load_script("llmhost.cache", "renew.lua"))
        self.told = client.register_script(load_script("llmhost.cache", "tell.lua"))

    @asynccontextmanager
    async def join(self, flight: str, entry: str) -> AsyncIterator[Lead | Follow]:
        """`Lead` for the one process that is to ask an engine, until the block ends. All others get `Follow`.
        A process joins a flight once at a time. The answer is to be that of `entry`. Raises StoreError where
        Redis is away.
        """
        key = self._keys.flight(flight)
        lead = Lead(self, key)
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(key, lead.token, nx=True, px=round(_LIFETIME * 1000))
        pipeline.get(self._keys.response(entry))
        leads, stored = await run_or_undo(pipeline.execute(), lead.end)
        lead.stored = answer_of(stored, entry)
        if not leads:
            yield Follow(self._channels, key)
            return
        renewing = asyncio.create_task(lead.keep())
        try:
            yield lead
        finally:
            renewing.cancel()
            await lead.end()


@dataclass(slots=True)
class _Watch:
    """One flight that is followed. `woken` is set when there is something to look at."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    messages: deque[dict[str, Any]] = field(default_factory=deque)

    async def wait(self, seconds: float) -> None:
        """Returns when it is woken, or after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        self.woken.clear()


class _Channels:
    """What other processes tell of their flights: over one connection, however many are followed."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._follow = client.register_script(load_script("llmhost.cache", "follow.lua"))
        self._watched: dict[str, _Watch] = {}
        self._messages: PubSub | None = None
        self._listener: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def messages(self, key: str) -> AsyncGenerator[dict[str, Any]]:
        """What is told of this flight; ends with its lease. Raises StoreError."""
        watch = self._watched[key] = _Watch()
        try:
            with translate_errors():
                await self._subscribe(key)
            remaining, mark, heard = _LIFETIME, "+", False
            while remaining > 0:
                # Woken first by the subscription's own confirmation: what was told before it was not heard.
                await watch.wait(remaining)
                if mark or not watch.messages:
                    with translate_errors():
                        remaining = (
                            await self._follow(keys=[key], args=[mark, round(_LIFETIME * 1000)]) / 1000
                        )
                    mark = ""
                if remaining <= 0 and heard and not watch.messages:
                    await watch.wait(_LAST_MESSAGE)  # it travels over another connection than the lease
                while watch.messages:
                    heard = True
                    yield watch.messages.popleft()
        finally:
            if self._watched.get(key) is watch:
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
        """Closes the connection where no flight is followed any more."""
        async with self._turn:
            messages, listener = self._messages, self._listener
            with suppress(StoreError), translate_errors():
                if messages is not None and self._watched:
                    if key not in self._watched:
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
                    if message["type"] == "message":
                        watch.messages.append(_decoded(message["data"]))
                    watch.woken.set()
        # The connection is lost, or Redis refuses it: each looks once more, and then when its lease ends.
        for watch in self._watched.values():
            watch.woken.set()


def _decoded(data: bytes | str) -> dict[str, Any]:
    """The message; an empty one where it is not one of ours."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
