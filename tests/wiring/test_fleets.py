"""Who can read the records of a fleet's workers: the operator's machines, by a key that is not in Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from doubles.certificates import certify
from doubles.fleet_values import make_worker
from doubles.vast.server import VastServer

from llmhost.config.models import Config
from llmhost.fleet.clock import SystemClock
from llmhost.fleet.registry import FleetRegistry
from llmhost.machine.files import hold_lock
from llmhost.wiring.fleets import config_of, fleet_spec, make_provider, make_registry, records_of

RENTED = make_worker(
    "vast-1", url="https://192.0.2.1:8443", certificate=certify().pem, token="t", provider="vast"
)


@pytest.fixture
def registry_on(redis_client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The registry as a machine of this name, with this environment, has it."""

    def make(machine: str, provider: str = "vast", fleet: Any = None, **environ: str) -> FleetRegistry:
        monkeypatch.setenv("LLMHOST_STATE_DIR", str(tmp_path / machine))
        monkeypatch.delenv("VAST_API_KEY", raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        engine = {"engine": {"kind": "ollama", "model": "m"}} if provider == "vast" else {}
        servers = {"workers": [{"url": "http://127.0.0.1:9"}]} if provider == "static" else {}
        config = Config.model_validate(
            {"fleet": {"provider": provider, **servers, **(fleet or {})}, **engine}
        )
        return make_registry(redis_client, fleet_spec(config), config)

    return make


async def test_another_machine_with_the_same_account_reads_the_records(registry_on: Any) -> None:
    await registry_on("one", VAST_API_KEY="key").save(RENTED)
    assert (await registry_on("two", VAST_API_KEY="key").workers()).workers == (RENTED,)


async def test_a_key_that_vast_s_own_tool_stored_is_the_account_s_too(registry_on: Any) -> None:
    await registry_on("one", VAST_API_KEY="key").save(RENTED)
    stored = Path.home() / "config" / "vastai" / "vast_api_key"
    stored.parent.mkdir(parents=True)
    stored.write_text("key\n", encoding="ascii")
    assert (await registry_on("two").workers()).workers == (RENTED,)


@pytest.mark.parametrize("environ", [{}, {"VAST_API_KEY": "another"}])
async def test_a_machine_without_the_account_believes_no_record(
    registry_on: Any, environ: dict[str, str]
) -> None:
    await registry_on("one", VAST_API_KEY="key").save(RENTED)
    assert (await registry_on("two", **environ).workers()).damaged == ("vast-1",)


async def test_machines_with_different_keys_of_one_account_share_a_signing_key(registry_on: Any) -> None:
    shared = {"signing_key": "of all machines, long"}
    await registry_on("one", fleet=shared, VAST_API_KEY="key").save(RENTED)
    for environ in ({}, {"VAST_API_KEY": "another"}):
        assert (await registry_on("two", fleet=shared, **environ).workers()).workers == (RENTED,)


@pytest.mark.parametrize("provider", ["local", "static"])
async def test_workers_of_this_machine_are_signed_by_its_state_folder(
    registry_on: Any, redis_client: Any, tmp_path: Path, provider: str
) -> None:
    await registry_on("one", provider).save(make_worker())
    assert len((await registry_on("one", provider).workers()).workers) == 1
    key = tmp_path / "one" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_text("ab" * 32, encoding="ascii")
    assert (await registry_on("one", provider).workers()).damaged == ("w-1",)


async def test_a_planted_static_record_under_vast_is_never_asked(registry_on: Any, redis_client: Any) -> None:
    """As it was done: the record of a worker that is no rented one, with an address without TLS."""
    fields = {"provider": "static", "url": "http://192.0.2.1", "state": "ready", "owner": "vast"}
    numbers = {"price_per_hour": "0", "started": "0"}
    texts = {"model": "m", "engine": "ollama", "gpu": "", "detail": "", "log": ""}
    await redis_client.hset("llmhost:local:worker:w-1", mapping={**fields, **numbers, **texts})
    await redis_client.sadd("llmhost:local:workers", "w-1")
    registered = await registry_on("one", VAST_API_KEY="key").workers()
    assert (registered.workers, registered.damaged) == ((), ("w-1",))


async def test_two_commands_that_start_at_once_draw_one_key(registry_on: Any) -> None:
    from llmhost.machine.paths import secret_key

    registry_on("one")
    assert len(set(await asyncio.gather(*(asyncio.to_thread(secret_key) for _ in range(20))))) == 1


async def test_the_fleets_of_a_command_wait_once_together_for_a_lock_that_a_suspended_one_never_frees(
    state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmhost.machine.files.PATIENCE", 0.5)
    (state_folder / "vast").mkdir(parents=True, mode=0o700)
    async with (
        VastServer(SystemClock(), pace=0) as server,
        hold_lock(state_folder / "vast" / "pace-list.lock", patience=0),
    ):
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        config = Config.model_validate({"vast": {"pace": 0.001}})
        async with asyncio.timeout(15):  # one wait for each fleet would take 20 s
            for number in range(40):
                fleet = config_of(config, f"fleet-{number}", "vast")
                await make_provider(fleet, state_folder / "fleets" / fleet.fleet.name, print).fleets()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"host": "redis.example"}, {"url": "rediss://me:secret@Redis.example"}, True),
        ({"host": "localhost", "db": 2}, {"url": "redis://127.0.0.1:6379/2"}, True),
        ({"host": "::1"}, {"host": "127.0.0.1"}, True),
        ({"url": "unix:///run/redis.sock?db=1"}, {"url": "unix:///run/redis.sock", "db": 1}, True),
        ({"host": "redis.example"}, {"host": "redis.example", "db": 1}, False),
        ({"host": "redis.example"}, {"host": "redis.example", "port": 6380}, False),
        ({"host": "redis.example"}, {"host": "redis2.example"}, False),
        ({"sentinel": {"hosts": "a:26379", "master": "one"}}, {"sentinel": {"hosts": "a:26379"}}, False),
        ({"host": "redis.example"}, {"host": "redis.example", "sharded": True}, False),
        ({"host": "redis.example", "cluster": True}, {"host": "redis.example", "sharded": True}, True),
        ({"host": "redis.example"}, {}, False),
    ],
)
def test_where_records_are_is_told_by_server_and_database_not_by_how_they_are_written(
    one: Any, other: Any, same: bool
) -> None:
    places = {records_of(Config.model_validate({"redis": redis})) for redis in (one, other)}
    assert (len(places) == 1) is same
