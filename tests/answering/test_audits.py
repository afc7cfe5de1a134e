"""Which semantic hits wait to be audited, on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from doubles.scripted_pool import ScriptedEngine, pool_of

from llmhost.answering.answerer import Answerer
from llmhost.answering.audits import Audit, AuditQueue, AuditSampler
from llmhost.answering.cache_session import CacheSessions, WarnOnce
from llmhost.answering.question import Question
from llmhost.cache.models import Objection
from llmhost.cache.policy import Thresholds, VerifiedPolicy
from llmhost.cache.service import SemanticCache
from llmhost.cache.single_flight import SingleFlight
from llmhost.config.fleet import FleetConfig
from llmhost.config.models import Config
from llmhost.engines.engine import Done, Message, Sampling
from llmhost.store.client import connect
from llmhost.store.keys import NamespaceKeys
from llmhost.wiring.questions import drop_audits

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_700_000_000.0
DAY = 86_400
DONE = Done("stop", prompt_tokens=7, completion_tokens=3)
ASKED = Question(prompt="what is artificial intelligence in simple words", model="m", tenant="t")
REWORDED = replace(ASKED, prompt="what is artificial intelligence in plain simple words")
AUDIT = Audit(
    question=replace(
        ASKED,
        system="be brief",
        history=(Message("user", "hi"), Message("assistant", "hello")),
        sampling=Sampling(temperature=0.7, top_p=None, seed=3, max_tokens=9, stop=("\n",)),
    ),
    entry="e",
    matched_question="what is AI",
    answer="an answer",
    whole=True,
    raw=0.93,
    doubts=("numbers",),
    at=NOW,
)
KEY = "llmhost:f:audits"


@pytest.fixture
def queue(redis_client: Redis) -> AuditQueue:
    return AuditQueue(redis_client, "f")


@pytest.fixture
def ask(
    redis_client: Redis, cache: SemanticCache, keys: NamespaceKeys, queue: AuditQueue
) -> Callable[..., Awaitable[None]]:
    """Asks, with audits at this share and chance."""

    async def asked(
        *questions: Question, share: float = 0.02, chance: float = 0.0, cache: SemanticCache = cache
    ) -> None:
        warn_once = WarnOnce(pytest.fail)
        answerer = Answerer(
            pool=lambda: pool_of(ScriptedEngine("an answer", DONE)),
            slots=1,
            sessions=CacheSessions(cache, lambda: SingleFlight(redis_client, keys), warn_once),
            ledger=None,
            warn_once=warn_once,
            audits=lambda: AuditSampler(queue, share, warn_once, lambda: chance),
            clock=lambda: NOW,
        )
        for question in questions:
            async for _ in answerer.answer(question):
                assert await queue.waiting() == 0, "queued before the user was served"

    return asked


async def test_a_semantic_hit_is_queued_with_all_that_is_needed_to_ask_again(
    ask: Any, queue: AuditQueue
) -> None:
    question = replace(REWORDED, system="be brief", history=(Message("user", "hi"),))
    await ask(replace(question, prompt=ASKED.prompt), question)
    audit = await queue.take(NOW)
    assert audit is not None
    assert (audit.question, audit.matched_question) == (question, ASKED.prompt)
    assert (audit.answer, audit.whole, audit.doubts, audit.at) == ("an answer", True, (), NOW)


async def test_with_the_threshold_policy_the_similarity_stands_for_the_confidence(
    ask: Any, queue: AuditQueue
) -> None:
    await ask(ASKED, REWORDED)
    audit = await queue.take(NOW)
    assert audit is not None
    assert audit.raw == pytest.approx(0.935, abs=0.01)


async def test_the_verifiers_own_word_and_the_guards_that_doubted_are_kept(
    ask: Any, queue: AuditQueue, make_cache: Callable[..., SemanticCache]
) -> None:
    doubt = Objection("names", "odd", refuses=False)
    policy = VerifiedPolicy(lambda _a, _b: (doubt,), lambda _a, _b: 0.97, Thresholds(0.9, 0.95, None, 0.8))
    await ask(ASKED, REWORDED, cache=make_cache(policy=policy))
    audit = await queue.take(NOW)
    assert audit is not None
    assert (audit.raw, audit.doubts) == (0.97, ("names",))


@pytest.mark.parametrize(("share", "chance", "waiting"), [(0.02, 0.02, 0), (0.02, 0.999, 0), (1.0, 0.999, 1)])
async def test_a_share_of_the_hits_is_queued(
    ask: Any, queue: AuditQueue, share: float, chance: float, waiting: int
) -> None:
    await ask(ASKED, REWORDED, share=share, chance=chance)
    assert await queue.waiting() == waiting


async def test_misses_exact_hits_and_questions_with_a_threshold_of_their_own_are_never_queued(
    ask: Any, queue: AuditQueue
) -> None:
    await ask(ASKED, ASKED, replace(REWORDED, threshold=0.5), replace(REWORDED, use_cache=False), share=1.0)
    assert await queue.waiting() == 0


async def test_where_redis_will_not_write_the_user_is_told_once_and_nothing_is_raised(
    full_redis: Any, queue: AuditQueue, make_cache: Callable[..., SemanticCache], key: Any, answer: Any
) -> None:
    from llmhost.config.models import RedisConfig

    cache = make_cache()
    vector = await cache.embed(key("what is it"))
    await cache.store(key("what is it"), answer(), vector)
    lookup = await cache.semantic(key("what is it"))
    told: list[str] = []
    client = connect(RedisConfig.model_validate({"host": "127.0.0.1", "port": full_redis.port}))
    sampler = AuditSampler(AuditQueue(client, "f"), 1.0, WarnOnce(told.append), lambda: 0.0)
    for _ in range(2):
        await sampler.served(ASKED, lookup, NOW)
    await client.aclose()
    assert (len(told), sampler.queued) == (1, 0)


async def test_what_is_taken_is_what_was_added_and_nobody_gets_it_again(queue: AuditQueue) -> None:
    await queue.add(AUDIT)
    assert await queue.take(NOW) == AUDIT
    assert await queue.take(NOW) is None


async def test_the_oldest_comes_first(queue: AuditQueue) -> None:
    for entry in "abc":
        await queue.add(replace(AUDIT, entry=entry))
    taken = [await queue.take(NOW) for _ in range(3)]
    assert [audit.entry for audit in taken if audit] == ["a", "b", "c"]


async def test_a_full_queue_drops_the_oldest(queue: AuditQueue, redis_client: Redis) -> None:
    await redis_client.rpush(KEY, *["old"] * 1_000)
    await queue.add(AUDIT)
    assert await queue.waiting() == 1_000
    assert b"an answer" in await redis_client.lindex(KEY, -1)


@pytest.mark.parametrize("age", [DAY, DAY + 1, -DAY])
async def test_an_audit_of_another_day_is_dropped(queue: AuditQueue, age: float) -> None:
    await queue.add(replace(AUDIT, at=NOW - age))
    await queue.add(replace(AUDIT, entry="young"))
    audit = await queue.take(NOW)
    assert audit is not None
    assert audit.entry == "young"


async def test_the_queue_ends_a_day_after_its_last_audit(queue: AuditQueue, redis_client: Redis) -> None:
    await queue.add(AUDIT)
    assert 0 < await redis_client.ttl(KEY) <= DAY


@pytest.mark.parametrize(
    "changes",
    [
        {"raw": 1.5},
        {"raw": "0.9"},
        {"at": None},
        {"entry": 7},
        {"doubts": "numbers"},
        {"question": {}},
        {"answer": ["x"]},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_what_is_no_audit_is_passed_over(
    queue: AuditQueue, redis_client: Redis, changes: dict[str, Any]
) -> None:
    await queue.add(AUDIT)
    stored: Any = await redis_client.lpop(KEY)
    whole = json.loads(stored)
    await redis_client.rpush(KEY, json.dumps(whole | changes), b"\xff{", "[" * 100_000, json.dumps(whole))
    assert await queue.take(NOW) == AUDIT


async def test_text_that_is_no_text_is_passed_over(queue: AuditQueue) -> None:
    await queue.add(replace(AUDIT, answer="half a pair: \ud83d"))
    assert await queue.take(NOW) is None


async def test_of_a_long_answer_the_beginning_is_kept(ask: Any, queue: AuditQueue, cache: Any) -> None:
    key = ASKED.key()
    from llmhost.cache.models import Answer

    long = Answer("x" * 400_000, "m", NOW, 1, 1, "stop", 1.0, 0.0)
    await cache.store(key, long, await cache.embed(key))
    await ask(REWORDED)
    audit = await queue.take(NOW)
    assert audit is not None
    assert (len(audit.answer), audit.whole) == (8_000, False)


async def test_the_hits_of_each_policy_wait_apart(queue: AuditQueue, redis_client: Redis) -> None:
    await AuditQueue(redis_client, "f", "threshold").add(AUDIT)
    assert await queue.take(NOW) is None
    assert await AuditQueue(redis_client, "f", "threshold").take(NOW) == AUDIT


async def test_clearing_the_cache_leaves_no_question_behind(queue: AuditQueue, redis_client: Redis) -> None:
    await queue.add(AUDIT)
    await AuditQueue(redis_client, "f", "threshold").add(AUDIT)
    await drop_audits(Config(fleet=FleetConfig(name="f")), redis_client)
    assert await redis_client.keys("*") == []
