"""What becomes of pairs: as the cache would have it where `b` is stored and `a` is asked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from doubles.scripted_verifier import DOUBT, REFUSAL, ScriptedGuards, ScriptedVerifier
from doubles.word_embedder import WordEmbedder

from llmhost.cache.calibration import UNCALIBRATED, Calibration
from llmhost.cache.embedders.onnx import OnnxEmbedder
from llmhost.cache.guards import objections
from llmhost.cache.models import Objection
from llmhost.cache.policy import (
    CachePolicy,
    ThresholdPolicy,
    Thresholds,
    VerifiedPolicy,
    threshold_with_doubt,
)
from llmhost.cache.verifiers.load import load_verifier
from llmhost.errors import ModelError
from llmhost.lab.evaluate import PairOutcome, evaluate
from llmhost.lab.pairs import Pair

THRESHOLDS = Thresholds(serve=0.9, doubted=threshold_with_doubt(0.9), judge=None, floor=0.8)


def verified(
    probability: float,
    found: Sequence[Objection] = (),
    stored: str = "red fish two",
    judge: float | None = None,
) -> tuple[VerifiedPolicy, ScriptedVerifier]:
    verifier = ScriptedVerifier({stored: probability})
    thresholds = Thresholds(THRESHOLDS.serve, THRESHOLDS.doubted, judge, THRESHOLDS.floor)
    return VerifiedPolicy(ScriptedGuards({stored: found}), verifier.probability, thresholds), verifier


def outcome_of(
    a: str,
    b: str,
    policy: CachePolicy,
    calibration: Calibration = UNCALIBRATED,
) -> PairOutcome:
    (outcome,) = evaluate([Pair(a, b, True)], WordEmbedder(), policy, calibration)
    return outcome


@pytest.mark.parametrize(("threshold", "accepted"), [(0.66, True), (0.67, False)])
def test_a_threshold_is_compared_with_the_cosine(threshold: float, accepted: bool) -> None:
    outcome = outcome_of("red fish one", "red fish two", ThresholdPolicy(threshold))
    assert outcome.similarity == pytest.approx(2 / 3)
    assert outcome.accepted is accepted


@pytest.mark.parametrize(
    ("probability", "found", "accepted"),
    [(0.91, (), True), (0.89, (), False), (0.91, (DOUBT,), False), (0.97, (DOUBT,), True)],
)
def test_the_verifier_and_guards_that_doubt_have_their_say(
    probability: float, found: Sequence[Objection], accepted: bool
) -> None:
    policy, _ = verified(probability, found)
    assert outcome_of("red fish one", "red fish two", policy).accepted is accepted


def test_where_a_guard_refuses_the_verifier_is_not_asked() -> None:
    policy, verifier = verified(1.0, [REFUSAL])
    outcome = outcome_of("red fish one", "red fish two", policy)
    assert (outcome.accepted, verifier.asked) == (False, [])
    assert outcome.decision.reason == "numbers: one says 5, the other 6"


def test_what_lies_below_the_policys_floor_is_never_shown_to_it() -> None:
    policy, verifier = verified(1.0, stored="blue fish two")
    outcome = outcome_of("red fish one", "blue fish two", policy)
    assert (outcome.accepted, outcome.verdict, verifier.asked) == (False, None, [])


def test_the_same_wording_is_an_exact_hit_and_no_policy_is_asked() -> None:
    policy, verifier = verified(0.0)
    outcome = outcome_of(" red  fish two ", "red fish two", policy)
    assert (outcome.accepted, outcome.exact, outcome.ms, verifier.asked) == (True, True, None, [])


@pytest.mark.parametrize("turned", [False, True])
def test_a_question_that_cannot_be_embedded_is_a_miss(turned: bool) -> None:
    long, short = "word " * 51, "word"
    a, b = (short, long) if turned else (long, short)
    outcome = outcome_of(a, b, ThresholdPolicy(-1))
    assert (outcome.accepted, outcome.unread, outcome.similarity) == (False, True, None)


def test_what_is_left_to_the_judge_is_not_accepted() -> None:
    policy, _ = verified(0.6, judge=0.5)
    outcome = outcome_of("red fish one", "red fish two", policy)
    assert (outcome.decision.action, outcome.accepted) == ("judge", False)


def test_what_labels_have_taught_is_heeded_when_it_is_given() -> None:
    policy, _ = verified(0.85)
    a, b = "red fish one", "red fish two"
    assert [
        outcome_of(a, b, policy, calibration).accepted
        for calibration in (Calibration(), Calibration(shift=1.0))
    ] == [
        False,
        True,
    ]


def test_each_question_is_embedded_once_and_every_pair_has_an_outcome() -> None:
    embedder = WordEmbedder()
    pairs = [Pair("one", "two", True), Pair("two", "three", False), Pair("one", "one", True)]
    found = list(evaluate(pairs, embedder, ThresholdPolicy(0.8)))
    assert [outcome.pair for outcome in found] == pairs
    assert embedder.calls == 3


def test_a_decision_takes_the_time_to_embed_and_to_judge() -> None:
    policy, _ = verified(0.95)
    outcome = outcome_of("red fish one", "red fish two", policy)
    assert outcome.ms is not None
    assert outcome.ms > 0


def test_a_model_that_fails_ends_it() -> None:
    def fail(question: str, stored: str) -> float:
        raise ModelError(f"{question}, {stored}")

    with pytest.raises(ModelError):
        outcome_of("red fish one", "red fish two", VerifiedPolicy(ScriptedGuards(), fail, THRESHOLDS))


def test_with_the_real_guards_and_verifier_a_near_miss_is_refused_and_the_same_wording_taken() -> None:
    policy = VerifiedPolicy(objections, load_verifier("builtin", on_progress=print).probability, THRESHOLDS)
    number = outcome_of("What is 15% of 240?", "What is 25% of 240?", policy)
    case = outcome_of("What is machine learning?", "what is machine learning?", policy)
    assert (number.accepted, [one.guard for one in number.verdict.objections if one.refuses]) == (  # type: ignore[union-attr]
        False,
        ["numbers"],
    )
    assert case.verdict is not None
    assert case.verdict.raw is not None
    assert case.verdict.raw > 0.5


@pytest.mark.slow
def test_ten_pairs_with_the_real_models(minilm: OnnxEmbedder) -> None:
    near = [
        ("How do I enable dark mode?", "How do I disable dark mode?"),
        ("What is 15% of 240?", "What is 25% of 240?"),
        ("How do I convert euros to dollars?", "How do I convert dollars to euros?"),
        ("Who invented the telephone?", "When was the telephone invented?"),
        ("What is the capital of Peru?", "What is the capital of Chile?"),
        ("Is it safe to drink?", "Is it not safe to drink?"),
        ("How do I boil an egg?", "What is quantum physics?"),
    ]
    same = [
        ("How do I boil an egg?", "How do I  boil an egg?"),
        ("What is the boiling point of water?", "what is the boiling point of water?"),
        ("What is the capital of Peru?", "What's the capital of Peru?"),
    ]
    policy = VerifiedPolicy(objections, load_verifier("builtin", on_progress=print).probability, THRESHOLDS)
    pairs = [Pair(a, b, False) for a, b in near] + [Pair(a, b, True) for a, b in same]
    found = list(evaluate(pairs, minilm, policy))
    assert [outcome.accepted for outcome in found[:7]] == [False] * 7
    assert found[7].exact
    similarities = [outcome.similarity for outcome in found if outcome.similarity is not None]
    assert len(similarities) == 9
    assert min(similarities) == similarities[6] < 0.4 < 0.9 < similarities[7]
