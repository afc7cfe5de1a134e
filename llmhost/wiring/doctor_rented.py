"""Builds what `llmhost doctor` looks at where workers are rented. It buys, ends and writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from llmhost.config.models import Config
from llmhost.doctor.checks import Check, Look, check_server, failed, fine, wrong
from llmhost.doctor_rented import (
    check_account,
    check_budget,
    check_costs,
    check_memory,
    check_offers,
    check_orphans,
    check_rented,
    check_report,
)
from llmhost.errors import ConfigError, EngineUnavailable, LlmhostError, ProviderError, StoreError
from llmhost.fleet.budget import Limits, Spent
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.spending import spent_now
from llmhost.wiring.fleets import make_registry, ready_timeout
from llmhost.wiring.parts import Wiring
from llmhost.wiring.providers import fleet_spec

__all__ = ["rented_looks"]

_NO_LEDGER = "mend Redis first: until then the budget cannot be checked, so nothing is bought"


def rented_looks(wiring: Wiring, config: Config) -> Sequence[Look]:
    """Account, workers, market, money and what may have been forgotten."""
    doctor = _RentedDoctor(wiring, config)
    return [
        Look("account", doctor.account),
        Look("workers", doctor.workers),
        Look("offers", doctor.offers),
        Look("budget", doctor.money),
        Look("orphans", doctor.orphans),
    ]


class _RentedDoctor:
    """Looks at one rented fleet; the workers are listed once for all looks."""

    def __init__(self, wiring: Wiring, config: Config) -> None:
        self._wiring = wiring
        self._config = config
        self._listing = asyncio.Lock()
        self._listed: Sequence[Worker] | LlmhostError | None = None

    async def account(self) -> Sequence[Check]:
        account = await self._wiring.provider.account()
        workers: Sequence[Worker] = ()
        with suppress(ProviderError):  # the look at the workers says so
            workers = await self._list()
        return [check_account(account, workers)]

    async def offers(self) -> Sequence[Check]:
        alive = [worker for worker in await self._list() if worker.state is not WorkerState.FAILED]
        market = await self._wiring.provider.offers(fleet_spec(self._config))
        return [check_offers(market, max(0, self._config.fleet.gpus - len(alive)))]

    async def workers(self) -> Sequence[Check]:
        workers = await self._list()
        if not workers:
            return [fine("workers", "none; `llmhost up` rents them")]
        found = await asyncio.gather(*map(self._worker, workers))
        return [check for checks in found for check in checks]

    async def money(self) -> Sequence[Check]:
        workers = await self._list()
        costs = check_costs(workers, interruptible=self._config.vast.interruptible)
        limits = Limits(**self._config.fleet.budget.model_dump())
        try:
            spent = await self._spent() if limits.any else Spent()
        except StoreError:
            return [wrong("budget", "what was spent is not known without Redis", _NO_LEDGER), costs]
        return [check_budget(limits, spent, workers, self._wiring.now()), costs]

    async def orphans(self) -> Sequence[Check]:
        workers = await self._list()
        intents = await self._wiring.provider.intents()
        known = None
        with suppress(StoreError):  # the look at Redis says so
            known = await self._known()
        return [check_orphans(workers, known, intents)]

    async def _list(self) -> Sequence[Worker]:
        async with self._listing:
            if self._listed is None:
                try:
                    self._listed = await self._wiring.provider.list()
                except (ConfigError, ProviderError) as error:
                    self._listed = error
        if isinstance(self._listed, LlmhostError):
            raise self._listed
        return self._listed

    async def _worker(self, worker: Worker) -> Sequence[Check]:
        patience, now = ready_timeout(self._config, rents=True), self._wiring.now()
        if worker.url is None or worker.state is WorkerState.FAILED:
            return [check_rented(worker, patience, now)]
        try:
            report = await self._wiring.engines.front_door(worker).progress()
            if report.stage != "ready":
                return [check_report(worker, report, patience, now)]
            return await self._ready_worker(worker)
        except LlmhostError as error:
            return [failed(f"worker {worker.id}", error)]

    async def _ready_worker(self, worker: Worker) -> Sequence[Check]:
        spilled: Sequence[Check] = ()
        with suppress(EngineUnavailable):  # one that has just booted has measured nothing yet
            spilled = check_memory(worker, await self._wiring.engines.front_door(worker).metrics())
        return spilled or [
            await check_server(f"worker {worker.id}", self._wiring.engines.of(worker), worker.model)
        ]

    async def _spent(self) -> Spent:
        if not await self._redis_runs():
            return Spent()
        rentals = await (await self._wiring.ledger()).rentals()
        return spent_now(rentals, self._wiring.now())

    async def _known(self) -> frozenset[str] | None:
        if not await self._redis_runs():
            return None
        registry = make_registry(await self._wiring.redis(), fleet_spec(self._config))
        return (await registry.workers()).ids

    async def _redis_runs(self) -> bool:
        """Whether there is a Redis to ask; to ask for a client of the embedded one would start it."""
        embedded = self._wiring.embedded_redis
        return embedded is None or await embedded.is_running()
