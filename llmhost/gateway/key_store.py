"""API keys in Redis, for every gateway that uses it: what there is, who may ask, and what was used."""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmhost.errors import StoreError
from llmhost.gateway.api_keys import FIELDS, ApiKey, Booking, PresentedKey, Use, fields_of, read_key
from llmhost.store.client import amount, load_script, text, translate_errors
from llmhost.store.keys import GatewayKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Admission", "Holding", "KeyStore", "StoredKey"]

_DAY = 86_400.0  #: seconds
_USED = ("day", "requests", "tokens", "usd")


@dataclass(frozen=True, slots=True)
class Admission:
    """What Redis says to a request with a key.

    `verdict` is "ok", "expired", or the name of the limit that is reached; the key may ask again in `wait`
    seconds. `asked` counts the requests of the last minute, and `today` is what was used on the `day`, in
    days since 1970 by the clock of Redis.
    """

    verdict: str
    key: ApiKey | None = None
    wait: int = 0
    asked: int = 0
    day: int = 0
    today: Use = field(default_factory=Use)


@dataclass(frozen=True, slots=True)
class Holding:
    """What Redis says to a hold: "ok", or the name of the limit that it could pass. The key may ask again in
    `wait` seconds. `is_used_up` False: what is left of the limit is held by requests under way.
    """

    verdict: str
    wait: int = 0
    is_used_up: bool = True


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key and what it used since midnight. `key` None: its record is damaged, and the key is refused."""

    id: str
    key: ApiKey | None
    today: Use


class KeyStore:
    """Every method raises StoreError where Redis is away or will not write."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._admit, self._hold, self._book = (
            client.register_script(load_script("llmhost.gateway", name))
            for name in ("admit.lua", "hold.lua", "book.lua")
        )

    async def add(self, key: ApiKey) -> None:
        """The id first: a key that works is always listed."""
        with translate_errors():
            await self._client.sadd(GatewayKeys.all, key.id)
            await self._client.hset(GatewayKeys.key(key.id), mapping=fields_of(key))

    async def revoke(self, id: str) -> bool:
        """Whether there was such a key."""
        with translate_errors():
            existed = await self._client.delete(GatewayKeys.key(id))
            listed = await self._client.srem(GatewayKeys.all, id)
        return bool(existed or listed)

    async def keys(self, now: float) -> Sequence[StoredKey]:
        """All keys, the oldest first. `now` in Unix seconds."""
        with translate_errors():
            ids = sorted(text(id) for id in await self._client.smembers(GatewayKeys.all))
            pipeline = self._client.pipeline(transaction=False)
            for id in ids:
                pipeline.hmget(GatewayKeys.key(id), [*FIELDS, *_USED])
            rows = await pipeline.execute() if ids else []
        stored = [_stored(id, row, now) for id, row in zip(ids, rows, strict=True) if any(row)]
        return sorted(stored, key=lambda one: one.key.created if one.key else 0.0)

    async def admit(self, presented: PresentedKey, *, asks: bool) -> Admission | None:
        """Whether the key may ask now, which is counted where it `asks`; None where it is not valid."""
        with translate_errors():
            answer = await self._admit(
                keys=[GatewayKeys.key(presented.id)], args=[presented.digest, int(asks), *FIELDS]
            )
        if answer is None:
            return None
        verdict, *rest = answer
        if text(verdict) in ("unproven", "expired"):
            return Admission("expired") if text(verdict) == "expired" else None
        wait, asked, day, *used, raw = rest
        key = read_key(presented.id, _texts(FIELDS, raw))
        if key is None or not hmac.compare_digest(key.digest, presented.digest):
            return None
        return Admission(text(verdict), key, int(wait), int(asked), int(day), _use(used))

    async def hold(self, id: str, hold: str, most: Use, lifetime: float) -> Holding:
        """Keeps `most` of what is left of the key's limits of a day for one request. It is named `hold`, and
        lasts until a booking ends it, for `lifetime` seconds at most."""
        with translate_errors():
            verdict, wait, is_held = await self._hold(
                keys=[GatewayKeys.key(id)],
                args=[hold, most.tokens, f"{most.usd:.9f}", math.ceil(lifetime)],
            )
        return Holding(text(verdict), int(wait), is_used_up=not is_held)

    async def book(self, bookings: Mapping[str, Booking]) -> Mapping[str, StoreError]:
        """Counts what was used, by the key's id, and ends holds. Returns, by the same, why Redis has not done
        it: the record of a key may be damaged. Where this raises, it is not known what was counted.
        """
        with translate_errors():
            pipeline = self._client.pipeline(transaction=False)
            for id, booking in bookings.items():
                use = booking.used
                await self._book(
                    keys=[GatewayKeys.key(id)],
                    args=[use.requests, use.tokens, f"{use.usd:.9f}", *booking.ended],
                    client=pipeline,
                )
            counted = await pipeline.execute(raise_on_error=False)
        refused = {}
        for id, answer in zip(bookings, counted, strict=True):
            if isinstance(answer, Exception):
                try:
                    with translate_errors():
                        raise answer
                except StoreError as error:
                    refused[id] = error
        return refused


def _stored(id: str, row: Sequence[Any], now: float) -> StoredKey:
    day, *used = row[len(FIELDS) :]
    is_today = amount(day) == now // _DAY
    return StoredKey(id, read_key(id, _texts(FIELDS, row)), _use(used) if is_today else Use())


def _texts(names: Sequence[str], values: Sequence[Any]) -> Mapping[str, str]:
    return {name: text(value) for name, value in zip(names, values, strict=False) if value is not None}


def _use(raw: Sequence[Any]) -> Use:
    requests, tokens, usd = (amount(one) or 0.0 for one in raw)
    return Use(int(requests), int(tokens), usd)
