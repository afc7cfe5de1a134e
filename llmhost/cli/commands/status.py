"""`llmhost status`: workers, their health, prices and cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.fleet_view import WorkerOutput, hourly_cost, show_failures, show_workers, worker_output
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.gateway_process import running_gateway
from llmhost.cli.output import table
from llmhost.cli.running import configured, run_async, say_what_a_toy_is, warn_of_others, wired
from llmhost.cli.text import clean, credit, duration, money, percent, spent
from llmhost.cli.watching import check_watches, watch_screen
from llmhost.errors import LlmhostError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config
    from llmhost.engines.worker_report import Disk, Gpu, LoadedModel
    from llmhost.fleet.models import Worker
    from llmhost.fleet.results import Failure
    from llmhost.fleet.workers import Engines
    from llmhost.gateway.background import GatewayRecord

__all__ = ["GpuOutput", "gather_metrics", "show_gpus", "status"]


#: seconds; a worker measures every few, so older metrics say nothing about now
_STALE = 60.0

#: seconds; how often --watch looks again, at vast.ai too
_WATCH = 5.0

_COLUMNS = ("worker", "gpu", "busy", "VRAM GB", "°C", "disk GB", "model", "engine")
_NUMBERS = ("busy", "VRAM GB", "°C", "disk GB")


@dataclass(frozen=True, slots=True)
class GpuOutput:
    """One worker, for `status --gpu`. None is unknown; `loaded`: whether its model is in memory.

    `spilled`: a model did not fit on the GPU. `age_s` is the age of the metrics.
    `detail` is where the model runs, as the engine reports it; `error` is why there are no metrics. `gateway`
    is "serving", or why the worker's own gateway is not; None where it has none.
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
    gateway: str | None = None


async def gather_switches(engines: Engines, workers: Sequence[Worker]) -> Mapping[str, str]:
    """What each rented worker that answers says of its dead-man switch: "armed", or why it is not."""

    async def ask(worker: Worker) -> str:
        return (await engines.worker_api(worker).metrics()).switch_fault or "armed"

    asked = [worker for worker in workers if worker.state.value == "ready" and engines.is_rented(worker)]
    answers = await asyncio.gather(*map(ask, asked), return_exceptions=True)
    return {w.id: answer for w, answer in zip(asked, answers, strict=True) if isinstance(answer, str)}


async def gather_metrics(
    engines: Engines, workers: Sequence[Worker], now: Callable[[], float] = time.time
) -> list[GpuOutput]:
    """Asks all workers at once, in their order. A worker that cannot be asked has an `error`."""
    return list(await asyncio.gather(*(_ask(engines, worker, now) for worker in workers)))


async def _ask(engines: Engines, worker: Worker, now: Callable[[], float]) -> GpuOutput:
    if worker.url is None:
        return GpuOutput(worker.id, error=worker.detail or "starting")
    try:
        if engines.is_rented(worker):
            return await _from_front_door(engines, worker, now)
        return await _from_engine(engines, worker)
    except LlmhostError as error:
        return GpuOutput(worker.id, error=error.message)


async def _from_front_door(engines: Engines, worker: Worker, now: Callable[[], float]) -> GpuOutput:
    metrics = await engines.worker_api(worker).metrics()
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
        gateway=None if metrics.gateway is None else metrics.gateway_fault or "serving",
    )


async def _from_engine(engines: Engines, worker: Worker) -> GpuOutput:
    """What an engine reports; it knows nothing about the machine."""
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
    """A table, one GPU a line, and below it problems and what to do about them."""
    grid = table(*_COLUMNS, right=_NUMBERS)
    for worker in workers:
        _add_rows(worker, grid.add_row)
    console.print()
    console.print(grid)
    for worker in workers:
        for line in _problems(worker):
            console.print(f"{worker.worker}: {clean(line)}", soft_wrap=not console.is_terminal)


def _add_rows(worker: GpuOutput, add_row: Callable[..., None]) -> None:
    """What concerns the whole worker is in the line of its first GPU."""
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
    """1024 MB each, as the driver counts, so that a card of 24 GB has 24."""
    return None if megabytes is None else megabytes / 1024


def _of(used: float | None, total: float | None) -> str:
    if used is None and total is None:
        return "-"
    return "/".join("?" if amount is None else f"{amount:.1f}" for amount in (used, total))


def _problems(worker: GpuOutput) -> list[str]:
    lines = [
        f"{model.name} does not fit on the GPU: {percent(model.size_vram / model.size)} of it is on the GPU,"
        " the rest runs on the CPU"
        for model in worker.models
        if model.spilled
    ]
    if worker.error:
        lines.append(worker.error)
    if worker.detail:
        lines.append(worker.detail)
    if worker.gateway is not None:
        lines.append("its gateway serves" if worker.gateway == "serving" else worker.gateway)
    if worker.spilled:
        lines.append(
            "for full speed, use a smaller model or quantization, fewer `engine.slots`,"
            " or GPUs with more memory"
        )
    if worker.age_s is not None and worker.age_s > _STALE:
        lines.append(
            f"these metrics are {duration(worker.age_s)} old: its monitoring has stopped, or a clock is wrong"
        )
    return lines


