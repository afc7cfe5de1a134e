"""The proxy in front of a rented worker, where the worker tells how far it is and how it is doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from llmhost.engines.engine import Endpoint, EngineLimits
from llmhost.engines.transport import HttpTransport
from llmhost.engines.wire import BadReply, JsonObject
from llmhost.engines.worker_report import Metrics, WorkerReport, read_metrics, read_report
from llmhost.errors import EngineUnavailable

__all__ = ["FrontDoor"]

T = TypeVar("T")

#: bytes; the largest report, of 64 GPUs and 64 models, has some 20 kB
_LONGEST_REPORT = 64 << 10


class FrontDoor:
    """Reads what a worker says of itself. Raises UntrustedWorker where it is not that worker."""

    def __init__(self, endpoint: Endpoint, limits: EngineLimits | None = None) -> None:
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
