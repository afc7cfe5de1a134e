"""What is written about each request: figures, the request log, traces. It outlives a configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from llmhost.errors import StateError
from llmhost.gateway.metrics import Metrics, ProcessState
from llmhost.gateway.record import RequestRecord, record_of
from llmhost.gateway.request_log import RequestLog
from llmhost.gateway.server import Backlog

if TYPE_CHECKING:
    from llmhost.config.gateway import GatewayConfig
    from llmhost.gateway.fleets import ServedFleets
    from llmhost.gateway.traces import Traces

__all__ = ["Observation"]

_log = logging.getLogger("llmhost.gateway")


class Observation:
    """What is observed of one process that serves. `warn` gets a sentence about what cannot be written;
    `process` names it among several that share an address.
    """

    def __init__(self, warn: Callable[[str], None] = _log.warning, process: str = "") -> None:
        self.metrics = Metrics(process)
        self.backlog = Backlog()
        self._warn = warn
        self._log: RequestLog | None = None
        self._log_at = "off"
        self._traces: Traces | None = None
        self._traces_at: str | None = None
        self._under_way: set[RequestRecord] = set()

    def configure(self, config: GatewayConfig) -> None:
        """From now on it is written where this configuration says. Raises StateError, and ConfigError where
        the extra for traces is not installed; then nothing has changed."""
        log, traces = self._log, self._traces
        if config.traces != self._traces_at:
            traces = None if config.traces is None else _traces(config.traces, self._warn)
        if config.log != self._log_at:
            try:
                log = None if config.log == "off" else RequestLog(config.log, self._warn)
            except StateError:
                if traces is not None and traces is not self._traces:
                    traces.end()
                raise
        for before, now in ((self._log, log), (self._traces, traces)):
            if before is not None and before is not now:
                before.end()
        self._log, self._log_at = log, config.log
        self._traces, self._traces_at = traces, config.traces

    def reopen(self) -> None:
        """Opens files again that another program has moved away."""
        if self._log is not None:
            self._log.reopen()

    def close(self) -> None:
        """Writes what is left."""
        for writer in (self._log, self._traces):
            if writer is not None:
                writer.close()

    async def exposition(self, fleets: ServedFleets) -> tuple[bytes, str]:
        """The figures as Prometheus reads them, and their media type."""
        dropped = 0 if self._log is None else self._log.dropped
        waiting = sum(record.status is None for record in self._under_way)
        # The request for the figures is under way, too.
        process = ProcessState(len(self._under_way) - 1, waiting - 1, dropped)
        return await self.metrics.exposition(fleets, process)

    def of(self, app: ASGIApp) -> ASGIApp:
        """The application, observed."""

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            record = record_of(scope)
            self._under_way.add(record)
            if self._traces is not None:
                self._traces.began(record, scope)
            try:
                await app(scope, receive, send)
            except BaseException:
                record.error = record.error or 500
                raise
            finally:
                self._under_way.discard(record)
                record.ends(scope["path"])
                self._ended(record)

        return observed

    def _ended(self, record: RequestRecord) -> None:
        try:
            self.metrics.ended(record)
            if self._log is not None and (record.operation is not None or record.outcome == "error"):
                self._log.ended(record)
            if self._traces is not None:
                self._traces.ended(record)
        except Exception:  # noqa: BLE001 - what was answered is answered
            _log.exception("a request was not observed")


def _traces(endpoint: str, warn: Callable[[str], None]) -> Traces:
    from llmhost.gateway.traces import Traces  # here: it needs an extra

    return Traces(endpoint, warn)
