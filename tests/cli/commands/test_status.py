"""What `status --gpu` gathers and shows."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.certificates import certify
from doubles.fleet_values import make_worker
from doubles.http_server import HttpServer, Reply, Request
from doubles.ollama_server import OllamaServer, Running
from plugins.engines import TOKEN
from rich.console import Console

from llmhost.cli.commands.status import GpuOutput, gather_metrics, show_gpus
from llmhost.cli.output import plain
from llmhost.config.models import Config
from llmhost.engines.worker_report import Disk, Gpu, LoadedModel
from llmhost.fleet.models import Worker
from llmhost.fleet.workers import Engines

NOW = 1_700_000_000.0
OWN = certify()
GB = 10**9

GPU = Gpu("RTX 4090", 0.35, 8192.0, 24576.0, 61.0)
MEASURED = GpuOutput(
    worker="vast-1",
    gpus=(GPU,),
    disk=Disk(12.5, 50.0),
    engine_version="0.12.3",
    models=(LoadedModel("qwen2:7b", 8 * GB, 8 * GB),),
    loaded=True,
    age_s=4.0,
)


class MetricsServer(HttpServer):
    """Tells these metrics."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(TOKEN)
        self.metrics = {
            "at": NOW - 4,
            "engine_version": "0.12.3",
            "gpus": [plain(GPU)],
            "disk": {"used_gb": 12.5, "total_gb": 50.0},
            "models": [{"name": "qwen2:7b", "size": 8 * GB, "size_vram": 8 * GB}],
            **changes,
        }

    async def answer(self, request: Request, reply: Reply) -> None:
        assert request.path == "/llmhost/metrics"
        await reply.json(self.metrics)


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    rented: Any = {"fleet": {"provider": "vast"}, "engine": {"kind": "ollama", "model": "tiny"}}
    engines = Engines(Config(**rented))
    yield engines
    await engines.aclose()


@pytest.fixture
async def gather(engines: Engines, tmp_path: Path) -> Callable[..., Any]:
    """Asks one rented worker that tells metrics with these changes."""

    async def ask(worker: dict[str, Any] | None = None, **changes: Any) -> GpuOutput:
        server = MetricsServer(**changes)
        server.tls = OWN.server_context(tmp_path)
        async with server:
            (output,) = await gather_metrics(engines, [rented(server.url, **worker or {})], lambda: NOW)
        return output

    return ask


def rented(url: str | None, **changes: Any) -> Worker:
    values = {"provider": "vast", "engine": "ollama", "model": "qwen2:7b"}
    return make_worker("vast-1", **{**values, "url": url, "token": TOKEN, "certificate": OWN.pem, **changes})


def shown(*outputs: GpuOutput) -> str:
    console = Console(file=io.StringIO(), width=120, markup=False, highlight=False)
    show_gpus(outputs, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


async def test_a_rented_worker_is_asked_at_its_front_door(gather: Callable[..., Any]) -> None:
    assert await gather() == MEASURED
    assert (await gather(at=NOW + 500)).age_s == 0  # its clock is ahead


@pytest.mark.parametrize(("held", "loaded"), [("tiny:latest", True), ("tiny", True), ("other", False)])
async def test_the_workers_own_model_is_the_one_that_counts(
    gather: Callable[..., Any], held: str, loaded: bool
) -> None:
    output = await gather({"model": "tiny"}, models=[{"name": held, "size": 4 * GB, "size_vram": 3 * GB}])
    assert (output.loaded, output.spilled) == (loaded, True)


async def test_a_worker_that_is_not_itself_has_an_error(gather: Callable[..., Any]) -> None:
    output = await gather({"certificate": certify().pem})
    assert "shows another certificate" in output.error
    assert output.gpus == ()


async def test_a_worker_without_an_address_says_what_it_is_doing(engines: Engines) -> None:
    workers = [rented(None, detail="pulling its image"), rented(None)]
    outputs = await gather_metrics(engines, workers, lambda: NOW)
    assert [output.error for output in outputs] == ["pulling its image", "starting"]


async def test_of_another_worker_its_engine_tells_what_it_can(
    engines: Engines, ollama_server: OllamaServer
) -> None:
    ollama_server.running = {"tiny:latest": Running(5 * GB, 4 * GB)}
    worker = make_worker(provider="static", engine="ollama", url=ollama_server.url, token=TOKEN)
    assert await gather_metrics(engines, [worker]) == [
        GpuOutput(
            worker="w-1",
            engine_version="0.12.3",
            loaded=True,
            spilled=True,
            detail="spilled to the CPU: 80% of it is on the GPU",
        )
    ]


async def test_workers_keep_their_order_and_one_that_is_away_spoils_nothing(
    engines: Engines, ollama_server: OllamaServer, refusing_port: int
) -> None:
    away = make_worker("w-1", engine="ollama", url=f"http://127.0.0.1:{refusing_port}")
    here = make_worker("w-2", engine="ollama", url=ollama_server.url, token=TOKEN)
    first, second = await gather_metrics(engines, [away, here])
    assert (first.worker, "connection refused" in first.error) == ("w-1", True)
    assert (second.worker, second.error) == ("w-2", None)


def test_a_gpu_is_one_line_of_figures() -> None:
    line = next(line for line in shown(MEASURED).splitlines() if "RTX" in line)
    assert " ".join(line.split()) == "vast-1 RTX 4090 35 % 8.0/24.0 61 12.5/50.0 loaded 0.12.3"
    assert "vast-1: " not in shown(MEASURED)


def test_a_second_gpu_has_a_line_of_its_own_and_no_text_controls_the_terminal() -> None:
    tampered = replace(GPU, name="GPU\x1b[31m", temperature_c=77.0)
    text = shown(replace(MEASURED, gpus=(GPU, tampered), error="a\x1b[31mb"))
    assert [line.split() for line in text.splitlines() if "77" in line] == [
        ["GPU", "35", "%", "8.0/24.0", "77"]
    ]
    assert "\x1b" not in text


def test_what_is_not_known_is_a_dash() -> None:
    line = next(line for line in shown(GpuOutput("local-1", loaded=None)).splitlines() if "local-1" in line)
    assert line.split() == ["local-1", *"-------"]
    assert "?/24.0" in shown(replace(MEASURED, gpus=(Gpu("GPU", None, None, 24576.0, None),)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"models": (LoadedModel("qwen2:7b", 8 * GB, 6 * GB),), "spilled": True},
            "qwen2:7b does not fit on the GPU: 75 % of it is on the GPU, the rest runs on the CPU",
        ),
        ({"spilled": True}, "for full speed, use a smaller model or quantization, fewer `engine.slots`"),
        ({"age_s": 61.0}, "these metrics are 1 min 1 s old"),
        ({"error": "starting"}, "starting"),
        ({"gateway": "serving"}, "its gateway serves"),
        ({"gateway": "its gateway does not serve: no space"}, "its gateway does not serve: no space"),
    ],
    ids=["a spilled model", "what to do about it", "old metrics", "an error", "a gateway", "a gateway's"],
)
def test_a_problem_has_a_line_of_its_own(changes: dict[str, Any], words: str) -> None:
    assert f"vast-1: {words}" in shown(replace(MEASURED, **changes))
