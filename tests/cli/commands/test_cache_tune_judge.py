"""Is the fleet's model good enough to judge? What `llmhost cache tune judge FILE` runs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from doubles.http_server import Reply, Request
from doubles.openai_server import OpenAIServer
from plugins.engines import MODEL, TOKEN, LlamaWorker
from plugins.redis_servers import RedisServer

from llmhost.answering.question import Question
from llmhost.answering.question import Reply as AnswerReply
from llmhost.cli.commands.cache_tune import measure_judge
from llmhost.cli.frame import Globals
from llmhost.config.models import Config, RedisConfig
from llmhost.engines.engine import Sampling
from llmhost.errors import NoWorkerError, UsageError
from llmhost.lab.evaluate import balanced
from llmhost.lab.pairs import Pair
from llmhost.ledger.events import Outcome
from llmhost.store.client import connect
from llmhost.trust.judge import JudgeEvaluationStore
from llmhost.wiring import Wiring
from llmhost.wiring.fleets import fleet_spec

PAIRS = [
    *[(f"What is part {n} for?", f"What does part {n} do?", True) for n in range(40)],
    *[(f"What is part {n} for?", f"What is part {n + 1} for?", False) for n in range(40)],
]


class JudgingServer(OpenAIServer):
    """Says YES where both questions name one number, as those of `PAIRS` do that ask the same; answers what
    is no pair.
    """

    async def chat(self, request: Request, reply: Reply) -> None:
        mark, *lines = request.json["messages"][-1]["content"].splitlines()
        if mark == "<pair>":
            numbers = {"".join(filter(str.isdigit, json.loads(line))) for line in lines[:2]}
            self.pieces = ("YES" if len(numbers) == 1 else "NO",)
        else:
            self.pieces = ("an answer",)
        await super().chat(request, reply)


@pytest.fixture
async def judging_server() -> AsyncIterator[JudgingServer]:
    async with JudgingServer(token=TOKEN) as server:
        yield server


def pairs_file(folder: Path, pairs: Iterable[tuple[str, str, bool]] = PAIRS) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps({"a": a, "b": b, "same": int(same)}) + "\n" for a, b, same in pairs))
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


async def test_a_good_judge_is_found_good_and_remembered(
    redis_server: RedisServer,
    judging_server: JudgingServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = await fleet_of(redis_server, judging_server.url)
    await measure_judge(Globals(json=True), made, pairs_file(tmp_path))
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["pairs"], said["yes"], said["silent"]) == ("tiny", 80, 40, 0)
    assert (said["precision"], said["recall"], said["good_enough"]) == (1, 1, True)
    assert "cache.judge: true" in said["verdict"]
    client = connect(RedisConfig(), socket=redis_server.socket)
    found = await JudgeEvaluationStore(client, "f").read("tiny")
    await client.aclose()
    assert found is not None
    assert (found.low, found.disqualification(3.0)) == (said["low"], None)


@pytest.mark.slow
async def test_the_cache_asks_a_judge_that_was_found_good_and_no_other(
    redis_server: RedisServer, judging_server: JudgingServer, tmp_path: Path
) -> None:
    made = await fleet_of(
        redis_server, judging_server.url, judge=True, judge_from=0, confidence=0.999, audit_share=0
    )
    told: list[str] = []
    async with Wiring(made, warn=told.append, note=told.append) as wiring:
        answerer = await wiring.answerer()

        async def source(question: str) -> str:
            asked = Question(question, "tiny", "t", sampling=Sampling())
            *_, reply = [event async for event in answerer.answer(asked)]
            assert isinstance(reply, AnswerReply)
            return reply.source

        first = [await source(f"What is part 7 {word}?") for word in ("for", "good for")]
        assert first == ["engine", "engine"]
        assert [line for line in told if "the judge stays off: tiny: its accuracy as a judge" in line]
        await measure_judge(Globals(quiet=True), made, pairs_file(tmp_path))
        assert await source("What is part 7 there for?") == "semantic"
        totals = await (await wiring.ledger()).totals(wiring.now() - 60, wiring.now())
        labels = await wiring.caches.labels(await wiring.redis()).report()
    assert (totals.requests, totals.count(Outcome.JUDGE)) == (3, len(PAIRS) + 1)
    assert labels.total("judge").right == 1


async def test_people_read_figures_and_a_verdict(
    redis_server: RedisServer,
    openai_server: OpenAIServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    openai_server.pieces = ("YES",)
    made = await fleet_of(redis_server, openai_server.url, judge=True)
    await measure_judge(Globals(), made, pairs_file(tmp_path), 20)
    shown = capsys.readouterr()
    assert "asking tiny about 20 pairs" in shown.err
    assert "yes was right        50 %, at least" in shown.out
    assert "not good enough to judge: too few to say: of its 20 yes verdicts 50.0 % were right" in shown.out
    assert "the judge stays off" in shown.out


async def test_without_a_worker_or_pairs_of_both_kinds_nothing_is_measured(
    redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, config = Globals(json=True), configured(redis_server, "http://127.0.0.1:9")
    with pytest.raises(NoWorkerError):
        await measure_judge(options, config, pairs_file(tmp_path))
    with pytest.raises(UsageError, match="both kinds"):
        await measure_judge(options, config, pairs_file(tmp_path, [("a b", "b a", True)] * 4))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("limit", "each"), [(40, 20), (7, 3), (1, 0), (1000, 40)])
def test_as_many_pairs_ask_the_same_as_do_not_and_they_are_the_same_ones_each_time(
    limit: int, each: int
) -> None:
    pairs = [Pair(*pair) for pair in [*PAIRS, ("x y", "z", True)]]
    chosen = balanced(pairs, limit)
    assert [sum(pair.same is same for pair in chosen) for same in (True, False)] == [each, each]
    assert chosen == balanced(pairs, limit)


@pytest.mark.slow
async def test_the_packaged_model_is_too_small_to_judge(
    redis_server: RedisServer,
    llama_worker: LlamaWorker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = await fleet_of(redis_server, llama_worker.url, MODEL, judge_timeout="60s")
    await measure_judge(Globals(json=True), made, pairs_file(tmp_path), 4)
    said = json.loads(capsys.readouterr().out)
    assert (said["pairs"], said["good_enough"]) == (4, False)
    assert (said["precision"], said["recall"]) != (1, 1)
