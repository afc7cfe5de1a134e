"""vast.ai as the real SDK sees it, with switches for what goes wrong there."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from doubles.http_server import HttpServer, Reply, Request
from doubles.vast.answers import CUT, SILENT, Answer, Fate, Refused, as_json, as_text, refusal
from doubles.vast.control import Control
from doubles.vast.endpoints import Endpoints
from doubles.vast.faults import ANYWHERE, Armed, Fault, Faults
from doubles.vast.instances import Boot
from doubles.vast.limits import Limits
from doubles.vast.listing import Listing
from doubles.vast.machines import Machines
from doubles.vast.purchases import Purchases
from doubles.vast.routes import Call, read_call
from doubles.vast.world import FIRST_INSTANCE, World

from llmhost.fleet.clock import Clock

#: What an instance may do with the key that it is given; published.
OF_ITSELF = {"show", "destroy"}

#: Where it is published that a wrong key is 404 "Invalid user key"; elsewhere it is 401.
WRONG_KEY_IS_404 = {"search", "charges"}

#: seconds of real time between two looks at the clock while nobody calls.
LOOK = 0.05

Hook = Callable[[str, int], Awaitable[None]]


class Drop(Exception):
    """Raised by a hook: the caller hears nothing more. In `before`, the call is not executed either."""


class VastServer(Control, HttpServer):
    """An account at vast.ai with `credit` USD, an API key and a marketplace, living by `clock`.

    `before` and `after` are awaited with the endpoint's name and the running number of the call:
    before it is executed, and after that but before the reply. `steps` is the log of both.
    """

    def __init__(
        self,
        clock: Clock,
        containers: Any = None,
        *,
        boot: Boot = Boot(),  # noqa: B008
        credit: float = 100.0,
        pace: float = 1.0,
    ) -> None:
        super().__init__()
        self.key = secrets.token_hex(32)
        self.more_keys: set[str] = set()  #: of the same account
        self.world = World(clock, boot, credit)
        self.market = self.world.market
        self.machines = Machines(self.world, containers)
        self.faults = Faults()
        self.limits = Limits(clock, pace)
        self.calls: Counter[str] = Counter()
        self.steps: list[tuple[str, str]] = []
        self.before: Hook | None = None
        self.after: Hook | None = None
        self._endpoints = Endpoints(self.world, self.faults, self.machines.printed)
        self._handlers: Mapping[str, Callable[[Call], Answer]] = {
            **self._endpoints.handlers,
            "create": Purchases(self.world, self.faults).create,
            "list": Listing(self.world, self.faults).list,
        }
        self._looking: asyncio.Task[None] | None = None
        self._others: dict[str | None, VastServer] = {}

    def also_serve(self, other: VastServer) -> None:
        """Another account, at this address and with the key that it has now."""
        other.world.number_from(FIRST_INSTANCE + len(self._others) * 1000 + 1000)
        self._others[other.key] = other

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._endpoints.url = self.machines.api_url = self.url
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *details: object) -> None:
        assert self._looking is not None
        await self.machines.close()
        self._looking.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await self._looking
        finally:
            await super().__aexit__(*details)

    async def answer(self, request: Request, reply: Reply) -> None:
        call = read_call(request)
        if call.key in self._others:
            await self._others[call.key].answer(request, reply)
            return
        self.calls[call.endpoint] += 1
        number = self.calls.total()
        try:
            await self._hook("before", self.before, call, number)
            answer = await self._answered(call)
            await self._hook("after", self.after, call, number)
        except Drop:
            answer = CUT
        await self._deliver(answer, reply)

    async def _answered(self, call: Call) -> Answer:
        await self.tick()
        try:
            self._admit(call)
            fault = self._fault(call)
            answer = await self._disturbed(fault, call) if fault else None
            if answer is None:
                self.world.advance()
                answer = self._handlers[call.endpoint](call)
        except Refused as refused:
            answer = refused.answer
        await self.machines.settle()
        return answer

    def _fault(self, call: Call) -> Armed | None:
        named = {"offer" if call.endpoint == "create" else "instance": call.id}
        return self.faults.take(*ANYWHERE, endpoint=call.endpoint, **named)

    def _admit(self, call: Call) -> None:
        """Raises Refused at a wrong key, a wrong place or a wrong time."""
        if call.endpoint == "result":
            return
        if call.key is None:
            raise refusal(403, "auth_error", "This action requires login.")
        if call.key not in {self.key, *self.more_keys}:
            self._admit_instance(call)
        if call.endpoint == "unknown":
            raise Refused(as_text("Not Found", 404))
        early = self.limits.check(call.endpoint, call.key)
        if early:
            raise Refused(early)

    def _admit_instance(self, call: Call) -> None:
        """An instance's own key is good for that instance alone, and as long as it lives."""
        owner = next((one for one in self.world.alive if one.key == call.key), None)
        if owner is None:
            if call.endpoint in WRONG_KEY_IS_404:
                raise refusal(404, "auth_error", "Invalid user key")
            raise Refused(as_json({"msg": "Unauthorized"}, 401))
        if call.endpoint not in OF_ITSELF or call.id != owner.id:
            raise refusal(401, "auth_error", "This key has no permission for that.")

    async def _disturbed(self, armed: Armed, call: Call) -> Answer | None:
        """What the fault answers instead; None if the call goes on."""
        match armed.fault:
            case Fault.SLOW:
                await self.world.clock.sleep(armed.value or 0.0)
                return None
            case Fault.TOO_MANY:
                return self.limits.refuse(call.endpoint, armed.value)
            case Fault.QUOTA:
                return as_json({"error": "search_quota_exceeded", "msg": "Daily search quota exceeded."}, 429)
            case fault:
                return PLAIN[fault]

    async def _hook(self, phase: str, hook: Hook | None, call: Call, number: int) -> None:
        self.steps.append((call.endpoint, phase))
        if hook is not None:
            await hook(call.endpoint, number)

    async def _deliver(self, answer: Answer, reply: Reply) -> None:
        match answer.fate:
            case Fate.SENT:
                await reply.raw(answer.to_bytes())
            case Fate.SILENT:
                await self.wait(reply)
            case Fate.CUT:
                reply.keep_alive = False

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self.tick()

    async def tick(self) -> None:
        """Lets happen what is due by the clock. Calls do so by themselves."""
        self.world.advance()
        await self.machines.settle()


#: Answers that hang on nothing.
PLAIN: Mapping[Fault, Answer] = {
    Fault.SILENT: SILENT,
    Fault.CUT: CUT,
    Fault.GARBAGE: as_text("<html><body>maintenance</body></html>"),
    Fault.SERVER_ERROR: as_json({"error": "server_error", "msg": "Internal Server Error"}, 500),
    Fault.UNAVAILABLE: as_text("Service Unavailable", 503),
}
