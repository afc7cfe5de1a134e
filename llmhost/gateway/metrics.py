"""Figures of one gateway for Prometheus, which reads them at `/metrics`.

Names are those of OpenTelemetry's conventions for generative AI where there is one (`gen_ai_…`, as Prometheus
writes them; semantic conventions 1.37, in development), else they begin with `llmhost_`. Labels have few
values: models by the names of the configuration, never what a client sent.
"""

from __future__ import annotations

import asyncio
import functools
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from llmhost import __version__
from llmhost.gateway.fleets import FleetState

if TYPE_CHECKING:
    from llmhost.answering.question import Reply
    from llmhost.gateway.fleets import ServedFleet, ServedFleets
    from llmhost.gateway.record import RequestRecord

__all__ = ["Metrics", "ProcessState"]

#: seconds in which a fleet must say how it is, so that a Redis that hangs does not hide the other figures
_STATE_TIMEOUT = 2.0

#: the buckets that the conventions recommend: seconds of an operation, tokens, seconds until the first token
#: and between two
_OPERATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4.0**power for power in range(14))
_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_BETWEEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
#: seconds of a whole answer; a hit takes some milliseconds
_ANSWER = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)

#: what every figure of the conventions says of the model
_MODEL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """Requests under way, those of them whose answer has not begun, and lines that the request log lost."""

    in_flight: int
    waiting: int
    dropped: int


class Metrics:
    """Counts in a registry of its own: gateways in one process do not mix, and each process of several
    reports what it has answered itself. Where those share an address, `process` is a label of all figures:
    who asks there reads now one process, now another.
    """

    def __init__(self, process: str = "") -> None:
        registry = CollectorRegistry()
        self._read = _Labelled(registry, {"process": process} if process else {})
        ProcessCollector(registry=registry)

        # Looking up a figure by its labels takes longer than counting it.
        def counter(name: str, what: str, *labels: str) -> Callable[..., Counter]:
            return functools.cache(Counter(name, what, labels, registry=registry).labels)

        def histogram(
            name: str, what: str, buckets: tuple[float, ...], *labels: str
        ) -> Callable[..., Histogram]:
            return functools.cache(Histogram(name, what, labels, buckets=buckets, registry=registry).labels)

        self._requests = counter(
            "llmhost_requests", "Requests that ended", "api", "model", "outcome", "status"
        )
        self._kinds = counter("llmhost_questions", "Questions, by kind", "model", "kind")
        self._answers = histogram(
            "llmhost_answer_seconds", "From the request to the end of its answer", _ANSWER, "model", "outcome"
        )
        self._shadow = counter("llmhost_shadow_hits", "Hits that were not served", "model", "tier")
        self._tokens = counter(
            "llmhost_tokens", "Tokens of answers, by who gave them", "model", "source", "gen_ai_token_type"
        )
        self._cost = counter("llmhost_cost_usd", "What engines' time cost", "model")
        self._saved = counter("llmhost_saved_usd", "What answers of hits had cost", "model")
        self._served = histogram(
            "gen_ai_server_request_duration_seconds",
            "Requests that ask a model, by this gateway as a server",
            _OPERATION,
            *_MODEL,
            "error_type",
        )
        self._first = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Until the first piece of the answer",
            _FIRST_TOKEN,
            *_MODEL,
        )
        rate = "gen_ai_server_time_per_output_token_seconds"
        said = "Per token after the first, of engines' answers"
        self._between = histogram(rate, said, _BETWEEN, *_MODEL)
        self._operations = histogram(
            "gen_ai_client_operation_duration_seconds",
            "Answers of engines, by this gateway as a client",
            _OPERATION,
            *_MODEL,
        )
        self._usage = histogram(
            "gen_ai_client_token_usage",
            "Tokens of one answer of an engine",
            _TOKENS,
            *_MODEL,
            "gen_ai_token_type",
        )
        self._now = _Now()
        registry.register(self._now)

    def ended(self, record: RequestRecord) -> None:
        """Counts a request."""
        outcome, status = record.outcome, record.error or record.status
        self._requests(record.api, record.model, outcome, str(status or "none")).inc()
        if record.operation is None:
            return
        if record.kind:
            self._kinds(record.model, record.kind).inc()
        model = (record.operation, record.engine, record.model)
        self._served(
            *model, str(status) if outcome == "error" else outcome if outcome == "gone" else ""
        ).observe(record.seconds)
        if record.first is not None:
            self._first(*model).observe(record.first)
        if record.embedded:
            self._tokens(record.model, "embedder", "input").inc(record.embedded)
        if not record.replies:
            return
        if outcome not in ("error", "gone"):
            self._answers(record.model, outcome).observe(record.seconds)
        for reply in record.replies:
            self._replied(record, reply, model)

    def _replied(self, record: RequestRecord, reply: Reply, model: tuple[str, str, str]) -> None:
        name, answer = record.model, reply.answer
        made = reply.source == "engine"
        tokens = {"input": answer.prompt_tokens, "output": answer.completion_tokens}
        for kind, count in tokens.items():
            self._tokens(name, "engine" if made else "cache", kind).inc(count)
        if not made:
            self._saved(name).inc(reply.saved_usd)
            return
        self._cost(name).inc(reply.cost_usd)
        self._operations(*model).observe(answer.engine_seconds)
        for kind, count in tokens.items():
            self._usage(*model, kind).observe(count)
        if record.first is not None and answer.completion_tokens > 1 and len(record.replies) == 1:
            rest = max(0.0, record.seconds - record.first)
            self._between(*model).observe(rest / (answer.completion_tokens - 1))
        if reply.shadow is not None:
            self._shadow(name, reply.shadow.source).inc()

    async def exposition(self, fleets: ServedFleets, process: ProcessState) -> tuple[bytes, str]:
        """The figures, and their media type."""
        states = {fleet.config.fleet.name: await _state(fleet) for fleet in fleets.fleets}
        warnings = {fleet.config.fleet.name: fleet.answerer.warn_once.warnings for fleet in fleets.fleets}
        self._now.families = _families(states, warnings, process)
        return generate_latest(self._read), CONTENT_TYPE_LATEST