def status(
    ctx: typer.Context,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Also show load, memory and temperature of each GPU.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every 5 s, until Ctrl-C.")] = False,
) -> None:
    """Show workers, health and cost.

    Each worker is asked whether it answers.

    Examples:
      llmhost status
      llmhost status --gpu
      llmhost status --watch
      llmhost status --json | jq '.workers[] | select(.ready | not)'
    """
    options = globals_of(ctx)
    if watch:
        _check_watch(options)
    config = configured(options, lenient=True, header=True)
    if watch:
        run_async(_watch(options, config, gpu=gpu))
        return
    seen = run_async(_look(options, config, gpu=gpu))
    for warning in seen.warnings:
        options.output.warn(warning)
    options.output.result(seen.output, _show)
    say_what_a_toy_is(options, config)
    show_failures(options.output, seen.doubts, done=True)


def _check_watch(options: Globals) -> None:
    if options.json:
        raise UsageError("--watch and --json do not go together", hint="leave one of them out")
    check_watches()


async def _watch(options: Globals, config: Config, *, gpu: bool) -> None:
    from rich.text import Text

    async def look() -> Text:
        seen = await _look(options, config, gpu=gpu)
        for warning in seen.warnings:
            options.output.warn(warning)
        try:
            show_failures(options.output, seen.doubts, done=True)
        except LlmhostError as error:
            options.output.error(error.message, error.hint)
        page = options.output.console()  # what is drawn on that of the screen has the last look below it
        with page.capture() as shown:
            _show(seen.output, page)
        return Text.from_ansi(shown.get())

    await watch_screen(options.output, look, _WATCH)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look at the fleet gave."""

    output: StatusOutput
    warnings: Sequence[str]
    doubts: Sequence[Failure]


async def _look(options: Globals, config: Config, *, gpu: bool) -> _Seen:
    from llmhost.fleet.budget import runway_hours

    async with wired(options, config) as wiring:
        found = await (await wiring.fleet()).status()
        gpus = await gather_metrics(wiring.engines, found.workers) if gpu else None
        switches = await gather_switches(wiring.engines, found.workers)
        await warn_of_others(options, wiring)
        gateway = running_gateway(options, config.fleet.name)
    spending, rents = found.spending, wiring.provider.rents
    workers = [
        replace(
            worker_output(worker, wiring.now(), spending.by_worker.get(worker.id), estimated=rents),
            dead_man_switch=switches.get(worker.id),
        )
        for worker in found.workers
    ]
    hourly, left = hourly_cost(found.workers), found.account.credit if found.account else None
    output = StatusOutput(
        workers=workers,
        hourly_cost_usd=hourly,
        spent_usd=sum(worker.spent_usd for worker in workers),
        spent={"today": spending.periods.day, "month": spending.periods.month, "total": spending.total},
        spent_estimated=rents,
        credit_usd=left,
        runway_hours=runway_hours(left, hourly),
        gpus=gpus,
        autoscaling={"paused_since": found.paused},
        endpoint=None if gateway is None else gateway.url,
        gateway=None if gateway is None else _gateway_output(gateway, wiring.now()),
    )
    unarmed = [
        f"{name}: {answer}; without it, an unused worker keeps billing"
        for name, answer in switches.items()
        if answer != "armed"
    ]
    return _Seen(output, [*found.warnings, *unarmed], found.doubts)


@dataclass(frozen=True, slots=True)
class GatewayOutput:
    """`uptime_s` in seconds."""

    url: str
    version: str
    uptime_s: float


@dataclass(frozen=True, slots=True)
class StatusOutput:
    """`spent_usd` is the cost of the workers listed, `spent` of all, destroyed ones included: this UTC day,
    this month, ever; `spent_estimated`: a bill may still correct both. `autoscaling` has `paused_since`, Unix
    seconds. `endpoint` is the gateway's URL. None is unknown, not there, or not asked for.
    """

    workers: Sequence[WorkerOutput]
    hourly_cost_usd: float
    spent_usd: float
    spent: Mapping[str, float]
    credit_usd: float | None
    runway_hours: float | None
    gpus: Sequence[GpuOutput] | None
    autoscaling: Mapping[str, float | None]
    spent_estimated: bool
    endpoint: str | None
    gateway: GatewayOutput | None


def _gateway_output(gateway: GatewayRecord, now: float) -> GatewayOutput:
    return GatewayOutput(gateway.url, gateway.version, max(0.0, now - gateway.started))


def _show(output: StatusOutput, console: Console) -> None:
    show_workers(output.workers, console)
    if output.gpus:
        show_gpus(output.gpus, console)
    today, month, now = (
        spent(usd, output.spent_estimated)
        for usd in (output.spent["today"], output.spent["month"], output.spent_usd)
    )
    cost = f"{today} today, {month} this month"
    if output.workers:
        cost = f"{now} for these workers, {cost}"
        console.print(f"{money(output.hourly_cost_usd)}/h; cost: {cost}", style="dim")
    elif output.spent["total"]:
        console.print(f"cost: {cost}", style="dim")
    if output.credit_usd is not None:
        console.print(credit(output.credit_usd, output.runway_hours), style="dim")
    if (gateway := output.gateway) is not None:
        up = f"version {clean(gateway.version)}, up {duration(gateway.uptime_s)}"
        console.print(f"Endpoint: {clean(gateway.url)}/v1 ({up})", soft_wrap=True)
    if (since := output.autoscaling["paused_since"]) is not None:
        when = datetime.fromtimestamp(since).astimezone()
        console.print(f"Autoscaling paused since {when:%Y-%m-%d %H:%M}; `llmhost up` resumes it.")
