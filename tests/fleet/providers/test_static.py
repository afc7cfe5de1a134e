from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import make_spec

from llmhost.errors import ProviderError, StateError
from llmhost.fleet.models import WorkerState
from llmhost.fleet.providers.static import StaticProvider, StaticServer
from llmhost.machine.files import make_folder

FIRST = StaticServer("http://127.0.0.1:11434")
SECOND = StaticServer("https://llm.example.com/v1", token="very-secret")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fleets" / "test"


def provider(folder: Path, *servers: StaticServer) -> StaticProvider:
    return StaticProvider(folder, servers or (FIRST, SECOND), now=ManualClock(1000.0).now)


async def test_servers_are_adopted_in_the_order_of_the_configuration(folder: Path) -> None:
    first = await provider(folder).create(make_spec())
    second = await provider(folder).create(make_spec())
    assert [first.url, second.url] == [FIRST.url, SECOND.url]
    assert (first.started, first.state, second.token) == (1000.0, WorkerState.READY, "very-secret")


async def test_what_is_not_adopted_is_on_offer(folder: Path) -> None:
    await provider(folder).create(make_spec())
    offers = (await provider(folder).offers(make_spec())).offers
    assert [offer.region for offer in offers] == [SECOND.url]


async def test_when_all_are_adopted_there_are_no_more(folder: Path) -> None:
    for _ in range(2):
        await provider(folder).create(make_spec())
    assert (await provider(folder).offers(make_spec())).offers == ()
    with pytest.raises(ProviderError, match=r"all 2 servers under fleet\.workers are in use already"):
        await provider(folder).create(make_spec())


async def test_an_id_follows_from_the_url(folder: Path) -> None:
    first = await provider(folder).create(make_spec())
    await provider(folder).destroy(first.id)
    assert (await provider(folder).create(make_spec())).id == first.id == FIRST.id


async def test_a_server_may_have_a_name(folder: Path) -> None:
    worker = await provider(folder, StaticServer("http://127.0.0.1:11434", name="office")).create(make_spec())
    assert worker.id == "office"


async def test_the_same_server_twice_in_the_configuration_is_one_worker(folder: Path) -> None:
    assert len((await provider(folder, FIRST, FIRST).offers(make_spec())).offers) == 1


async def test_a_server_that_left_the_configuration_has_failed_until_it_is_forgotten(folder: Path) -> None:
    await provider(folder).create(make_spec())
    (worker,) = await provider(folder, SECOND).list()
    assert (worker.state, worker.token) == (WorkerState.FAILED, None)
    assert worker.detail == "http://127.0.0.1:11434 is no longer in the configuration"
    await provider(folder, SECOND).destroy(worker.id)
    assert list(await provider(folder, SECOND).list()) == []


async def test_the_token_is_kept_in_the_configuration_alone(folder: Path) -> None:
    await provider(folder, SECOND).create(make_spec())
    file = folder / "static.json"
    assert "very-secret" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "very-secret" not in repr(SECOND)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"adopted": 5}',
        '{"adopted": [5]}',
        '{"adopted": [{}]}',
        '{"adopted": [{"id": "x", "surprise": 1}]}',
    ],
)
async def test_a_damaged_file_is_an_error_and_never_no_workers(folder: Path, content: str) -> None:
    make_folder(folder)
    (folder / "static.json").write_text(content)
    with pytest.raises(StateError, match="damaged"):
        await provider(folder).list()


@pytest.mark.parametrize(
    ("field", "value"), [("started", float("nan")), ("price_per_hour", "1"), ("url", None), ("model", 5)]
)
async def test_a_field_of_the_wrong_kind_is_damage(folder: Path, field: str, value: Any) -> None:
    await provider(folder).create(make_spec())
    file = folder / "static.json"
    content = json.loads(file.read_text())
    content["adopted"][0][field] = value
    file.write_text(json.dumps(content))
    with pytest.raises(StateError, match="damaged"):
        await provider(folder).list()


async def test_a_folder_that_cannot_be_written_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError):
        await provider(tmp_path / "file" / "fleet").create(make_spec())
