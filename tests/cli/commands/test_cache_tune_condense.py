"""Can the fleet's model say what a follow-up question asks? What `llmhost cache tune condense FILE` runs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from doubles.http_server import Reply, Request
from doubles.openai_server import OpenAIServer
from plugins.engines import MODEL, TOKEN, LlamaWorker
from plugins.redis_servers import RedisServer

from llmhost.answering.question import Reply as AnswerReply
from llmhost.answering.question import make_question
from llmhost.cli.commands.cache_tune import measure_condenser
from llmhost.cli.frame import Globals
from llmhost.config.models import Config, RedisConfig
from llmhost.engines.engine import Message
from llmhost.errors import NoWorkerError, UsageError
from llmhost.ledger.events import Outcome
from llmhost.store.client import connect
from llmhost.trust.condense import CondenserEvaluationStore
from llmhost.wiring import Wiring
from llmhost.wiring.fleets import fleet_spec

NAMES = [f"Tool {chr(65 + at // 26)}{chr(97 + at % 26)}x" for at in range(80)]


class CondensingServer(OpenAIServer):
    """Puts the name of the first turn in the place of "it"; answers what is no conversation."""

    async def chat(self, request: Request, reply: Reply) -> None:
        lines = request.json["messages"][-1]["content"].splitlines()
        mark, topic = (lines[0], lines[1]) if len(lines) > 1 else ("", "")
        name = topic.partition("What is ")[2].rstrip('?"')
        self.pieces = (f"Who invented {name}?",) if mark == "<turns>" else ("An answer.",)
        await super().chat(request, reply)


@pytest.fixture
async def condensing_server() -> AsyncIterator[CondensingServer]:
    async with CondensingServer(token=TOKEN) as server:
        yield server


def conversations_file(folder: Path) -> Path:
    path = folder / "conversations.jsonl"
    rows = [
        {
            "turns": [f"What is {name}?", "A tool."],
            "last": "Who invented it?",
            "standalone": f"Who invented {name}?",
        }
        for name in NAMES
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configured(redis: RedisServer, url: str, model: str = "tiny", **cache: Any) -> Config:
    """A fleet of one worker that is not up yet."""
    sections: dict[str, Any] = {
        "redis": {"url": f"unix://{redis.socket}"},
        "fleet": {"name": "f", "provider": "static", "workers": [{"url": url, "token": TOKEN}]},
        "engine": {"kind": "openai", "model": model},
    }
    return Config.model_validate({**sections, "cache": cache})


async def fleet_of(redis: RedisServer, url: str, model: str = "tiny", **cache: Any) -> Config:
    """A fleet of one worker that is up."""
    config = configured(redis, url, model, **cache)
    async with Wiring(config, warn=print, note=print) as wiring:
        await wiring.provider.create(fleet_spec(config))
    return config


async def test_a_good_model_is_found_good_and_remembered(
    redis_server: RedisServer,
    condensing_server: CondensingServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = await fleet_of(redis_server, condensing_server.url)
    await measure_condenser(Globals(json=True), made, conversations_file(tmp_path))
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["conversations"], said["condensed"]) == ("tiny", 80, 80)
    assert (said["precision"], said["good_enough"]) == (1, True)
    assert "cache.conversations: condense" in said["verdict"]
    client = connect(RedisConfig(), socket=redis_server.socket)
    found = await CondenserEvaluationStore(client, "f").read("tiny")
    await client.aclose()
    assert found is not None
    assert (found.low, found.disqualification(3.0)) == (said["low"], None)


@pytest.mark.slow
async def test_a_model_that_was_found_good_is_asked_on_the_path_of_questions_and_no_other(
    redis_server: RedisServer, condensing_server: CondensingServer, tmp_path: Path
) -> None:
    made = await fleet_of(redis_server, condensing_server.url, conversations="condense", audit_share=0)
    told: list[str] = []
    async with Wiring(made, warn=told.append, note=told.append) as wiring:
        answerer = await wiring.answerer()

        async def asked(*messages: Message) -> AnswerReply:
            *_, reply = [event async for event in answerer.answer(make_question(made, messages))]
            assert isinstance(reply, AnswerReply)
            return reply

        async def reply(told: str) -> AnswerReply:
            turns = [Message("user", "What is Ampere?"), Message("assistant", told)]
            return await asked(*turns, Message("user", "Who invented it?"))

        assert [(await reply(told)).source for told in ("A unit.", "A name.")] == ["engine", "engine"]
        assert [line for line in told if "follow-up questions are not condensed: tiny: its accuracy" in line]
        await measure_condenser(Globals(quiet=True), made, conversations_file(tmp_path))
        assert (await asked(Message("user", "Who invented Ampere?"))).source == "engine"
        hit = await reply("Of electric current.")
        totals = await (await wiring.ledger()).totals(wiring.now() - 60, wiring.now())
    assert (hit.source, hit.condensed) == ("semantic", "Who invented Ampere?")
    assert (totals.requests, totals.count(Outcome.CONDENSE)) == (4, len(NAMES) + 1)


async def test_people_read_figures_and_a_verdict(
    redis_server: RedisServer,
    openai_server: OpenAIServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    openai_server.pieces = ("It is a tool.",)
    made = await fleet_of(redis_server, openai_server.url, conversations="condense")
    await measure_condenser(Globals(), made, conversations_file(tmp_path), 5)
    shown = capsys.readouterr()
    assert "asking tiny about 5 conversations" in shown.err
    assert "not good enough: it said no question that stands alone in 5 conversations" in shown.out
    assert "follow-up questions are not condensed" in shown.out


async def test_without_a_worker_or_conversations_nothing_is_measured(
    redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, config = Globals(json=True), configured(redis_server, "http://127.0.0.1:9")
    with pytest.raises(NoWorkerError):
        await measure_condenser(options, config, conversations_file(tmp_path))
    (tmp_path / "none.jsonl").write_text('{"a": "x", "b": "y", "same": 1}\n')
    with pytest.raises(UsageError, match="no list"):
        await measure_condenser(options, config, tmp_path / "none.jsonl")
    assert capsys.readouterr().out == ""


@pytest.mark.slow
async def test_the_packaged_model_is_too_small_to_condense(
    redis_server: RedisServer,
    llama_worker: LlamaWorker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = await fleet_of(redis_server, llama_worker.url, MODEL, condense_timeout="60s")
    await measure_condenser(Globals(json=True), made, conversations_file(tmp_path), 2)
    said = json.loads(capsys.readouterr().out)
    assert (said["conversations"], said["good_enough"]) == (2, False)
