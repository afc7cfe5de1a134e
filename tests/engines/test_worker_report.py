"""What a rented worker tells at its front door, and what is made of lies and nonsense."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from doubles.certificates import certify
from doubles.engine_limits import LIMITS
from doubles.http_server import HttpServer

from llmhost.engines.engine import Endpoint
from llmhost.engines.wire import BadReply
from llmhost.engines.worker_report import (
    Disk,
    Gpu,
    LoadedModel,
    Metrics,
    WorkerApi,
    WorkerReport,
    read,
)
from llmhost.errors import EngineUnavailable, UntrustedWorker

TOKEN = "a-token-of-the-tests"
OWN = certify()

PULLING = {"stage": "pulling", "fraction": 0.43, "detail": "pulling 8934d96d3f08", "at": 1_700_000_000}
METRICS: dict[str, Any] = {
    "at": 1_700_000_000,
    "engine_version": "0.12.3",
    "gpus": [
        {
            "name": "NVIDIA GeForce RTX 4090",
            "utilisation": 0.35,
            "memory_used_mb": 8123,
            "memory_total_mb": 24564,
            "temperature_c": 61,
        }
    ],
    "disk": {"used_gb": 12.5, "total_gb": 50.0},
    "models": [{"name": "qwen2:7b", "size": 8_000_000_000, "size_vram": 6_000_000_000}],
}


class DoorServer(HttpServer):
    """Answers each path with the bytes in `replies`, and everything else as nginx does."""

    def __init__(self):
        super().__init__(TOKEN)
        self.replies = {}

    def say(self, path, value, status=200):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.replies[path] = (body, status)

    async def answer(self, request, reply):
        body, status = self.replies.get(request.path, (b"<html>404</html>", 404))
        await reply.body(body, status)


@pytest.fixture
async def server(tmp_path):
    server = DoorServer()
    server.tls = OWN.server_context(tmp_path)
    async with server:
        yield server


@pytest.fixture
async def door(server):
    door = WorkerApi(Endpoint(server.url, TOKEN, OWN.pem), LIMITS)
    yield door
    await door.aclose()


async def test_progress_says_how_far_the_set_up_is(server, door):
    server.say("/llmhost/progress", PULLING)
    assert await door.progress() == WorkerReport("pulling", 1_700_000_000.0, 0.43, "pulling 8934d96d3f08")


async def test_metrics_say_what_the_machine_does(server, door):
    server.say("/llmhost/metrics", METRICS)
    assert await door.metrics() == Metrics(
        gpus=(Gpu("NVIDIA GeForce RTX 4090", 0.35, 8123.0, 24564.0, 61.0),),
        disk=Disk(12.5, 50.0),
        engine_version="0.12.3",
        models=(LoadedModel("qwen2:7b", 8_000_000_000, 6_000_000_000),),
        at=1_700_000_000.0,
    )


async def test_metrics_of_a_machine_that_tells_little_are_still_metrics(server, door):
    server.say("/llmhost/metrics", {"at": 1, "gpus": [{"name": "GPU", "utilisation": None}]})
    metrics = await door.metrics()
    assert metrics.gpus == (Gpu("GPU", None, None, None, None),)
    assert (metrics.disk, metrics.models, metrics.engine_version) == (Disk(None, None), (), "")


@pytest.mark.parametrize(("on_gpu", "spilled"), [(0, True), (7_999_999_999, True), (8_000_000_000, False)])
def test_a_model_that_is_not_all_on_the_gpu_has_spilled(on_gpu, spilled):
    model = {"name": "qwen2:7b", "size": 8_000_000_000, "size_vram": on_gpu}
    metrics = read(Metrics, METRICS | {"models": [model]})
    assert metrics.spilled == (metrics.models if spilled else ())


async def test_words_of_a_worker_are_one_clean_line(server, door):
    server.say("/llmhost/progress", PULLING | {"detail": "a\x1b[31m\nb\ud800" + "c" * 10_000})
    detail = (await door.progress()).detail
    assert detail.startswith("a [31m b c")
    assert len(detail) <= 240


@pytest.mark.parametrize(
    "wrong",
    [
        {"stage": "dancing"},
        {"stage": None},
        {"stage": 7},
        {"fraction": 1.5},
        {"fraction": "0.5"},
        {"fraction": True},
        {"fraction": math.nan},
        {"fraction": math.inf},
        {"fraction": 10**400},
        {"detail": ["a"]},
        {"at": None},
        {"at": -1},
        {"at": 1e300},
    ],
)
def test_a_report_that_makes_no_sense_is_not_believed(wrong):
    with pytest.raises(BadReply):
        read(WorkerReport, PULLING | wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": "now"},
        {"gpus": "none"},
        {"gpus": [1]},
        {"gpus": [{"name": 5}]},
        {"gpus": [{"utilisation": 35}]},
        {"gpus": [{"temperature_c": 1e9}]},
        {"gpus": [{"memory_used_mb": -1}]},
        {"gpus": [{}] * 65},
        {"disk": []},
        {"disk": {"used_gb": math.nan}},
        {"models": [{"name": "m"}]},
        {"models": [{"name": "m", "size": 1e30, "size_vram": 0}]},
        {"engine_version": 12},
    ],
)
def test_metrics_that_make_no_sense_are_not_believed(wrong):
    with pytest.raises(BadReply):
        read(Metrics, METRICS | wrong)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{", b"\xff", b"{}", b'{"at": 1e999}', b"[" * 50_000, b"9" * 50_000],
)
async def test_bytes_that_are_no_report_are_a_worker_that_is_unavailable(server, door, body):
    server.say("/llmhost/progress", body)
    server.say("/llmhost/metrics", body)
    for talk in (door.progress(), door.metrics()):
        with pytest.raises(EngineUnavailable) as caught:
            await talk
        assert caught.value.message.startswith(server.url)


async def test_a_report_without_end_is_not_read_to_its_end(server, door):
    server.say("/llmhost/progress", json.dumps(PULLING).encode() + b" " * (64 << 10))
    with pytest.raises(EngineUnavailable, match="more than 65536 bytes"):
        await door.progress()


@pytest.mark.parametrize("status", [302, 400, 403, 404, 413, 422, 429, 500, 502, 503])
async def test_a_front_door_that_does_not_open_yet_is_unavailable(server, door, status):
    server.say("/llmhost/progress", b"<html>no</html>", status)
    with pytest.raises(EngineUnavailable) as caught:
        await door.progress()
    assert type(caught.value) is EngineUnavailable


async def test_a_front_door_that_does_not_know_the_token_is_not_our_workers(server, door):
    server.token = "another token"
    with pytest.raises(UntrustedWorker):
        await door.progress()


async def test_a_front_door_with_another_certificate_is_not_our_workers(server):
    door = WorkerApi(Endpoint(server.url, TOKEN, certify().pem), LIMITS)
    with pytest.raises(UntrustedWorker):
        await door.metrics()
    await door.aclose()
    assert server.requests == []


@pytest.mark.parametrize(
    ("gateway", "fault"),
    [
        (None, None),
        ({"serving": True, "detail": ""}, None),
        ({"serving": False, "detail": "no\nspace"}, "its gateway does not serve: no space"),
        ({"serving": False}, "its gateway does not serve: it does not say why"),
    ],
)
def test_a_gateway_serves_or_it_is_said_why_not(gateway, fault):
    assert read(Metrics, {"at": 1, "gateway": gateway}).gateway_fault == fault


@pytest.mark.parametrize(
    ("switch", "fault"),
    [
        ({"armed": True, "at": 1000}, None),
        ({"armed": False, "at": 1000, "detail": "vast.ai refuses its key"}, "vast.ai refuses its key"),
        ({"armed": False, "at": 1000}, "was not proved yet"),
        ({"armed": True, "at": 500}, "does not watch any more"),
        (None, "not known to be armed"),
    ],
    ids=["armed", "refused", "not yet", "its watch has ended", "a worker that says nothing"],
)
def test_a_dead_man_switch_is_armed_or_it_is_said_why_not(switch, fault):
    found = read(Metrics, {"at": 1001, "switch": switch}).switch_fault
    assert found == fault if fault is None else fault in found
