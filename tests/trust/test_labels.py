"""Labels in a real Redis."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import TYPE_CHECKING, Literal

import pytest
from doubles.embedders import WordEmbedder

from llmhost.answering.cache_session import CacheSession, WarnOnce
from llmhost.answering.question import Question
from llmhost.cache.calibration import (
    BANDS,
    Calibration,
    Label,
    LabelSource,
    LabelsReport,
    Tally,
    ThresholdChange,
)
from llmhost.cache.models import Answer, CacheDecision, SemanticLookup
from llmhost.config.fleet import FleetConfig
from llmhost.config.models import CacheConfig, Config, RedisConfig
from llmhost.errors import StoreRefused
from llmhost.store.client import connect
from llmhost.trust.labels import Labels
from llmhost.wiring.questions import CacheParts

if TYPE_CHECKING:
    from plugins.redis_servers import RedisServer
    from redis.asyncio import Redis

NOW = 1_800_000_000.0
KEY = "llmhost:test:trust"


@pytest.fixture
def labels(redis_client: Redis) -> Labels:
    return Labels(redis_client, "test", max_error=0.02)


def audit(right: bool, raw: float = 0.95, *doubts: str) -> Label:
    return Label("audit", right, raw, doubts)


async def record(labels: Labels, *said: Label) -> list[ThresholdChange]:
    """The changes that came of it."""
    changes = [await labels.record(label, NOW) for label in said]
    return [change for change in changes if change is not None]


async def test_a_fleet_without_labels_has_learnt_nothing_and_keeps_nothing(
    labels: Labels, redis_client: Redis
) -> None:
    assert await labels.calibration() == Calibration()
    assert (await labels.report()).total("audit") == Tally()
    assert await redis_client.exists(KEY) == 0


async def test_labels_are_counted_by_source_and_band(labels: Labels) -> None:
    await record(labels, audit(True), audit(False), Label("judge", True, 0.7), Label("forget", False, 0.99))
    report = await labels.report()
    assert report.bands == {
        "audit": {"0.95-0.97": Tally(1, 1)},
        "judge": {"0.7-0.8": Tally(1, 0)},
        "forget": {"0.99-1": Tally(0, 1)},
    }
    assert report.total("audit") == Tally(1, 1)


async def test_audits_are_counted_under_each_guard_that_doubted(labels: Labels) -> None:
    await record(labels, audit(True), audit(False, 0.95, "order", "names"), audit(True, 0.95, "names"))
    guards = (await labels.report()).guards
    assert guards == {"none": Tally(1, 0), "order": Tally(0, 1), "names": Tally(1, 1)}


async def test_whatever_a_label_says_the_counts_stay_few(labels: Labels, redis_client: Redis) -> None:
    await record(labels, *(audit(True, n / 50, f"guard {n}", "x:y:z") for n in range(-50, 100)))
    assert (await labels.report()).guards == {"other": Tally(150, 0)}
    assert await redis_client.hlen(KEY) <= len(BANDS) + 2


async def test_what_was_learnt_never_expires(labels: Labels, redis_client: Redis) -> None:
    await record(labels, audit(True))
    assert await redis_client.ttl(KEY) == -1


async def test_after_a_change_of_the_threshold_its_evidence_is_gathered_anew(labels: Labels) -> None:
    changes = await record(labels, audit(False), audit(False), audit(False))
    assert changes == [
        ThresholdChange(1, "wrong answers in 2 of 2 audits: the threshold is raised to step 1")
    ]
    report = await labels.report()
    assert (report.raised, report.changed, report.since) == (1, NOW, Tally(0, 1))
    assert report.total("audit") == Tally(0, 3)
    assert (await labels.calibration()).raised == 1


async def test_clean_audits_bring_the_threshold_down_again(labels: Labels) -> None:
    await record(labels, audit(False), audit(False))
    changes = await record(labels, *[audit(True)] * 183)
    assert changes == [
        ThresholdChange(0, "wrong answers in none of 183 audits: the threshold is lowered to step 0")
    ]
    assert (await labels.report()).raised == 0


@pytest.mark.parametrize("source", ["judge", "forget"])
async def test_only_audits_move_the_threshold(labels: Labels, source: LabelSource) -> None:
    assert await record(labels, *[Label(source, False, 0.95)] * 20) == []
    report = await labels.report()
    assert (report.raised, report.since) == (0, Tally())


async def test_two_recorders_never_raise_the_threshold_twice_for_one_cause(redis_server: RedisServer) -> None:
    clients = [connect(RedisConfig(), socket=redis_server.socket) for _ in range(2)]
    both = [Labels(client, "test", max_error=0.02) for client in clients]
    await both[0].calibration()
    await both[1].calibration()
    changes = await asyncio.gather(*(both[n % 2].record(audit(False), NOW) for n in range(12)))
    told = [change.raised for change in changes if change is not None]
    report = await both[0].report()
    for client in clients:
        await client.aclose()
    assert report.total("audit") == Tally(0, 12)
    assert sorted(told) == list(range(1, report.raised + 1))
    assert 1 <= report.raised <= 6  # each step takes two wrong answers at least


async def test_reset_forgets_everything_and_says_how_much(labels: Labels, redis_client: Redis) -> None:
    await record(labels, audit(False), audit(False), audit(True, 0.9, "order"), Label("judge", True, 0.7))
    assert await labels.reset() == 4
    assert await redis_client.exists(KEY) == 0
    assert await labels.calibration() == Calibration()
    assert await labels.reset() == 0


COUNTS = ["raised", "since:wrong", "audit:0.95-0.97:wrong", "guard:x:right"]
NO_COUNTS: list[str | bytes] = ["many", "-1", "1e308", "12345678901", "\u0663", "", b"\xff"]


@pytest.mark.parametrize(
    ("field", "value"), [*product(COUNTS, NO_COUNTS), ("raised", "9"), ("changed", "yesterday")]
)
async def test_garbage_is_refused_with_what_to_do(
    labels: Labels, redis_client: Redis, field: str, value: str | bytes
) -> None:
    await redis_client.hset(KEY, field, value)
    with pytest.raises(StoreRefused, match="damaged") as caught:
        await labels.report()
    assert "cache tune reset" in (caught.value.hint or "")
    await labels.reset()
    assert await labels.calibration() == Calibration()


async def test_a_damaged_count_is_not_counted_on(labels: Labels, redis_client: Redis) -> None:
    await redis_client.hset(KEY, "since:wrong", "many")
    with pytest.raises(StoreRefused, match="damaged"):
        await labels.record(audit(False), NOW)
    assert await redis_client.hlen(KEY) == 1


async def test_names_that_nobody_knows_are_left_alone(labels: Labels, redis_client: Redis) -> None:
    await redis_client.hset(KEY, mapping={"audit:0.1-0.2:wrong": 5, "new": "x", "guard:a:b:right": "?"})
    assert await labels.report() == LabelsReport({"audit": {}, "judge": {}, "forget": {}})


async def test_a_key_of_another_program_is_refused(labels: Labels, redis_client: Redis) -> None:
    await redis_client.set(KEY, "x")
    with pytest.raises(StoreRefused):
        await labels.calibration()
    with pytest.raises(StoreRefused):
        await labels.record(audit(True), NOW)


async def test_fleets_learn_apart(redis_client: Redis, labels: Labels) -> None:
    await record(labels, audit(False))
    assert await Labels(redis_client, "other", max_error=0.02).calibration() == Calibration()


class Listening(CacheParts):
    """The cache of a configuration, with an embedder that is there; its policy keeps what it is told."""

    slow = False

    def __init__(self, policy: Literal["verified", "threshold"]) -> None:
        cache = CacheConfig(policy=policy)
        super().__init__(Config(fleet=FleetConfig(name="test"), cache=cache), lambda _words: None)
        self.told: list[Calibration] = []

    async def embedder(self) -> WordEmbedder:
        return WordEmbedder()

    async def policy(self) -> Listening:  # type: ignore[override]
        return self

    def floor(self, _threshold: float | None) -> float:
        return 0.0

    def decide(
        self, _question: str, _found: object, _threshold: float | None, calibration: Calibration
    ) -> CacheDecision:
        self.told.append(calibration)
        return CacheDecision("miss", None, None, "")


async def opened(parts: Listening, client: Redis) -> CacheSession:
    """A question, in a scope that has an entry."""
    sessions = parts.sessions(client, WarnOnce(lambda _words: None))
    stored = await sessions.open(Question("another one", "m", "t"))
    session = await sessions.open(Question("a question", "m", "t"))
    assert stored is not None
    assert session is not None
    answer = Answer("an answer", "m", NOW, 1, 1, "stop", 1.0, 0.0)
    await sessions.cache.store(stored.key, answer, WordEmbedder().embed("another one"))
    return session


async def test_every_question_is_judged_with_what_was_learnt_so_far(
    labels: Labels, redis_client: Redis
) -> None:
    parts = Listening("verified")
    session = await opened(parts, redis_client)
    await session.semantic(None)
    await record(labels, audit(False), audit(False))
    await session.semantic(None)
    assert parts.told == [Calibration(), await labels.calibration()]


async def test_what_cannot_be_read_leaves_identical_questions_only(redis_client: Redis) -> None:
    await redis_client.hset(KEY, "raised", "high")
    said: list[str] = []
    parts = Listening("verified")
    session = await parts.sessions(redis_client, WarnOnce(said.append)).open(Question("a question", "m", "t"))
    assert (await session.semantic(None), parts.told, session.available) == (SemanticLookup(), [], True)
    assert ["damaged" in words for words in said] == [True]


async def test_the_threshold_policy_reads_nothing_of_what_was_learnt(redis_client: Redis) -> None:
    await redis_client.hset(KEY, "raised", "high")
    parts = Listening("threshold")
    session = await opened(parts, redis_client)
    await session.semantic(None)
    assert parts.told == [Calibration()]


async def test_audits_of_the_threshold_policy_teach_the_verified_one_nothing(
    redis_client: Redis, labels: Labels
) -> None:
    parts = Listening("threshold")
    for _ in range(30):
        assert await parts.labels(redis_client).record(audit(False), NOW) is None
    assert (await parts.labels(redis_client).report()).total("audit") == Tally(0, 30)
    assert await labels.calibration() == Calibration()
    assert await labels.reset() == 0
