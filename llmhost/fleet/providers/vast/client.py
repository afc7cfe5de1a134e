"""An account of vast.ai: the calls that llmhost makes, through the official `vastai` SDK.

The SDK waits and blocks, so it runs in threads; it is imported at the first call, which takes over half a
second. Its own retries are off: only here is it known which calls are idempotent.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from llmhost.errors import ConfigError, ProviderError
from llmhost.fleet.clock import Clock
from llmhost.fleet.providers.vast.faults import KEY_HINT, NoResponse, Rejected, clean, refusal_in, translate
from llmhost.fleet.providers.vast.pacer import Pacer

__all__ = ["PAGE", "VastAccount", "find_key", "fingerprint_of", "in_thread"]


T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """`function()`, in a thread of its own, which is abandoned when its caller is cancelled.

    `asyncio.to_thread` would hold up the end of the whole command until a server that hangs lets go. Where
    the system allows no further thread, all waits for the answer: nothing could be ended otherwise.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - it is raised again where it is waited for
            future.set_exception(error)
        else:
            future.set_result(result)

    try:
        threading.Thread(target=work, name="vast.ai", daemon=True).start()
    except RuntimeError:
        work()
    return await asyncio.wrap_future(future)


def fingerprint_of(key: str) -> str:
    """The same for the same key, which it does not tell; empty without a key."""
    return hmac.digest(key.encode(), b"llmhost account", "sha256").hex() if key else ""


def find_key(configured: str | None) -> str | None:
    """The account's key as the SDK finds it, without the half second that importing the SDK takes.

    `configured`, else `VAST_API_KEY`, else the file that the vastai CLI wrote; None where there is none.
    """
    if key := (configured or os.environ.get("VAST_API_KEY", "")).strip():
        return key
    with suppress(RuntimeError):  # there is no home folder
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        for path in (settings / "vastai" / "vast_api_key", Path.home() / ".vast_api_key"):
            with suppress(OSError, ValueError):
                return path.read_text(encoding="utf-8").strip() or None
    return None


PAGE = 25  #: instances; the most that one page of vast.ai's list holds
_CHARGES_A_PAGE = 100  #: the most that the SDK asks for
#: offers; more than the whole market has, so that no filter of ours sees a part only
_MOST_OFFERS = 10_000
#: seconds at vast.ai's own pace, before the second, third and fourth try; its own penalty is 12
_PAUSES = (2.0, 6.0, 18.0)
_LONGEST_WAIT = 60.0  #: seconds; what vast.ai may ask for before a call is given up
_GRACE = 5.0  #: seconds on top of two timeouts, to connect and to answer
_KEY = re.compile(r"[!-~]+")


