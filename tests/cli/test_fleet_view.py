"""Workers as people see them, in a window of 80 columns."""

from __future__ import annotations

import io
from typing import Any

import pytest
from doubles.fleet_values import make_worker
from rich.console import Console

from llmhost.cli.commands.status import GpuOutput, show_gpus
from llmhost.cli.fleet_view import follow, show_failures, show_workers, worker_output
from llmhost.cli.output import Output, PlainProgress
from llmhost.engines.worker_report import Disk, Gpu
from llmhost.errors import LlmhostError
from llmhost.fleet.health import WorkerProgress
from llmhost.fleet.results import Failure

#: The longest address that a rented worker has, and a price that is no small change.
RENTED: dict[str, Any] = {
    "provider": "vast",
    "url": "https://203.100.113.117:65535",
    "gpu": "RTX 4090",
    "model": "qwen2:7b-instruct-q6_K",
    "price_per_hour": 10.25,
}


def table_of(*workers: dict[str, Any]) -> list[str]:
    now = 1_700_000_000.0 + 86400
    outputs = [
        worker_output(make_worker(f"vast-2512345{n}", **worker), now) for n, worker in enumerate(workers)
    ]
    return drawn(lambda console: show_workers(outputs, console))


def drawn(draw: Any) -> list[str]:
    stream = io.StringIO()
    draw(Console(file=stream, width=80))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_rented_workers_of_one_model_take_a_line_each() -> None:
    *_, one, _, model = table_of(RENTED, RENTED)
    assert " ".join(one.split()) == "vast-25123450 ready 203.100.113.117:65535 RTX 4090 $10.25 $246.00"
    assert model == "model qwen2:7b-instruct-q6_K"


def test_workers_of_several_models_say_which_is_whose() -> None:
    table = table_of({**RENTED, "model": "tiny"}, {**RENTED, "model": "large"})
    assert [line.split()[5] for line in table[2:]] == ["tiny", "large"]


def test_an_address_that_is_not_rented_is_shown_in_full() -> None:
    assert "http://127.0.0.1:8000/v1" in table_of({"url": "http://127.0.0.1:8000/v1"})[2]


def test_a_fleet_that_waits_twice_says_so_twice() -> None:
    said: list[str] = []
    progress = PlainProgress(said.append, clock=lambda: 0.0)
    for stage in ("waiting for room", "waiting for room", "waited", "waiting for room", "waited"):
        follow(progress, WorkerProgress("fleet", stage))
    assert said == ["fleet: waiting for room", "fleet: waited (0 ms)"] * 2


def test_a_gpu_takes_a_line_even_with_its_makers_name() -> None:
    gpu = Gpu("NVIDIA GeForce RTX 4090", 1.0, 24000.0, 24564.0, 61.0)
    worker = GpuOutput("vast-25123450", (gpu,), Disk(128.5, 1000.0), "0.12.3", loaded=False)
    lines = drawn(lambda console: show_gpus([worker], console))
    assert [line[:24] for line in lines if "vast" in line] == ["vast-25123450  RTX 4090 "]
    assert len(lines) == 4


def test_what_two_looks_found_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    doubt, late = Failure(None, "it is not known yet"), Failure("vast-1", "still listed")
    with pytest.raises(LlmhostError, match="vast-1: still listed"):
        show_failures(Output(), [doubt, doubt, late], done=False)
    assert capsys.readouterr().err.count("it is not known yet") == 1
