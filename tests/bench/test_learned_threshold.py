"""The rival that learns a threshold for each stored question."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from doubles.embedders import WordEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.cache.keys import cache_key
from llmhost.lab.replay import Embed, Player, PlayOutcome, Vector

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from learned_threshold import LearnedPlayer, Observations

SIMILARITY = st.floats(0.5, 1.0)


def seen(*observed: tuple[float, bool], times: int = 1) -> Observations:
    made = Observations()
    for _ in range(times):
        for similarity, right in observed:
            made.see(similarity, right)
    return made


def ask(player: Player, question: str, about: str) -> PlayOutcome:
    return player.ask(cache_key("", question), about, WordEmbedder().embed)


def test_nothing_is_served_where_nothing_has_been_seen() -> None:
    assert Observations().serving(1.0, 0.5) == 0


def test_one_observation_is_no_ground_to_serve_much() -> None:
    assert seen((0.9, True)).serving(0.9, 0.02) < 0.05


def test_many_right_ones_are_served_always() -> None:
    assert seen((0.9, True), (0.6, False), times=1000).serving(0.92, 0.02) == 1


def test_many_wrong_ones_are_served_no_more_than_the_error_allows() -> None:
    assert seen((0.9, False), times=100).serving(0.9, 0.02) == pytest.approx(0.02, rel=0.1)


def test_more_observations_allow_more() -> None:
    allowed = [seen((0.9, True), times=times).serving(0.9, 0.02) for times in (1, 10, 100, 1000)]
    assert allowed == sorted(allowed)
    assert allowed[0] < 0.1 < allowed[-1]


def test_more_similar_ones_are_served_sooner() -> None:
    learnt = seen((0.95, True), (0.9, True), (0.75, False), (0.7, False), times=20)
    allowed = [learnt.serving(similarity, 0.05) for similarity in (0.7, 0.8, 0.9, 0.95)]
    assert allowed == sorted(allowed)
    assert allowed[-1] > 5 * allowed[0]


@settings(max_examples=30)
@given(st.lists(st.tuples(SIMILARITY, st.booleans()), max_size=40), SIMILARITY, st.floats(0.001, 0.5))
def test_the_probability_of_serving_is_one_whatever_was_seen(
    observed: list[tuple[float, bool]], similarity: float, max_error: float
) -> None:
    assert 0 <= seen(*observed).serving(similarity, max_error) <= 1


@settings(max_examples=30)
@given(st.lists(st.tuples(SIMILARITY, st.booleans()), min_size=1, max_size=20), SIMILARITY)
def test_a_greater_error_allows_more(observed: list[tuple[float, bool]], similarity: float) -> None:
    learnt = seen(*observed)
    assert learnt.serving(similarity, 0.01) <= learnt.serving(similarity, 0.1)


def test_a_question_that_is_unlike_all_others_is_a_plain_miss() -> None:
    player = LearnedPlayer(0.5)
    ask(player, "how tall is everest", "height")
    assert ask(player, "bake me one cake", "cake") == PlayOutcome("engine")


def test_the_same_wording_is_an_exact_hit() -> None:
    player = LearnedPlayer(0.02)
    ask(player, "how tall is everest", "height")
    assert ask(player, "  how tall is everest ", "height") == PlayOutcome("exact")


def test_the_first_question_that_is_like_a_stored_one_is_explored() -> None:
    player = LearnedPlayer(0.5)
    ask(player, "how tall is everest", "height")
    assert ask(player, "how tall is mount everest", "height") == PlayOutcome("engine", explored=True)
    assert ask(player, "how tall is mount everest", "height") == PlayOutcome("exact")


def towards(similarity: float, axis: int) -> Embed:
    """A question in a plane of its own through the first one, so that none is nearer to it than that one."""

    def embed(_: str) -> Vector:
        vector = np.zeros(1001, dtype=np.float32)
        vector[0], vector[axis] = similarity, math.sqrt(1 - similarity**2)
        return vector

    return embed


def test_over_a_long_stream_the_error_stays_within_what_is_allowed() -> None:
    dice, player = random.Random(1), LearnedPlayer(0.05)
    player.ask(cache_key("", "the first"), "right", towards(1.0, 1))
    outcomes = []
    for number in range(1, 1001):
        similarity = dice.uniform(0.7, 1.0)
        about = "right" if similarity > 0.85 else f"other {number}"
        outcomes.append(player.ask(cache_key("", str(number)), about, towards(similarity, number)))
    assert sum(outcome.wrong for outcome in outcomes) / len(outcomes) <= 0.05
    assert sum(outcome.source == "semantic" for outcome in outcomes) > 250


def test_the_same_stream_is_played_the_same_way_each_time() -> None:
    def play() -> list[PlayOutcome]:
        player = LearnedPlayer(0.4)
        words = ("big", "old", "new", "red", "odd", "wet", "hot", "far")
        return [ask(player, f"how tall is the {a} {b} hill", a) for a in words for b in words]

    assert play() == play()
