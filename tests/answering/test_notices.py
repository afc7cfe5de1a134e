"""What is told when something gives way, and how often."""

from __future__ import annotations

import pytest

from llmhost.answering.cache_session import Notices
from llmhost.errors import UntrustedWorker


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def notices(told: list[str]) -> Notices:
    return Notices(told.append)


def test_an_effect_is_told_once_whatever_its_cause(notices: Notices, told: list[str]) -> None:
    notices.tell("the cache is off", ValueError("this"))
    notices.tell("the cache is off", ValueError("that"))
    assert told == ["the cache is off: this"]


def test_a_worker_that_is_not_itself_is_told_once(notices: Notices, told: list[str]) -> None:
    for _ in range(2):
        notices.doubt("vast-1", UntrustedWorker("https://w1 shows another certificate"))
    assert told == [
        "worker vast-1 is not asked until `llmhost up` replaces it: https://w1 shows another certificate"
    ]


def test_each_worker_that_is_not_itself_is_told(notices: Notices, told: list[str]) -> None:
    for number in (1, 2):
        notices.doubt(f"vast-{number}", UntrustedWorker(f"https://w{number} shows another certificate"))
    assert len(told) == 2
