"""One HTTP request and its answer, whichever API it speaks.

Handlers are ASGI applications and not Starlette endpoints: a token costs one `send`, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.types import Message, Receive, Scope, Send

from llmhost.gateway.faults import BadRequest, BodyTooLarge, Fault, TooSlow, fault_of
from llmhost.gateway.ids import new_id
from llmhost.gateway.record import record_of

__all__ = ["Account", "Caller", "ClientGone", "Exchange", "Headers"]

_log = logging.getLogger("llmhost.gateway")

T = TypeVar("T")

Headers = Mapping[str, str]

#: seconds; how long a client may pause while it sends a body
_BODY_PAUSE = 20.0
#: seconds after which it is watched whether the client is still there: a hit is answered before
_UNWATCHED = 0.05
#: seconds; how long a body may take in all
_BODY_TIME = 300.0
#: headers for the operator alone: a worker without a name has one that is made of its address
_OF_FLEET = frozenset({"x-llmhost-worker"})
#: errors of a body that are named; one is enough to go on with
_NAMED_ERRORS = 3
#: characters of a value that is shown in an error
_SHOWN = 60


class ClientGone(Exception):
    """The client closed its connection: an answer would reach no one."""


class Account(Protocol):
    """What an API key has of its limits. `is_limited`: those of a day, so that something is to be held."""

    is_limited: bool

    def charge(self, tokens: int, usd: float) -> None:
        """Counts what was used."""
        ...

    def check(self) -> None:
        """Raises RateLimited where a limit of a day was used up since the request was admitted, as far as
        this process knows."""
        ...

    def holding(self, tokens: int, usd: float, lifetime: float) -> AbstractAsyncContextManager[None]:
        """Within the block, so much is kept for it, so that requests side by side do not pass a limit
        together. Raises RateLimited where nothing is left. What a process held that died is free after
        `lifetime` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `tenant` None: whom the configuration names, as there is no key. `user` is one of the tenant,
    where they are told apart. No `models`: all of them.

    `account` is what the request is charged to, None without a key. `is_known` False: a key is needed for
    anything else. `is_operator`: errors may tell of the fleet, its workers' addresses and its budget.
    """

    tenant: str | None = None
    user: str = ""
    models: tuple[str, ...] = ()
    account: Account | None = None
    is_known: bool = True
    is_operator: bool = False


class Exchange:
    """A request that is answered once: by `reply`, or by `start` and then `write`."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        #: names the request to its client
        self.id = new_id("req_")
        self.record = record_of(scope)
        self.record.id = self.id
        self.started = False
        self.caller = Caller()
        #: sent with every answer
        self.headers: dict[str, str] = {}
        self._receive = receive
        self._send = send
        self._gone = False
        self._header_values: dict[bytes, bytes] = dict(reversed(scope["headers"]))

    @property
    def is_local_socket(self) -> bool:
        """Whether it came through a Unix socket."""
        return self.scope.get("client") is None

    def header(self, name: str) -> str:
        """The request's header of this lower-case name; empty where there is none."""
        value = self._header_values.get(name.encode(), b"")
        return value.decode("latin-1").strip()

    def fault_of(self, error: Exception) -> Fault:
        """What this client is told of the error. The rest of it is logged, by the request's id."""
        fault = fault_of(error, to_operator=self.caller.is_operator)
        whole = fault_of(error, to_operator=True)
        if whole != fault:
            _log.warning("%s: %s", self.id, whole.message)
        return replace(fault, request=self.id)

    async def body(self, limit: int) -> bytes:
        """The request's body. Raises BodyTooLarge, TooSlow, ClientGone."""
        length = self.header("content-length")
        if length.isdecimal() and int(length) > limit:
            raise BodyTooLarge(limit)
        chunks, size = [], 0
        deadline = asyncio.get_running_loop().time() + _BODY_TIME
        while True:
            message = await self._next_message(deadline)
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(limit)
            chunks.append(chunk)
            if not message.get("more_body"):
                return b"".join(chunks)

    async def read(self, adapter: TypeAdapter[T], limit: int) -> T:
        """The request's body as that type. Raises BadRequest, and as `body`."""
        body = await self.body(limit)
        try:
            return adapter.validate_json(body or b"{}")
        except ValidationError as error:
            raise BadRequest(*_problem(error)) from error

    async def reply(self, status: int, content: object, headers: Headers | None = None) -> None:
        """The whole answer: bytes as they are, anything else as JSON."""
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        kind = {} if isinstance(content, bytes) else {"content-type": "application/json"}
        await self.start(status, {**kind, **(headers or {}), "content-length": str(len(body))})
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: Headers) -> None:
        """Status and headers of an answer that is written piece by piece."""
        self.started = True
        self.record.status = status
        sent = [
            (name.encode("latin-1"), _header_value(value))
            for name, value in {**self.headers, **headers}.items()
            if self.caller.is_operator or name not in _OF_FLEET
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": sent})

    async def write(self, data: bytes) -> None:
        """Raises ClientGone."""
        if self._gone:
            raise ClientGone
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    @asynccontextmanager
    async def cancelled_if_gone(self) -> AsyncIterator[None]:
        """The block is cancelled, and raises ClientGone, when the client closes its connection."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        watching: asyncio.Task[None] | None = None

        def watch() -> None:
            nonlocal watching
            watching = asyncio.create_task(self._watch(task.cancel))

        soon = asyncio.get_running_loop().call_later(_UNWATCHED, watch)
        try:
            yield
        except asyncio.CancelledError:
            if self._gone and task.uncancel() == 0:
                raise ClientGone from None
            raise
        finally:
            soon.cancel()
            if watching is not None:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching

    async def _watch(self, cancel: Callable[[], object]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = self.record.gone = True
        cancel()

    async def _next_message(self, deadline: float) -> Message:
        try:
            async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + _BODY_PAUSE, deadline)):
                message = await self._receive()
        except TimeoutError as error:
            raise TooSlow from error
        if message["type"] == "http.disconnect":
            self._gone = self.record.gone = True
            raise ClientGone
        return message


def _header_value(value: str) -> bytes:
    """As a header may carry it: names of models and workers come from outside."""
    if value.isascii() and value.isprintable():
        return value.encode()
    return "".join(c if " " <= c <= "~" else "?" for c in value).encode()


def _problem(error: ValidationError) -> tuple[str, str | None]:
    """What is wrong with a body, in one line, and the field."""
    errors = error.errors(include_url=False, include_context=False)
    told = "; ".join(_one_problem(one) for one in errors[:_NAMED_ERRORS])
    field = next(iter(_path(one["loc"]) for one in errors), None)
    return told, field or None


def _one_problem(error: Any) -> str:
    if error["type"] == "json_invalid":
        return "the body is not valid JSON"
    field, message = _path(error["loc"]), error["msg"]
    return f"`{field}`: {message}" if field else f"the body is not as expected: {message}"


def _path(location: Iterable[int | str]) -> str:
    return ".".join(str(step)[:_SHOWN] for step in location)
