"""Metrics that cannot be, and the sentence on them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from doubles.scaling import NOW, in_flight, make_traffic, make_worker

from llmhost.autoscale.limits import find_invalid_metric
from llmhost.autoscale.models import FleetView, Metrics
from llmhost.fleet.budget import Limits, Spent
from llmhost.fleet.plan import Funds

BUCKET = int(NOW) - 60


def lie(*workers: Any, now: float = NOW, boot: float | None = None, fleet: Any = None, **traffic: Any) -> Any:
    view = FleetView(workers, **(fleet or {}))
    return find_invalid_metric(Metrics(make_traffic({BUCKET: 4}, **traffic), boot_seconds=boot), view, now)


def test_metrics_that_can_be_are_no_lie() -> None:
    assert lie(make_worker(), make_worker(tokens_per_s=None), boot=30.0) is None
    assert lie(fleet={"funds": Funds(Limits(), Spent(), credit=-3.0)}) is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"asked": {BUCKET: -3}}, f"questions counted at {BUCKET}: -3"),
        ({"answered": {BUCKET: 10**11}}, f"answers counted at {BUCKET}: 100,000,000,000"),
        ({"tokens": {BUCKET: math.nan}}, f"tokens counted at {BUCKET}: nan"),
        ({"tokens": {BUCKET: 10**400}}, f"tokens counted at {BUCKET}: a number of hundreds of digits"),
        ({"asked": {10**18: 1}}, "seconds from 1970 to a count: 1e+18"),
        ({"since": -math.inf}, "seconds from 1970 to a count: inf"),
        ({"at": math.nan}, "when they were read: nan"),
        ({"now": math.inf}, "this machine's clock: inf"),
        ({"workers": in_flight({"w-3": -1})}, "questions in flight on w-3: -1"),
        ({"boot": -5.0}, "seconds that a worker takes to boot: -5"),
        ({"boot": 90_000.0}, "seconds that a worker takes to boot: 90,000"),
        ({"fleet": {"price": math.nan}}, "price of one more worker: nan"),
        ({"fleet": {"funds": Funds(Limits(), Spent(), math.nan)}}, "credit of the account: nan"),
    ],
)
def test_a_number_that_cannot_be_is_named(given: dict[str, Any], sentence: str) -> None:
    assert lie(**given) == f"invalid metric: {sentence}"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tokens_per_s": -1.0}, "tokens per second of gpu-7: -1"),
        ({"tokens_per_s": math.inf}, "tokens per second of gpu-7: inf"),
        ({"tokens_per_s": 2e7}, "tokens per second of gpu-7: 20,000,000"),
        ({"price": -0.1}, "price of gpu-7: -0.1"),
        ({"price": 1e6}, "price of gpu-7: 1,000,000"),
    ],
)
def test_a_worker_that_lies_is_named(changes: dict[str, float], sentence: str) -> None:
    assert lie(make_worker("gpu-7", **changes)) == f"invalid metric: {sentence}"


def test_metrics_that_are_too_old_are_refused() -> None:
    assert lie(now=NOW + 120) is None
    assert lie(now=NOW + 121) is not None
    assert lie(now=NOW + 7200) == "stale metrics: read 7,200 s ago"


def test_metrics_from_the_future_are_refused_in_words_that_make_sense() -> None:
    assert lie(now=NOW - 120) is None
    assert lie(now=NOW - 300) == "metrics from the future: 300 s ahead of this machine's clock"
