"""The built-in fleet as a newcomer runs it: real llama.cpp workers, the packaged model, its own Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from doubles.waiting import until
from plugins.commands import House

pytestmark = pytest.mark.slow

LeftRunning = Callable[[], list[psutil.Process]]


@pytest.fixture
def local(house: House) -> House:
    """Small answers: a test needs a whole one, not a good one."""
    house.configure(
        fleet={"name": "test"},
        engine={"context": 512, "temperature": 0, "system": "Answer with one word.", "max_tokens": 64},
    )
    return house


async def test_a_fleet_comes_up_answers_and_goes_down(local: House, left_running: LeftRunning) -> None:
    up = await local.ok("up", "--gpus", "2")
    assert [worker["ready"] for worker in up["workers"]] == [True, True]
    first = await local.ok("ask", "What is the capital of France?")
    assert (first["source"], bool(first["answer"].strip())) == ("engine", True)
    assert (await local.ok("ask", "What is the capital of France?"))["source"] == "exact"
    down = await local.ok("down", "--all")
    assert (sorted(down["destroyed"]), down["remaining"]) == (sorted(w["id"] for w in up["workers"]), [])
    assert left_running() == []


async def test_up_twice_at_the_same_moment_makes_one_fleet(
    local: House, worker_processes: LeftRunning
) -> None:
    one, other = await asyncio.gather(local.run("up", "--gpus", "2"), local.run("up", "--gpus", "2"))
    assert (one.code, other.code) == (0, 0)
    assert len(worker_processes()) == 2


async def test_up_beside_scale_makes_no_worker_too_many(local: House, worker_processes: LeftRunning) -> None:
    local.configure(fleet={"name": "test", "gpus": 2}, scale={"min_gpus": 2}, engine={"context": 512})
    up, scale = await asyncio.gather(local.run("up", "--gpus", "2"), local.run("scale"))
    assert up.code == 0, up.err
    assert scale.code == 0, scale.err
    assert len(worker_processes()) == len((await local.ok("status"))["workers"]) == 2


async def test_ctrl_c_while_up_waits_leaves_no_worker_that_is_not_listed(
    local: House, worker_processes: LeftRunning, left_running: LeftRunning
) -> None:
    starting = await local.start("up", "--gpus", "2")
    await until(worker_processes)
    starting.interrupt()
    done = await starting.end()
    listed = {worker["id"] for worker in (await local.ok("status"))["workers"]}
    assert done.code == 130
    assert len(worker_processes()) == len(listed)
    assert all(worker in done.err for worker in listed)
    await local.ok("down", "--all")
    assert left_running() == []


async def test_scale_killed_while_it_starts_a_worker_forgets_none_and_blocks_nothing(
    local: House, worker_processes: LeftRunning, left_running: LeftRunning
) -> None:
    local.configure(fleet={"name": "test", "gpus": 2}, scale={"min_gpus": 2}, engine={"context": 512})
    await local.ok("up", "--gpus", "2")
    victim = worker_processes()[0]
    victim.kill()
    victim.wait()
    scaling = await local.start("scale")
    await until(lambda: len(worker_processes()) == 2 or scaling.process.returncode is not None)
    scaling.process.kill()
    await scaling.end()
    for _ in range(3):
        done = await local.run("scale", "--json")
        assert done.code == 0, done.err
    assert len(worker_processes()) == len((await local.ok("status"))["workers"]) == 2
    await local.ok("down", "--all")
    assert left_running() == []


async def test_a_worker_that_died_is_seen_and_the_next_up_replaces_it(
    local: House, worker_processes: LeftRunning
) -> None:
    before = await local.ok("up", "--gpus", "2")
    victim = worker_processes()[0]
    victim.kill()
    victim.wait()
    assert sorted(worker["ready"] for worker in (await local.ok("status"))["workers"]) == [False, True]
    after = await local.ok("up", "--gpus", "2")
    assert [worker["ready"] for worker in after["workers"]] == [True, True]
    kept = {worker["id"] for worker in before["workers"]} & {worker["id"] for worker in after["workers"]}
    assert len(kept) == 1


async def test_a_worker_listens_on_loopback_only_and_shows_its_token_and_questions_nowhere(
    local: House, worker_processes: LeftRunning, state_folder: Path
) -> None:
    await local.ok("up")
    await local.ok("ask", "What is the capital of France?")
    (worker,) = worker_processes()
    addresses = {c.laddr.ip for c in worker.net_connections() if c.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}
    token, logs = token_and_logs(state_folder)
    assert token not in " ".join(worker.cmdline()) + logs
    assert "capital of France" not in logs


def token_and_logs(state_folder: Path) -> tuple[str, str]:
    """A worker's token, which only its owner may read, and all that was logged."""
    spec = next(state_folder.rglob("spec.json"))
    assert spec.stat().st_mode & 0o077 == 0
    logs = "".join(path.read_text(errors="replace") for path in state_folder.rglob("*.log"))
    return json.loads(spec.read_text())["token"], logs


async def test_a_model_file_that_cannot_serve_is_named_and_nothing_is_started(
    local: House, worker_processes: LeftRunning, tmp_path: Path, real_model: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    with real_model.open("rb") as source:
        cut.write_bytes(source.read(5_000_000))
    done = await local.run("up", LLMHOST_ENGINE__MODEL_PATH=str(cut))
    assert done.code == 1
    assert "cut.gguf" in done.error
    assert worker_processes() == []


async def test_workers_of_an_earlier_configuration_are_neither_forgotten_nor_asked(
    local: House, worker_processes: LeftRunning, refusing_port: int
) -> None:
    await local.ok("up")
    static = {"provider": "static", "workers": [{"url": f"http://127.0.0.1:{refusing_port}"}]}
    local.configure(fleet={"name": "test", **static}, engine={"kind": "openai", "model": "tiny"})
    done = await local.run("status")
    assert "warning: fleet test (local): 1 worker" in done.err
    assert "gone" not in done.err
    assert (await local.run("ask", "What is Redis?")).code == 5
    assert len((await local.ok("down", "--all", "--yes"))["destroyed"]) == 1
    assert worker_processes() == []


async def test_a_model_that_no_worker_serves_is_not_answered_by_another(local: House) -> None:
    await local.ok("up")
    done = await local.run("ask", "--model", "other", "What is Redis?")
    assert (done.code, "other" in done.error) == (2, True)
