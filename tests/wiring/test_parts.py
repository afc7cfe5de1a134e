"""Questions through the parts as wired: what a process that goes on answering depends on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.certificates import certify
from doubles.chat_server import Fault
from doubles.fleet_values import make_worker
from doubles.memory_provider import MemoryCloud, MemoryProvider
from doubles.ollama_server import OllamaServer
from doubles.waiting import LONGEST

from llmhost.answering.question import Question, Reply
from llmhost.config.models import Config
from llmhost.engines.pool import Pool
from llmhost.errors import UntrustedWorker
from llmhost.store import connections
from llmhost.wiring import Wiring, parts

OWN = certify()
HELLO = Question("Say hello.", "tiny", "default")

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
def wire(
    memory_cloud: MemoryCloud, warnings: list[str], refusing_port: int, server: OllamaServer
) -> Callable[..., Wiring]:
    """The parts over rented workers at the server, whose certificates on record are these."""

    def make(*certificates: str, **sections: Any) -> Wiring:
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
                **sections,
            }
        )
        wiring = Wiring(config, warn=warnings.append, note=warnings.append)
        wiring.__dict__["provider"] = MemoryProvider(memory_cloud)
        return wiring

    return make


async def answered(answerer: Any, question: Question = HELLO) -> Reply:
    *_, reply = [event async for event in answerer.answer(question)]
    assert isinstance(reply, Reply)
    return reply


async def test_a_rented_worker_is_told_to_answer_by_its_engine(
    wire: Callable[..., Wiring], server: OllamaServer
) -> None:
    """A gateway of its own would wait for the answer that this process is about to get from it."""
    async with wire(OWN.pem) as wiring:
        await answered(await wiring.answerer())
    assert {request.headers["cache-control"] for request in server.requests} == {"no-cache, no-store"}


@pytest.mark.parametrize(
    ("sections", "price"),
    [
        ({"vast": {"max_price": 0.72}, "fleet": {"provider": "vast", "budget": {"per_hour": 0.36}}}, 0.36),
        ({"vast": {"max_price": 0.72}}, 0.72),
        ({}, 0.0),
    ],
)
async def test_without_a_worker_its_time_costs_what_one_may_cost(
    wire: Callable[..., Wiring], sections: Any, price: float
) -> None:
    async with wire(**sections) as wiring:
        assert await (await wiring.answerer()).usd_per_second("tiny") == pytest.approx(price / 3600)


async def test_the_next_worker_answers_and_the_operator_is_told(
    wire: Callable[..., Wiring], server: OllamaServer, warnings: list[str]
) -> None:
    async with wire(certify().pem, OWN.pem) as wiring:
        reply = await answered(await wiring.answerer())
    assert (reply.answer.text, reply.worker) == ("Hello, Wörld!", "vast-2")
    told = f"{server.url} shows another certificate than its own, so nothing was sent to it"
    assert f"worker vast-1 is not asked until `llmhost up` replaces it: {told}" in warnings


async def test_where_nobody_is_trusted_the_question_fails_as_something_outside(
    wire: Callable[..., Wiring], server: OllamaServer
) -> None:
    async with wire(certify().pem, certify().pem) as wiring:
        with pytest.raises(UntrustedWorker, match="another certificate") as caught:
            await answered(await wiring.answerer())
    assert caught.value.exit_code == 5
    assert server.requests == []


async def test_an_embedded_redis_that_died_is_started_again_within_the_life_of_one_answerer(
    wire: Callable[..., Wiring], warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PAUSE", 0.0)
    question = Question("Say hello.", "tiny", "default", refresh=True)
    async with wire(OWN.pem, redis={}, cache={"enabled": True, "policy": "threshold"}) as wiring:
        monkeypatch.setattr(wiring.caches, "embedder", no_embedder)
        embedded = wiring.embedded_redis
        assert embedded is not None
        try:
            answerer = await wiring.answerer()
            monkeypatch.setattr(answerer.sessions, "pause", 0.0)
            assert (await answered(answerer, question)).entry is not None
            assert embedded.pid is not None
            os.kill(embedded.pid, signal.SIGKILL)
            during = await answered(answerer, question)
            assert (during.answer.text, during.entry) == ("Hello, Wörld!", None)
            assert (await answered(answerer, question)).entry is not None
            assert (await answered(answerer)).source == "exact"
        finally:
            await embedded.stop()
    assert [words for words in warnings if "the cache is off" in words] != []


async def test_a_redis_that_was_away_at_the_start_is_found_later(
    wire: Callable[..., Wiring], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connections, "_PAUSE", 0.0)
    monkeypatch.setattr(parts, "_REDIS_PAUSE", 0.0)
    program = tmp_path / "no-redis-server"
    sections = {"redis": {"server": str(program)}, "cache": {"enabled": True, "policy": "threshold"}}
    async with wire(OWN.pem, **sections) as wiring:
        monkeypatch.setattr(wiring.caches, "embedder", no_embedder)
        answerer = await wiring.answerer()
        monkeypatch.setattr(answerer.sessions, "away_until", None)
        monkeypatch.setattr(answerer.sessions, "pause", 0.0)
        assert (await answered(answerer)).entry is None
        program.symlink_to(store_program())
        embedded = wiring.embedded_redis
        assert embedded is not None
        try:
            assert (await answered(answerer)).entry is not None
        finally:
            await embedded.stop()


def store_program() -> Path:
    from llmhost.store.embedded import find_program

    return find_program(None)


async def no_embedder() -> None:
    from llmhost.errors import ModelError

    raise ModelError("these tests need no other wordings")


async def test_the_workers_are_read_about_once_a_second_and_not_once_a_question(
    wire: Callable[..., Wiring], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, reads = [100.0], []
    async with wire(OWN.pem) as wiring:
        listed = wiring.provider.list

        async def counted() -> Any:
            reads.append(now[0])
            return await listed()

        monkeypatch.setattr(wiring.provider, "list", counted)
        monkeypatch.setattr(wiring._workers, "_clock", lambda: now[0])
        answerer = await wiring.answerer()
        for _ in range(5):
            await answered(answerer)
        now[0] += 1.0
        await answered(answerer)
    assert reads == [100.0, 101.0]


async def test_the_client_of_a_worker_that_is_gone_is_closed_once_it_is_idle(
    wire: Callable[..., Wiring],
    memory_cloud: MemoryCloud,
    server: OllamaServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.fail(Fault.HANGS, after=1)
    async with wire(OWN.pem, certify().pem) as wiring:
        now = [100.0]
        monkeypatch.setattr(wiring._workers, "_clock", lambda: now[0])
        answerer = await wiring.answerer()
        stream = answerer.answer(HELLO)
        await anext(stream)
        memory_cloud.vanish("vast-1")
        now[0] += 2.0
        with pytest.raises(UntrustedWorker):
            await answered(answerer)
        assert not server.left.is_set(), "closed while it streams"
        await stream.aclose()
        await asyncio.wait_for(server.left.wait(), LONGEST)
        assert wiring.engines._engines.keys() == {
            key for key in wiring.engines._engines if key[1].certificate != OWN.pem
        }


@pytest.mark.parametrize(
    ("asked", "pools"),
    [({}, 0), ({"judge": True}, 1), ({"conversations": "condense"}, 1)],
    ids=["off", "judge", "condenser"],
)
async def test_a_judge_or_condenser_that_is_off_has_no_pool_and_that_of_questions_is_made_when_one_is_needed(
    wire: Callable[..., Wiring], monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], pools: int
) -> None:
    made = []
    make = Pool.__init__

    def counted(self: Pool, *args: Any, **options: Any) -> None:
        made.append(self)
        make(self, *args, **options)

    monkeypatch.setattr(Pool, "__init__", counted)
    async with wire(OWN.pem, cache={"enabled": True, **asked}) as wiring:
        await wiring.answerer()
    assert len(made) == pools