class VastAccount:
    """`timeout` is seconds of silence for one call. `api_key` None: the SDK looks where the vastai CLI does.
    `note` is told what is waited for when a call takes more than `slow` seconds, and `learn` the fingerprint
    of the key and the number of its user, when vast.ai says it.

    Every method raises ConfigError where there is no key that could be one, Rejected and NoResponse where
    vast.ai's answer is no or does not come, StateError where the pacer's file cannot be used. The key
    never shows in any of them. What comes back is vast.ai's JSON, unchecked.
    """

    def __init__(
        self,
        api_key: str | None,
        *,
        clock: Clock,
        pacer: Pacer,
        server_url: str | None = None,
        timeout: float = 30.0,
        note: Callable[[str], None] = lambda _: None,
        slow: float = 3.0,
        learn: Callable[[str, int], None] = lambda _key, _user: None,
    ) -> None:
        self._key = api_key
        self._note = note
        self._slow = slow
        self._learn = learn
        self._clock = clock
        self._pacer = pacer
        self._server_url = server_url
        self._timeout = timeout
        self._made: Any = None
        self._hangs = False  #: whether the last call was given up after timeouts
        self.owner: int | None = None  #: the number of the user whose key it is, once `user` said so

    async def instances(self, after: str | None) -> object:
        """A page of the account's instances, lowest number first; `after` is the token of the one before."""
        params: dict[str, object] = {
            "select_filters": {},
            "order_by": [{"col": "id", "dir": "asc"}],
            "limit": PAGE,
        }
        if after is not None:
            params["after_token"] = after
        return await self._again("list", "listing the instances", lambda sdk: sdk.show_instances_v1(params))

    async def instance(self, number: int) -> object:
        """One instance, asked for by its number; None where there is none.

        Not by the SDK's own method, which cannot read an instance that has not begun.
        """
        doing = f"looking for instance {number}"

        def call(sdk: Any) -> object:
            response = sdk.client.get(f"/instances/{number}/", query_args={"owner": "me"})
            response.raise_for_status()
            return response.json()

        answer = await self._ask_about("show", doing, call)
        if answer is None:
            return None
        if not isinstance(answer, Mapping) or "instances" not in answer:
            raise NoResponse(f"vast.ai's answer while {doing} cannot be read")
        return answer["instances"]

    async def search(self, kind: str, disk: float) -> object:
        """Every machine for rent, of kind ``on-demand`` or ``bid``, priced with `disk` GB, cheapest first."""
        query = {"rentable": {"eq": True}, "rented": {"eq": False}, "external": {"eq": False}}
        return await self._again(
            "search",
            "searching for offers",
            lambda sdk: sdk.search_offers(
                query, type=kind, order="dph_total", limit=_MOST_OFFERS, storage=disk, no_default=True
            ),
        )

    async def create(
        self, offer: int, order: Mapping[str, Any], on_send: Callable[[], Awaitable[None]]
    ) -> Mapping[str, object]:
        """Buys `offer` once; `order` is what the SDK's `create_instance` takes. `on_send` is awaited
        directly before anything is sent, and what it raises stops it. Once it is on its way, cancelling
        waits for its end.

        Raises:
            Rejected: nothing was bought, unless its body names a `new_contract`.
            NoResponse: whether something was bought is unknown, unless nothing was sent.
        """
        secrets = tuple(map(str, order.get("env", {}).values()))

        async def buy() -> Mapping[str, object]:
            await on_send()
            return await self._unbroken(lambda sdk: sdk.create_instance(offer, **order), secrets)

        return await self._paced("create", buy, idempotent=False)

    async def destroy(self, instance: int) -> bool:
        """Asks for the end of an instance; one that does not exist is success, too, and False."""
        doing = f"destroying instance {instance}"
        return None is not await self._ask_about("destroy", doing, lambda sdk: sdk.destroy_instance(instance))

    async def logs(self, instance: int, lines: int) -> str:
        """The last lines that the instance printed; empty where there is no such instance."""
        doing = f"reading the logs of instance {instance}"
        answer = await self._ask_about("logs", doing, lambda sdk: sdk.logs(instance, tail=str(lines)))
        if answer is None or isinstance(answer, str):
            return answer or ""
        message = answer.get("msg") if isinstance(answer, Mapping) else None
        reason = clean(str(message or "it gave none"), self._secrets)
        raise ProviderError(f"vast.ai has no logs of instance {instance}: {reason}", hint="try again later")

    async def charges(self, since: int, until: int, after: str | None) -> object:
        """One page of what was billed between two times, Unix seconds; `after` is its token."""
        params: dict[str, object] = {
            "charges": True,
            "charge_type": ["instance"],
            "start_date": since,
            "end_date": until,
            "limit": _CHARGES_A_PAGE,
        }
        if after is not None:
            params["next_token"] = after
        return await self._again("charges", "reading the bill", lambda sdk: sdk.show_invoices_v1(**params))

    async def user(self) -> object:
        """Who owns the key, and with how much credit."""
        answer = await self._again("user", "reading the account", lambda sdk: sdk.show_user())
        number = answer.get("id") if isinstance(answer, Mapping) else None
        self.owner = number if type(number) is int and number > 0 else None
        if self.owner is not None:
            self._learn(self.fingerprint, self.owner)
        return answer

    async def _ask_about(self, endpoint: str, doing: str, call: Callable[[Any], object]) -> object | None:
        """A call about one instance; None where it does not exist, which vast.ai says in several ways."""
        try:
            answer = await self._again(endpoint, doing, call)
            if isinstance(answer, Mapping) and (refusal := refusal_in(answer, doing, self._secrets)):
                raise refusal
        except Rejected as error:
            # A wrong key is a 404 as well, and so is a page that says nothing about the instance.
            says_why = error.reason or "success" in error.body
            if error.reason == "no_such_instance" or (
                error.status == 404 and says_why and error.reason != "auth_error"
            ):
                return None
            raise
        return answer

    async def _again(self, endpoint: str, doing: str, call: Callable[[Any], object]) -> object:
        """A call that may be made more than once, and is while that may help."""
        return await self._paced(endpoint, lambda: self._once(call, doing, ()))

    async def _paced(self, endpoint: str, attempt: Callable[[], Awaitable[T]], idempotent: bool = True) -> T:
        """What is not `idempotent` is attempted again only where vast.ai says that it did not do it.

        While vast.ai hangs, a call is tried once: an ending takes many calls, and each try a timeout.
        """
        for pause in (None,) if self._hangs else (*_PAUSES, None):
            try:
                async with self._pacer.turn(endpoint, self._waits):
                    answer = await attempt()
                    self._hangs = False
                    return answer
            except (Rejected, NoResponse) as error:
                hopeful = (
                    error.rate_limited if isinstance(error, Rejected) else idempotent and error.retryable
                )
                if pause is None or not hopeful or not await self._wait(endpoint, error, pause):
                    self._hangs = isinstance(error, NoResponse) and error.timed_out
                    raise
        raise AssertionError("the last try returns or raises")

    def _waits(self) -> None:
        self._note("waiting for another llmhost, which is calling vast.ai")

    async def _wait(self, endpoint: str, error: Rejected | NoResponse, pause: float) -> bool:
        """Waits as long as vast.ai asks for, else `pause` seconds; False where that is too long."""
        wait = pause * self._pacer.scale if error.wait is None else error.wait
        if error.wait is not None and wait > _LONGEST_WAIT:
            return False
        if isinstance(error, Rejected):  # the next `turn` waits, in every process
            await self._pacer.postpone(endpoint, wait)
        else:
            await self._clock.sleep(wait)
        return True

    async def _unbroken(
        self, call: Callable[[Any], object], secrets: tuple[str, ...]
    ) -> Mapping[str, object]:
        """One purchase, whose response is awaited even when its caller is cancelled."""
        doing = "buying an offer"
        going = asyncio.ensure_future(self._once(call, doing, secrets))
        try:
            answer = await asyncio.shield(going)
        except asyncio.CancelledError:
            await asyncio.wait([going])  # `_once` has a limit of its own
            if not going.cancelled():
                going.exception()
            raise
        if not isinstance(answer, Mapping):
            raise NoResponse(f"vast.ai's answer while {doing} is no object")
        if refusal := refusal_in(answer, doing, (*self._secrets, *secrets)):
            raise refusal
        return answer

    async def _once(self, call: Callable[[Any], object], doing: str, secrets: tuple[str, ...]) -> object:
        said = f"waiting for vast.ai: {doing}"
        slow = asyncio.get_running_loop().call_later(self._slow, self._note, said)
        try:
            async with asyncio.timeout(2 * self._timeout + _GRACE):
                return await in_thread(lambda: call(self._sdk()))
        except ConfigError:
            raise
        except Exception as error:
            raise translate(error, doing, (*self._secrets, *secrets)) from error
        finally:
            slow.cancel()

    @property
    def fingerprint(self) -> str:
        """The same for the same key, which it does not tell; empty without a key."""
        key = self._made.client.api_key if self._made is not None else find_key(self._key)
        return fingerprint_of(key or "")

    @property
    def _secrets(self) -> tuple[str, ...]:
        key = self._made.client.api_key if self._made is not None else self._key
        return (key,) if key else ()

    def _sdk(self) -> Any:
        if self._made is None:
            from vastai import VastAI

            try:
                made = VastAI(self._key, server_url=self._server_url, retry=1)
            except RuntimeError as error:
                raise ConfigError("no API key for vast.ai is set", hint=KEY_HINT) from error
            except (OSError, ValueError) as error:
                raise ConfigError("the file with vast.ai's API key cannot be read", hint=KEY_HINT) from error
            made.client.timeout = self._timeout
            # requests would show a key that cannot be sent in its error.
            if not _KEY.fullmatch(str(made.client.api_key)):
                raise ConfigError("vast.ai's API key is empty or has characters no key has", hint=KEY_HINT)
            self._made = made
        return self._made
