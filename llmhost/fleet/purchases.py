"""The purchases of a fleet that were begun, in Redis, so that every machine knows of them.

What is being bought on one machine cannot be seen from another until its provider lists it, which may take
minutes. So it is written down before the provider is asked, and only then is it checked whether the fleet was
taken down: a `down` does the same in the other order, and so either it sees the purchase, or the purchase
sees it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from llmhost.errors import StoreError
from llmhost.fleet.models import Intent
from llmhost.fleet.provider import ANSWERED_AFTER
from llmhost.store.client import is_sharded, text, translate_errors
from llmhost.store.clock import Ahead, CompareClocks
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["PurchaseBook"]

_INTENT = TypeAdapter(Intent)
_LONGEST = 256  #: characters of what a purchase says of itself
_SLACK = 60.0  #: seconds; what was begun later than that from now has no date
_DEAREST = 1e6  #: USD an hour; nothing costs so much


class PurchaseBook:
    """A hash: the id of each purchase, and what is known of it. In Redis, it was begun by the clock of Redis;
    here, by this machine's, which says `now`. Each method raises StoreError.
    """

    def __init__(self, client: Redis, fleet: str, compare: CompareClocks) -> None:
        self._client = client
        self._compare = compare
        self._key = FleetKeys(fleet, is_sharded(client)).purchases

    async def read(self, now: float) -> Sequence[Intent]:
        """Those of which it may not be known yet what they bought. A damaged one counts as begun just now,
        and is written down so."""
        with translate_errors():
            kept = await self._client.hgetall(self._key)
        if not kept:
            return ()
        ahead = await self._compare()
        intents: list[Intent] = []
        for name, raw in kept.items():
            intent = _read(text(name), text(raw), ahead, now)
            if intent is None:
                intent = Intent(text(name), "", "", now)
                with suppress(StoreError):  # else it has no date for as long as nothing can be written
                    await self.write(intent)
            intents.append(intent)
        old = [intent.id for intent in intents if now - intent.written >= ANSWERED_AFTER]
        with suppress(StoreError):  # where nothing can be written, they are old the next time too
            await self.drop(old)
        return [intent for intent in intents if intent.id not in old]

    async def write(self, intent: Intent) -> None:
        """That it is begun, or what came of it."""
        at = (await self._compare()).there(intent.written)
        kept = replace(intent, written=at, uptime=0.0, counts_for=0.0, hidden="", hint=None)
        with translate_errors():
            await self._client.hset(self._key, intent.id, _INTENT.dump_json(kept))

    async def drop(self, ids: Collection[str]) -> None:
        """It is known what they bought. Those that are not there are fine."""
        if ids:
            with translate_errors():
                await self._client.hdel(self._key, *ids)

    async def drop_of(self, worker: str, now: float) -> None:
        """The purchase of this worker, which is gone."""
        await self.drop([intent.id for intent in await self.read(now) if intent.worker == worker])


def _read(name: str, raw: str, ahead: Ahead, now: float) -> Intent | None:
    """None where it is damaged."""
    try:
        intent = _INTENT.validate_json(raw)
    except ValidationError:
        return None
    texts = (intent.offer, intent.machine, intent.model, intent.worker, *astuple(intent.payer))
    known = intent.id == name and max(map(len, texts)) <= _LONGEST
    if not known or not math.isfinite(intent.written) or not 0 <= intent.price_per_hour < _DEAREST:
        return None
    written = ahead.here(intent.written)
    if written > now + _SLACK:
        return None
    return replace(intent, written=min(written, now), uptime=0.0, counts_for=0.0, hidden="", hint=None)
