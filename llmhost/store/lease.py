"""A fenced lock in Redis, which one process at a time holds, over all machines that share the Redis."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from llmhost.errors import StoreRefused
from llmhost.store.client import load_script, run_or_undo, translate_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Lease"]

#: seconds; a holder that died keeps the others waiting for this time at most
_LONGEST = 120.0

#: seconds; a clock that is corrected by less is no reason to take the lease from its holder
_SLACK = 5.0


class Lease:
    """Fields `lock:holder`, `lock:until` and `lock:fence` of the hash `key`; times are by Redis's own clock.

    Every method raises StoreError and nothing else. A holder that dies loses the lease after `lifetime`
    seconds (at most 120). `holder` names the holder, by default with a unique name; a lease that the same
    name holds already is taken over at once, and the earlier holder has lost it.
    """

    def __init__(
        self,
        client: Redis,
        key: str,
        *,
        holder: str | None = None,
        lifetime: float = 60.0,
    ) -> None:
        if not 0 < lifetime <= _LONGEST:
            raise ValueError(f"no lease lasts {lifetime} s")
        self._key = key
        self._holder = holder or secrets.token_hex(16)
        self._lifetime = lifetime
        self._fence: int | None = None
        self._take, self._renew, self._give_back = (
            client.register_script(load_script("llmhost.store", f"lease_{name}.lua"))
            for name in ("take", "renew", "give_back")
        )

    @property
    def lifetime(self) -> float:
        """Seconds."""
        return self._lifetime

    @property
    def fence(self) -> int | None:
        """The number of the last take, until it was given back; it may have been lost meanwhile."""
        return self._fence

    async def take(self) -> int | None:
        """The fence, which is larger each time; None while another holder has the lease."""
        self._fence = None
        taking = self._take(keys=[self._key], args=[self._holder, self._lifetime, _LONGEST + _SLACK])
        fence = await run_or_undo(taking, self.give_back)
        if fence is not None:
            if not isinstance(fence, int):
                raise StoreRefused("what Redis says of the fleet's lock makes no sense")
            self._fence = fence
        return self._fence

    async def renew(self) -> bool:
        """Keeps it for another lifetime; False where it is lost."""
        if self._fence is None:
            return False
        with translate_errors():
            return bool(await self._renew(keys=[self._key], args=[self._holder, self._fence, self._lifetime]))

    async def give_back(self) -> None:
        """Releases it. A lease that has another holder by now stays theirs."""
        fence, self._fence = self._fence, None
        with translate_errors():
            await self._give_back(keys=[self._key], args=[self._holder, fence or ""])
