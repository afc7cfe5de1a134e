"""An operator's verdicts on semantic hits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from llmhost.cache.calibration import Tally
from llmhost.cache.catalog import Catalog
from llmhost.cache.contracts import Index
from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer, Asker, Candidate, Hit, Served, Verdict
from llmhost.cache.service import SemanticCache
from llmhost.store.keys import NamespaceKeys
from llmhost.trust.labels import Labels
from llmhost.trust.review import Review, Reviewed

if TYPE_CHECKING:
    from plugins.cache import MakeIndex
    from redis.asyncio import Redis

NOW = 1_800_000_000.0
ASKER = Asker("test", "acme")

Serve = Callable[..., Awaitable[str]]


@pytest.fixture
def review(redis_client: Redis, keys: NamespaceKeys, make_index: MakeIndex) -> Review:
    async def index(embedder: str, dimensions: int) -> Index:
        return make_index(redis_client, keys, embedder=embedder, dimensions=dimensions, lifetime=60.0)

    labels = Labels(redis_client, "test", max_error=0.02)
    return Review(Catalog(redis_client, keys, index), labels)


@pytest.fixture
def served(cache: SemanticCache, key: Callable[[str], CacheKey], answer: Callable[..., Answer]) -> Serve:
    """Stores a question and serves its answer to another wording; gives the entry."""

    async def serve(question: str, at: float = NOW, raw: float | None = 0.93, asker: Asker = ASKER) -> str:
        stored = key(question)
        await cache.store(stored, answer(), await cache.embed(stored))
        verdict = Verdict(Candidate(stored.entry, question, 0.9, answer()), True, "", raw=raw)
        await cache.touch(Hit(stored.entry, at, Served(verdict, f"{question}?", asker)))
        return stored.entry

    return serve


async def test_the_newest_hits_come_first_with_both_wordings(review: Review, served: Serve) -> None:
    for number in range(3):
        await served(f"question {number}", NOW + number)
    hits = [(hit.asked, hit.entry.question, hit.at) for hit in await review.recent(ASKER, 2)]
    assert hits == [
        ("question 2?", "question 2", NOW + 2),
        ("question 1?", "question 1", NOW + 1),
    ]


async def test_an_entry_that_was_forgotten_or_stored_anew_is_listed_no_more(
    review: Review,
    served: Serve,
    cache: SemanticCache,
    key: Callable[[str], CacheKey],
    answer: Callable[..., Answer],
) -> None:
    await served("gone")
    await served("renewed")
    for hit in await review.recent(ASKER, 9):
        if hit.entry.question == "gone":
            await review.catalog.forget(hit.entry)
    await cache.store(key("renewed"), answer(), None)
    assert await review.recent(ASKER, 9) == []


async def test_the_list_keeps_a_hundred_entries(review: Review, served: Serve) -> None:
    for number in range(103):
        await served(f"question {number}", NOW + number)
    hits = await review.recent(ASKER, 1000)
    assert (len(hits), hits[-1].asked) == (100, "question 3?")


async def test_each_asker_has_a_list(review: Review, served: Serve) -> None:
    askers = [ASKER, Asker("test", "acme", "ann"), Asker("test", "other"), Asker("blue", "acme")]
    for number, asker in enumerate(askers):
        await served(f"question {number}", asker=asker)
    listed = [[hit.entry.question for hit in await review.recent(asker, 9)] for asker in askers]
    assert listed == [["question 0"], ["question 1"], ["question 2"], ["question 3"]]


@pytest.mark.parametrize("same", [True, False])
async def test_without_a_verifier_there_is_nothing_to_learn(
    review: Review, served: Serve, same: bool
) -> None:
    entry = await served("question", raw=None)
    assert await review.label(ASKER, entry, NOW, same=same, now=NOW) == Reviewed(False, not same)
    assert (await review.labels.report()).total("forget") == Tally()


async def test_a_verdict_teaches_as_the_operators_and_is_no_part_of_the_served_error(
    review: Review, served: Serve
) -> None:
    for number, same in enumerate((True, True, False)):
        entry = await served(f"question {number}")
        assert await review.label(ASKER, entry, NOW, same=same, now=NOW) == Reviewed(True, not same)
    report = await review.labels.report()
    assert (report.total("forget"), report.total("audit")) == (Tally(right=2, wrong=1), Tally())
    assert len(await review.catalog.entries()) == 2
