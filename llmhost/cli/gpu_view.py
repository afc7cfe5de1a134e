"""What the GPUs of workers do, as `status --gpu` shows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cli.output import table
from llmhost.cli.text import clean, duration, percent
from llmhost.errors import LlmhostError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.engines.worker_report import Disk, Gpu, LoadedModel
    from llmhost.fleet.models import Worker
    from llmhost.fleet.workers import Engines

__all__ = ["GpuOutput", "gather_metrics", "show_gpus"]

#: seconds; a worker measures every few, so older figures say nothing about now
_STALE = 60.0

_COLUMNS = ("worker", "gpu", "busy", "VRAM GB", "°C", "disk GB", "model", "engine")
_NUMBERS = ("busy", "VRAM GB", "°C", "disk GB")


@dataclass(frozen=True, slots=True)
class GpuOutput:
    """One worker. None is what nobody tells; `loaded`: whether its model is in memory.

    `spilled`: a model did not fit on the GPU. `age_s` is how old the figures are by the two clocks.
    `detail` is the engine's word on where the model runs; `error` is why there are no figures.
    """

    worker: str
    gpus: Sequence[Gpu] = ()
    disk: Disk | None = None
    engine_version: str = ""
    models: Sequence[LoadedModel] = ()
    loaded: bool | None = None
    spilled: bool = False
    age_s: float | None = None
    detail: str = ""
    error: str | None = None


async def gather_metrics(
    engines: Engines, workers: Sequence[Worker], now: Callable[[], float] = time.time
) -> list[GpuOutput]:
    """Asks all workers at once, in their order. Whoever cannot be asked has its `error`."""
    return list(await asyncio.gather(*(_ask(engines, worker, now) for worker in workers)))


async def _ask(engines: Engines, worker: Worker, now: Callable[[], float]) -> GpuOutput:
    if worker.url is None:
        return GpuOutput(worker.id, error=worker.detail or "it is starting")
    try:
        if worker.provider == "vast":
            return await _from_front_door(engines, worker, now)
        return await _from_engine(engines, worker)
    except LlmhostError as error:
        return GpuOutput(worker.id, error=error.message)


async def _from_front_door(engines: Engines, worker: Worker, now: Callable[[], float]) -> GpuOutput:
    metrics = await engines.front_door(worker).metrics()
    names = {model.name for model in metrics.models}
    return GpuOutput(
        worker=worker.id,
        gpus=metrics.gpus,
        disk=metrics.disk,
        engine_version=metrics.engine_version,
        models=metrics.models,
        loaded=bool(names & {worker.model, f"{worker.model}:latest"}),
        spilled=bool(metrics.spilled),
        age_s=max(0.0, now() - metrics.at),
    )


async def _from_engine(engines: Engines, worker: Worker) -> GpuOutput:
    """What any engine tells, which knows nothing of the machine."""
    engine = engines.of(worker)
    version, status = await asyncio.gather(engine.version(), engine.model_status(worker.model))
    return GpuOutput(
        worker=worker.id,
        engine_version=version,
        loaded=status.loaded,
        spilled=status.spilled,
        detail=status.detail,
    )


def show_gpus(workers: Sequence[GpuOutput], console: Console) -> None:
    """A table, one GPU a line, and under it what is wrong and what to do."""
    grid = table(*_COLUMNS, right=_NUMBERS)
    for worker in workers:
        _add_rows(worker, grid.add_row)
    console.print()
    console.print(grid)
    for worker in workers:
        for sentence in _sentences(worker):
            console.print(f"{worker.worker}: {clean(sentence)}", soft_wrap=True)


def _add_rows(worker: GpuOutput, add_row: Callable[..., None]) -> None:
    """What belongs to the whole worker stands beside its first GPU."""
    loaded = {True: "loaded", False: "not loaded", None: "-"}[worker.loaded]
    disk = _of(worker.disk.used_gb, worker.disk.total_gb) if worker.disk else "-"
    version = clean(worker.engine_version) or "-"
    first, *others = [_figures(gpu) for gpu in worker.gpus] or [("-", "-", "-", "-")]
    add_row(worker.worker, *first, disk, loaded, version)
    for figures in others:
        add_row("", *figures, "", "", "")


def _figures(gpu: Gpu) -> tuple[str, str, str, str]:
    busy = "-" if gpu.utilisation is None else percent(gpu.utilisation)
    memory = _of(_gigabytes(gpu.memory_used_mb), _gigabytes(gpu.memory_total_mb))
    temperature = "-" if gpu.temperature_c is None else f"{gpu.temperature_c:.0f}"
    name = clean(gpu.name).removeprefix("NVIDIA ").removeprefix("GeForce ")
    return name or "-", busy, memory, temperature


def _gigabytes(megabytes: float | None) -> float | None:
    """As the driver counts: 1024 MB each, so that a card of 24 GB has 24."""
    return None if megabytes is None else megabytes / 1024


def _of(used: float | None, total: float | None) -> str:
    if used is None and total is None:
        return "-"
    return "/".join("?" if amount is None else f"{amount:.1f}" for amount in (used, total))


def _sentences(worker: GpuOutput) -> list[str]:
    said = [
        f"{model.name} does not fit on the GPU: {percent(model.size_vram / model.size)} of it is there, the"
        " rest runs on the CPU"
        for model in worker.models
        if model.spilled
    ]
    if worker.error:
        said.append(worker.error)
    if worker.detail:
        said.append(worker.detail)
    if worker.spilled:
        said.append(
            "for full speed take a smaller model or quantisation, lower `engine.parallel`, or rent GPUs with"
            " more memory"
        )
    if worker.age_s is not None and worker.age_s > _STALE:
        said.append(
            f"these figures are {duration(worker.age_s)} old: its monitoring has stopped, or a clock is wrong"
        )
    return said
