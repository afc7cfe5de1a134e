"""How the set-up of a rented worker is followed until it is through."""

from __future__ import annotations

from typing import Any

import pytest
from doubles.certificates import certify
from doubles.clock import ManualClock
from doubles.fleet_values import make_worker
from doubles.http_server import HttpServer
from doubles.ollama_server import OllamaServer, Running
from doubles.waiting import until

from llmhost.config.models import Config
from llmhost.engines.engine import Progress
from llmhost.errors import EngineUnavailable, ProviderError, UntrustedWorker
from llmhost.fleet.health import Hooks, probe_worker
from llmhost.fleet.workers import Engines

TOKEN = "a-token-of-the-tests"
OWN = certify()


def report(stage, fraction=None, detail=""):
    return {"stage": stage, "fraction": fraction, "detail": detail, "at": 1_700_000_000}


class SetUpServer(HttpServer):
    """Tells one report after the other; a status instead of one is an error."""

    def __init__(self, *reports):
        super().__init__(TOKEN)
        self.reports = list(reports)

    async def answer(self, request, reply):
        assert (request.method, request.path) == ("GET", "/llmhost/progress")
        said = self.reports.pop(0)
        if isinstance(said, int):
            await reply.body(b"<html>wait</html>", said)
        else:
            await reply.json(said)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def engines(clock):
    rented = {"fleet": {"provider": "vast"}, "engine": {"kind": "ollama", "model": "tiny"}}
    engines = Engines(Config(**rented), clock.sleep)
    yield engines
    await engines.aclose()


@pytest.fixture
async def start(tmp_path):
    """Starts a worker that tells these reports; gives its server and what is known of it."""
    servers = []

    async def begin(*reports):
        server = SetUpServer(*reports)
        server.tls = OWN.server_context(tmp_path)
        servers.append(await server.__aenter__())
        return server, rented(server.url)

    yield begin
    for server in servers:
        await server.__aexit__()


def rented(url, **changes):
    values = {"provider": "vast", "engine": "ollama", "token": TOKEN, "certificate": OWN.pem}
    return make_worker("vast-1", url=url, **{**values, **changes})


async def test_a_worker_is_followed_until_it_is_ready(start, engines, clock):
    _, worker = await start(
        report("installing"),
        report("pulling", 0.43),
        report("pulling", 0.9),
        report("loading"),
        report("ready"),
    )
    steps: list[Any] = []
    await engines.prepare(worker, steps.append)
    assert steps == [
        Progress("installing"),
        Progress("installing"),
        Progress("pulling", 0.43),
        Progress("pulling", 0.9),
        Progress("loading"),
    ]
    assert clock.monotonic() == 4


async def test_a_worker_whose_front_door_is_not_there_yet_is_not_ready_yet(engines, clock, refusing_port):
    steps: list[Any] = []
    with pytest.raises(EngineUnavailable, match="connection refused"):
        await engines.prepare(rented(f"https://127.0.0.1:{refusing_port}"), steps.append)
    assert (steps, clock.monotonic()) == ([Progress("installing")], 1)


async def test_what_was_reached_is_not_undone_by_a_lost_connection(start, engines):
    _, worker = await start(report("pulling", 0.43), 502, report("ready"))
    steps: list[Any] = []
    with pytest.raises(EngineUnavailable):
        await engines.prepare(worker, steps.append)
    await engines.prepare(worker, steps.append)
    assert steps == [Progress("installing"), Progress("pulling", 0.43), Progress("pulling", 0.43)]


async def test_a_set_up_that_failed_is_final_and_says_why(start, engines):
    _, worker = await start(report("failed", detail="no space left on device"))
    with pytest.raises(ProviderError, match="its set-up failed: no space left on device"):
        await engines.prepare(worker, lambda _: None)


async def test_somebody_else_at_its_address_is_told_apart_at_once(start, engines, clock):
    server, worker = await start(report("ready"))
    with pytest.raises(UntrustedWorker):
        await engines.prepare(rented(worker.url, certificate=certify().pem), lambda _: None)
    assert (server.requests, clock.monotonic()) == ([], 0)


async def test_a_front_door_that_refuses_the_workers_token_is_told_apart_at_once(start, engines, clock):
    _, worker = await start(report("ready"))
    with pytest.raises(UntrustedWorker):
        await engines.prepare(rented(worker.url, token="another"), lambda _: None)
    assert clock.monotonic() == 0


