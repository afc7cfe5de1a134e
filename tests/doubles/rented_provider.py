"""A provider of rented workers that tells what a test says. It is for those who look: it sells nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmhost.errors import LlmhostError
from llmhost.fleet.models import Account, FleetSpec, Intent, Market, Offer, Payer, Worker
from llmhost.fleet.provider import Confirm, Provider, agree


@dataclass
class RentedProvider(Provider):
    """`fault` is raised by everything that asks; `lists` counts how often the workers were listed."""

    name = "vast"
    rents = True

    workers: list[Worker] = field(default_factory=list)
    market: Market = field(default_factory=lambda: Market(()))
    credit: float = 100.0
    begun: list[Intent] = field(default_factory=list)
    fault: LlmhostError | None = None
    lists: int = 0

    async def offers(self, spec: FleetSpec) -> Market:
        self._ask()
        return self.market

    async def create(self, spec: FleetSpec, offer: Offer | None = None, confirm: Confirm = agree) -> Worker:
        raise AssertionError("whoever looks buys nothing")

    async def list(self) -> Sequence[Worker]:
        self.lists += 1
        self._ask()
        return self.workers

    async def destroy(self, worker_id: str, payer: Payer | None = None) -> None:
        raise AssertionError("whoever looks ends nothing")

    async def logs(self, worker_id: str, lines: int = 100) -> str:
        return ""

    async def account(self) -> Account:
        self._ask()
        return Account(self.credit)

    async def intents(self) -> Sequence[Intent]:
        return self.begun

    def _ask(self) -> None:
        if self.fault is not None:
            raise self.fault
