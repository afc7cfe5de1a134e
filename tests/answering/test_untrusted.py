"""A question while somebody else answers at the address of a rented worker, through the parts as wired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from doubles.certificates import certify
from doubles.fleet_values import make_worker
from doubles.memory_provider import MemoryCloud, MemoryProvider
from doubles.ollama_server import OllamaServer

from llmhost.answering.question import Question, Reply
from llmhost.config.models import Config
from llmhost.errors import UntrustedWorker
from llmhost.wiring import Wiring

OWN = certify()

Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OllamaServer]:
    """Shows OWN."""
    server = OllamaServer()
    server.tls = OWN.server_context(tmp_path)
    async with server:
        yield server


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def ask(memory_cloud: MemoryCloud, warnings: list[str], refusing_port: int, server: OllamaServer) -> Ask:
    """Asks one question of rented workers at the server, whose certificates on record are these."""

    async def run(*certificates: str) -> Reply:
        memory_cloud.machines = {
            f"vast-{n}": make_worker(
                f"vast-{n}", provider="vast", engine="ollama", url=server.url, token="t", certificate=pem
            )
            for n, pem in enumerate(certificates, start=1)
        }
        config = Config.model_validate(
            {
                "fleet": {"provider": "vast"},
                "engine": {"kind": "ollama", "model": "tiny"},
                "cache": {"enabled": False},
                "redis": {"host": "127.0.0.1", "port": refusing_port},
            }
        )
        async with Wiring(config, warn=warnings.append, note=warnings.append) as wiring:
            wiring.__dict__["provider"] = MemoryProvider(memory_cloud)
            answerer = await wiring.answerer()
            *_, reply = [event async for event in answerer.answer(Question("Say hello.", "tiny", "default"))]
        assert isinstance(reply, Reply)
        return reply

    return run


async def test_the_next_worker_answers_and_the_operator_is_told(
    ask: Ask, server: OllamaServer, warnings: list[str]
) -> None:
    reply = await ask(certify().pem, OWN.pem)
    assert (reply.answer, reply.worker) == ("Hello, Wörld!", "vast-2")
    told = f"{server.url} shows another certificate than its own, so nothing was sent to it"
    assert f"worker vast-1 is not asked until `llmhost up` replaces it: {told}" in warnings


async def test_where_nobody_is_trusted_the_question_fails_as_something_outside(
    ask: Ask, server: OllamaServer
) -> None:
    with pytest.raises(UntrustedWorker, match="another certificate") as caught:
        await ask(certify().pem, certify().pem)
    assert caught.value.exit_code == 5
    assert server.requests == []
