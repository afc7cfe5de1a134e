"""What is told when something gives way, and how often."""

from __future__ import annotations

import pytest

from llmhost.answering.cache_session import WarnOnce
from llmhost.errors import UntrustedWorker


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def warn_once(told: list[str]) -> WarnOnce:
    return WarnOnce(told.append)


def test_an_effect_is_told_once_whatever_its_cause(warn_once: WarnOnce, told: list[str]) -> None:
    warn_once.warn("the cache is off", ValueError("this"))
    warn_once.warn("the cache is off", ValueError("that"))
    assert told == ["the cache is off: this"]


def test_a_worker_that_is_not_itself_is_told_once(warn_once: WarnOnce, told: list[str]) -> None:
    for _ in range(2):
        warn_once.warn_untrusted("vast-1", UntrustedWorker("https://w1 shows another certificate"))
    assert told == [
        "worker vast-1 is not asked until `llmhost up` replaces it: https://w1 shows another certificate"
    ]


def test_each_worker_that_is_not_itself_is_told(warn_once: WarnOnce, told: list[str]) -> None:
    for number in (1, 2):
        warn_once.warn_untrusted(
            f"vast-{number}", UntrustedWorker(f"https://w{number} shows another certificate")
        )
    assert len(told) == 2
