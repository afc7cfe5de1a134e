"""What a rented worker does from its first boot on: the real script, with real nginx and curl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from doubles.vast.containers import Container, RealContainers
from doubles.vast.rented import Rented, question
from doubles.waiting import until

from llmhost.machine.process import is_alive

pytestmark = pytest.mark.slow

Make = Callable[..., RealContainers]


@pytest.fixture
def containers(tmp_path: Path) -> Make:
    return lambda **choices: RealContainers(tmp_path, **choices)


async def test_progress_goes_from_the_installation_to_a_model_that_is_loaded(containers: Make) -> None:
    stages: list[str] = []
    parts: list[float] = []
    async with Rented(containers(pull_pause=0.05)) as worker:
        progress: dict[str, Any] = {}

        async def is_ready() -> bool:
            nonlocal progress
            progress = await worker.answer("/llmhost/progress") or progress
            if progress and progress["stage"] not in stages[-1:]:
                stages.append(progress["stage"])
            if progress and progress["fraction"] is not None:
                parts.append(progress["fraction"])
            return progress.get("stage") == "ready"

        await until(is_ready)
        loaded = (await worker.answer("/api/ps"))["models"]
    order = ["installing", "arming", "starting", "pulling", "loading", "ready"]
    assert stages == [stage for stage in order if stage in stages]  # one or the other is over in a moment
    assert re.findall(r"llmhost: (\w+): (?!Ollama)", worker.container.printed()) == [
        stage for stage in order if stage != "starting"
    ]
    assert {"pulling", "ready"} <= set(stages)
    assert parts == sorted(parts)
    assert any(0 < part < 1 for part in parts)  # how many are seen, depends on the machine
    assert progress == {"stage": "ready", "fraction": None, "detail": "tiny", "at": progress["at"]}
    assert [model["name"] for model in loaded] == ["tiny:latest"]


async def test_the_first_words_of_an_answer_come_before_the_last_are_thought_of(containers: Make) -> None:
    async with Rented(containers(fault="HANGS", after=2)) as worker:
        await worker.until_stage("ready")
        async with worker.client.stream("POST", "/api/chat", json=question()) as response:
            lines = response.aiter_lines()
            words = [json.loads(await anext(lines))["message"]["content"] for _ in range(2)]
    assert words == ["Hello", ", "]


async def test_an_answer_that_breaks_off_does_not_look_like_a_whole_one(containers: Make) -> None:
    async with Rented(containers(fault="CLOSES", after=2)) as worker:
        await worker.until_stage("ready")
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await worker.chat()


async def test_a_busy_engine_is_said_to_be_busy(containers: Make) -> None:
    async with Rented(containers(status=503)) as worker:
        await worker.until_stage("ready")
        response = await worker.chat()
    assert (response.status_code, response.json()["error"][:11]) == (503, "server busy")


async def test_an_engine_that_never_answers_is_given_up_after_the_time_ordered(containers: Make) -> None:
    async with Rented(containers(), read_timeout=1.0) as worker:
        await worker.until_stage("ready")
        worker.container.engine(wedged=True)
        assert (await worker.chat()).status_code == 504
        assert (await worker.client.get("/llmhost/progress")).status_code == 200


async def test_the_engine_gets_its_orders(containers: Make) -> None:
    async with Rented(containers(), parallel=3, keep_alive=1800.0) as worker:
        await worker.until_stage("ready")
        environ = worker.container.processes("ollama", "serve")[0].environ()
    names = ("OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_QUEUE", "OLLAMA_KEEP_ALIVE")
    assert [environ[name] for name in names] == ["3", "6", "1800"]


async def test_a_second_run_changes_nothing(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await worker.until_stage("ready")
        before = lasting(worker.container)
        printed = worker.container.printed()
        assert await worker.again() == 0
        assert lasting(worker.container) == before
        assert worker.container.printed() == printed
        assert (await worker.chat()).status_code == 200


async def test_any_shell_can_start_it(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await worker.container.stop()
        await worker.container.boot("sh")
        await worker.until_stage("ready")


async def test_an_engine_that_dies_comes_back_with_its_model(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await worker.until_stage("ready")
        (engine,) = worker.container.processes("ollama", "serve")
        engine.kill()
        engine.wait(timeout=10)
        await until(lambda: loaded_models(worker))
        assert worker.container.processes("ollama", "serve") != [engine]
        assert (await worker.chat()).status_code == 200


async def test_a_front_door_that_dies_comes_back(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await worker.until_stage("ready")
        for process in worker.container.processes("nginx:"):
            process.kill()
        await worker.client.aclose()
        worker.client = worker.connect()
        await until(lambda: worker.answer("/llmhost/progress"))


async def test_a_worker_that_lost_its_supervisor_is_adopted_by_the_next_run(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await worker.until_stage("ready")
        (engine,) = worker.container.processes("ollama", "serve")
        for process in worker.container.processes():
            if process.pid not in lasting(worker.container):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        await worker.again()
        await worker.until_stage("ready")
        assert worker.container.processes("ollama", "serve") == [engine]


async def test_it_comes_up_again_after_a_reboot_without_another_download(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await worker.until_stage("ready")
        worker.container.engine(pull_error="the registry is away")
        await worker.container.reboot()
        await worker.until_stage("ready")
        assert worker.container.printed().count("pulling") == 1


async def test_a_reboot_does_not_begin_with_old_news(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await worker.until_stage("ready")
        worker.container.engine(wedged=True)
        await worker.container.reboot()
        progress = await until(lambda: worker.answer("/llmhost/progress"))
    assert progress["stage"] in {"installing", "arming", "starting"}


async def test_a_download_that_breaks_off_goes_on_where_it_stopped(containers: Make) -> None:
    async with Rented(containers(pull_breaks=(300, 700), pull_pause=0.01)) as worker:
        await worker.until_stage("ready")
        assert worker.container.printed().count("pulling") == 3


async def test_a_model_that_does_not_exist_fails_with_the_engines_reason(containers: Make) -> None:
    async with Rented(containers(pull_error='pull model manifest: file "x" does not exist\n')) as worker:
        progress = await worker.until_stage("failed")
    assert "does not exist" in progress["detail"]


async def test_a_model_that_cannot_be_loaded_fails_with_the_engines_reason(containers: Make) -> None:
    async with Rented(containers(load_error="model requires more system memory (9.1 GiB)")) as worker:
        progress = await worker.until_stage("failed")
    assert progress["detail"] == "cannot be loaded: model requires more system memory (9.1 GiB)"


async def test_a_model_that_only_embeds_is_loaded_by_that(containers: Make) -> None:
    async with Rented(containers(only_embeds=True)) as worker:
        await worker.until_stage("ready")
        asked = {"model": "tiny", "input": "Hello?"}
        answer = await worker.client.post("/api/embed", json=asked)
        assert len(answer.json()["embeddings"]) == 1
        assert len((await worker.answer("/api/ps"))["models"]) == 1


@pytest.mark.parametrize("model", ['a"b\\c', "$(id)`id`;'&"])
async def test_any_name_of_a_model_is_taken_as_it_is(containers: Make, model: str) -> None:
    async with Rented(containers(), model=model) as worker:
        progress = await worker.until_stage("ready")
        loaded = (await worker.answer("/api/ps"))["models"]
    assert progress["detail"] == model
    assert [entry["name"].removesuffix(":latest") for entry in loaded] == [model]


async def test_what_is_missing_is_installed(containers: Make) -> None:
    async with Rented(containers(missing=("nginx", "curl", "ollama", "zstd"))) as worker:
        await worker.until_stage("ready")
        called = (worker.container.home / "apt-get.log").read_text().splitlines()
        asked = (worker.container.home / "ollama.com.log").read_text()
    assert called[:2] == ["dpkg --configure -a", "update -qq"]
    assert {"install", "nginx", "curl", "zstd"} <= set(called[2].split())
    assert "https://ollama.com/install.sh" in asked


async def test_an_nginx_that_cannot_check_the_token_is_replaced(containers: Make) -> None:
    async with Rented(containers(missing=("nginx",))) as worker:
        make_plain_nginx(worker.container)
        await worker.until_stage("ready")
        assert "nginx-extras" in (worker.container.home / "apt-get.log").read_text()
        async with worker.connect(None) as stranger:
            assert (await stranger.get("/llmhost/progress")).status_code == 401


async def test_an_engine_that_cannot_be_installed_is_said(containers: Make) -> None:
    async with Rented(containers(missing=("ollama",))) as worker:
        (worker.container.home / "store" / "ollama").unlink()
        progress = await worker.until_stage("failed")
    assert progress["detail"] == "Ollama cannot be installed"


async def test_logs_stay_small(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await worker.until_stage("ready")
        for name in ("nginx.log", "ollama.log"):
            with (worker.container.files / name).open("ab") as log:
                log.write(b"x" * 3_000_000)
        await until(lambda: log_sizes(worker.container) < 1_000)
        await asyncio.gather(*(worker.answer("/api/tags") for _ in range(30)))
        await until(lambda: (worker.container.files / "spoken").stat().st_size == 0)


async def test_nothing_is_left_when_a_container_stops(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await worker.until_stage("ready")
        processes = worker.container.processes()
    assert len(processes) > 5
    assert [process for process in processes if is_alive(process)] == []


async def loaded_models(worker: Rented) -> Any:
    running = await worker.answer("/api/ps")
    return running and running["models"]


def lasting(container: Container) -> set[int]:
    """The processes that stay."""
    return {process.pid for name in ("nginx", "ollama") for process in container.processes(name)}


def log_sizes(container: Container) -> int:
    return sum(path.stat().st_size for path in container.files.glob("*.log"))


def make_plain_nginx(container: Container) -> None:
    """Until nginx-extras is installed, nginx is a build without secure_link."""
    home = container.home
    (home / "store" / "nginx-extras").write_text("")
    (home / "store" / "nginx").unlink()
    plain = home / "store" / "nginx"
    plain.write_text(f'#!/bin/sh\n[ -e {home}/bin/nginx-extras ] && exec {home}/real/nginx "$@"\nexit 0\n')
    plain.chmod(0o755)
