"""What the command line of `llmhost stats` takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from plugins.cli import Ran


@pytest.mark.parametrize(
    "arguments",
    [
        ["--watch", "--json"],
        ["--watch", "--csv"],
        ["--csv", "--json"],
        ["--csv", "--reconcile"],
        ["--watch", "--html", "x.html"],
        ["--reconcile", "--export", "x.csv"],
    ],
)
def test_options_of_which_one_would_be_ignored_are_refused(
    cli: Callable[..., Ran], arguments: list[str]
) -> None:
    ran = cli("stats", *arguments)
    assert ran.code == 2
    assert "do not go together" in ran.stdout + ran.stderr


@pytest.mark.parametrize("since", ["soon", "0", "-1h", "401d", "nan"])
def test_a_period_that_cannot_be_is_refused(cli: Callable[..., Ran], since: str) -> None:
    ran = cli("stats", "--since", since)
    assert ran.code == 2
    assert "is not a valid period" in ran.stderr


def test_a_way_to_split_that_is_none_is_named_without_the_validators_words(cli: Callable[..., Ran]) -> None:
    ran = cli("stats", "--by", "hour")
    assert ran.code == 2
    assert "'hour' is not one of 'day', 'worker', 'tenant', 'model'" in ran.stderr
    assert "Value error" not in ran.stderr


def test_nothing_is_billed_for_workers_of_ones_own(cli: Callable[..., Ran]) -> None:
    ran = cli("stats", "--reconcile")
    assert ran.code == 2
    assert "nothing is billed for provider local" in ran.stderr
