"""The grey zone: what the judge's verdict does to a semantic lookup, and what it teaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from plugins.cache import MakeCache

from llmhost.cache.calibration import UNCALIBRATED, Calibration, Label
from llmhost.cache.keys import CacheKey
from llmhost.cache.models import (
    Answer,
    CacheDecision,
    Candidate,
    Judgement,
    Objection,
    SemanticLookup,
    Verdict,
)

STORED, ASKED = "what is a tree", "what is a tall tree"


class GreyPolicy:
    """Leaves every candidate to the judge."""

    def floor(self, threshold: float | None = None) -> float:
        return 0.0

    def decide(
        self,
        question: str,
        candidates: Sequence[Candidate],
        threshold: float | None = None,
        calibration: Calibration = UNCALIBRATED,
    ) -> CacheDecision:
        doubt = Objection("names", "who knows", refuses=False)
        verdict = Verdict(candidates[0], False, "grey", 0.7, 0.6, (doubt,))
        return CacheDecision("judge", candidates[0], 0.7, "grey", (verdict,))


class SureJudge:
    """Says the same about every pair."""

    def __init__(self, judgement: Judgement) -> None:
        self.judgement = judgement
        self.asked: list[tuple[str, str, str]] = []

    async def judge(self, scope: str, question: str, stored: str) -> Judgement:
        self.asked.append((scope, question, stored))
        return self.judgement


@pytest.fixture
def look_up(
    make_cache: MakeCache, key: Callable[..., CacheKey], answer: Callable[..., Answer]
) -> Callable[..., object]:
    async def run(judgement: Judgement) -> tuple[SemanticLookup, list[Label], SureJudge]:
        labels: list[Label] = []

        async def learn(label: Label) -> None:
            labels.append(label)

        judge = SureJudge(judgement)
        cache = make_cache(policy=GreyPolicy(), judge=judge, learn=learn)
        stored = key(STORED)
        await cache.store(stored, answer(), await cache.embed(stored))
        return await cache.semantic(key(ASKED)), labels, judge

    return run


@pytest.mark.parametrize(("same", "served"), [(True, STORED), (False, None), (None, None)])
async def test_the_judge_is_asked_about_both_questions_and_only_a_clear_yes_is_served(
    look_up: Callable[..., Any], key: Callable[..., CacheKey], same: bool | None, served: str | None
) -> None:
    found, _, judge = await look_up(Judgement(same))
    assert (found.served and found.served.question) == served
    assert "the judge" in found.reason
    assert judge.asked == [(key(ASKED).scope, ASKED, STORED)]


@pytest.mark.parametrize("same", [True, False])
async def test_each_verdict_is_a_label(look_up: Callable[..., Any], same: bool) -> None:
    _, labels, _ = await look_up(Judgement(same))
    assert labels == [Label("judge", same, 0.6, ("names",))]


@pytest.mark.parametrize("judgement", [Judgement(None), Judgement(True, remembered=True)], ids=str)
async def test_no_verdict_and_a_remembered_one_teach_nothing(
    look_up: Callable[..., Any], judgement: Judgement
) -> None:
    _, labels, _ = await look_up(judgement)
    assert labels == []
