"""A rented worker with a gateway of its own: the real scripts, nginx, pip, gateway and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio
import redis
from doubles.vast.containers import RealContainers, command_line
from doubles.vast.rented import Rented
from doubles.waiting import until
from plugins.redis_servers import RedisServer, TlsRedis, start_redis, tls_relay

from llmhost.config.models import Config
from llmhost.engines.engine import ChatRequest, Endpoint, EngineLimits, Message, Sampling
from llmhost.engines.ollama import OllamaEngine
from llmhost.errors import EngineUnavailable
from llmhost.fleet.providers.vast import identity as module
from llmhost.fleet.providers.vast.identity import WorkerGateway
from llmhost.gateway.api_keys import make_key
from llmhost.wiring.worker_gateway import worker_gateway

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

REPOSITORY = Path(__file__).parents[4]
SETUP = Path(module.__file__).with_name("setup_instance.sh")
PASSWORD = "its-own-password"
HOST = "redis.example.com:6380"
QUESTION = "What is the capital of France?"
LIMITS = EngineLimits(5, 20, 20, 60, 10_000, 4096)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout, as pip installs it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def gateway(package: Path, tls: TlsRedis) -> WorkerGateway:
    """What a worker is sent, but for the address of Redis: a worker reaches no loopback address of ours."""
    config = Config.model_validate(
        {
            "fleet": {"provider": "vast", "gateway_on_worker": True, "gateway_package": str(package)},
            "engine": {"kind": "ollama", "model": "tiny"},
            "redis": {
                "url": "rediss://operator:secret@10.0.0.5",
                "ca_file": str(tls.authority),
                "worker_url": f"rediss://llmhost-worker:{PASSWORD}@{HOST}/0",
            },
        }
    )
    made = worker_gateway(config)
    files = {name: text.replace(HOST, f"localhost:{tls.port}") for name, text in made.files().items()}
    return WorkerGateway(made.package, lambda: files)


def chat(text: str) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}]}


def is_there(folder: Path, pattern: str) -> bool:
    return any(folder.glob(pattern))


async def is_asked(worker: Worker) -> bool:
    """Whether a question reaches its gateway."""
    return "x-llmhost-cache" in (await worker.ask()).headers


async def run(script: str) -> int:
    process = await asyncio.create_subprocess_exec("bash", "-c", script)
    return await process.wait()


class Worker(Rented):
    async def ask(self, text: str = "Hello?", **headers: str) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", json=chat(text), headers=headers)

    async def until_serving(self) -> None:
        await self.until_metrics(gateway={"serving": True, "detail": ""})

    @property
    def gateways(self) -> list[psutil.Process]:
        return self.container.processes("bin/llmhost", "serve", "--port")

    @property
    def loop(self) -> psutil.Process:
        """What starts its gateway."""
        parents = {process.parent() for process in self.gateways}
        (parent,) = (parent for parent in parents if parent is not None)
        return parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("redis", numbered=True)
    path = folder / "redis.sock"
    server = start_redis(folder, "--port", "0", "--unixsocket", str(path), socket=path)
    with redis.Redis(unix_socket_path=str(path)) as admin:
        rights = (
            "on",
            f">{PASSWORD}",
            "~cache:*",
            "&cache:*",
            "~llmhost:local:trust",
            "~llmhost:local:weights",
        )
        admin.execute_command("ACL", "SETUSER", "llmhost-worker", *rights, "+@all", "-@dangerous")
    yield server
    server.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tls(server: RedisServer) -> AsyncIterator[TlsRedis]:
    async with tls_relay(server) as relay:
        yield relay


def containers(folder: Path) -> RealContainers:
    """pip takes what the package needs from this environment, as there is no index."""
    (here,) = (path for path in sys.path if path.endswith("site-packages"))
    pip = dict.fromkeys(("PIP_NO_DEPS", "PIP_NO_INDEX", "PIP_IGNORE_INSTALLED"), "1")
    env = {**pip, "PIP_NO_COMPILE": "1", "PYTHONPATH": here, "LLMHOST_PAUSE": "0.5"}
    return RealContainers(folder, env=env)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    tmp_path_factory: pytest.TempPathFactory, wheel: Path, tls: TlsRedis
) -> AsyncIterator[Worker]:
    folder = tmp_path_factory.mktemp("containers")
    async with Worker(containers(folder), gateway=gateway(wheel, tls)) as worker:
        await worker.until_stage("ready")
        home = worker.container.root / "var" / "lib" / "llmhost-gateway"
        # Each takes its time on a busy machine.
        packages = "lib/*/site-packages"
        for made in ("bin/python", f"{packages}/pip", "bin/pip", f"{packages}/llmhost", "installed"):
            await until(functools.partial(is_there, home, made), pause=0.2)
        yield worker


@pytest_asyncio.fixture(loop_scope="module")
async def worker(shared: Worker) -> Worker:
    """Its gateway serves, and its engine answers."""
    shared.container.engine()
    await shared.until_serving()
    return shared


async def test_a_question_that_is_asked_again_is_answered_without_the_engine(worker: Worker) -> None:
    first = await worker.ask(QUESTION)
    worker.container.engine(status=503)
    again = await worker.ask(QUESTION)
    reworded = await worker.ask("Which city is the capital of France?")
    sources = [answer.headers["x-llmhost-cache"] for answer in (first, again, reworded)]
    assert sources == ["miss", "exact", "semantic"]
    assert first.json()["choices"] == again.json()["choices"]
    assert first.headers["x-llmhost-worker"] == "vast-7"


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_each_api_goes_through_the_gateway(worker: Worker, path: str) -> None:
    answer = await worker.client.post(path, json={**chat("What is Redis?"), "max_tokens": 50})
    assert answer.status_code == 200
    assert "x-llmhost-cache" in answer.headers


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_what_llmhost_itself_asks_goes_to_the_engine(worker: Worker, path: str) -> None:
    for _ in range(2):
        answer = await worker.client.post(
            path, json=chat("What is TLS?"), headers={"Cache-Control": "no-cache, no-store"}
        )
        assert "x-llmhost-cache" not in answer.headers


async def test_llmhosts_own_engine_client_is_not_answered_by_the_gateway(worker: Worker) -> None:
    """Not after an answer to the same question is cached, and not as one that follows itself."""
    await worker.client.post("/api/chat", json=chat("Hi"))
    url = str(worker.client.base_url)
    engine = OllamaEngine(Endpoint(url, worker.identity.token, worker.identity.certificate), LIMITS)
    worker.container.engine(status=503)
    with pytest.raises(EngineUnavailable):
        async with aclosing(engine.chat(ChatRequest("tiny", (Message("user", "Hi"),), Sampling()))) as events:
            await anext(events)


async def test_while_the_gateway_is_gone_the_engine_answers_and_then_it_is_back(worker: Worker) -> None:
    loop, gateways = worker.loop, worker.gateways
    os.kill(loop.pid, signal.SIGSTOP)  # it would start another one at once
    try:
        for process in gateways:
            process.kill()
        await until(lambda: all(process.status() == psutil.STATUS_ZOMBIE for process in gateways))
        for path in ("/api/chat", "/api/generate"):
            answer = await worker.client.post(path, json={**chat("Hello?"), "prompt": "Hello?"})
            assert (answer.status_code, answer.headers.get("x-llmhost-cache")) == (200, None)
    finally:
        os.kill(loop.pid, signal.SIGCONT)
    await until(lambda: is_asked(worker), pause=0.2)


async def test_a_gateway_that_cannot_be_installed_is_said_and_the_engine_answers(
    tmp_path: Path, tls: TlsRedis
) -> None:
    package = gateway(Path("/nowhere/llmhost-9.9-py3-none-any.whl"), tls)
    async with Worker(containers(tmp_path), gateway=package) as worker:
        await worker.until_stage("ready")
        assert (await worker.chat()).status_code == 200

        async def reason() -> Any:
            told = (await worker.answer("/llmhost/metrics") or {}).get("gateway", {}).get("detail", "")
            return told if "cannot" in told else None

        await until((worker.container.root / "var/lib/llmhost-gateway/bin/pip").exists, pause=0.2)
        assert (await until(reason, pause=0.2)).startswith("it cannot be installed: ERROR: ")
        assert (await worker.chat()).status_code == 200
        assert "llmhost: no gateway: " in worker.container.printed()


async def test_a_gateway_that_hangs_is_replaced(worker: Worker) -> None:
    hanging = worker.gateways
    for process in hanging:
        process.suspend()
    await until(lambda: not any(process.is_running() for process in hanging), pause=0.2)
    await until(lambda: is_asked(worker), pause=0.2)


async def test_without_redis_it_answers_by_the_engine(worker: Worker, server: RedisServer) -> None:
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        answer = await worker.ask("What is a queue?")
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert answer.status_code == 200
    assert answer.headers["x-llmhost-worker"] == "vast-7"


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/metrics"), ("POST", "/api/show")])
async def test_nothing_else_of_the_gateway_is_reached(worker: Worker, method: str, path: str) -> None:
    assert (await worker.client.request(method, path)).status_code == 403


async def test_it_needs_the_token(worker: Worker) -> None:
    async with worker.connect(None) as stranger:
        assert (await stranger.post("/v1/chat/completions", json=chat("Hello?"))).status_code == 401


async def test_a_key_that_a_client_sends_does_not_reach_it(worker: Worker) -> None:
    key = make_key()[0]
    answer = await worker.client.post(
        "/v1/messages", json={**chat("Hello?"), "max_tokens": 5}, headers={"x-api-key": key}
    )
    assert answer.status_code == 200


async def test_the_password_is_in_no_argument_no_environment_and_no_log(worker: Worker) -> None:
    await worker.ask("A question that is in no log?")
    for process in worker.container.processes():
        with contextlib.suppress(psutil.Error):
            assert PASSWORD not in command_line(process)
            if process.name() != "bash":  # it was started with what was sent
                assert "LLMHOST_GATEWAY_FILES_01" not in process.environ()
    for log in worker.container.files.glob("*.log"):
        assert PASSWORD not in log.read_text()
        assert "in no log" not in log.read_text()
    assert PASSWORD not in worker.container.printed()
    for file in (worker.container.files / "files").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_long_answer_of_it_counts_as_speaking(worker: Worker) -> None:
    """The dead-man switch sees the connection through which it is written."""
    (sees,) = re.findall(r"(grep -qE .* /proc/net/tcp); then", SETUP.read_text())
    port = worker.container.environ["LLMHOST_GATE_PORT"]
    worker.container.engine(fault="HANGS", after=2)
    body = {**chat("Tell me a long story."), "stream": True}
    async with worker.client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["x-llmhost-cache"] == "miss"
        lines = response.aiter_lines()
        await anext(lines)
        seen = [await run(f"port=9 gateway_port={number}; {sees}") for number in (port, "")]
    assert seen == [0, 1]
