"""A stream through caches that start empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from doubles.embedders import WordEmbedder

from llmhost.cache.embedders.onnx import OnnxEmbedder
from llmhost.cache.keys import cache_key
from llmhost.cache.models import CacheDecision, Candidate
from llmhost.cache.policy import ThresholdPolicy, Thresholds, VerifiedPolicy
from llmhost.config.models import CacheConfig
from llmhost.lab.pairs import Asked
from llmhost.lab.replay import PlayedPolicy, PlayOutcome, PolicyPlayer, Replay, replay
from llmhost.wiring.questions import thresholds, verified_policy

HEIGHT, AGE = Asked("how tall is everest", "height"), Asked("how old is everest", "age")
REWORDED = Asked("how tall is mount everest", "height")


def player(threshold: float = 0.7, candidates: int = 3) -> PolicyPlayer:
    return PolicyPlayer(ThresholdPolicy(threshold), candidates)


def outcomes(asking: PolicyPlayer, *stream: Asked) -> list[PlayOutcome]:
    embed = WordEmbedder().embed
    return [asking.ask(cache_key("", asked.question), asked.about, embed) for asked in stream]


def played(*stream: Asked, threshold: float = 0.7) -> Replay:
    return replay(stream, WordEmbedder().embed, {"threshold": player(threshold)})


def test_the_first_question_goes_to_the_engine_and_the_same_wording_is_an_exact_hit() -> None:
    again = replace(HEIGHT, question="\n how tall is everest \r\n")
    assert outcomes(player(), HEIGHT, again) == [PlayOutcome("engine"), PlayOutcome("exact")]


def test_another_wording_of_the_same_class_is_a_right_semantic_hit_and_is_not_stored() -> None:
    assert outcomes(player(), HEIGHT, REWORDED, REWORDED)[1:] == [PlayOutcome("semantic")] * 2


def test_a_hit_on_another_class_is_a_wrong_one() -> None:
    assert outcomes(player(), HEIGHT, AGE)[1] == PlayOutcome("semantic", wrong=True)
    assert outcomes(player(), HEIGHT, replace(HEIGHT, about="age"))[1] == PlayOutcome("exact", wrong=True)


def test_what_the_policy_refuses_is_stored() -> None:
    found = outcomes(player(0.99), HEIGHT, AGE, AGE)
    assert found == [PlayOutcome("engine"), PlayOutcome("engine"), PlayOutcome("exact")]


def test_what_cannot_be_embedded_is_only_found_exactly() -> None:
    long = Asked("word " * 60, "long")
    assert outcomes(player(), long, replace(long, question="word " * 59), long) == [
        PlayOutcome("engine"),
        PlayOutcome("engine"),
        PlayOutcome("exact"),
    ]


def test_what_would_be_left_to_a_judge_goes_to_the_engine() -> None:
    grey = Thresholds(serve=0.9, doubted=0.95, judge=0.5, floor=0.8)
    judging = PolicyPlayer(VerifiedPolicy(lambda *_: (), lambda *_: 0.7, grey), 3)
    assert outcomes(judging, HEIGHT, REWORDED)[1] == PlayOutcome("engine")


def test_a_policy_sees_normalised_questions_over_its_floor_most_similar_first() -> None:
    class Watching(ThresholdPolicy):
        def decide(self, question: str, candidates: Sequence[Candidate], *_: object) -> CacheDecision:
            shown.append((question, [candidate.question for candidate in candidates]))
            return CacheDecision("miss", None, None, "")

    shown: list[tuple[str, list[str]]] = []
    near = Asked(" how tall is everest today", 1)
    outcomes(PolicyPlayer(Watching(0.8), 2), Asked("bake a cake", 2), AGE, HEIGHT, REWORDED, near)
    assert shown[-1] == ("how tall is everest today", ["how tall is everest", "how tall is mount everest"])


def test_counts_add_up() -> None:
    wrong_exact = replace(HEIGHT, about="another")
    result = played(HEIGHT, HEIGHT, REWORDED, AGE, wrong_exact, Asked("bake a cake", "cake"))
    assert result.policies["threshold"] == PlayedPolicy(
        questions=6,
        exact_hits=2,
        semantic_hits=2,
        wrong_exact_hits=1,
        wrong_semantic_hits=1,
        wrong_hits=2,
        hit_ratio=4 / 6,
        wrong_share_of_hits=0.5,
        explored=0,
    )
    assert played(HEIGHT).policies["threshold"].wrong_share_of_hits is None


def test_points_say_where_it_stood_on_the_way() -> None:
    points = played(HEIGHT, HEIGHT, AGE).points
    shares = [point.policies["threshold"] for point in points]
    assert [point.questions for point in points] == [1, 2, 3]
    assert [share.hit_ratio for share in shares] == [0, 1 / 2, 2 / 3]
    assert [share.wrong_hits for share in shares] == [0, 0, 1]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 1234])
def test_a_long_stream_has_a_hundred_points_at_most_and_one_at_its_end(count: int) -> None:
    points = played(*[HEIGHT] * count).points
    assert len(points) <= 100
    assert points[-1].questions == count


def test_each_player_has_a_cache_of_its_own() -> None:
    players = {"strict": player(0.99), "lax": player(0.5)}
    result = replay((HEIGHT, REWORDED, REWORDED), WordEmbedder().embed, players).policies
    assert (result["strict"].exact_hits, result["lax"].exact_hits) == (1, 0)


def test_each_wording_is_embedded_once_whoever_asks() -> None:
    embedder = WordEmbedder()
    replay((HEIGHT, AGE, AGE, REWORDED), embedder.embed, {"a": player(0.99), "b": player(0.99)})
    assert embedder.calls == 3


def test_progress_is_told() -> None:
    told: list[float] = []
    replay([HEIGHT] * 20, WordEmbedder().embed, {"a": player()}, told.append)
    assert told == [0.5, 1.0]


@pytest.mark.slow
def test_with_the_real_models_opposites_are_not_served(minilm: OnnxEmbedder) -> None:
    config = CacheConfig()
    verified = verified_policy("builtin", thresholds(config), lambda _: None)
    stream = [
        Asked("How do I enable dark mode?", "on"),
        Asked("How do I disable dark mode?", "off"),
        Asked("How do I enable dark mode??", "on"),
    ]
    players = {"verified": PolicyPlayer(verified, 8), "threshold": PolicyPlayer(ThresholdPolicy(0.8), 8)}
    result = replay(stream, minilm.embed, players).policies
    assert (result["verified"].wrong_hits, result["threshold"].wrong_hits) == (0, 1)
