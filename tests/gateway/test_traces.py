"""Traces as a collector gets them, over a real socket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextvars import copy_context
from pathlib import Path

import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import House, Serve
from doubles.waiting import wait_until

from llmhost.config.gateway import GatewayConfig
from llmhost.errors import ConfigError, StateError
from llmhost.gateway.observe import Observation
from llmhost.gateway.record import RequestRecord

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from doubles.otlp_receiver import OtlpReceiver

from llmhost.gateway.traces import Traces

CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as server:
        yield server


async def sent(house: House) -> None:
    """Returns when everything was sent."""
    await asyncio.to_thread(house.observation.close)


async def test_a_miss_is_a_span_with_its_steps(serve: Serve, receiver: OtlpReceiver) -> None:
    async with serve(gateway={"traces": receiver.url}) as house:
        answer = await house.chat("What is Redis?", stream=True)
        await sent(house)
    request = receiver.named("chat tiny")
    lookup, engine = receiver.named("lookup"), receiver.named("engine")
    assert {lookup.parent, engine.parent} == {request.id}
    assert (request.parent, {span.trace for span in receiver.spans}) == ("", {request.trace})
    assert request.begin <= lookup.begin < lookup.end <= engine.begin < engine.end <= request.end
    assert request.attributes["llmhost.cache"] == "miss"
    assert request.attributes["llmhost.request_id"] == answer.headers["x-request-id"]
    assert request.attributes["gen_ai.usage.output_tokens"] == 4
    assert engine.attributes["llmhost.worker"] == answer.headers["x-llmhost-worker"]
    assert receiver.service == "llmhost"


async def test_a_semantic_hit_was_verified_and_asked_no_engine(serve: Serve, receiver: OtlpReceiver) -> None:
    async with serve(gateway={"traces": receiver.url}) as house:
        await house.chat("What is Redis?")
        await house.chat("what is redis?")
        await sent(house)
    hit = next(span for span in receiver.spans if span.attributes.get("llmhost.cache") == "semantic")
    assert [span.name for span in receiver.spans if span.parent == hit.id] == ["lookup", "verify"]


async def test_a_client_s_trace_goes_on_to_the_engine(serve: Serve, receiver: OtlpReceiver) -> None:
    async with serve(gateway={"traces": receiver.url}) as house:
        await house.chat(headers={"traceparent": CLIENT, "tracestate": "vendor=1"})
        await sent(house)
        (asked,) = house.engine.requests
    request, engine = receiver.named("chat tiny"), receiver.named("engine")
    assert f"00-{request.trace}-{request.parent}-01" == CLIENT
    assert asked.headers["traceparent"] == f"00-{engine.trace}-{engine.id}-01"
    assert asked.headers["tracestate"] == "vendor=1"


async def test_what_a_client_does_not_sample_is_not_sent(serve: Serve, receiver: OtlpReceiver) -> None:
    async with serve(gateway={"traces": receiver.url}) as house:
        await house.chat(headers={"traceparent": CLIENT[:-1] + "0"})
        await sent(house)
        (asked,) = house.engine.requests
    assert receiver.spans == []
    assert asked.headers["traceparent"].endswith("-00")


@pytest.mark.parametrize("header", ["", "garbage", f"00-{'0' * 32}-{'0' * 16}-01", "ff" + CLIENT[2:]])
async def test_a_header_that_makes_no_sense_begins_a_trace(
    serve: Serve, receiver: OtlpReceiver, header: str
) -> None:
    async with serve(gateway={"traces": receiver.url}) as house:
        assert (await house.chat(headers={"traceparent": header})).status_code == 200
        await sent(house)
    assert receiver.named("chat tiny").parent == ""


async def test_an_error_is_a_failed_span(serve: Serve, receiver: OtlpReceiver) -> None:
    async with serve(gateway={"traces": receiver.url}) as house:
        house.engine.fail(Fault.CLOSES, after=1)
        await house.chat(stream=True)
        await sent(house)
    request = receiver.named("chat tiny")
    assert (request.failed, request.attributes["error.type"]) == (True, "502")


async def test_traces_hold_nothing_that_was_asked_or_answered(serve: Serve, receiver: OtlpReceiver) -> None:
    async with serve(gateway={"traces": receiver.url}) as house:
        await house.chat("A secret question", user="secret-user")
        await house.chat(model="secret-model")
        await house.http.get("/healthz")  # asks no model, so it is no span
        await sent(house)
    assert len([span for span in receiver.spans if not span.parent]) == 2
    assert "secret" not in repr(receiver.spans)
    assert "Wörld" not in repr(receiver.spans)


def test_a_collector_that_is_away_is_warned_of_once() -> None:
    warnings: list[str] = []
    traces = Traces("http://127.0.0.1:9", warnings.append)
    for _ in range(2):
        record = RequestRecord()
        copy_context().run(traces.began, record, {"headers": []})
        record.ends("/v1/chat/completions")
        traces.ended(record)
    traces.close()
    assert len(warnings) == 1
    assert warnings[0].startswith("traces are lost: ")


async def test_without_traces_engines_are_told_nothing(house: House) -> None:
    await house.chat(headers={"traceparent": CLIENT})
    assert "traceparent" not in house.engine.requests[0].headers


def test_without_traces_nothing_of_them_is_imported() -> None:
    code = "import sys, llmhost.gateway.app; print([name for name in sys.modules if 'otlp' in name])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_without_the_extra_the_configuration_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "llmhost.gateway.traces", raising=False)
    with pytest.raises(ConfigError, match="needs the extra `otel`"):
        Observation().configure(GatewayConfig.model_validate({"traces": "http://127.0.0.1:4318"}))


def test_a_configuration_whose_log_cannot_be_written_sends_no_traces_either(tmp_path: Path) -> None:
    def senders() -> int:
        return sum("OtelBatchSpan" in thread.name for thread in threading.enumerate())

    before = senders()
    config = {"traces": "http://127.0.0.1:4318", "log": str(tmp_path / "no" / "log")}
    with pytest.raises(StateError):
        Observation().configure(GatewayConfig.model_validate(config))
    wait_until(lambda: senders() == before)