async def _state(fleet: ServedFleet) -> FleetState:
    try:
        async with asyncio.timeout(_STATE_TIMEOUT):
            return await fleet.state()
    except TimeoutError:
        return FleetState()


def _families(
    states: Mapping[str, FleetState], warnings: Mapping[str, int], process: ProcessState
) -> Sequence[Metric]:
    """What is read when the figures are asked for."""
    workers = GaugeMetricFamily("llmhost_workers", "Workers of the fleet", labels=["fleet", "state"])
    redis = GaugeMetricFamily("llmhost_redis_up", "Whether Redis answers", labels=["fleet"])
    queued = GaugeMetricFamily(
        "llmhost_requests_queued", "Requests that wait for a slot on a worker", labels=["fleet"]
    )
    failed = CounterMetricFamily(
        "llmhost_warnings", "Steps of the cache, the ledger and the fleet that failed", labels=["fleet"]
    )
    for name, state in states.items():
        redis.add_metric([name], state.redis_up)
        queued.add_metric([name], state.queued)
        failed.add_metric([name], warnings[name])
        for kind, count in state.workers.items():
            workers.add_metric([name, kind], count)
    build = GaugeMetricFamily("llmhost_build_info", "This gateway", labels=["version", "python"])
    build.add_metric([__version__, platform.python_version()], 1)
    in_flight, waiting, dropped = process.in_flight, process.waiting, process.dropped
    return [
        *(workers, redis, queued, failed, build),
        GaugeMetricFamily("llmhost_requests_in_flight", "Requests whose answer has not ended", in_flight),
        GaugeMetricFamily("llmhost_requests_waiting", "Those whose answer has not begun", waiting),
        CounterMetricFamily("llmhost_log_lines_dropped", "Lines that the request log lost", dropped),
    ]


class _Labelled(Collector):
    """The figures of a registry with labels that are the same for all of them."""

    def __init__(self, registry: CollectorRegistry, labels: Mapping[str, str]) -> None:
        self._registry = registry
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [
                sample._replace(labels={**sample.labels, **self._labels})
                for sample in family.samples
                if not sample.name.endswith("_created")  # Prometheus makes nothing of them
            ]
            yield family


class _Now(Collector):
    """What was read last."""

    families: Sequence[Metric] = ()

    def collect(self) -> Iterator[Metric]:
        yield from self.families
