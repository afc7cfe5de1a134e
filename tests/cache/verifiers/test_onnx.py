"""The built-in verifier itself, on what it can read and on what it cannot."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from llmhost.cache.verifiers.onnx import OnnxVerifier
from llmhost.errors import ModelError

PAIR = ("What is machine learning?", "Explain machine learning briefly")

#: seconds of processor time; ten times what it takes
_SOON = 2.0


def test_a_rewording_is_more_probable_than_another_question(builtin: OnnxVerifier) -> None:
    other = builtin.probability(PAIR[0], "How do I bake bread?")
    assert 0 <= other < builtin.probability(*PAIR) <= 1


@pytest.mark.parametrize(
    ("one", "other", "sure"),
    [
        ("How do I enable dark mode?", "how do i enable dark mode", True),
        ("What is 5!", "What is 5?", False),
        ("?", ".", False),
    ],
)
def test_capitals_and_the_closing_mark_are_no_other_question(
    builtin: OnnxVerifier, one: str, other: str, sure: bool
) -> None:
    assert (builtin.probability(one, other) > 0.95) is sure


def test_the_order_does_not_matter(builtin: OnnxVerifier) -> None:
    assert builtin.probability(*PAIR) == pytest.approx(builtin.probability(*PAIR[::-1]), abs=1e-6)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("什么是机器学习", "机器学习是什么"),
        ("ما هو التعلم الآلي", "ما هو التعلم"),
        ("मशीन लर्निंग क्या है", "मशीन लर्निंग क्या होता है"),
        ("Wie werde ich reich?", "Wie werde ich schnell reich?"),
        ("¿Cómo puedo aprender inglés?", "¿Cómo aprender inglés rápido?"),
        ("😀😀", "😀"),
        ("12345", "12346"),
        ("3.14 2.72", "3.14 2.72"),
        ("x = f(1);", "x = f(2);"),
        ("", ""),
    ],
    ids=["Chinese", "Arabic", "Hindi", "German", "Spanish", "emoji", "digits", "numbers", "code", "nothing"],
)
def test_of_what_it_has_not_learnt_it_is_not_sure(builtin: OnnxVerifier, one: str, other: str) -> None:
    for pair in ((one, other), (other, one), (one, one)):
        assert 0 <= builtin.probability(*pair) <= 0.5


@pytest.mark.parametrize(
    "unreadable",
    ["word " * 10_000, "w" * 50_000, "half \ud800 a pair", "\udfff", "What is 😀?"],
    ids=["10,000 words", "one long word", "a lone surrogate", "nothing else", "an unknown character"],
)
def test_what_it_cannot_read_whole_is_never_the_same(builtin: OnnxVerifier, unreadable: str) -> None:
    begun = time.process_time()
    for pair in ((unreadable, "What is AI?"), ("What is AI?", unreadable), (unreadable, unreadable)):
        assert builtin.probability(*pair) == 0.0
    assert time.process_time() - begun < _SOON


@pytest.mark.parametrize("text", ["a", "a\0b", "\x1b[31mred", "a\u200bb", " ", "\n\n", "a\u0301" * 20])
def test_odd_text_gives_a_probability(builtin: OnnxVerifier, text: str) -> None:
    assert 0 <= builtin.probability(text, "What is AI?") <= 1


def test_several_threads_are_given_what_one_is(builtin: OnnxVerifier) -> None:
    alone = builtin.probability(*PAIR)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: builtin.probability(*PAIR), range(40)))
    assert answers == pytest.approx([alone] * 40, abs=1e-6)


class Session:
    """Stands in for onnxruntime's."""

    def __init__(self, given: object) -> None:
        self.given = given

    def run(self, *_: object) -> object:
        if isinstance(self.given, Exception):
            raise self.given
        return [np.array([self.given])]


@pytest.mark.parametrize("given", [float("nan"), float("inf"), RuntimeError("broken"), "text"])
def test_a_model_that_fails_is_an_error(
    builtin: OnnxVerifier, monkeypatch: pytest.MonkeyPatch, given: object
) -> None:
    monkeypatch.setattr(builtin._small, "_session", Session(given))
    with pytest.raises(ModelError, match=f"the verifier {builtin.id} "):
        builtin.probability(*PAIR)


def test_it_loads_no_torch_and_lets_its_process_end() -> None:
    code = (
        "import sys; from pathlib import Path; from llmhost.cache.verifiers.load import load_verifier;"
        "v = load_verifier('builtin', on_progress=print); v.probability('What is AI?', 'Define AI');"
        "print('torch' in sys.modules, 'sentence_transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False False\n", "")
