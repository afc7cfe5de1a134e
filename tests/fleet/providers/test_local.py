"""The local provider's own rules, with real processes that are up in a moment."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from doubles.fleet_values import make_spec
from doubles.local_folders import change_record, orders_of, settled
from doubles.waiting import until

from llmhost.engines.llama_cpp import WorkerSpec
from llmhost.errors import ModelError, ProviderError, StateError
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.providers.local import LocalProvider, LocalSettings

Make = Callable[..., LocalProvider]
SETTINGS = LocalSettings(context=512, parallel=1)


def mode(path: str) -> int:
    return Path(path).stat().st_mode & 0o777


async def test_orders_are_in_the_words_of_the_worker_s_program(
    quick_provider: Make, fleet_folder: Path
) -> None:
    worker = await quick_provider().create(make_spec())
    assert set(orders_of(fleet_folder, worker)) == {field.name for field in fields(WorkerSpec)}


async def test_every_worker_has_a_token_of_its_own(quick_provider: Make, fleet_folder: Path) -> None:
    first = await quick_provider().create(make_spec())
    second = await quick_provider().create(make_spec())
    assert first.token == orders_of(fleet_folder, first)["token"]
    assert len({first.token, second.token, None}) == 3


async def test_the_token_is_in_no_argument_and_in_private_files_only(
    quick_provider: Make, fleet_folder: Path, worker_processes: Any
) -> None:
    worker = await quick_provider().create(make_spec())
    (process,) = worker_processes()
    assert worker.token not in " ".join(process.cmdline())
    folder = fleet_folder / "workers" / worker.id
    assert folder.stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o077 for path in folder.glob("*.json") if path.stem != "address"} == {0}


async def test_the_cores_are_shared_unless_threads_are_set(quick_provider: Make, fleet_folder: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    shared = await quick_provider().create(make_spec(gpus=cores))
    assert orders_of(fleet_folder, shared)["threads"] == 1
    given = await quick_provider(threads=7).create(make_spec(gpus=cores))
    assert orders_of(fleet_folder, given)["threads"] == 7


async def test_the_model_is_checked_before_any_process_is_started(
    fleet_folder: Path, worker_processes: Any
) -> None:
    def broken() -> Path:
        raise ModelError("the model file is truncated")

    with pytest.raises(ModelError):
        await LocalProvider(fleet_folder, SETTINGS, broken).create(make_spec())
    assert worker_processes() == []


async def test_a_program_that_cannot_be_started_leaves_no_worker(fleet_folder: Path, tmp_path: Path) -> None:
    provider = LocalProvider(
        fleet_folder, SETTINGS, lambda: tmp_path / "model", command=(str(tmp_path / "none"),)
    )
    with pytest.raises(ProviderError, match="cannot start a worker process"):
        await provider.create(make_spec())
    assert list(await provider.list()) == []


async def test_what_a_killed_command_left_half_made_goes_with_the_next_worker(
    quick_provider: Make, fleet_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", dies)
        with pytest.raises(KeyboardInterrupt):
            await quick_provider().create(make_spec())
    half_made = list((fleet_folder / "workers").iterdir())
    worker = await quick_provider().create(make_spec())
    assert len(half_made) == 1
    assert [path.name for path in (fleet_folder / "workers").iterdir()] == [worker.id]


async def test_a_worker_that_gives_up_says_why(quick_provider: Make) -> None:
    provider = quick_provider()
    await provider.create(make_spec(model="gives-up"))
    worker = await settled(provider, WorkerState.FAILED)
    assert worker.detail == "the model is not to its taste; feed another"


async def test_ports_are_taken_in_their_order_and_used_again(quick_provider: Make, free_ports: Any) -> None:
    first = free_ports(2)
    provider = quick_provider(first_port=first)
    one = await provider.create(make_spec())
    two = await provider.create(make_spec())
    assert await _url(provider, two) == f"http://127.0.0.1:{first + 1}"
    await provider.destroy(one.id)
    again = await provider.create(make_spec())
    assert await _url(provider, again) == f"http://127.0.0.1:{first}"


async def test_a_port_that_is_taken_is_named_and_nothing_is_started(
    quick_provider: Make, worker_processes: Any
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ProviderError, match=f"port {port} of 127.0.0.1 is taken") as caught:
            await quick_provider(first_port=port).create(make_spec())
    assert "fleet.first_port" in (caught.value.hint or "")
    assert worker_processes() == []


async def test_there_is_no_port_after_the_last(quick_provider: Make, fleet_folder: Path) -> None:
    provider = quick_provider()
    worker = await provider.create(make_spec())
    change_record(fleet_folder, worker, port=65535)
    with pytest.raises(ProviderError, match="no port is left from 65535 on"):
        await quick_provider(first_port=65535).create(make_spec())


async def test_a_folder_that_cannot_be_written_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    provider = LocalProvider(tmp_path / "file" / "fleet", SETTINGS, lambda: tmp_path / "model")
    with pytest.raises(StateError):
        await provider.create(make_spec())
    with pytest.raises(StateError):
        await provider.list()


async def test_a_worker_s_log_can_be_read_after_its_end(quick_provider: Make) -> None:
    provider = quick_provider()
    worker = await provider.create(make_spec(model="gives-up"))
    await settled(provider, WorkerState.FAILED)
    await provider.destroy(worker.id)
    assert await provider.logs(worker.id) == "worker of gives-up starts"
    assert mode(worker.log) == 0o600


async def test_only_the_newest_logs_of_ended_workers_are_kept(
    quick_provider: Make, fleet_folder: Path
) -> None:
    logs = fleet_folder / "logs"
    logs.mkdir(parents=True)
    for number in range(30):
        path = logs / f"local-{number:06x}.log"
        path.touch()
        os.utime(path, (number, number))
    provider = quick_provider()
    worker = await provider.create(make_spec())
    left = {path.stem for path in logs.iterdir()} - {worker.id}
    assert left == {f"local-{number:06x}" for number in range(10, 30)}


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("away")], ids=["folder", "link"])
async def test_what_lies_among_the_logs_keeps_no_worker_from_starting(
    quick_provider: Make, fleet_folder: Path, make: Callable[[Path], None]
) -> None:
    logs = fleet_folder / "logs"
    logs.mkdir(parents=True)
    for number in range(30):
        make(logs / f"local-{number:06x}.log")
    worker = await quick_provider().create(make_spec())
    assert worker.log.endswith(f"{worker.id}.log")


async def test_the_end_of_a_long_log_is_read(quick_provider: Make, fleet_folder: Path) -> None:
    logs = fleet_folder / "logs"
    logs.mkdir(parents=True)
    (logs / "local-abcdef.log").write_bytes(b"x" * 3_000_000 + b"\n\xff last\n")
    assert await quick_provider().logs("local-abcdef", lines=1) == "\ufffd last"


async def _url(provider: LocalProvider, worker: Worker) -> str:
    async def listed() -> str | None:
        return {listed.id: listed.url for listed in await provider.list()}[worker.id]

    url: str = await until(listed)
    return url


async def test_a_worker_says_which_file_it_was_started_with_whatever_lies_there_now(
    tmp_path: Path, quick_provider: Make
) -> None:
    model, provider = tmp_path / "model.gguf", quick_provider()
    model.write_bytes(b"one")
    await provider.create(make_spec())
    model.write_bytes(b"two")
    (worker,) = await provider.list()
    assert worker.digest == hashlib.sha256(b"one").hexdigest()
