"""Traces of requests by OpenTelemetry, sent over OTLP/HTTP: how long each step of an answer took.

A span is made when its request has ended, from times that are measured anyway, so that tracing takes no time
from an answer. Its id, which engines are told while they answer, is chosen before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmhost import __version__
from llmhost.engines.engine import trace_headers
from llmhost.errors import ConfigError

try:
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.trace import SpanKind, StatusCode, get_current_span, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigError(
        "`gateway.traces` needs the extra `otel`", hint="pip install 'llmhost[otel]', or remove the key"
    ) from error

if TYPE_CHECKING:
    from starlette.types import Scope

    from llmhost.answering.question import Reply
    from llmhost.gateway.record import RequestRecord

__all__ = ["Traces"]

#: where a collector takes traces, unless the address has a path
_PATH = "/v1/traces"
#: seconds in which a collector must have taken what it is sent
_TIMEOUT = 5.0
#: characters; what is longer is no state that anybody passes on
_LONGEST_STATE = 512


@dataclass(frozen=True, slots=True)
class _Names:
    """The span of a request and the one of its engine, as the engine is told; `parent` is the client's."""

    parent: Context
    trace: int
    span: int
    engine: int


class _Ids(RandomIdGenerator):  # type: ignore[misc]  # the extra has no types here
    """Gives the ids that were chosen beforehand, where there are some, else random ones."""

    def __init__(self) -> None:
        self._trace: int | None = None
        self._span: int | None = None

    @contextmanager
    def chosen(self, span: int | None, trace: int | None = None) -> Iterator[None]:
        """What is made within the block has these."""
        self._trace, self._span = trace, span
        try:
            yield
        finally:
            self._trace = self._span = None

    def generate_trace_id(self) -> int:
        random: int = super().generate_trace_id()
        return random if self._trace is None else self._trace

    def generate_span_id(self) -> int:
        random: int = super().generate_span_id()
        return random if self._span is None else self._span


class Traces:
    """Sends the traces of one process to `endpoint`. `warn` gets a sentence, once, when that fails."""

    def __init__(self, endpoint: str, warn: Callable[[str], None]) -> None:
        _Log.install(warn)
        self._ids = _Ids()
        self._propagator = TraceContextTextMapPropagator()
        resource = Resource.create({"service.name": "llmhost", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=_with_path(endpoint), timeout=_TIMEOUT)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("llmhost.gateway", __version__)

    def began(self, record: RequestRecord, scope: Scope) -> None:
        """From now on engines are told which trace the request belongs to."""
        carrier = {
            name.decode(): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        if len(carrier.get("tracestate", "")) > _LONGEST_STATE:
            del carrier["tracestate"]
        parent = self._propagator.extract(carrier, Context())
        known = get_current_span(parent).get_span_context()
        trace = known.trace_id if known.is_valid else self._ids.generate_trace_id()
        names = _Names(parent, trace, self._ids.generate_span_id(), self._ids.generate_span_id())
        record.trace = names
        sampled = not known.is_valid or known.trace_flags.sampled
        told = {"traceparent": f"00-{trace:032x}-{names.engine:016x}-{int(sampled):02x}"}
        if known.is_valid and (state := known.trace_state.to_header()):
            told["tracestate"] = state
        trace_headers.set(told)

    def ended(self, record: RequestRecord) -> None:
        """Sends the request's span with those of its steps, if it asks a model."""
        names = record.trace
        if record.operation is None or not isinstance(names, _Names):
            return
        begin = _ns(record.at)
        with self._ids.chosen(names.span, names.trace):
            span = self._tracer.start_span(
                f"{record.operation} {record.model}".rstrip(),
                context=names.parent,
                kind=SpanKind.SERVER,
                attributes=_of_request(record),
                start_time=begin,
            )
        within = set_span_in_context(span, names.parent)
        for number, reply in enumerate(record.replies):
            self._steps(record, reply, within, begin, names.engine if number == 0 else None)
        if record.outcome == "error":
            span.set_status(StatusCode.ERROR)
        span.end(_ns(record.at + record.seconds))

    def _steps(
        self, record: RequestRecord, reply: Reply, within: Context, begin: int, engine: int | None
    ) -> None:
        """The steps of one answer, each after the one before; the engine's ends when the answer was whole."""
        latency = reply.latency
        lookup = begin + _ms(latency.load + latency.condense + latency.embed + latency.lookup)
        self._step("lookup", within, begin, lookup)
        self._step("verify", within, lookup, lookup + _ms(latency.verify))
        if reply.source != "engine":
            return
        end = begin + _ms(latency.total)
        attributes = {**_of_model(record), **_usage([reply]), "llmhost.worker": reply.worker or ""}
        with self._ids.chosen(engine):
            start = end - _ms(latency.engine)
            self._step("engine", within, start, end, SpanKind.CLIENT, attributes)

    def _step(
        self,
        name: str,
        within: Context,
        begin: int,
        end: int,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        if end > begin:
            span = self._tracer.start_span(
                name, context=within, kind=kind, attributes=attributes, start_time=begin
            )
            span.end(end)

    def end(self) -> threading.Thread:
        """Sends what is left, in a thread that ends when that is done."""
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """As `end`, and waits for it, for some seconds at most."""
        self.end().join(_TIMEOUT)


class _Log(logging.Handler):
    """What OpenTelemetry says, said once to the operator instead of with every batch."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn: Callable[[str], None] | None = warn

    @classmethod
    def install(cls, warn: Callable[[str], None]) -> None:
        logger = logging.getLogger("opentelemetry")
        logger.propagate = False
        logger.handlers = [cls(warn)]

    def emit(self, record: logging.LogRecord) -> None:
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(f"traces are lost: {record.getMessage()[:300]}")


def _of_request(record: RequestRecord) -> dict[str, Any]:
    """Figures and names of ours alone, as in the request log."""
    reply = record.replies[0] if record.replies else None
    attributes: dict[str, Any] = {
        **_of_model(record),
        **_usage(record.replies),
        "http.request.method": "POST",
        "http.route": record.path,
        "llmhost.request_id": record.id,
        "llmhost.fleet": record.fleet,
        "llmhost.cache": record.outcome,
        "llmhost.cost_usd": sum(one.cost_usd for one in record.replies),
        "llmhost.saved_usd": sum(one.saved_usd for one in record.replies),
    }
    if record.status is not None:
        attributes["http.response.status_code"] = record.status
    if record.outcome == "error":
        attributes["error.type"] = str(record.error or record.status)
    if record.shadow is not None:
        attributes["llmhost.shadow"] = record.shadow.source
    if reply is not None and reply.entry is not None:
        attributes["llmhost.entry"] = reply.entry
    return attributes


def _of_model(record: RequestRecord) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": record.operation,
        "gen_ai.provider.name": record.engine,
        "gen_ai.request.model": record.model,
    }


def _usage(replies: list[Reply]) -> dict[str, Any]:
    answers = [reply.answer for reply in replies]
    return {
        "gen_ai.usage.input_tokens": sum(answer.prompt_tokens for answer in answers),
        "gen_ai.usage.output_tokens": sum(answer.completion_tokens for answer in answers),
        "gen_ai.response.finish_reasons": [answer.finish_reason for answer in answers],
    }


def _with_path(endpoint: str) -> str:
    scheme, _, rest = endpoint.partition("://")
    host, _, path = rest.partition("/")
    return endpoint if path else f"{scheme}://{host}{_PATH}"


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _ms(milliseconds: float) -> int:
    return int(milliseconds * 1e6)