@pytest.mark.parametrize("certificate", [None, ""])
async def test_a_rented_worker_of_which_no_certificate_is_known_is_sent_nothing(start, engines, certificate):
    server, worker = await start(report("ready"))
    worker = rented(worker.url, certificate=certificate)
    for talk in (engines.prepare(worker, lambda _: None), engines.probe(worker)):
        with pytest.raises(UntrustedWorker):
            await talk
    assert server.requests == []


async def test_a_rented_worker_is_tried_over_its_own_certificate(engines, tmp_path):
    server = OllamaServer(token=TOKEN)
    server.tls = OWN.server_context(tmp_path)
    async with server:
        await engines.probe(rented(server.url))
        with pytest.raises(UntrustedWorker):
            await engines.probe(rented(server.url, certificate=certify().pem))
    assert sorted(request.path for request in server.requests) == [
        "/api/chat",
        "/api/ps",
        "/api/tags",
        "/api/tags",
    ]


async def test_a_worker_that_is_gone_has_no_connection_any_more(engines, tmp_path):
    server = OllamaServer(token=TOKEN)
    server.tls = OWN.server_context(tmp_path)
    async with server:
        await engines.probe(rented(server.url))
        assert server.open_connections
        await engines.forget_all_but([])
        await until(lambda: not server.open_connections)


async def test_a_worker_that_is_gone_is_forgotten_with_how_far_its_set_up_was(start, engines):
    server, worker = await start(report("pulling", 0.43), 502)
    with pytest.raises(EngineUnavailable):
        await engines.prepare(worker, lambda _: None)
    api = engines.worker_api(worker)
    await engines.forget_all_but([worker])
    assert engines.worker_api(worker) is api
    await engines.forget_all_but([])
    assert engines.worker_api(worker) is not api
    server.reports.append(report("ready"))
    steps: list[Any] = []
    await engines.prepare(worker, steps.append)
    assert steps == [Progress("installing")]


async def test_what_a_worker_serves_is_told_and_so_is_one_that_is_not_what_it_was(tmp_path):
    told, server = [], OllamaServer(token=TOKEN)
    server.tls, server.digests = OWN.server_context(tmp_path), {"tiny:latest": "8934d96d"}

    async def tell(*facts):
        told.append(facts)

    config = Config(fleet={"provider": "vast"}, engine={"kind": "ollama", "model": "tiny"})
    engines = Engines(config, on_served=tell, on_untrusted=tell)
    async with server:
        served = rented(server.url)
        await engines.probe(served)
        with pytest.raises(UntrustedWorker):
            await engines.probe(rented(server.url, certificate=certify().pem))
    await engines.aclose()
    assert told == [(served.model, "8934d96d"), ("vast-1",)]


async def test_a_rented_worker_that_does_not_use_its_gpu_has_failed_although_it_answers(engines, tmp_path):
    server = OllamaServer(token=TOKEN)
    server.tls = OWN.server_context(tmp_path)
    server.running["tiny:latest"] = Running(5_000_000_000, 0)
    async with server:
        result = await probe_worker(rented(server.url), Hooks(engines.prepare, engines.probe))
    assert (result.answered, result.permanent) == (False, True)
    assert "does not use the GPU" in result.error.message


@pytest.mark.parametrize("on_gpu", [1, 5_000_000_000])
async def test_a_rented_worker_that_uses_its_gpu_in_part_is_ready(engines, tmp_path, on_gpu):
    server = OllamaServer(token=TOKEN)
    server.tls = OWN.server_context(tmp_path)
    server.running["tiny:latest"] = Running(5_000_000_000, on_gpu)
    async with server:
        await engines.probe(rented(server.url))


async def test_a_server_of_ones_own_may_work_on_the_cpu():
    async with OllamaServer() as server:
        own = {"provider": "static", "workers": [{"url": server.url}]}
        engines = Engines(Config(fleet=own, engine={"kind": "ollama", "model": "tiny"}))
        server.running["tiny:latest"] = Running(5_000_000_000, 0)
        await engines.probe(make_worker(url=server.url, engine="ollama"))
    await engines.aclose()


async def test_a_worker_of_which_other_words_are_known_keeps_its_client(engines):
    first, second = (
        rented("https://127.0.0.1:1"),
        rented("https://127.0.0.1:1", detail="pulling", stage="running"),
    )
    assert engines.of(first) is engines.of(second)
    assert engines.worker_api(first) is engines.worker_api(second)
