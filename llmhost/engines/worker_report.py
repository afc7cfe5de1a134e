"""What a rented worker says of itself, read as what it is: text from a machine that is not ours.

Facts: the set-up script that writes it (llmhost/fleet/providers/vast/setup_instance.sh).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, cast, get_args

from llmhost.engines.engine import Endpoint, EngineLimits
from llmhost.engines.http import HttpTransport
from llmhost.engines.wire import BadReply, JsonObject, child, list_of, shorten, text
from llmhost.errors import EngineUnavailable

__all__ = [
    "Disk",
    "Gpu",
    "LoadedModel",
    "Metrics",
    "Stage",
    "WorkerApi",
    "WorkerReport",
    "read_metrics",
    "read_report",
]

Stage = Literal["installing", "starting", "pulling", "loading", "ready", "failed"]

#: more GPUs than a machine has, more models than one Ollama holds in memory
_MOST = 64

_LATEST = 1e11  #: Unix seconds; the year 5138, so a number in milliseconds is refused
_MOST_MB = 1e9
_MOST_GB = 1e9
_MOST_BYTES = 1e18
_COLDEST, _HOTTEST = -100.0, 1000.0  #: °C


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How far a worker's set-up is. `fraction` is 0..1 of this stage, `at` Unix seconds by its own clock.

    `detail` is a line for people: what it is doing, or why it failed.
    """

    stage: Stage
    fraction: float | None
    detail: str
    at: float


@dataclass(frozen=True, slots=True)
class Gpu:
    """None is what the driver does not tell. `utilisation` is 0..1."""

    name: str
    utilisation: float | None
    memory_used_mb: float | None
    memory_total_mb: float | None
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class Disk:
    used_gb: float | None
    total_gb: float | None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, in bytes; `size_vram` of its `size` lie on the GPU."""

    name: str
    size: int
    size_vram: int

    @property
    def spilled(self) -> bool:
        return self.size_vram < self.size


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a worker measured at `at`, Unix seconds by its own clock."""

    gpus: tuple[Gpu, ...]
    disk: Disk
    engine_version: str
    models: tuple[LoadedModel, ...]
    at: float

    @property
    def spilled(self) -> tuple[LoadedModel, ...]:
        """The models that do not fit on the GPU, so that the CPU works on a part of them."""
        return tuple(model for model in self.models if model.spilled)


def read_report(reply: JsonObject) -> WorkerReport:
    """Raises BadReply for what is not a report."""
    stage = text(reply, "stage")
    if stage not in get_args(Stage):
        raise BadReply(f"reports a stage that is not known: {shorten(stage) or 'none'}")
    return WorkerReport(
        stage=cast(Stage, stage),
        fraction=_number(reply, "fraction", 0.0, 1.0),
        detail=shorten(text(reply, "detail")),
        at=_needed(reply, "at", _LATEST),
    )


def read_metrics(reply: JsonObject) -> Metrics:
    """Raises BadReply for what are not metrics."""
    disk = child(reply, "disk")
    return Metrics(
        gpus=tuple(map(_gpu, _few(reply, "gpus"))),
        disk=Disk(_number(disk, "used_gb", 0.0, _MOST_GB), _number(disk, "total_gb", 0.0, _MOST_GB)),
        engine_version=shorten(text(reply, "engine_version")),
        models=tuple(map(_model, _few(reply, "models"))),
        at=_needed(reply, "at", _LATEST),
    )


def _gpu(entry: JsonObject) -> Gpu:
    return Gpu(
        name=shorten(text(entry, "name")),
        utilisation=_number(entry, "utilisation", 0.0, 1.0),
        memory_used_mb=_number(entry, "memory_used_mb", 0.0, _MOST_MB),
        memory_total_mb=_number(entry, "memory_total_mb", 0.0, _MOST_MB),
        temperature_c=_number(entry, "temperature_c", _COLDEST, _HOTTEST),
    )


def _model(entry: JsonObject) -> LoadedModel:
    return LoadedModel(
        name=shorten(text(entry, "name")),
        size=int(_needed(entry, "size", _MOST_BYTES)),
        size_vram=int(_needed(entry, "size_vram", _MOST_BYTES)),
    )


def _few(owner: JsonObject, name: str) -> list[JsonObject]:
    entries = list_of(owner, name)
    if len(entries) > _MOST:
        raise BadReply(f"sent more than {_MOST} `{name}`")
    return entries


def _needed(owner: JsonObject, name: str, high: float) -> float:
    value = _number(owner, name, 0.0, high)
    if value is None:
        raise BadReply(f"sent no `{name}`")
    return value


def _number(owner: JsonObject, name: str, low: float, high: float) -> float | None:
    """None where there is none. Neither NaN nor an infinity lies between two numbers."""
    value = owner.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not low <= value <= high:
        raise BadReply(f"sent a `{name}` that is not a number from {low:g} to {high:g}")
    return float(value)


# The proxy in front of a rented worker, where the worker tells how far it is and how it is doing.


T = TypeVar("T")

#: bytes; the largest report, of 64 GPUs and 64 models, has some 20 kB
_LONGEST_REPORT = 64 << 10


class WorkerApi:
    """Reads what a worker says of itself. Raises UntrustedWorker where it is not that worker."""

    def __init__(self, endpoint: Endpoint, limits: EngineLimits) -> None:
        """Raises ConfigError for a URL or token that HTTP cannot carry."""
        self._transport = HttpTransport(endpoint, limits)

    async def progress(self) -> WorkerReport:
        """How far its set-up is. Raises EngineUnavailable."""
        return await self._read("/llmhost/progress", read_report)

    async def metrics(self) -> Metrics:
        """What its GPUs, its disk and its engine are doing. Raises EngineUnavailable."""
        return await self._read("/llmhost/metrics", read_metrics)

    async def aclose(self) -> None:
        """Closes connections. Asking twice is fine."""
        await self._transport.aclose()

    async def _read(self, path: str, parse: Callable[[JsonObject], T]) -> T:
        try:
            return parse(await self._transport.get(path, _LONGEST_REPORT))
        except BadReply as fault:
            error = self._transport.error(fault)
            if isinstance(error, EngineUnavailable):
                raise error from fault
            # A refusal is for questions: who asks how far a worker is can only wait.
            raise EngineUnavailable(f"{self._transport.where} {fault}") from fault
