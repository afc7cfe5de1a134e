"""What a rented worker says of itself, read as what it is: text from a machine that is not ours.

Facts: the set-up script that writes it (llmhost/fleet/providers/vast/setup_instance.sh).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from llmhost.engines.engine import Endpoint, EngineLimits
from llmhost.engines.http import HttpTransport
from llmhost.engines.wire import BadReply, JsonObject, shorten
from llmhost.errors import EngineUnavailable

__all__ = [
    "DeadManSwitch",
    "Disk",
    "Gpu",
    "LoadedModel",
    "Metrics",
    "OwnGateway",
    "Stage",
    "WorkerApi",
    "WorkerReport",
    "read",
]

Stage = Literal["installing", "arming", "starting", "pulling", "loading", "ready", "failed"]

#: more GPUs than a machine has, more models than one Ollama holds in memory
_MOST = 64

#: seconds between two looks of a switch that works; a call to vast.ai may hold one up
_LONGEST_PASS = 180.0

_Line = Annotated[str, AfterValidator(shorten)]
_Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
_Size = Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)]  #: MB or GB
_Celsius = Annotated[float, Field(strict=True, ge=-100, le=1000, allow_inf_nan=False)]
_Bytes = Annotated[int, Field(strict=True, ge=0, le=10**18)]

#: Unix seconds until the year 5138, so that a number in milliseconds is refused
_Time = Annotated[float, Field(strict=True, ge=0, le=1e11, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How far a worker's set-up is. `fraction` is 0..1 of this stage, `at` Unix seconds by its own clock.

    `detail` is a line for people: what it is doing, or why it failed.
    """

    stage: Stage
    at: _Time
    fraction: _Fraction | None = None
    detail: _Line = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """None is what the driver does not tell. `utilisation` is 0..1."""

    name: _Line
    utilisation: _Fraction | None = None
    memory_used_mb: _Size | None = None
    memory_total_mb: _Size | None = None
    temperature_c: _Celsius | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    used_gb: _Size | None = None
    total_gb: _Size | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, in bytes; `size_vram` of its `size` lie on the GPU."""

    name: _Line
    size: _Bytes
    size_vram: _Bytes

    @property
    def spilled(self) -> bool:
        return self.size_vram < self.size


@dataclass(frozen=True, slots=True)
class DeadManSwitch:
    """What destroys a worker that gets no requests. `armed`: vast.ai has accepted its key; else `detail` may
    say why not. `at` is when it last looked.
    """

    armed: Annotated[bool, Field(strict=True)]
    at: _Time
    detail: _Line = ""


@dataclass(frozen=True, slots=True)
class OwnGateway:
    """The gateway of a worker that is to have one; `detail` says why it does not serve."""

    serving: Annotated[bool, Field(strict=True)]
    detail: _Line = ""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a worker measured at `at`, Unix seconds by its own clock."""

    at: _Time
    gpus: Annotated[tuple[Gpu, ...], Field(max_length=_MOST)] = ()
    disk: Disk = Disk()
    engine_version: _Line = ""
    models: Annotated[tuple[LoadedModel, ...], Field(max_length=_MOST)] = ()
    switch: DeadManSwitch | None = None
    gateway: OwnGateway | None = None

    @property
    def gateway_fault(self) -> str | None:
        """Why its gateway does not serve; None where it does, or there is to be none."""
        if self.gateway is None or self.gateway.serving:
            return None
        return f"its gateway does not serve: {self.gateway.detail or 'it does not say why'}"

    @property
    def switch_fault(self) -> str | None:
        """Why its dead-man switch would not end it; None where it would."""
        if self.switch is None:
            return "its dead-man switch is not known to be armed"
        if not self.switch.armed:
            return f"its dead-man switch is not armed: {self.switch.detail or 'its key was not proved yet'}"
        if self.at - self.switch.at > _LONGEST_PASS:
            return "its dead-man switch does not watch any more"
        return None

    @property
    def spilled(self) -> tuple[LoadedModel, ...]:
        """The models that do not fit on the GPU, so that the CPU works on a part of them."""
        return tuple(model for model in self.models if model.spilled)


T = TypeVar("T", WorkerReport, Metrics)


def read(kind: type[T], reply: JsonObject) -> T:
    """What the worker said. Raises BadReply for what is not of this kind."""
    try:
        return TypeAdapter(kind).validate_python(reply)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        raise BadReply(f"sent a `{place}` that cannot be: {wrong['msg']}") from error


#: bytes; the largest report, of 64 GPUs and 64 models, has some 20 kB
_LONGEST_REPORT = 64 << 10


class WorkerApi:
    """Reads what a worker says of itself, from the proxy in front of it.

    Raises UntrustedWorker where what answers is not that worker.
    """

    def __init__(self, endpoint: Endpoint, limits: EngineLimits) -> None:
        """Raises ConfigError for a URL or token that HTTP cannot carry."""
        self._transport = HttpTransport(endpoint, limits)

    async def progress(self) -> WorkerReport:
        """How far its set-up is. Raises EngineUnavailable."""
        return await self._read("/llmhost/progress", WorkerReport)

    async def metrics(self) -> Metrics:
        """What its GPUs, its disk and its engine are doing. Raises EngineUnavailable."""
        return await self._read("/llmhost/metrics", Metrics)

    async def retire(self) -> None:
        """Lets requests in flight go on, and closes their connections after them."""
        await self._transport.retire()

    async def aclose(self) -> None:
        """Closes connections. Asking twice is fine."""
        await self._transport.aclose()

    async def _read(self, path: str, kind: type[T]) -> T:
        try:
            return read(kind, await self._transport.get(path, _LONGEST_REPORT))
        except BadReply as fault:
            error = self._transport.error(fault)
            if isinstance(error, EngineUnavailable):
                raise error from fault
            # A refusal is for questions: a request for its progress can only wait.
            raise EngineUnavailable(f"{self._transport.where} {fault}") from fault
