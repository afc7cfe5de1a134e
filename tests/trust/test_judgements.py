"""What judges have said, and how well they judge, in Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llmhost.cache.keys import pair_id
from llmhost.config.models import Config
from llmhost.store.keys import NamespaceKeys
from llmhost.trust.judge import JudgeEvaluation, JudgeEvaluationStore, Judgements, Trial, evaluation_of
from llmhost.wiring.questions import CacheParts

if TYPE_CHECKING:
    from redis.asyncio import Redis

FOUND = JudgeEvaluation("m", 160, 70, 0.97, 0.91, 0.8, 0.02, 50.0, 90.0, 1_700_000_000.0)


@pytest.fixture
def judgements(redis_client: Redis, keys: NamespaceKeys) -> Judgements:
    return Judgements(redis_client, keys, 3600.0)


@pytest.fixture
def book(redis_client: Redis) -> JudgeEvaluationStore:
    return JudgeEvaluationStore(redis_client, "f")


@pytest.mark.parametrize("same", [True, False])
async def test_a_word_is_kept_for_both_orders_and_for_its_time(
    judgements: Judgements, redis_client: Redis, keys: NamespaceKeys, same: bool
) -> None:
    await judgements.remember("s", "what  is a", "what is b", same)
    assert await judgements.recall("s", "what is b", "what is a ") is same
    (name,) = await redis_client.keys("*")
    assert name.decode() == keys.judged(pair_id("s", "what is a", "what is b"))
    assert 3590_000 < await redis_client.pttl(name) <= 3600_000


@pytest.mark.parametrize(
    "pair", [("t", "a", "b"), ("s", "a", "c"), ("s", "ab", ""), ("s", "A", "b")], ids=str
)
async def test_another_pair_has_no_word(judgements: Judgements, pair: tuple[str, str, str]) -> None:
    await judgements.remember("s", "a", "b", True)
    assert await judgements.recall(*pair) is None


@pytest.mark.parametrize("value", ["", "2", "yes", "1 ", b"\xff"])
async def test_a_word_that_makes_no_sense_is_none(
    judgements: Judgements, redis_client: Redis, keys: NamespaceKeys, value: str | bytes
) -> None:
    await redis_client.set(keys.judged(pair_id("s", "a", "b")), value)
    assert await judgements.recall("s", "a", "b") is None


async def test_clearing_the_cache_forgets_what_the_judge_has_said(
    judgements: Judgements, redis_client: Redis, keys: NamespaceKeys
) -> None:
    config = Config.model_validate({"cache": {"namespace": keys.namespace}})
    await judgements.remember("s", "a", "b", True)
    await CacheParts(config, lambda _note: None).catalog(redis_client).clear()
    assert await judgements.recall("s", "a", "b") is None


async def test_a_measurement_comes_back_as_it_was(book: JudgeEvaluationStore) -> None:
    await book.write(FOUND)
    assert await book.read("m") == FOUND
    await book.write(replace(FOUND, yes=0, precision=None, low=None))
    assert await book.read("m") == replace(FOUND, yes=0, precision=None, low=None)


async def test_a_measurement_holds_for_its_model_alone(book: JudgeEvaluationStore) -> None:
    await book.write(FOUND)
    assert await book.read("another") is None


@pytest.mark.parametrize(
    ("field", "value"), [("low", "nan"), ("low", "inf"), ("pairs", "many"), ("p95_ms", ""), ("at", "-1")]
)
async def test_a_damaged_measurement_is_none(
    book: JudgeEvaluationStore, redis_client: Redis, field: str, value: str
) -> None:
    await book.write(FOUND)
    await redis_client.hset("llmhost:f:judge", field, value)
    assert await book.read("m") is None


async def test_a_measurement_that_lacks_a_field_is_none(
    book: JudgeEvaluationStore, redis_client: Redis
) -> None:
    await book.write(FOUND)
    await redis_client.hdel("llmhost:f:judge", "low")
    assert await book.read("m") is None


# What trials show


def trials(yes_right: int, yes_wrong: int, no: int = 0, silent: int = 0, ms: float = 10.0) -> list[Trial]:
    return [
        *[Trial(True, True, ms)] * yes_right,
        *[Trial(False, True, ms)] * yes_wrong,
        *[Trial(False, False, ms)] * no,
        *[Trial(True, None, ms)] * silent,
    ]


def test_trials_are_summed_up() -> None:
    found = evaluation_of("m", [*trials(6, 2, 1, 1), *trials(0, 0, 10, ms=100.0)], 5.0)
    assert (found.pairs, found.yes, found.precision, found.silent) == (20, 8, 0.75, 0.05)
    assert found.recall == pytest.approx(6 / 7)
    assert (found.p50_ms, found.p95_ms, found.at) == (10.0, 100.0, 5.0)


@pytest.mark.parametrize(
    ("yes_right", "yes_wrong", "good"), [(80, 0, True), (78, 2, True), (77, 3, False), (34, 0, False)]
)
def test_what_is_shown_must_be_more_than_luck(yes_right: int, yes_wrong: int, good: bool) -> None:
    found = evaluation_of("m", trials(yes_right, yes_wrong, 80), 5.0)
    assert (found.disqualification(timeout=3.0) is None) is good


def test_few_words_are_called_few() -> None:
    assert "too few to say" in (evaluation_of("m", trials(20, 0, 20), 5.0).disqualification(3.0) or "")
    assert "too few" not in (evaluation_of("m", trials(60, 20), 5.0).disqualification(3.0) or "")


def test_a_model_that_always_says_no_is_no_judge() -> None:
    assert "never said yes" in (evaluation_of("m", trials(0, 0, 40), 5.0).disqualification(3.0) or "")


def test_a_judge_whose_words_come_too_late_is_none() -> None:
    found = evaluation_of("m", [*trials(80, 0, 72), *trials(0, 0, 0, 8, ms=3001.0)], 5.0)
    assert found.disqualification(timeout=4.0) is None
    assert found.disqualification(timeout=3.0) is None
    worse = evaluation_of("m", [*trials(80, 0, 71), *trials(0, 0, 0, 9, ms=3001.0)], 5.0)
    assert "3 s" in (worse.disqualification(timeout=3.0) or "")
