"""What a rented worker says about its GPUs, its disk and its engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from doubles.vast.containers import RealContainers
from doubles.vast.rented import Rented
from doubles.waiting import until

pytestmark = pytest.mark.slow

Make = Callable[..., RealContainers]


@pytest.fixture
def containers(tmp_path: Path) -> Make:
    return lambda **choices: RealContainers(tmp_path, **choices)


async def test_metrics_say_what_the_gpus_the_disk_and_the_engine_do(containers: Make) -> None:
    async with Rented(containers(on_gpu=0.5)) as worker:
        await worker.until_stage("ready")
        metrics = await until(worker.metrics_with_models)
    assert metrics["engine_version"] == "0.12.3"
    assert metrics["gpus"] == [
        {
            "name": "NVIDIA GeForce RTX 4090",
            "utilisation": 0.35,
            "memory_used_mb": 6120,
            "memory_total_mb": 24564,
            "temperature_c": 61,
        }
    ]
    (model,) = metrics["models"]
    assert (model["name"], model["size_vram"] / model["size"]) == ("tiny:latest", 0.5)
    disk = psutil.disk_usage("/tmp")
    assert metrics["disk"]["total_gb"] == pytest.approx(disk.total / 1e9, rel=0.01)
    assert metrics["disk"]["used_gb"] == pytest.approx(disk.used / 1e9, rel=0.2)


#: what the driver says, and what the worker makes of it; no two neighbours alike, as one follows the other
DRIVERS: list[tuple[str, list[tuple[str, float | None, int | None]]]] = [
    ("", []),
    ('A "b" \\c\td\u00e9, 0, 0, 24564, 30\n', [("A b cd", 0.0, 0)]),
    ("NVIDIA-SMI has failed because it couldn't communicate, with, the, driver\n", []),
    ("Tesla, [N/A], [Not Supported], 100, [N/A]\n", [("Tesla", None, None)]),
    ("No devices were found\n", []),
    ("One, 1, 2, 3, 4\nTwo, 100, 6, 7, 8\n", [("One", 0.01, 2), ("Two", 1.0, 6)]),
    ("One, 1, 2, 3\n1, 2, 3, 4, 5, 6\nOne, x, 2, 3, 4\n", []),
]


async def test_metrics_are_json_whatever_the_driver_says(containers: Make) -> None:
    async with Rented(containers()) as worker:
        await until(lambda: worker.answer("/llmhost/metrics"))
        for said, gpus in DRIVERS:
            (worker.container.home / "gpus").write_text(said)

            async def is_shown(gpus: list[tuple[str, float | None, int | None]] = gpus) -> bool:
                metrics = await worker.answer("/llmhost/metrics")
                return metrics is not None and gpus == [
                    (gpu["name"], gpu["utilisation"], gpu["memory_used_mb"]) for gpu in metrics["gpus"]
                ]

            await until(is_shown)


async def test_without_a_driver_there_are_no_gpus(containers: Make) -> None:
    async with Rented(containers(missing=("nvidia-smi",))) as worker:
        assert (await worker.until_metrics(gpus=[]))["engine_version"] in {"", "0.12.3"}


async def test_metrics_are_json_while_the_engine_says_nothing(containers: Make) -> None:
    async with Rented(containers(missing=("ollama",))) as worker:
        (worker.container.home / "store" / "ollama").unlink()
        metrics = await worker.until_metrics(engine_version="")
    assert metrics["models"] == []
