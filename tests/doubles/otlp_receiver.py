"""A double of an OpenTelemetry collector that takes traces over OTLP/HTTP, from the specification of OTLP."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doubles.http_server import HttpServer, Reply, Request
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True)
class Span:
    """Ids are hexadecimal; `begin` and `end` in Unix nanoseconds."""

    name: str
    trace: str
    id: str
    parent: str
    begin: int
    end: int
    failed: bool
    attributes: Mapping[str, Any]


class OtlpReceiver(HttpServer):
    """`spans` are those it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Span] = []
        self.service = ""

    def named(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    async def answer(self, request: Request, reply: Reply) -> None:
        if (request.method, request.path) != ("POST", "/v1/traces"):
            await reply.body(b"", 404)
            return
        body = gzip.decompress(request.body) if "content-encoding" in request.headers else request.body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.service = _attributes(resource.resource.attributes)["service.name"]
            self.spans += [_span(span) for scope in resource.scope_spans for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        await reply.body(answer, content_type="application/x-protobuf")


def _span(span: Any) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == 2,
        _attributes(span.attributes),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
