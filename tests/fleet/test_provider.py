"""What every provider promises. A later provider joins by adding a fixture and its name to `BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import make_spec
from doubles.memory_provider import MemoryCloud, MemoryProvider
from doubles.vast.faults import Fault
from doubles.vast.server import VastServer
from doubles.waiting import until

from llmhost.errors import ProviderError, StateError
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.provider import Provider
from llmhost.fleet.providers.local import LocalProvider
from llmhost.fleet.providers.static import StaticProvider, StaticServer
from llmhost.fleet.providers.vast.provider import VastProvider

BACKENDS = ["memory", "static", "quick_local", "vast", pytest.param("local", marks=pytest.mark.slow)]


@dataclass(frozen=True)
class Backend:
    """`make` gives a new provider on the same world, as a later command has; `spoil` breaks its list.
    `engine` is what its workers run."""

    make: Callable[[], Provider]
    spoil: Callable[[], object]
    engine: str = "llama_cpp"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    made: Backend = request.getfixturevalue(f"{request.param}_backend")
    return made


@pytest.fixture
def provider(backend: Backend) -> Provider:
    return backend.make()


@pytest.fixture
def memory_backend(memory_cloud: MemoryCloud) -> Backend:
    def spoil() -> None:
        memory_cloud.list_error = ProviderError("the list cannot be read")

    return Backend(lambda: MemoryProvider(memory_cloud), spoil)


@pytest.fixture
def static_backend(fleet_folder: Path, manual_clock: ManualClock) -> Backend:
    servers = [StaticServer(f"http://127.0.0.1:{port}", token="secret-token") for port in range(9001, 9005)]
    return Backend(
        lambda: StaticProvider(fleet_folder, servers, now=manual_clock.now),
        lambda: (fleet_folder / "static.json").write_text("{"),
    )


@pytest.fixture
def quick_local_backend(fleet_folder: Path, quick_provider: Callable[..., LocalProvider]) -> Backend:
    return _local_backend(fleet_folder, quick_provider)


@pytest.fixture
def local_backend(fleet_folder: Path, real_provider: Callable[..., LocalProvider]) -> Backend:
    return _local_backend(fleet_folder, real_provider)


@pytest.fixture
def vast_backend(vast_server: VastServer, vast_provider: Callable[..., VastProvider]) -> Backend:
    market = vast_server.market
    market.clear()
    for _ in range(5):
        market.add(dph_base=0.25, storage_cost=0.0)
    return Backend(
        vast_provider, lambda: vast_server.arm(Fault.SERVER_ERROR, times=None, endpoint="list"), "ollama"
    )


def _local_backend(folder: Path, make: Callable[[], Provider]) -> Backend:
    def spoil() -> None:
        (folder / "workers").rename(folder / "moved")
        (folder / "workers").write_text("not a folder")

    return Backend(make, spoil)


def ids(workers: object) -> list[str]:
    return [worker.id for worker in workers]  # type: ignore[attr-defined]


async def test_nothing_exists_at_first(provider: Provider) -> None:
    assert list(await provider.list()) == []


async def test_what_can_be_created_is_on_offer(provider: Provider) -> None:
    offers = (await provider.offers(make_spec(price_per_hour=0.25))).offers
    assert offers
    assert all(offer.price_per_hour == 0.25 for offer in offers)


async def test_a_created_worker_is_listed_as_it_was_ordered(backend: Backend) -> None:
    provider, engine = backend.make(), backend.engine
    created = await provider.create(make_spec(model="tiny", engine=engine, price_per_hour=0.25))
    (listed,) = await provider.list()
    for worker in (created, listed):
        assert (worker.model, worker.engine, worker.price_per_hour) == ("tiny", engine, 0.25)
        assert worker.provider == provider.name
        assert worker.state in {WorkerState.STARTING, WorkerState.READY}
    assert (listed.id, listed.started) == (created.id, created.started)


async def test_a_worker_has_an_address_when_it_is_ready_or_before(backend: Backend) -> None:
    provider = backend.make()
    await provider.create(make_spec())

    async def reachable() -> Worker | None:
        (worker,) = await provider.list()
        return worker if worker.state is WorkerState.READY or worker.url else None

    worker = await until(reachable)
    assert worker.url.startswith(("http://", "https://"))


async def test_workers_are_listed_oldest_first(provider: Provider) -> None:
    created = [await provider.create(make_spec(gpus=3)) for _ in range(3)]
    assert sorted(ids(await provider.list())) == sorted(set(ids(created)))
    started = [worker.started for worker in await provider.list()]
    assert started == sorted(started)


async def test_a_later_command_sees_the_same_workers(backend: Backend) -> None:
    created = await backend.make().create(make_spec())
    (seen,) = await backend.make().list()
    assert (seen.id, seen.token, seen.started) == (created.id, created.token, created.started)


async def test_a_destroyed_worker_is_gone_and_the_others_are_not(provider: Provider) -> None:
    first = await provider.create(make_spec(gpus=2))
    second = await provider.create(make_spec(gpus=2))
    await provider.destroy(first.id)
    assert ids(await provider.list()) == [second.id]


async def test_destroying_twice_is_safe(provider: Provider) -> None:
    worker = await provider.create(make_spec())
    await provider.destroy(worker.id)
    await provider.destroy(worker.id)
    assert list(await provider.list()) == []


@pytest.mark.parametrize("unknown", ["nobody", "", "..", "../workers", "/", "local-000000"])
async def test_destroying_what_does_not_exist_changes_nothing(provider: Provider, unknown: str) -> None:
    worker = await provider.create(make_spec())
    await provider.destroy(unknown)
    assert ids(await provider.list()) == [worker.id]


async def test_after_all_are_destroyed_there_can_be_new_ones(provider: Provider) -> None:
    for _ in range(2):
        worker = await provider.create(make_spec())
        assert ids(await provider.list()) == [worker.id]
        await provider.destroy(worker.id)


async def test_a_list_that_cannot_be_read_is_an_error_and_never_no_workers(backend: Backend) -> None:
    provider = backend.make()
    await provider.create(make_spec())
    backend.spoil()
    with pytest.raises((ProviderError, StateError)):
        await provider.list()


async def test_the_token_is_never_shown(provider: Provider) -> None:
    worker = await provider.create(make_spec())
    assert worker.token
    assert worker.token not in f"{worker!r} {worker} {provider!r} {provider.__dict__}"


async def test_logs_are_no_longer_than_asked(provider: Provider) -> None:
    worker = await provider.create(make_spec())
    assert len((await provider.logs(worker.id, lines=1)).splitlines()) <= 1


@pytest.mark.parametrize("unknown", ["nobody", "..", "../lock", "local-000000"])
async def test_a_worker_that_does_not_exist_has_no_logs(provider: Provider, unknown: str) -> None:
    assert await provider.logs(unknown) == ""
