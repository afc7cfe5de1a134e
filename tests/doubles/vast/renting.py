"""What tests of renting have in common: what is rented, and how it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from doubles.clock import ManualClock
from doubles.fleet_values import make_spec
from doubles.vast.server import VastServer

from llmhost.fleet.models import Offer, Worker
from llmhost.fleet.providers.vast.client import VastAccount
from llmhost.fleet.providers.vast.provider import VastProvider

Providers = Callable[..., VastProvider]
Accounts = Callable[..., VastAccount]

SPEC = make_spec(provider="vast", engine="ollama", model="tiny")


async def best(provider: VastProvider) -> Offer:
    return (await provider.offers(SPEC)).offers[0]


async def rent_running(provider: VastProvider, clock: ManualClock) -> Worker:
    """A worker whose machine runs."""
    created = await provider.create(SPEC)
    await clock.sleep(120)
    return next(worker for worker in await provider.list() if worker.id == created.id)


def ids(workers: Any) -> list[str]:
    return [worker.id for worker in workers]


async def tell(provider: VastProvider, worker_id: str) -> Worker:
    return next(worker for worker in await provider.list() if worker.id == worker_id)


def order_of_first(server: VastServer) -> Any:
    return next(iter(server.instances.values())).order


def fill(server: VastServer, count: int) -> None:
    """Rents `count` more instances like the one that there is, each under a label of its own."""
    order = order_of_first(server)
    for number in range(count):
        label = f"llmhost/test/1700001{number:03d}-00000000"
        server.world.buy(server.market.add(), replace(order, label=label))
