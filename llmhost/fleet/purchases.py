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
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from llmhost.fleet.models import Intent
from llmhost.fleet.provider import ANSWERED_AFTER
from llmhost.store.client import is_sharded, text, translate_errors
from llmhost.store.clock import Ahead, CompareClocks
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["PurchaseBook"]

_INTENT = TypeAdapter(Intent)


class PurchaseBook:
    """A hash: the id of each purchase, and what is known of it. In Redis, it was begun by the clock of Redis;
    here, by this machine's, which says `now`. Each method raises StoreError.
    """

    def __init__(self, client: Redis, fleet: str, compare: CompareClocks) -> None:
        self._client = client
        self._compare = compare
        self._key = FleetKeys(fleet, is_sharded(client)).purchases

    async def read(self, now: float) -> Sequence[Intent]:
        """Those of which it may not be known yet what they bought. A damaged one counts as begun just now."""
        with translate_errors():
            kept = await self._client.hgetall(self._key)
        if not kept:
            return ()
        ahead = await self._compare()
        found = [_read(text(name), text(raw), ahead, now) for name, raw in kept.items()]
        old = [intent.id for intent in found if now - intent.written >= ANSWERED_AFTER]
        await self.drop(old)
        return [intent for intent in found if intent.id not in old]

    async def write(self, intent: Intent) -> None:
        """That it is begun, or what came of it."""
        at = (await self._compare()).there(intent.written)
        kept = replace(intent, written=at, uptime=0.0, hidden="", hint=None)
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


def _read(name: str, raw: str, ahead: Ahead, now: float) -> Intent:
    with suppress(ValidationError):
        intent = _INTENT.validate_json(raw)
        if intent.id == name and math.isfinite(intent.written):
            written = min(ahead.here(intent.written), now)
            return replace(intent, written=written, uptime=0.0, hidden="", hint=None)
    return Intent(name, "", "", now)
