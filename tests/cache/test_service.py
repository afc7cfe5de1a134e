"""The cache on the path of a question."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import redis
from doubles.embedders import WordEmbedder
from doubles.scripted_verifier import DOUBT, ScriptedGuards, ScriptedJudge, ScriptedVerifier
from doubles.waiting import wait_until

from llmhost.cache.calibration import Calibration, Label
from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer, Asker, Hit, Judgement, Served
from llmhost.cache.policy import Thresholds, VerifiedPolicy
from llmhost.cache.service import SemanticCache
from llmhost.cache.stored import encode_answer
from llmhost.errors import ModelError, StoreUnavailable
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plugins.redis_servers import RedisServer
    from redis.asyncio import Redis

MakeKey = Callable[..., CacheKey]
MakeCache = Callable[..., SemanticCache]
Put = Callable[..., Awaitable[Answer]]
QUESTION = "what is artificial intelligence in simple words"
REWORDED = "what is artificial intelligence in plain simple words"
THRESHOLDS = Thresholds(serve=0.9, doubted=0.96, judge=None, floor=0.8)


@pytest.fixture
def put(key: MakeKey, answer: Callable[..., Answer]) -> Put:
    async def store(cache: SemanticCache, question: str, text: str = "an answer") -> Answer:
        asked, stored = key(question), answer(text)
        await cache.store(asked, stored, await cache.embed(asked))
        return stored

    return store


async def test_the_same_question_is_an_exact_hit(cache: SemanticCache, key: MakeKey, put: Put) -> None:
    stored = await put(cache, QUESTION)
    assert await cache.exact(key(f"  {QUESTION} ")) == stored


async def test_another_wording_is_a_semantic_hit(cache: SemanticCache, key: MakeKey, put: Put) -> None:
    stored = await put(cache, QUESTION)
    found = await cache.semantic(key(REWORDED))
    assert found.served is not None
    assert (found.served.question, found.served.answer) == (QUESTION, stored)


async def test_a_different_question_is_a_miss_that_says_why(
    cache: SemanticCache, key: MakeKey, put: Put
) -> None:
    await put(cache, QUESTION)
    found = await cache.semantic(key("what is artificial grass in simple colours"))
    assert found.served is None
    assert "< 0.8" in found.reason


async def test_another_scope_is_never_served(cache: SemanticCache, key: MakeKey, put: Put) -> None:
    await put(cache, QUESTION)
    assert await cache.exact(key(QUESTION, tenant="other")) is None
    assert (await cache.semantic(key(REWORDED, tenant="other"))).served is None


async def test_a_question_that_is_too_long_to_embed_is_served_to_its_own_wording_only(
    cache: SemanticCache, key: MakeKey, put: Put
) -> None:
    long = "word " * 60
    stored = await put(cache, long)
    assert await cache.exact(key(long)) == stored
    assert (await cache.semantic(key(long + "more"))).served is None


async def test_an_entry_and_its_counts_have_their_lifetimes(
    cache: SemanticCache, key: MakeKey, put: Put, redis_client: Redis
) -> None:
    await put(cache, QUESTION)
    entry = key(QUESTION).entry
    await cache.touch(Hit(entry, 1.0))
    lifetimes = {
        kind: round(await redis_client.ttl(f"test:{kind}:{entry}"), -1) for kind in ("response", "metadata")
    }
    assert lifetimes == {"response": 3600, "metadata": 7200}


async def test_no_cache_key_lives_for_ever(
    cache: SemanticCache, key: MakeKey, put: Put, redis_client: Redis
) -> None:
    await put(cache, QUESTION)
    verdict = (await cache.semantic(key(REWORDED))).verdict
    assert verdict is not None
    await cache.touch(Hit(key(QUESTION).entry, 1.0, Served(verdict, REWORDED, Asker("local", "t"))))
    await cache.touch(Hit("f" * 32, 1.0))
    names = await redis_client.keys("*")
    assert len(names) == 4
    assert all([await redis_client.pttl(name) > 0 for name in names])


async def test_an_entry_that_has_expired_is_taken_out_of_the_index_by_whoever_meets_it(
    cache: SemanticCache, key: MakeKey, put: Put, redis_client: Redis
) -> None:
    await put(cache, QUESTION)
    _, index = await cache.embedder_source()
    await redis_client.delete(f"test:response:{key(QUESTION).entry}")
    assert (await cache.semantic(key(REWORDED))).nearest is None
    assert list(await index.vectors(key(QUESTION).scope, [key(QUESTION).entry])) == [None]


async def test_what_an_older_llmhost_stored_is_served_to_its_own_and_to_other_wordings(
    cache: SemanticCache, key: MakeKey, answer: Callable[..., Answer], redis_client: Redis
) -> None:
    stored, embedder = key(QUESTION), await cache.embedder_source()
    vector = await cache.embed(stored)
    assert vector is not None
    await embedder[1].add(stored.scope, stored.entry, vector)
    await redis_client.set(f"test:response:{stored.entry}", encode_answer(answer("as it was")))
    older: Any = {"question": QUESTION, "scope": stored.scope, "embedder": embedder[0].id}
    older["vector"] = vector.tobytes()
    await redis_client.hset(f"test:embedding:{stored.entry}", mapping=older)
    exact = await cache.exact(stored)
    served = (await cache.semantic(key(REWORDED))).served
    assert exact is not None
    assert served is not None
    assert (exact.text, served.answer.text, served.question) == ("as it was", "as it was", QUESTION)


async def test_a_question_whose_answer_has_expired_is_a_miss(
    cache: SemanticCache, key: MakeKey, put: Put, redis_client: Redis
) -> None:
    await put(cache, QUESTION)
    await redis_client.delete(f"test:response:{key(QUESTION).entry}")
    assert await cache.exact(key(QUESTION)) is None
    assert (await cache.semantic(key(REWORDED))).served is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[1]", b'{"response": 1}'])
async def test_a_damaged_answer_is_a_miss(
    cache: SemanticCache, key: MakeKey, put: Put, redis_client: Redis, damage: bytes
) -> None:
    await put(cache, QUESTION)
    await redis_client.set(f"test:response:{key(QUESTION).entry}", damage)
    assert await cache.exact(key(QUESTION)) is None
    assert (await cache.semantic(key(REWORDED))).served is None


async def test_a_new_answer_takes_the_old_ones_place(cache: SemanticCache, key: MakeKey, put: Put) -> None:
    await put(cache, QUESTION, "old")
    stored = await put(cache, QUESTION, "new")
    assert await cache.exact(key(QUESTION)) == stored


async def test_a_hit_is_counted_on_its_entry(
    cache: SemanticCache, key: MakeKey, put: Put, redis_client: Redis
) -> None:
    await put(cache, QUESTION)
    entry = key(QUESTION).entry
    for now in (5.0, 6.0):
        await cache.touch(Hit(entry, now))
    counted = await redis_client.hmget(f"test:metadata:{entry}", "hit_count", "last_accessed")
    assert counted == [b"2", b"6.0"]


async def test_hits_that_are_counted_together_are_counted_on_each_entry(
    cache: SemanticCache, key: MakeKey, put: Put, redis_client: Redis
) -> None:
    entries = [key(QUESTION).entry, key("bake a cake").entry]
    await put(cache, QUESTION)
    await put(cache, "bake a cake")
    hits = [Hit(entries[0], 5.0), Hit(entries[1], 6.0), Hit(entries[0], 7.0), Hit("f" * 32, 8.0)]
    await cache.touch(*hits)
    counted = [
        await redis_client.hmget(f"test:metadata:{entry}", "hit_count", "last_accessed") for entry in entries
    ]
    assert counted == [[b"2", b"7.0"], [b"1", b"6.0"]]
    assert not await redis_client.exists(f"test:metadata:{'f' * 32}")


@pytest.mark.parametrize("garbage", [("SET", "x"), ("RPUSH", "x"), ("HSET", "hit_count", "many")])
async def test_what_is_no_count_keeps_no_other_hit_from_being_counted(
    cache: SemanticCache, key: MakeKey, put: Put, redis_client: Redis, garbage: tuple[str, ...]
) -> None:
    entries = [key(QUESTION).entry, key("bake a cake").entry]
    await put(cache, QUESTION)
    await put(cache, "bake a cake")
    command, *value = garbage
    await redis_client.execute_command(command, f"test:metadata:{entries[0]}", *value)
    await cache.touch(*(Hit(entry, 5.0) for entry in entries))
    assert [await redis_client.hget(f"test:metadata:{entry}", "hit_count") for entry in entries] == [b"1"] * 2


async def test_unrelated_questions_are_not_even_looked_at(
    cache: SemanticCache, key: MakeKey, put: Put
) -> None:
    await put(cache, "bake a cake")
    assert (await cache.semantic(key(QUESTION))).nearest is None


async def test_a_threshold_below_the_floor_is_still_honoured(
    cache: SemanticCache, key: MakeKey, put: Put
) -> None:
    await put(cache, "bake a cake")
    assert (await cache.semantic(key(QUESTION), threshold=-1.0)).served is not None


async def test_many_expired_questions_do_not_hide_one_that_can_be_served(
    cache: SemanticCache, key: MakeKey, put: Put, redis_client: Redis
) -> None:
    for number in range(12):
        await put(cache, f"{QUESTION} {number}", "gone")
        await redis_client.delete(f"test:response:{key(f'{QUESTION} {number}').entry}")
    await put(cache, f"{QUESTION} in few", "there")
    found = await cache.semantic(key(QUESTION))
    assert found.served is not None
    assert found.served.answer.text == "there"


# Under the verified policy


def verified(
    verifier: ScriptedVerifier, guards: ScriptedGuards | None = None, **thresholds: float
) -> VerifiedPolicy:
    changed = Thresholds(**({name: getattr(THRESHOLDS, name) for name in THRESHOLDS.__slots__} | thresholds))
    return VerifiedPolicy(guards or ScriptedGuards(), verifier.probability, changed)


@pytest.mark.parametrize(("probability", "served"), [(0.95, True), (0.85, False)])
async def test_the_verifier_decides_whether_another_wording_is_served(
    make_cache: MakeCache, key: MakeKey, put: Put, probability: float, served: bool
) -> None:
    cache = make_cache(policy=verified(ScriptedVerifier({QUESTION: probability})))
    await put(cache, QUESTION)
    found = await cache.semantic(key(REWORDED))
    assert (found.served is not None, found.confidence) == (served, probability)
    assert found.nearest is not None


async def test_unrelated_questions_cost_no_call_of_the_verifier(
    make_cache: MakeCache, key: MakeKey, put: Put
) -> None:
    verifier = ScriptedVerifier(others=1.0)
    cache = make_cache(policy=verified(verifier))
    await put(cache, "what is a cake made of in few words")  # 4 of 8 words: 0.53 is looked at
    await put(cache, "bake a simple cake")
    assert (await cache.semantic(key(QUESTION), threshold=-1.0)).served is not None
    assert verifier.asked == ["what is a cake made of in few words"]


async def test_an_exact_hit_loads_neither_embedder_nor_verifier(
    make_cache: MakeCache, key: MakeKey, put: Put
) -> None:
    async def source() -> object:
        raise AssertionError("loaded")

    stored = await put(make_cache(), QUESTION)
    cache = make_cache(embedder_source=source, policy_source=source)
    assert await cache.exact(key(QUESTION)) == stored


@pytest.mark.parametrize(("calibration", "served"), [(Calibration(), True), (Calibration(raised=1), False)])
async def test_what_the_fleets_labels_have_taught_is_heeded(
    make_cache: MakeCache, key: MakeKey, put: Put, calibration: Calibration, served: bool
) -> None:
    async def taught() -> Calibration:
        return calibration

    cache = make_cache(policy=verified(ScriptedVerifier({QUESTION: 0.92})), calibration=taught)
    await put(cache, QUESTION)
    assert ((await cache.semantic(key(REWORDED))).served is not None) == served


@pytest.mark.parametrize(
    ("judgement", "served", "taught"),
    [
        (Judgement(True), True, [Label("judge", True, 0.7, ("names",))]),
        (Judgement(False), False, [Label("judge", False, 0.7, ("names",))]),
        (Judgement(None), False, []),
        (Judgement(True, remembered=True), True, []),
    ],
    ids=["yes", "no", "no answer", "remembered"],
)
async def test_in_the_grey_zone_the_judge_decides_about_this_scope_and_pair_and_a_new_verdict_is_a_label(
    make_cache: MakeCache, key: MakeKey, put: Put, judgement: Judgement, served: bool, taught: list[Label]
) -> None:
    labels: list[Label] = []

    async def learn(label: Label) -> None:
        labels.append(label)

    judge = ScriptedJudge(judgement)
    policy = verified(ScriptedVerifier({QUESTION: 0.7}), ScriptedGuards({QUESTION: [DOUBT]}), judge=0.5)
    cache = make_cache(policy=policy, judge=judge, learn=learn)
    await put(cache, QUESTION)
    found = await cache.semantic(key(REWORDED))
    assert (found.served is not None, labels) == (served, taught)
    assert judge.asked == [(key(REWORDED).scope, REWORDED, QUESTION)]
    assert "the judge" in found.reason


async def test_where_it_is_sure_the_judge_is_not_asked(make_cache: MakeCache, key: MakeKey, put: Put) -> None:
    judge = ScriptedJudge(Judgement(False))
    cache = make_cache(policy=verified(ScriptedVerifier({QUESTION: 0.95}), judge=0.5), judge=judge)
    await put(cache, QUESTION)
    assert (await cache.semantic(key(REWORDED))).served is not None
    assert judge.asked == []


async def test_a_hit_remembers_how_it_came_about(
    make_cache: MakeCache, key: MakeKey, put: Put, redis_client: Redis
) -> None:
    guards = ScriptedGuards({QUESTION: [DOUBT]})
    cache = make_cache(policy=verified(ScriptedVerifier({QUESTION: 0.97}), guards))
    await put(cache, QUESTION)
    found = await cache.semantic(key(REWORDED))
    await cache.touch(Hit(key(QUESTION).entry, 5.0, Served(found.verdict, REWORDED, Asker("local", "t"))))
    kept = await redis_client.hmget(f"test:metadata:{key(QUESTION).entry}", "served_raw", "served_doubts")
    assert kept == [b"0.97", b"names"]


async def test_redis_is_asked_for_news_before_a_question_is_embedded(
    make_cache: MakeCache, key: MakeKey, put: Put, redis_server: RedisServer
) -> None:
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as other:

        def asked() -> int:
            calls: int = other.info("commandstats")["cmdstat_evalsha"]["calls"]
            return calls

        class Watching(WordEmbedder):
            def embed(self, text: str) -> Any:  # in the event loop, which sends nothing meanwhile
                wait_until(lambda: asked() > before)
                return super().embed(text)

        await put(make_cache(), QUESTION)
        cache = make_cache(embedder=Watching())
        before = asked()
        assert (await cache.semantic(key(REWORDED))).served is not None


@pytest.mark.parametrize("length", [20, 400])
@pytest.mark.parametrize("stored_length", [20, 400])
async def test_long_questions_are_judged_in_a_thread_and_short_ones_here(
    make_cache: MakeCache, key: MakeKey, put: Put, length: int, stored_length: int
) -> None:
    threads = []

    class Noting(ScriptedVerifier):
        def probability(self, question: str, stored: str) -> float:
            threads.append(threading.current_thread() is threading.main_thread())
            return 0.95

    cache = make_cache(policy=verified(Noting()))
    await put(cache, "same words " + "s" * stored_length)
    assert (await cache.semantic(key("same words " + "q" * length))).served is not None
    assert threads == [length == stored_length == 20]


# Where a model cannot be had


Source = Callable[[], Any]


@pytest.mark.parametrize("failing", ["embedder", "policy", "both"])
async def test_where_one_model_cannot_be_had_nothing_goes_on_unwatched(
    redis_client: Redis,
    keys: NamespaceKeys,
    embedder: WordEmbedder,
    make_cache: MakeCache,
    key: MakeKey,
    failing: str,
) -> None:
    ended: list[str] = []
    index = FlatIndex(redis_client, keys, embedder="e", dimensions=embedder.dimensions, lifetime=60.0)

    def source(name: str, made: object, steps: int) -> Source:
        async def load() -> object:
            for _ in range(steps):
                await asyncio.sleep(0)
            ended.append(name)
            if failing in (name, "both"):
                raise ModelError(f"no {name}")
            return made

        return load

    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    verifier = ScriptedVerifier()
    for slower in (1, 3):
        cache = make_cache(
            embedder_source=source("embedder", (embedder, index), slower),
            policy_source=source("policy", verified(verifier), 4 - slower),
        )
        with pytest.raises(ModelError, match="no "):
            await cache.semantic(key(QUESTION))
    assert sorted(ended) == ["embedder", "embedder", "policy", "policy"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    assert (complaints, verifier.asked) == ([], [])


async def test_where_the_labels_cannot_be_read_nothing_goes_on_unwatched(
    make_cache: MakeCache, key: MakeKey
) -> None:
    async def away() -> Calibration:
        raise StoreUnavailable("Redis is away")

    with pytest.raises(StoreUnavailable):
        await make_cache(calibration=away).semantic(key(QUESTION))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_verifier_that_fails_is_an_error_and_serves_nothing(
    make_cache: MakeCache, key: MakeKey, put: Put
) -> None:
    cache = make_cache(policy=verified(ScriptedVerifier(others=ModelError("it failed"))))
    await put(cache, QUESTION)
    with pytest.raises(ModelError, match="it failed"):
        await cache.semantic(key(REWORDED))


async def test_the_models_work_in_the_loop_for_one_question_and_beside_it_for_several(
    make_cache: MakeCache, key: MakeKey, put: Put, embedder: WordEmbedder
) -> None:
    threads: list[threading.Thread] = []
    embed = embedder.embed

    def watched(text: str) -> NDArray[np.float32] | None:
        threads.append(threading.current_thread())
        return embed(text)

    def verify(_question: str, _stored: str) -> float:
        threads.append(threading.current_thread())
        return 0.95

    cache = make_cache(policy=VerifiedPolicy(lambda _a, _b: (), verify, THRESHOLDS))
    await put(cache, QUESTION)
    embedder.embed = watched  # type: ignore[method-assign]
    await cache.semantic(key(REWORDED), alone=True)
    assert threads == [threading.main_thread()] * 2
    await cache.semantic(key(REWORDED), alone=False)
    assert threading.main_thread() not in threads[2:]


async def test_a_slow_verifier_never_works_in_the_loop(make_cache: MakeCache, key: MakeKey, put: Put) -> None:
    threads: list[threading.Thread] = []

    def verify(_question: str, _stored: str) -> float:
        threads.append(threading.current_thread())
        return 0.95

    cache = make_cache(policy=VerifiedPolicy(lambda _a, _b: (), verify, THRESHOLDS, slow=True))
    await put(cache, QUESTION)
    await cache.semantic(key(REWORDED), alone=True)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
