"""The cache on the path of a question."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from doubles.word_embedder import WordEmbedder

from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer
from llmhost.cache.service import SemanticCache

if TYPE_CHECKING:
    from redis.asyncio import Redis

MakeKey = Callable[..., CacheKey]
MakeAnswer = Callable[..., Answer]
QUESTION = "what is artificial intelligence in simple words"
REWORDED = "what is artificial intelligence in plain simple words"


async def put(cache: SemanticCache, key: CacheKey, answer: Answer) -> None:
    await cache.store(key, answer, await cache.embed(key))


async def test_the_same_question_is_an_exact_hit(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    await put(cache, key(QUESTION), answer())
    assert await cache.exact(key(f"  {QUESTION} ")) == answer()


async def test_an_exact_lookup_embeds_nothing(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer, embedder: WordEmbedder
) -> None:
    await put(cache, key(QUESTION), answer())
    embedded = embedder.calls
    await cache.exact(key(QUESTION))
    assert embedder.calls == embedded


async def test_another_wording_is_a_semantic_hit(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    await put(cache, key(QUESTION), answer())
    found = await cache.semantic(key(REWORDED))
    assert found.served is not None
    assert (found.served.question, found.served.answer) == (QUESTION, answer())


async def test_a_different_question_is_a_miss_that_says_why(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    await put(cache, key(QUESTION), answer())
    found = await cache.semantic(key("what is artificial grass in simple colours"))
    assert found.served is None
    assert "below 0.8" in found.reason


async def test_a_question_may_bring_its_own_threshold(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    await put(cache, key(QUESTION), answer())
    assert (await cache.semantic(key(REWORDED), threshold=0.99)).served is None


async def test_another_scope_is_never_served(cache: SemanticCache, key: MakeKey, answer: MakeAnswer) -> None:
    await put(cache, key(QUESTION), answer())
    assert await cache.exact(key(QUESTION, tenant="other")) is None
    assert (await cache.semantic(key(REWORDED, tenant="other"))).served is None


async def test_a_question_that_is_too_long_to_embed_is_served_to_its_own_wording_only(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    long = "word " * 60
    await put(cache, key(long), answer())
    assert await cache.exact(key(long)) == answer()
    assert (await cache.semantic(key(long + "more"))).served is None


async def test_a_changed_embedder_never_meets_old_vectors(
    make_cache: Callable[..., SemanticCache], key: MakeKey, answer: MakeAnswer
) -> None:
    await put(make_cache(), key(QUESTION), answer())
    found = await make_cache(embedder=WordEmbedder("changed")).semantic(key(REWORDED))
    assert found.nearest is None


async def test_another_process_is_served_what_this_one_stored(
    make_cache: Callable[..., SemanticCache], key: MakeKey, answer: MakeAnswer
) -> None:
    reader = make_cache()
    assert (await reader.semantic(key(REWORDED))).served is None
    await put(make_cache(), key(QUESTION), answer())
    assert (await reader.semantic(key(REWORDED))).served is not None


async def test_answer_question_and_counts_have_their_lifetimes(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer, redis_client: Redis
) -> None:
    await put(cache, key(QUESTION), answer())
    entry = key(QUESTION).entry
    lifetimes = {
        kind: round(await redis_client.ttl(f"test:{kind}:{entry}"), -1)
        for kind in ("response", "embedding", "metadata")
    }
    assert lifetimes == {"response": 3600, "embedding": 7200, "metadata": 7200}


async def test_no_cache_key_lives_for_ever(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer, redis_client: Redis
) -> None:
    await put(cache, key(QUESTION), answer())
    await cache.touch(key(QUESTION).entry, 1.0)
    await cache.touch("f" * 32, 1.0)
    names = await redis_client.keys("*")
    assert len(names) == 4
    assert all([await redis_client.pttl(name) > 0 for name in names])


async def test_a_question_whose_answer_has_expired_is_a_miss(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer, redis_client: Redis
) -> None:
    await put(cache, key(QUESTION), answer())
    await redis_client.delete(f"test:response:{key(QUESTION).entry}")
    assert await cache.exact(key(QUESTION)) is None
    assert (await cache.semantic(key(REWORDED))).served is None


async def test_the_next_best_answer_serves_where_the_best_has_expired(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer, redis_client: Redis
) -> None:
    await put(cache, key(QUESTION), answer("gone"))
    await put(cache, key(f"{QUESTION} please"), answer("there"))
    await redis_client.delete(f"test:response:{key(QUESTION).entry}")
    found = await cache.semantic(key(REWORDED))
    assert found.served is not None
    assert found.served.answer.text == "there"


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[1]", b'{"response": 1}'])
async def test_a_damaged_answer_is_a_miss(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer, redis_client: Redis, damage: bytes
) -> None:
    await put(cache, key(QUESTION), answer())
    await redis_client.set(f"test:response:{key(QUESTION).entry}", damage)
    assert await cache.exact(key(QUESTION)) is None
    assert (await cache.semantic(key(REWORDED))).served is None


async def test_a_new_answer_takes_the_old_ones_place(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    await put(cache, key(QUESTION), answer("old"))
    await put(cache, key(QUESTION), answer("new"))
    assert await cache.exact(key(QUESTION)) == answer("new")


async def test_a_hit_is_counted_on_its_entry(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer, redis_client: Redis
) -> None:
    await put(cache, key(QUESTION), answer())
    entry = key(QUESTION).entry
    for now in (5.0, 6.0):
        await cache.touch(entry, now)
    counted = await redis_client.hmget(f"test:metadata:{entry}", "hit_count", "last_accessed")
    assert counted == [b"2", b"6.0"]


async def test_unrelated_questions_are_not_even_looked_at(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    await put(cache, key("bake a cake"), answer())
    assert (await cache.semantic(key(QUESTION))).nearest is None


async def test_a_threshold_below_the_floor_is_still_honoured(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    await put(cache, key("bake a cake"), answer())
    assert (await cache.semantic(key(QUESTION), threshold=-1.0)).served is not None


async def test_many_expired_questions_do_not_hide_one_that_can_be_served(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer, redis_client: Redis
) -> None:
    for number in range(12):
        expired = key(f"{QUESTION} {number}")
        await put(cache, expired, answer("gone"))
        await redis_client.delete(f"test:response:{expired.entry}")
    await put(cache, key(f"{QUESTION} in few"), answer("there"))
    found = await cache.semantic(key(QUESTION))
    assert found.served is not None
    assert found.served.answer.text == "there"
