"""The parts for one command.

They are built when they are first asked for, and imported then: an exact hit never loads the embedding
model, a command that asks no engine never loads the HTTP client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from llmhost.answering.cache_session import WarnOnce
from llmhost.config.models import Config, RedisConfig
from llmhost.errors import ConfigError, EngineError, LlmhostError, StateError, StoreError, StoreUnavailable
from llmhost.machine.paths import state_dir
from llmhost.wiring import questions

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.answering.answerer import Answerer
    from llmhost.answering.audits import AuditSampler
    from llmhost.autoscale.models import StepResult
    from llmhost.autoscale.step import Scaler
    from llmhost.autoscale.wake import Waker
    from llmhost.cache.catalog import Catalog
    from llmhost.engines.breaker import Breakers
    from llmhost.engines.load import LoadTracker
    from llmhost.engines.pool import Pool, Upstream
    from llmhost.engines.queue import FairQueue
    from llmhost.fleet.models import FleetSpec, Worker
    from llmhost.fleet.provider import Provider
    from llmhost.fleet.registry import FleetRecords
    from llmhost.fleet.service import FleetService
    from llmhost.fleet.workers import Engines, WorkerList
    from llmhost.gateway.fleets import FleetState, ServedFleet
    from llmhost.ledger.ledger import Ledger
    from llmhost.ledger.report import Targets
    from llmhost.store.embedded import EmbeddedRedis
    from llmhost.trust.audit import Auditor
    from llmhost.trust.shadow import ShadowComparison
    from llmhost.wiring.fleet_model import FleetModelParts
    from llmhost.wiring.other_fleets import OtherFleet, OtherFleets

__all__ = ["Wiring"]

#: seconds; an embedded Redis that could not be started is tried again after this time
_REDIS_PAUSE = 5.0
#: seconds; as long as a command is at work on other fleets, whose Redis was waited for in vain
_OTHERS_PAUSE = 60.0


class Wiring(AsyncExitStack):
    """The parts for one command; a context that closes what was opened.

    `warn` gets a sentence about what is degraded, `note` about what takes a while.
    """

    def __init__(
        self,
        config: Config,
        *,
        warn: Callable[[str], None],
        note: Callable[[str], None],
        client: Redis | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        self.warn = warn
        self.warn_once = WarnOnce(warn)
        self._note = note
        #: why Redis is not to be used, whatever the configuration says
        self.no_redis: StoreError | None = None
        #: whether the command looks or stops, which it does without a Redis that is configured wrongly
        self.lenient = False
        #: whether this command's state folder is an empty one, which goes when the command ends
        self.stateless = False
        #: why what may be written down in the user's own is not known
        self.unread: StateError | None = None
        #: names what the configuration comes from, where a gateway is to be found by it
        self.inputs = ""
        self.caches = questions.CacheParts(config, note)
        self._client = client
        #: those of other fleets
        self._clients: list[tuple[RedisConfig, Redis]] = []
        self._redis_failure: StoreUnavailable | None = None
        self._redis_retry_at = 0.0
        self._forgotten: set[str] = set()
        #: where requests wait for a slot; None: before the workers
        self._queue: FairQueue | None = None
        self._waker: Waker | None = None
        self._shared_load: LoadTracker | None = None

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    # Redis

    @cached_property
    def embedded_redis(self) -> EmbeddedRedis | None:
        """The Redis that llmhost runs itself, or None where the configuration names another."""
        if self._config.redis.is_own:
            return None
        from llmhost.store.embedded import EmbeddedRedis

        return EmbeddedRedis(state_dir() / "redis", self._config.redis.server)

    async def redis(self) -> Redis:
        """A client; the embedded server is started where it is wanted. Raises StoreError, ConfigError."""
        if self.no_redis is not None:
            raise self.no_redis
        if self._client is None or self._redis_failure is not None:
            await self._ensure_redis()
        return self.redis_client()

    def redis_client(self) -> Redis:
        """The client, which connects with its first command. Raises ConfigError."""
        if self._client is None:
            from llmhost.store.client import connect

            embedded = self.embedded_redis
            self._client = connect(self._config.redis, socket=None if embedded is None else embedded.socket)
            self.push_async_callback(self._client.aclose)
        return self._client

    async def _ensure_redis(self) -> None:
        """Starts the embedded server where it is wanted and does not run. Raises StoreError.

        A failure holds for some seconds: several parts ask for Redis, and each try takes its time.
        """
        embedded = self.embedded_redis
        if embedded is None:
            return
        if self._redis_failure is not None and time.monotonic() < self._redis_retry_at:
            raise self._redis_failure
        self._redis_failure = None
        try:
            await embedded.ensure_running()
        except (StateError, StoreError) as error:
            self._redis_failure = StoreUnavailable(error.message, hint=error.hint)
            self._redis_retry_at = time.monotonic() + _REDIS_PAUSE
            raise self._redis_failure from error

    async def stop_embedded_redis(self) -> bool:
        """Whether there was one to stop. Raises StateError where it cannot be stopped."""
        embedded = self.embedded_redis
        return embedded is not None and await embedded.stop()

    async def _running_redis(self) -> Redis | None:
        """As `redis`, but the embedded server is not started."""
        embedded = self.embedded_redis
        if embedded is not None and not await embedded.is_running():
            return None
        return await self._redis_or_none()

    async def _redis_or_none(self) -> Redis | None:
        """Raises ConfigError where the command is not `lenient`."""
        try:
            return await self.redis()
        except StoreError:
            return None
        except ConfigError as error:
            if not self.lenient:
                raise
            self.warn_once.warn("Redis is not used", error)
            return None

    # Cache

    async def catalog(self) -> Catalog:
        """The cache for people. Raises StoreError."""
        return self.caches.catalog(await self.redis())

    # Ledger

    async def ledger(self) -> Ledger:
        """The fleet's ledger. Raises StoreError."""
        from llmhost.ledger.ledger import Ledger

        return Ledger(await self.redis(), self._config.fleet.name)

    @property
    def targets(self) -> Targets:
        """What `stats` measures against."""
        from llmhost.ledger.report import Targets

        return Targets(**self._config.targets.model_dump())

    # Fleet

    @cached_property
    def provider(self) -> Provider:
        """Where workers come from. Raises StateError."""
        from llmhost.wiring.fleets import make_provider

        return make_provider(self._config, state_dir() / "fleets" / self._config.fleet.name, self._note)

    async def fleet(self) -> FleetService:
        """The fleet's service. Where Redis is away, workers are kept without it. Raises StateError."""
        from llmhost.wiring.fleets import fleet_spec

        return await self._service(self.provider, fleet_spec(self._config))

    async def fleet_records(self) -> FleetRecords:
        """The fleet's records without its service. The embedded server is not started for it; without Redis
        they are empty."""
        from llmhost.fleet.clock import SystemClock
        from llmhost.fleet.registry import FleetRecords
        from llmhost.wiring.fleets import fleet_spec, make_registry, pause_marks

        spec, client = fleet_spec(self._config), await self._running_redis()
        registry = make_registry(client, spec, self._config) if client else None
        return FleetRecords(registry, None, SystemClock(), spec.ban_for, pause_marks(spec, self._config))

    async def scaler(self) -> Scaler:
        """The fleet's autoscaler. Raises StoreError, StateError: it does nothing without its memory."""
        from llmhost.wiring.fleets import make_scaler

        return make_scaler(self.provider, self.engines, await self.redis(), self._config)

    async def notify(self, result: StepResult) -> Sequence[str]:
        """Tells the operators what a step of the autoscaler shows, each thing once; says what went wrong."""
        from llmhost.autoscale.notify import Notifier, SentNotices, notices_of
        from llmhost.fleet.spending import tally
        from llmhost.wiring.fleets import budget_limits

        config, now = self._config, self.now()
        try:
            client, ledger = await self.redis(), await self.ledger()
            spent = tally(await ledger.rentals(), await ledger.charges(), None, now).periods
            labels = await self.caches.labels(client).report()
            raised = labels.changed if labels.raised else None
            notices = notices_of(config.fleet.name, result, budget_limits(config), spent, raised, now)
            sent = SentNotices(client, config.fleet.name)
            return await Notifier(config.fleet.name, config.notify).send_new(notices, sent, now)
        except StoreError as error:
            return [f"no notification is sent: {error.message}"]

    @cached_property
    def others(self) -> OtherFleets:
        """The fleets besides the configured one."""
        from llmhost.wiring.other_fleets import OtherFleets

        others = OtherFleets(
            self._config, lambda: self.provider, self._records_of, self._is_known, self.warn_once, self._note
        )
        others.unread = self.unread
        return others

    async def service_of(self, fleet: OtherFleet) -> FleetService:
        """What can end the workers of another fleet. Raises StateError."""
        return await (await self._of(fleet)).fleet()

    async def _records_of(self, fleet: OtherFleet) -> FleetRecords:
        return await (await self._of(fleet)).fleet_records()

    async def _is_known(self, fleet: OtherFleet) -> bool:
        """Whether the Redis of a fleet has workers or purchases of it. Nothing of it stays open: there may be
        many."""
        async with self._parts_of(fleet) as parts:
            known = await (await parts.fleet_records()).known()
            return bool(known.begun or known.ids)

    async def _of(self, fleet: OtherFleet) -> Wiring:
        """As `_parts_of`, closed with these."""
        return await self.enter_async_context(self._parts_of(fleet))

    def _parts_of(self, fleet: OtherFleet) -> Wiring:
        """The parts of another fleet. Its own configuration names the Redis with its records, and the
        account. Raises StateError."""
        from llmhost.wiring.fleets import is_gone, read_other

        if is_gone(fleet.config):
            self.warn_once.warn(
                f"{fleet.config}, which fleet {fleet.name} comes from, is gone",
                ConfigError(
                    "if it named a Redis of its own, what is on record there is not seen, and an autoscaler "
                    "that uses it is not told to stay down"
                ),
            )
        own, why_not, *_ = read_other(self._config, fleet.name, fleet.provider, fleet.config)
        client = self._client_of(own.redis) if own.redis.is_own and why_not is None else None
        other = Wiring(own, warn=self.warn, note=self._note, client=client)
        other.lenient, other.stateless = self.lenient, self.stateless
        other.no_redis = self.no_redis if own.redis == self._config.redis else None
        if why_not is not None:
            self.warn_once.warn(f"the Redis of fleet {fleet.name} is not known", why_not)
            other.no_redis = StoreUnavailable(why_not.message, hint=why_not.hint)
        return other

    def _client_of(self, config: RedisConfig) -> Redis | None:
        """One for all other fleets with this Redis: that it hangs is waited for once, and not once for each
        fleet and step. None where it is not valid."""
        from llmhost.store.client import connect

        try:
            if config == self._config.redis:
                return self.redis_client()
            client = next((client for known, client in self._clients if known == config), None)
            if client is None:
                client = connect(config, pause=_OTHERS_PAUSE)
                self.push_async_callback(client.aclose)
                self._clients.append((config, client))
        except ConfigError:  # said where it is used
            return None
        return client

    async def _service(self, provider: Provider, spec: FleetSpec) -> FleetService:
        from llmhost.fleet.pause import NOWHERE
        from llmhost.wiring.fleets import make_service, pause_marks

        client = await self._redis_or_none()
        embedded = self.embedded_redis is not None and self.no_redis is None
        return make_service(
            provider,
            spec,
            self.engines,
            client,
            self._config,
            self._note,
            marks=NOWHERE if self.stateless else pause_marks(spec, self._config),
            shared=not embedded,
        )

    # Questions

    @cached_property
    def engines(self) -> Engines:
        """How workers are spoken to."""
        from llmhost.fleet.workers import Engines

        engines = Engines(self._config, on_served=self._served, on_untrusted=self._forget_answers)
        self.push_async_callback(engines.aclose)
        return engines

    async def _served(self, model: str, digest: str) -> None:
        """A worker serves these weights: answers of others are not served any more."""
        if self._config.cache.enabled and (client := await self._redis_or_none()) is not None:
            with suppress(StoreError):  # the next answer says it again
                await self.caches.weights(client).seen(model, digest)

    async def _forget_answers(self, worker: str) -> None:
        """Forgets what a worker answered that is not what it was: it may have been another's for longer."""
        if worker in self._forgotten:
            return
        self._forgotten.add(worker)
        try:
            forgotten = await (await self.catalog()).forget_of(worker)
        except StoreError as error:
            forget = f"`llmhost cache forget --worker {worker}`"
            self.warn_once.warn(f"answers of {worker} may stay in the cache until {forget}", error)
        else:
            if forgotten:
                removed = f"its answers ({len(forgotten):,}) were removed from the cache"
                self._note(f"{worker} is not trusted any more: {removed}")

    async def answerer(self, *, goes_on: bool = False) -> Answerer:
        """The one path of a question. Where Redis is away, it does without until Redis is back; the user is
        warned. `goes_on`: of a process that answers more than one question, hits are audited and questions
        counted by tasks of its loop; else audits wait for another process.
        """
        from llmhost.answering.answerer import Answerer
        from llmhost.ledger.ledger import Ledger

        lost: StoreError | None = None
        try:
            await self.redis()
        except StoreError as error:
            lost = error
            self.warn_once.warn("the cache is off", error)
        config, client = self._config, self.redis_client()
        sessions = judge = condenser = None
        if config.cache.enabled:
            if config.cache.judge and not config.redis.cache_only:
                judge = self._fleet_model(client).fleet_judge()
            if config.cache.conversations == "condense" and not config.redis.cache_only:
                condenser = self._fleet_model(client).fleet_condenser()
            restore = None if self.embedded_redis is None else self._ensure_redis
            sessions = self.caches.sessions(client, self.warn_once, judge, restore, goes_on=goes_on)
            sessions.condenser = condenser
            if lost is not None:
                sessions.lost()
        if goes_on and self._audit_sampler is not None:
            from llmhost.trust.audit import BackgroundAudits

            task = await self.enter_async_context(BackgroundAudits(self.auditor, self.warn_once))
            self._audit_sampler.on_queued = task.wake
        ledger = None if config.redis.cache_only else Ledger(client, config.fleet.name)
        answerer = Answerer(
            pool=lambda: self._pool(client),
            slots=config.engine.slots,
            sessions=sessions,
            ledger=ledger,
            warn_once=self.warn_once,
            audits=lambda: self._audit_sampler,
            shadow=self._shadow(ledger) if config.cache.shadow and ledger else None,
            stale_for=config.cache.stale_for or 0.0,
            max_tokens=config.requests.max_tokens,
            counts_later=goes_on,
        )
        self.push_async_callback(answerer.aclose)
        return answerer

    async def served_fleet(self) -> ServedFleet:
        """This fleet for a gateway."""
        from llmhost.engines.engine import ModelDetails
        from llmhost.engines.queue import FairQueue
        from llmhost.gateway.fleets import ServedFleet
        from llmhost.wiring.figures import make_figures

        config = self._config

        async def is_ready() -> bool:
            try:
                ready = bool(await self._workers.workers())
            except LlmhostError:
                return False
            return ready or (self._waker is not None and self._waker.willing)

        self._queue = FairQueue(config.gateway.queue, config.gateway.queue_timeout)
        if config.wakes:
            from llmhost.autoscale.wake import Waker

            unasked = config.gateway.wake is not None
            self._waker = Waker(self.scaler, config.gateway.wake_timeout, unasked)
            self.push_async_callback(self._waker.aclose)

        async def details() -> ModelDetails:
            for upstream in await self.upstreams(config.engine.model):
                with suppress(EngineError):
                    return await upstream.engine.model_details(config.engine.model)
            return ModelDetails()

        answerer = await self.answerer(goes_on=True)
        figures = make_figures(config, self.redis_client(), self.caches, self._workers.workers, self.targets)
        return ServedFleet(
            config,
            answerer,
            self.caches.text_embedder,
            details,
            is_ready,
            self.inputs,
            state=self._fleet_state,
            figures=figures,
        )

    async def _fleet_state(self) -> FleetState:
        from llmhost.gateway.fleets import FleetState
        from llmhost.wiring.fleets import fleet_spec, make_registry

        queued = 0 if self._queue is None else len(self._queue)
        if self._config.redis.cache_only:
            return FleetState({}, True, queued)
        if (client := await self._redis_or_none()) is not None:
            with suppress(StoreError):
                registry = make_registry(client, fleet_spec(self._config), self._config)
                return FleetState(await registry.states(), True, queued)
        return FleetState({}, False, queued)

    async def load_models(self) -> None:
        """Loads what the cache compares questions with, so that no user waits for it. What fails is told by
        the first question that needs it."""
        if self._config.cache.enabled:
            for load in (self.caches.embedder, self.caches.policy):
                with suppress(LlmhostError):
                    await load()

    def _shadow(self, ledger: Ledger) -> ShadowComparison:
        from llmhost.trust.shadow import ShadowComparison

        return ShadowComparison(self.caches.embedder, ledger)

    async def auditor(self) -> Auditor:
        """What checks semantic hits after they were served. Raises StoreError."""
        from llmhost.answering.answerer import Answerer
        from llmhost.answering.audits import AuditQueue
        from llmhost.ledger.ledger import Ledger
        from llmhost.trust.audit import Auditor

        config, client, caches = self._config, await self.redis(), self.caches
        pool = self._pool(client, background=True)
        engines = Answerer(
            pool=lambda: pool,
            slots=config.engine.slots,
            sessions=None,
            ledger=None,
            warn_once=self.warn_once,
        )
        return Auditor(
            queue=AuditQueue(client, config.fleet.name, config.cache.policy),
            ask=engines.answer,
            cache=caches.cache(client),
            embedder=caches.embedder,
            labels=caches.labels(client),
            ledger=Ledger(client, config.fleet.name),
        )

    async def drop_audits(self) -> None:
        """Nothing waits to be audited any more. Raises StoreError."""
        await questions.drop_audits(self._config, await self.redis())

    @property
    def audits_queued(self) -> int:
        """How many of this command's hits wait to be audited."""
        sampler = self.__dict__.get("_audit_sampler")  # not made where no hit was semantic
        return sampler.queued if sampler else 0

    @cached_property
    def _audit_sampler(self) -> AuditSampler | None:
        """What puts a share of the semantic hits into the queue; None where none is wanted."""
        from llmhost.answering.audits import AuditQueue, AuditSampler
        from llmhost.cache.verifiers.load import labels_name

        cache = self._config.cache
        if not cache.audit_share or self._config.redis.cache_only:
            return None
        queue = AuditQueue(self.redis_client(), self._config.fleet.name, cache.policy)
        return AuditSampler(queue, cache.audit_share, self.warn_once, judged_by=labels_name(cache))

    async def fleet_model(self) -> FleetModelParts:
        """What the fleet's own model is asked for llmhost itself. Raises StoreError."""
        return self._fleet_model(await self.redis())

    def _fleet_model(self, client: Redis) -> FleetModelParts:
        from llmhost.wiring.fleet_model import FleetModelParts

        def pool(background: bool) -> Pool:
            return self._pool(client, background=background)

        return FleetModelParts(self._config, client, self.caches.keys, self.warn_once, pool)

    def _pool(self, client: Redis, *, background: bool = False) -> Pool:
        """In the `background`: for what is asked beside the users' own questions."""
        from llmhost.engines.pool import Pool

        return Pool(
            self.upstreams,
            self._load(client),
            self._config.limits.max_attempts,
            self.warn_once.warn_untrusted,
            forget=self._forget_answers,
            background=background,
            queue=self._queue,
            wake=None if background else self._waker,
            breakers=self._breakers,
            price_limit=self._config.highest_price,
        )

    async def upstreams(self, model: str) -> Sequence[Upstream]:
        """The workers that may be asked for this model, each with its client. Raises LlmhostError."""
        return self.engines.upstreams(await self._workers.workers(), model)

    def _load(self, client: Redis) -> LoadTracker:
        """One for all pools: while Redis is away, it counts in this process."""
        from llmhost.engines.load import LocalLoad
        from llmhost.engines.redis_traffic import RedisLoad

        engine = self._config.engine
        if self._shared_load is None and self._config.redis.cache_only:
            self._shared_load = LocalLoad(engine.slots)
        elif self._shared_load is None:
            self._shared_load = RedisLoad(
                client, self._config.fleet.name, engine.answer_timeout, places=engine.slots
            )
        return self._shared_load

    @cached_property
    def _breakers(self) -> Breakers:
        from llmhost.engines.breaker import Breakers

        return Breakers()

    @cached_property
    def _workers(self) -> WorkerList:
        from llmhost.fleet.workers import WorkerList

        return WorkerList(self._read_workers)

    async def _read_workers(self) -> Sequence[Worker]:
        from llmhost.fleet.workers import workers_to_ask
        from llmhost.wiring.fleets import configured_workers, fleet_spec, make_registry

        if self._config.redis.cache_only:
            return configured_workers(self._config)
        client = await self._redis_or_none()
        registry = make_registry(client, fleet_spec(self._config), self._config) if client else None
        workers = await workers_to_ask(self.provider, registry, ready_only=self._waker is not None)
        await self.engines.forget_all_but(workers)
        return workers
