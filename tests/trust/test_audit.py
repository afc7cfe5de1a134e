"""Hits that were served are checked, on a real Redis; only the engines play a part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from doubles.embedders import WordEmbedder
from doubles.scripted_pool import ScriptedEngine, pool_of
from doubles.waiting import LONGEST, until

from llmhost.answering.answerer import Answerer
from llmhost.answering.audits import Audit, AuditQueue
from llmhost.answering.cache_session import WarnOnce
from llmhost.answering.question import Question
from llmhost.cache.calibration import Tally
from llmhost.cache.keys import cache_key
from llmhost.cache.models import Answer
from llmhost.cache.service import SemanticCache
from llmhost.engines.engine import ChatRequest, Done, Message
from llmhost.errors import (
    EngineRefused,
    EngineUnavailable,
    LlmhostError,
    ModelError,
    NoWorkerError,
    StreamBroken,
)
from llmhost.ledger.events import Outcome
from llmhost.ledger.ledger import Ledger
from llmhost.ledger.totals import Totals
from llmhost.store.keys import NamespaceKeys
from llmhost.trust.audit import Audited, Auditor, BackgroundAudits, Finding
from llmhost.trust.labels import Labels

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_700_000_000.0
DONE = Done("stop", prompt_tokens=7, completion_tokens=3)
QUESTION = Question("who painted the last judgment", model="m", tenant="t", system="be brief")
RIGHT, WRONG = "Michelangelo painted it.", "It was painted by Leonardo."
AUDIT = Audit(QUESTION, "entry", "who painted the mona lisa", WRONG, True, 0.93, ("names",), NOW)


class Speaker(ScriptedEngine):
    """Gives one answer after another."""

    def __init__(self, *answers: str, end: Done = DONE) -> None:
        super().__init__()
        self.scripts = [(answer, end) for answer in answers]

    async def chat(self, request: ChatRequest) -> Any:
        self.steps = self.scripts.pop(0)
        async for event in super().chat(request):
            yield event


class Bench:
    """An auditor and what it stands on."""

    def __init__(
        self, client: Redis, cache: SemanticCache, keys: NamespaceKeys, embedder: WordEmbedder
    ) -> None:
        self.client, self.cache, self.keys, self.embedder = client, cache, keys, embedder
        self.queue = AuditQueue(client, "f")
        self.labels = Labels(client, "f", max_error=0.02)
        self.ledger = Ledger(client, "f")
        self.failure: LlmhostError | None = None

    async def run(self, *engines: ScriptedEngine, limit: int = 10) -> list[Finding]:
        async def load() -> WordEmbedder:
            if self.failure is not None:
                raise self.failure
            return self.embedder

        warn_once = WarnOnce(pytest.fail)
        answerer = Answerer(
            pool=lambda: pool_of(*engines),
            slots=1,
            sessions=None,
            ledger=None,
            warn_once=warn_once,
            clock=lambda: NOW,
        )
        auditor = Auditor(
            queue=self.queue,
            ask=answerer.answer,
            cache=self.cache,
            embedder=load,
            labels=self.labels,
            ledger=self.ledger,
            clock=lambda: NOW,
        )
        return list((await auditor.run(limit)).findings)

    async def audit(self, *engines: ScriptedEngine, audit: Audit = AUDIT) -> Finding:
        await self.queue.add(audit)
        (finding,) = await self.run(*engines)
        return finding

    async def tally(self) -> Tally:
        return (await self.labels.report()).total("audit")

    async def totals(self) -> Totals:
        return await self.ledger.totals(NOW - 60, NOW)

    async def metadata(self, entry: str) -> Any:
        return await self.client.hgetall(self.keys.metadata(entry))


@pytest.fixture
def bench(redis_client: Redis, cache: SemanticCache, keys: NamespaceKeys, embedder: WordEmbedder) -> Bench:
    return Bench(redis_client, cache, keys, embedder)


@pytest.mark.parametrize(
    ("answers", "right", "tally"),
    [
        (["Leonardo"], True, Tally(right=1)),
        ([RIGHT, "Michelangelo."], False, Tally(wrong=1)),
        ([RIGHT, WRONG], None, Tally()),
        ([RIGHT, "Raffael."], None, Tally()),
        ([RIGHT, "I cannot say who painted that, as nobody told me."], None, Tally()),
    ],
    ids=["agrees", "contradicts twice", "agrees the second time", "contradicts itself", "cannot say"],
)
async def test_only_an_answer_that_the_engine_contradicts_twice_was_wrong(
    bench: Bench, answers: list[str], right: bool | None, tally: Tally
) -> None:
    engine = Speaker(*answers)
    finding = await bench.audit(engine)
    assert (finding.right, finding.engine_answer, len(engine.requests)) == (right, answers[0], len(answers))
    assert await bench.tally() == tally


async def test_a_wrong_hit_of_a_condensed_question_is_held_against_the_entry_and_not_the_verifier(
    bench: Bench,
) -> None:
    key = cache_key("scope", AUDIT.matched_question)
    await bench.cache.store(key, Answer(WRONG, "m", NOW, 7, 3, "stop", 0.1, 0.0), None)
    question = replace(QUESTION, history=(Message("user", "x"), Message("assistant", "y")))
    audit = replace(AUDIT, entry=key.entry, question=question, condensed=True)
    finding = await bench.audit(Speaker(RIGHT, RIGHT), audit=audit)
    assert finding.right is False
    assert (await bench.metadata(key.entry))[b"rejected"] == b"1"
    assert await bench.tally() == Tally()
    own = question.key()
    assert own is not None
    assert await bench.cache.exact(own) is not None


async def test_a_hit_that_another_verifier_judged_is_no_label(bench: Bench) -> None:
    finding = await bench.audit(Speaker(RIGHT, RIGHT), audit=replace(AUDIT, judged_by="another"))
    assert finding.right is not None
    assert await bench.tally() == Tally()


async def test_the_label_has_the_verifiers_word_and_the_guards_that_doubted(bench: Bench) -> None:
    await bench.audit(Speaker(RIGHT, RIGHT))
    report = await bench.labels.report()
    assert list(report.guards) == ["names"]


async def test_the_engine_is_asked_what_the_user_asked(bench: Bench) -> None:
    engine = Speaker("Leonardo")
    await bench.audit(engine)
    messages = (Message("system", "be brief"), Message("user", QUESTION.prompt))
    assert engine.requests == [ChatRequest("m", messages, QUESTION.sampling)]


@pytest.mark.parametrize(
    ("answers", "field"),
    [(("Leonardo",), b"accepted"), ((RIGHT, RIGHT), b"rejected")],
    ids=["right", "wrong"],
)
async def test_the_entry_that_was_served_counts_it(
    bench: Bench, key: Callable[..., Any], answer: Callable[..., Any], answers: tuple[str], field: bytes
) -> None:
    served = key("who painted the mona lisa")
    await bench.cache.store(served, answer(WRONG), None)
    await bench.audit(Speaker(*answers), audit=replace(AUDIT, entry=served.entry))
    metadata = await bench.metadata(served.entry)
    assert {name: metadata[name] for name in (b"accepted", b"rejected") if name in metadata} == {field: b"1"}


async def test_an_entry_that_is_gone_is_not_brought_back(bench: Bench) -> None:
    await bench.audit(Speaker("Leonardo"))
    assert await bench.metadata("entry") == {}


async def test_after_a_wrong_hit_the_same_question_gets_the_engines_own_answer(bench: Bench) -> None:
    await bench.audit(Speaker(RIGHT, RIGHT))
    stored = await bench.cache.exact(QUESTION.key())
    assert stored is not None
    assert (stored.text, stored.finish_reason, stored.timestamp) == (RIGHT, "stop", NOW)


@pytest.mark.parametrize(
    "engine",
    [Speaker("Leonardo"), Speaker(RIGHT, RIGHT, end=Done("length", 1, 1))],
    ids=["right", "cut off"],
)
async def test_else_nothing_is_stored(bench: Bench, engine: Speaker) -> None:
    await bench.audit(engine)
    assert await bench.cache.exact(QUESTION.key()) is None


async def test_of_an_answer_that_was_cut_off_only_what_there_is_is_compared(bench: Bench) -> None:
    whole = "Leonardo painted it in Florence. Nobody knows for whom, and it hangs in Paris today."
    finding = await bench.audit(
        Speaker(whole[:33], end=Done("length", 1, 1)), audit=replace(AUDIT, answer=whole)
    )
    assert finding.right is True


async def test_an_audit_costs_and_is_no_request(bench: Bench) -> None:
    await bench.audit(Speaker(RIGHT, RIGHT))
    totals = await bench.totals()
    assert (totals.requests, totals.count(Outcome.AUDIT), totals.completion_tokens) == (0, 1, 6)
    assert totals.cost_usd > 0
    assert (totals.hit_ms, totals.miss_ms) == ({}, {})


async def test_a_threshold_that_was_raised_is_told(bench: Bench) -> None:
    changes = [(await bench.audit(Speaker(RIGHT, RIGHT))).change for _ in range(6)]
    assert [change for change in changes if change]


async def test_no_more_are_audited_than_wanted(bench: Bench) -> None:
    for _ in range(3):
        await bench.queue.add(AUDIT)
    assert len(await bench.run(Speaker("Leonardo", "Leonardo"), limit=2)) == 2
    assert await bench.queue.waiting() == 1


async def test_with_nothing_to_audit_no_worker_is_asked(bench: Bench) -> None:
    assert await bench.run() == []


@pytest.mark.parametrize(
    ("engines", "error"),
    [((), NoWorkerError), ((ScriptedEngine(EngineUnavailable("down")),), EngineUnavailable)],
    ids=["no worker", "dead worker"],
)
async def test_without_a_worker_the_audit_waits_on(
    bench: Bench, engines: tuple[ScriptedEngine], error: type[LlmhostError]
) -> None:
    await bench.queue.add(AUDIT)
    with pytest.raises(error):
        await bench.run(*engines)
    assert await bench.queue.take(NOW) == AUDIT


@pytest.mark.parametrize("failure", [StreamBroken("broke"), EngineRefused("no such model")])
async def test_a_question_that_the_engine_cannot_answer_is_given_up(
    bench: Bench, failure: LlmhostError
) -> None:
    finding = await bench.audit(ScriptedEngine("half", failure))
    assert (finding.right, finding.engine_answer) == (None, None)
    assert await bench.queue.waiting() == 0


async def test_without_the_embedding_model_nothing_is_lost(bench: Bench) -> None:
    await bench.queue.add(AUDIT)
    bench.failure = ModelError("missing")
    with pytest.raises(ModelError):
        await bench.run(Speaker("Leonardo"))
    assert await bench.queue.waiting() == 1


async def test_in_a_process_that_goes_on_a_task_works_off_the_queue_when_it_is_woken(bench: Bench) -> None:
    done = asyncio.Event()

    class Once:
        async def run(self, limit: int) -> Audited:
            findings = await bench.run(Speaker("Leonardo"), limit=limit)
            done.set()
            return Audited(findings, 0)

    async def auditor() -> Any:
        return Once()

    await bench.queue.add(AUDIT)
    async with BackgroundAudits(auditor, WarnOnce(pytest.fail)) as audits:
        audits.wake()
        await asyncio.wait_for(done.wait(), LONGEST)
    assert await bench.tally() == Tally(right=1)


@pytest.mark.parametrize("failure", [ModelError("missing"), ZeroDivisionError("missing")])
async def test_audits_that_fail_in_the_background_are_told_and_tried_after_the_next_hit(
    failure: Exception,
) -> None:
    told: list[str] = []
    warned = asyncio.Event()

    def warn(words: str) -> None:
        told.append(words)
        warned.set()

    tries = 0

    async def auditor() -> Auditor:
        nonlocal tries
        tries += 1
        raise failure

    async with BackgroundAudits(auditor, WarnOnce(warn)) as audits:
        audits.wake()
        await asyncio.wait_for(warned.wait(), LONGEST)
        audits.wake()
        await until(lambda: tries == 2)
    assert told == ["hits wait to be audited: missing"]
