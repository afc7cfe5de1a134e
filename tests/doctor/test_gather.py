"""What `llmhost doctor` probes where workers are rented: on a real Redis, with workers that really answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.certificates import Certified, certify
from doubles.fleet_values import make_worker
from doubles.http_server import Reply, Request
from doubles.ollama_server import OllamaServer
from doubles.rented_provider import RentedProvider
from plugins.redis_servers import RedisServer

from llmhost.config.models import Config
from llmhost.doctor.checks import Check, fail, run_checks
from llmhost.doctor.gather import FleetProbes, probes
from llmhost.errors import ConfigError, ProviderError
from llmhost.fleet.models import Market, Offer, Worker, WorkerState
from llmhost.wiring import Wiring
from llmhost.wiring.fleets import fleet_spec, make_registry

OWN = certify()

NO_KEY = ConfigError("vast.ai needs a key", hint="set VAST_API_KEY")


class WorkerServer(OllamaServer):
    """A rented worker: Ollama, and beside it what the worker reports."""

    stage = "ready"
    metrics: Mapping[str, Any] | None = None

    async def answer(self, request: Request, reply: Reply) -> None:
        if request.path == "/llmhost/progress":
            await reply.json({"stage": self.stage, "fraction": 0.5, "detail": "", "at": 1})
        elif request.path == "/llmhost/metrics" and self.metrics is not None:
            await reply.json(self.metrics)
        else:
            await super().answer(request, reply)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WorkerServer]:
    server = WorkerServer(token="t")
    server.tls = OWN.server_context(tmp_path)
    async with server:
        yield server


@pytest.fixture
def provider() -> RentedProvider:
    return RentedProvider(market=Market((Offer("1", "RTX 4090", 0.4, 0.99, "US"),)))


def config(redis: str | None = None, **fleet: Any) -> Config:
    return Config.model_validate(
        {
            "fleet": {"provider": "vast", "name": "test", **fleet},
            "engine": {"kind": "ollama", "model": "tiny"},
            "redis": {"url": redis},
        }
    )


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return f"unix://{redis_server.socket}"


async def checks_of(provider: RentedProvider, config: Config) -> dict[str, Check]:
    async with Wiring(config, warn=lambda _: None, note=lambda _: None) as wiring:
        wiring.__dict__["provider"] = provider  # in place of the one that would be built
        return {check.name: check for check in await run_checks(FleetProbes(wiring, config).rented())}


def worker_at(server: WorkerServer, own: Certified = OWN) -> Worker:
    access = {"url": server.url, "token": server.token, "certificate": own.pem}
    return make_worker("vast-1", provider="vast", engine="ollama", started=1.0, **access)


async def test_a_fleet_that_is_not_rented_yet_lacks_only_a_budget(
    provider: RentedProvider, redis_url: str
) -> None:
    checks = await checks_of(provider, config(redis_url))
    assert list(checks) == ["account", "workers", "offers", "budget", "costs", "orphans"]
    assert [name for name, check in checks.items() if not check.ok] == ["budget"]


async def test_a_missing_key_is_reported_once(provider: RentedProvider) -> None:
    provider.fault = NO_KEY
    checks = await checks_of(provider, config())
    assert list(checks.values()) == [fail("account", NO_KEY.message, NO_KEY.hint)]


async def test_a_list_that_cannot_be_read_is_asked_for_once_and_hides_no_credit(
    provider: RentedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> list[Worker]:
        provider.lists += 1
        raise ProviderError("the list is cut short")

    monkeypatch.setattr(provider, "list", fails)
    checks = await checks_of(provider, config())
    assert (checks["account"].ok, checks["workers"].ok, provider.lists) == (True, False, 1)
    assert checks["workers"].detail == "the list is cut short"


async def test_as_many_offers_are_needed_as_healthy_workers_are_missing(provider: RentedProvider) -> None:
    provider.workers = [
        make_worker("vast-1", url=None),
        make_worker("vast-2", url=None, state=WorkerState.FAILED, detail="outbid"),
    ]
    assert "2 needed" in (await checks_of(provider, config(gpus=3)))["offers"].detail


async def test_a_ready_worker_is_asked_for_its_model(
    provider: RentedProvider, server: WorkerServer, refusing_port: int
) -> None:
    away = make_worker("vast-3", url=f"http://127.0.0.1:{refusing_port}", engine="ollama")
    provider.workers = [replace(worker_at(server, certify()), id="vast-2"), away]
    checks = await checks_of(provider, config())
    assert "another certificate" in checks["worker vast-2"].detail
    assert (checks["worker vast-2"].ok, checks["worker vast-3"].ok, server.requests) == (False, False, [])
    provider.workers = [worker_at(server)]
    check = (await checks_of(provider, config()))["worker vast-1"]
    assert (check.ok, check.detail.split(";")[0]) == (True, "answers (version 0.12.3)")


async def test_a_worker_that_is_still_pulling_is_not_asked_for_its_model(
    provider: RentedProvider, server: WorkerServer
) -> None:
    server.stage = "pulling"
    provider.workers = [worker_at(server)]
    check = (await checks_of(provider, config()))["worker vast-1"]
    assert (check.level, check.detail.split(",")[0]) == ("fail", "pulling 50%")
    assert [request.path for request in server.requests] == ["/llmhost/progress"]


async def test_a_worker_reports_that_its_model_has_spilled(
    provider: RentedProvider, server: WorkerServer
) -> None:
    model = {"name": "tiny", "size": 2 << 30, "size_vram": 1 << 30}
    switch = {"armed": True, "at": 1}
    server.metrics = {"at": 1, "models": [model], "switch": switch}
    provider.workers = [worker_at(server)]
    check = (await checks_of(provider, config()))["worker vast-1"]
    assert (check.ok, "1.0 of the 2.0 GiB" in check.detail) == (False, True)


async def test_a_worker_whose_dead_man_switch_is_not_armed_fails_and_says_why(
    provider: RentedProvider, server: WorkerServer
) -> None:
    model = {"name": "tiny", "size": 1 << 30, "size_vram": 1 << 30}
    switch = {"armed": False, "at": 1, "detail": "vast.ai refuses its key (HTTP 401)"}
    server.metrics = {"at": 1, "models": [model], "switch": switch}
    provider.workers = [worker_at(server)]
    check = (await checks_of(provider, config()))["worker vast-1"]
    assert (check.level, "not armed: vast.ai refuses its key (HTTP 401)" in check.detail) == ("fail", True)


async def test_what_was_spent_comes_from_the_ledger(provider: RentedProvider, redis_url: str) -> None:
    limited = config(redis_url, budget={"per_month": 10_000})
    async with Wiring(limited, warn=lambda _: None, note=lambda _: None) as wiring:
        now = wiring.now()
        ledger = await wiring.ledger()
        # Dear enough for a test in the first second of a month to see it.
        await ledger.observed("vast-1", 1e9, now - 1, now)
        await ledger.closed("vast-1", now)
    assert (await checks_of(provider, limited))["budget"].level == "warn"


async def test_a_budget_cannot_be_checked_without_the_ledger(
    provider: RentedProvider, refusing_port: int
) -> None:
    checks = await checks_of(provider, config(f"redis://127.0.0.1:{refusing_port}", budget={"per_hour": 1}))
    assert (checks["budget"].ok, checks["costs"].ok, checks["orphans"].ok) == (False, True, True)


async def test_a_worker_that_the_registry_does_not_know_is_an_orphan(
    provider: RentedProvider, redis_url: str
) -> None:
    with_redis = config(redis_url)
    provider.workers = [make_worker("vast-1", url=None), make_worker("vast-2", url=None)]
    async with Wiring(with_redis, warn=lambda _: None, note=lambda _: None) as wiring:
        await make_registry(await wiring.redis(), fleet_spec(with_redis), with_redis).save(
            provider.workers[0]
        )
    orphans = (await checks_of(provider, with_redis))["orphans"]
    assert (orphans.ok, orphans.detail.startswith("vast-2:")) == (False, True)


async def test_probing_starts_no_redis(provider: RentedProvider, state_folder: Path) -> None:
    provider.workers = [make_worker("vast-1", url=None)]
    checks = await checks_of(provider, config(budget={"per_hour": 1}))
    assert (checks["budget"].ok, checks["orphans"].ok) == (True, True)
    assert not (state_folder / "redis").exists()


async def test_to_ask_for_the_keys_of_a_gateway_starts_no_redis(state_folder: Path) -> None:
    public = Config.model_validate({"gateway": {"host": "0.0.0.0", "behind_proxy": "10.0.0.5"}})  # noqa: S104
    async with Wiring(public, warn=lambda _: None, note=lambda _: None) as wiring:
        (probe,) = (probe for probe in probes(wiring, public) if probe.name == "gateway")
        assert [check.level for check in await probe.run()] == ["warn"]
    assert not (state_folder / "redis").exists()
