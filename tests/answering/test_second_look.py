"""What the words of a question and its vector say of its kind, with the packaged weights and embedder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.answering.admission import PLAIN, admit
from llmhost.answering.second_look import KINDS, SecondLook, features, load_second_look
from llmhost.cache.contracts import Embedder
from llmhost.cache.embedders.load import load_embedder
from llmhost.config.models import CacheConfig


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder(CacheConfig().embedder, on_progress=lambda _: None)


def test_it_was_learnt_with_the_vectors_of_the_packaged_embedder(embedder: Embedder) -> None:
    assert load_second_look().embedder == embedder.id


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Does the lift run", "changing"),
        ("Cut a hotfix release", "acting"),
        ("Swap shifts between Ann and Joe", "acting"),
        ("Who am I meeting", "personal"),
    ],
)
def test_what_no_rule_knows_is_of_the_kind_that_it_is_like(embedder: Embedder, text: str, kind: str) -> None:
    vector = embedder.embed(text)
    assert vector is not None
    assert (admit(text), load_second_look().admit(text, vector).kind) == (PLAIN, kind)


@pytest.mark.parametrize(
    "text",
    [
        "What is machine learning?",
        "How do I reboot a server?",
        "Why do cats purr?",
        "What was the weather like in 1815?",
        "Explain how photosynthesis works.",
        "Difference between TCP and UDP",
        "photosynthesis",
        "Hello",
        "Wie heißt die Hauptstadt von Peru?",
        'Return JSON: {"a": 1}',
    ],
)
def test_what_anybody_may_be_told_stays_plain(embedder: Embedder, text: str) -> None:
    vector = embedder.embed(text)
    assert vector is not None
    assert admit(text).kind == load_second_look().admit(text, vector).kind == "plain"


def test_the_words_that_weigh_most_are_named() -> None:
    look, none = looking_for("reboot"), np.zeros(384, np.float32)
    assert look.admit("Reboot", none).because == "reboot"
    assert look.admit("Please reboot it", none).because in ("please reboot", "reboot it")


def test_a_text_without_words_has_a_kind() -> None:
    assert looking_for("reboot").admit("", np.zeros(384, np.float32)).kind == "plain"


@given(st.text(), st.integers(0, 383))
def test_of_any_text_and_vector_the_probabilities_add_up_to_1(text: str, place: int) -> None:
    vector = np.zeros(384, np.float32)
    vector[place] = 1
    probabilities = load_second_look().probabilities(text, vector)
    assert len(probabilities) == len(KINDS)
    assert float(probabilities.sum()) == pytest.approx(1)


@given(st.text(alphabet="ab ?1'", max_size=30))
def test_only_words_and_their_order_count(text: str) -> None:
    vector = np.zeros(384, np.float32)
    spaced = text.replace(" ", "   ").upper()
    assert (features(text, vector) == features(spaced, vector)).all()


def looking_for(word: str) -> SecondLook:
    """It takes what has this word for acting, and everything else for plain."""
    vector = np.zeros(384, np.float32)
    weights = np.zeros((len(features("", vector)), len(KINDS)), np.float32)
    weights[features(word, vector) - features("", vector) > 0, 2] = 10
    return SecondLook(weights, np.array([3, 0, 0, 0, 0], np.float32), "")
