"""Who may ask: by which key, as which tenant, and how much.

Redis is asked once for each request that has a key, so that a limit holds over all gateways and a key that is
revoked is refused at once. Without a key, where none is needed, nothing is asked.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache

from llmhost.answering.cache_session import WarnOnce
from llmhost.config.gateway import GatewayConfig
from llmhost.errors import StateError, StoreError, StoreUnavailable, UsageError
from llmhost.gateway.api_keys import ApiKey, Booking, Limits, PresentedKey, Use, key_in
from llmhost.gateway.exchange import Caller, Exchange
from llmhost.gateway.faults import BadRequest, Forbidden, RateLimited, Unauthorized
from llmhost.gateway.key_store import Admission, Holding, KeyStore
from llmhost.gateway.page import FILES
from llmhost.gateway.record import APIS

__all__ = ["Access", "Bookkeeper", "LastKnown", "require_keys"]

_HEADERS = ("authorization", "x-api-key", "api-key")
#: paths that anyone may ask for: they tell nothing about anyone
_OPEN = frozenset({"/", "/healthz", "/readyz", *FILES})
#: seconds; how long a key that Redis knew is believed in while Redis is away
_TRUSTED_FOR = 600.0
#: seconds; how long a Redis that is away is left alone before it is asked again
_PAUSE = 5.0
#: seconds; by so much later than it happens Redis learns what was used
_TOGETHER = 0.05
#: keys that are remembered for when Redis is away
_MOST_KNOWN = 10_000
#: characters; a name that were cut could be another user's
_LONGEST_USER = 200

_DAY = 86_400  #: seconds
_WINDOW = 60  #: seconds
#: names under which a browser reaches this machine itself; any other in a request means that a page of
#: another one has its name resolved to this machine
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

_NO_KEY_HINT = "send one as `Authorization: Bearer KEY` or `x-api-key`; `llmhost keys add` makes one"


async def require_keys(config: GatewayConfig, store: KeyStore, now: float) -> None:
    """A gateway that other machines reach is of no use without a key. Raises UsageError, StoreError."""
    if not config.is_public:
        return
    keys = [stored.key for stored in await store.keys(now) if stored.key is not None]
    if all(key.is_expired(now) for key in keys):
        raise UsageError(
            "other machines reach this gateway, and there is no API key yet",
            hint="make one: llmhost keys add --tenant NAME",
        )


@dataclass(slots=True)
class LastKnown:
    """A key as Redis last knew it, for when Redis is away: its limits then hold for this process alone.

    `at` is when, in seconds of a clock of this process, `asked` the requests of the minute before.
    """

    key: ApiKey
    at: float
    asked: int
    day: int
    today: Use
    #: when requests were admitted since
    since: list[float] = field(default_factory=list)

    def reached(self, now: float, unix: float, pending: Use) -> tuple[str, int] | None:
        """The limit that keeps one more request from being admitted now, and the seconds until it does not;
        None where there is none, and it is counted. `pending` was used and is not booked yet."""
        limits = self.key.limits
        if (used_up := self.used_up(unix, pending)) is not None:
            return used_up
        if limits.requests_per_minute is None:
            return None
        self.since = [at for at in self.since if now - at < _WINDOW]
        before = self.asked if now - self.at < _WINDOW else 0
        if before + len(self.since) >= limits.requests_per_minute:
            oldest = self.at if before else self.since[0]
            return "requests_per_minute", max(1, int(oldest + _WINDOW - now) + 1)
        self.since.append(now)
        return None

    def used_up(self, unix: float, pending: Use) -> tuple[str, int] | None:
        """The limit of a day that is used up, as `reached`."""
        limits, tomorrow = self.key.limits, _DAY - int(unix % _DAY)
        today = (self.today if unix // _DAY == self.day else Use()) + pending
        if limits.tokens_per_day is not None and today.tokens >= limits.tokens_per_day:
            return "tokens_per_day", tomorrow
        if limits.usd_per_day is not None and today.usd >= limits.usd_per_day:
            return "usd_per_day", tomorrow
        return None


class Bookkeeper:
    """Counts what is used, and ends holds, in the background: what comes within a moment is written together,
    and what comes while Redis is away is kept. Where an error leaves open whether Redis has written, it is
    written again: counted twice is safer than lost.
    """

    def __init__(self, store: KeyStore, warn_once: WarnOnce, pause: float = _PAUSE) -> None:
        self._store = store
        self._warn_once = warn_once
        self._pause = pause
        self._pending: dict[str, Booking] = {}
        self._written: dict[str, Booking] = {}  #: what Redis is being told
        self._turn = asyncio.Lock()
        self._settling: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def pending(self, id: str) -> Use:
        """What a key used and Redis does not know yet."""
        return self._pending.get(id, Booking()).used

    def used(self, id: str, use: Use) -> None:
        if use != Use():
            self._add(id, Booking(use))

    def ended(self, id: str, hold: str) -> None:
        self._add(id, Booking(ended=(hold,)))

    async def settle(self, id: str) -> bool:
        """Writes now what is pending of a key; False where nothing is."""
        if id not in self._pending and id not in self._written:
            return False
        task = asyncio.create_task(self._settle())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        await asyncio.shield(task)  # the asker may leave
        return True

    async def _settle(self) -> None:
        await self._write_once()
        if self._pending:
            self._write_soon()

    def _add(self, id: str, booking: Booking) -> None:
        self._keep({id: booking})
        self._write_soon()

    def _write_soon(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def aclose(self) -> None:
        """Writes what is left, once; that it cannot be done is warned of."""
        await asyncio.gather(*self._settling, return_exceptions=True)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._write_once()

    async def _write(self) -> None:
        while self._pending:
            await asyncio.sleep(_TOGETHER)
            if not await self._write_once():
                await asyncio.sleep(self._pause)

    async def _write_once(self) -> bool:
        refused: Mapping[str, StoreError] = {}
        async with self._turn:
            written, self._pending = self._pending, {}
            self._written = written
            try:
                if written:
                    refused = await self._store.book(written)
            except StoreError as error:
                refused = dict.fromkeys(written, error)
            except asyncio.CancelledError:
                self._keep(written)
                raise
            finally:
                self._written = {}
            self._keep({id: written[id] for id in refused})
        for why in refused.values():
            self._warn_once.warn("what API keys used is not counted yet", why)
        return not refused

    def _keep(self, bookings: Mapping[str, Booking]) -> None:
        for id, booking in bookings.items():
            self._pending[id] = self._pending.get(id, Booking()) + booking


class Access:
    """Admits requests to a gateway with this configuration. `restore` is awaited before a Redis that was away
    is asked again, and raises StoreError or StateError.
    """

    def __init__(
        self,
        config: GatewayConfig,
        store: KeyStore,
        warn_once: WarnOnce,
        *,
        restore: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._config = config
        self._is_public = config.is_public
        self._store = store
        self._warn_once = warn_once
        self._restore = restore
        self._books = Bookkeeper(store, warn_once)
        self._known: OrderedDict[str, LastKnown] = OrderedDict()
        #: what requests of this process may still use, by key and hold
        self._held: dict[str, dict[str, Use]] = {}
        self._away_until: float | None = None

    async def aclose(self) -> None:
        await self._books.aclose()

    async def admit(self, exchange: Exchange) -> Caller:
        """The caller of a request that may be answered; one that asks something is counted.

        Raises Unauthorized, RateLimited, BadRequest; Forbidden where a page of another site asks;
        StoreUnavailable where Redis is away and the key is not known here.
        """
        path, needs_key = exchange.scope["path"], self._needs_key(exchange)
        if path in _OPEN:
            if not needs_key:
                _refuse_other_sites(exchange)
            return Caller(is_known=not needs_key)
        presented = key_in([value for name in _HEADERS if (value := exchange.header(name))])
        user = self._user(exchange)
        if presented is None:
            if needs_key:
                raise Unauthorized("this needs an API key of llmhost", hint=_NO_KEY_HINT)
            _refuse_other_sites(exchange)
            return Caller(user=user, is_operator=not user)
        asks = exchange.scope["method"] == "POST" and path in APIS
        key = await self._key(presented, asks=asks)
        if _concerns_all(path) and not key.operator:
            raise Forbidden("this concerns all tenants", hint="make a key: llmhost keys add --operator")
        if asks:
            self._books.used(key.id, Use(1))
        account = _KeyAccount(self, key)
        return Caller(key.tenant, user, key.limits.models, account, is_operator=key.operator and not user)

    def charge(self, key: ApiKey, use: Use) -> None:
        self._books.used(key.id, use)

    def check(self, key: ApiKey, held: Use | None = None) -> None:
        """Raises RateLimited where a limit of a day is used up by what Redis last knew, what is not booked
        yet, and what is `held`."""
        if (known := self._known.get(key.id)) is not None:
            used = self._books.pending(key.id) + (held or Use())
            if (reached := known.used_up(time.time(), used)) is not None:
                raise _limited(key.limits, *reached)

    @asynccontextmanager
    async def holding(self, key: ApiKey, most: Use, lifetime: float) -> AsyncIterator[None]:
        """Keeps `most` of the key's limits of a day within the block, for `lifetime` seconds where this
        process dies. Raises RateLimited."""
        hold = secrets.token_hex(8)
        is_in_redis = await self._hold(key, hold, most, lifetime)
        self._held.setdefault(key.id, {})[hold] = most
        try:
            yield
        finally:
            del self._held[key.id][hold]
            if not self._held[key.id]:
                del self._held[key.id]
            if is_in_redis:
                self._books.ended(key.id, hold)

    async def _hold(self, key: ApiKey, hold: str, most: Use, lifetime: float) -> bool:
        """Whether Redis has it; while Redis is away, it is held for this process alone."""
        if self._away_until is None:
            holding = await self._ask_to_hold(key, hold, most, lifetime)
            if holding is not None and not holding.is_used_up and await self._books.settle(key.id):
                # What is held by requests that have ended meanwhile is free now.
                holding = await self._ask_to_hold(key, hold, most, lifetime)
            if holding is not None:
                if holding.verdict == "ok":
                    return True
                raise _limited(key.limits, holding.verdict, holding.wait, used_up=holding.is_used_up)
        self.check(key, sum(self._held.get(key.id, {}).values(), Use()))
        return False

    async def _ask_to_hold(self, key: ApiKey, hold: str, most: Use, lifetime: float) -> Holding | None:
        """None where Redis is away."""
        holding = None
        try:
            with suppress(StoreError):
                holding = await self._store.hold(key.id, hold, most, lifetime)
        finally:
            if holding is None:  # Redis may have it, or have it yet
                self._books.ended(key.id, hold)
        return holding

    def _needs_key(self, exchange: Exchange) -> bool:
        """Where the connection could come from another machine, a key is always needed."""
        if self._config.keys == "always":
            return True
        if exchange.is_local_socket:
            return False
        server = exchange.scope.get("server")
        return self._is_public or server is None or not _is_loopback(server[0])

    def _user(self, exchange: Exchange) -> str:
        name = self._config.user_header
        user = exchange.header(name.lower()) if name else ""
        if len(user) > _LONGEST_USER:
            raise BadRequest(f"the header {name} has more than {_LONGEST_USER} characters")
        return user

    async def _key(self, presented: PresentedKey, *, asks: bool) -> ApiKey:
        now = time.monotonic()
        try:
            admission = await self._ask_redis(presented, asks=asks, now=now)
        except (StoreError, StateError) as error:
            if isinstance(error, StoreUnavailable) and self._away_until is None:
                self._away_until = now + _PAUSE
            self._warn_once.warn("API keys are checked by what this process remembers", error)
            return self._remembered(presented, asks=asks, now=now)
        if admission is None:
            self._known.pop(presented.id, None)
            raise Unauthorized("the API key is not valid")
        if admission.verdict == "expired" or admission.key is None:
            raise Unauthorized("the API key has expired")
        self._remember(admission.key, admission, now)
        if admission.verdict != "ok":
            raise _limited(admission.key.limits, admission.verdict, admission.wait)
        return admission.key

    async def _ask_redis(self, presented: PresentedKey, *, asks: bool, now: float) -> Admission | None:
        if self._away_until is not None:
            if now < self._away_until:
                raise StoreUnavailable("Redis is away")
            self._away_until = now + _PAUSE  # until it has answered, others go on without it
            if self._restore is not None:
                await self._restore()
        admission = await self._store.admit(presented, asks=asks)
        self._away_until = None
        return admission

    def _remember(self, key: ApiKey, admission: Admission, now: float) -> None:
        self._known[key.id] = LastKnown(key, now, admission.asked, admission.day, admission.today)
        self._known.move_to_end(key.id)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def _remembered(self, presented: PresentedKey, *, asks: bool, now: float) -> ApiKey:
        known, unix = self._known.get(presented.id), time.time()
        if (
            known is None
            or now - known.at > _TRUSTED_FOR
            or not hmac.compare_digest(known.key.digest, presented.digest)
        ):
            raise StoreUnavailable("API keys cannot be checked at the moment", hint="try again later")
        if known.key.is_expired(unix):
            raise Unauthorized("the API key has expired")
        if asks and (reached := known.reached(now, unix, self._books.pending(presented.id))) is not None:
            raise _limited(known.key.limits, *reached)
        return known.key


def _concerns_all(path: str) -> bool:
    return path in ("/metrics", "/health/backlog") or path.startswith("/llmhost/")


@lru_cache(256)
def _is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


class _KeyAccount:
    """See `Account`."""

    def __init__(self, access: Access, key: ApiKey) -> None:
        self._access = access
        self._key = key
        self.is_limited = key.limits.of_a_day

    def charge(self, tokens: int, usd: float) -> None:
        self._access.charge(self._key, Use(0, tokens, usd))

    def check(self) -> None:
        self._access.check(self._key)

    def holding(self, tokens: int, usd: float, lifetime: float) -> AbstractAsyncContextManager[None]:
        return self._access.holding(self._key, Use(0, tokens, usd), lifetime)


def _limited(limits: Limits, verdict: str, wait: int, *, used_up: bool = True) -> RateLimited:
    words: Mapping[str, str] = {
        "requests_per_minute": f"{_counted(limits.requests_per_minute or 0, 'request')} a minute",
        "tokens_per_day": f"{_counted(limits.tokens_per_day or 0, 'token')} a day (UTC)",
        "usd_per_day": f"${limits.usd_per_day or 0:,.2f} a day (UTC)",
    }
    if not used_up:
        left = f"what is left of this API key's limit of {words[verdict]}"
        return RateLimited(f"requests under way may use {left}", wait)
    return RateLimited(f"this API key has reached its limit of {words[verdict]}", wait)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _refuse_other_sites(exchange: Exchange) -> None:
    """Without keys, a page in this user's browser must not ask: neither as another site, nor by a name of
    its own that leads here. Raises Forbidden.
    """
    if exchange.is_local_socket:  # which no page can reach
        return
    host = _name_in(exchange.header("host"))
    origin = exchange.header("origin")
    if host not in _LOOPBACK or (origin and _name_in(origin.partition("://")[2]) not in _LOOPBACK):
        raise Forbidden("requests from other sites are not answered")


def _name_in(address: str) -> str:
    """The host of `host:port`, in lower case."""
    name, colon, port = address.rpartition(":")
    return (name if colon and port.isdecimal() else address).lower()
