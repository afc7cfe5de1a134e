"""How the larger verifier is calibrated beside the small one."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from random import Random

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

from verifier import calibration
from verifier.data import Pair

BAR = 0.8


class Known:
    """Gives each pair the log-odds that stand for its first question."""

    def __init__(self, log_odds: dict[str, float]) -> None:
        self.log_odds = log_odds

    def probability(self, question: str, stored: str) -> float:
        return 1 / (1 + math.exp(-self.log_odds[question]))


def source(rng: Random, name: str, count: int, too_sure: float) -> tuple[list[Pair], Known, Known]:
    """Pairs that the larger one tells apart better than the small one, and is `too_sure` of; log-odds."""
    pairs = [Pair(f"question {name} {number}", "stored", number % 2 == 0, "pair") for number in range(count)]
    side = {pair.a: 1.0 if pair.same else -1.0 for pair in pairs}
    small = {name: sign + rng.gauss(0, 1.6) for name, sign in side.items()}
    large = {name: too_sure + 2 * sign + rng.gauss(0, 1.6) for name, sign in side.items()}
    return pairs, Known(small), Known(large)


@pytest.fixture(autouse=True)
def _no_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "objections", lambda *_: ())


def test_on_each_source_it_serves_fewer_others_than_the_small_one_and_more_that_ask_the_same() -> None:
    rng = Random(7)
    one, small_one, large_one = source(rng, "a", 600, too_sure=0.0)
    other, small_other, large_other = source(rng, "b", 600, too_sure=1.5)
    small = Known(small_one.log_odds | small_other.log_odds)
    large = Known(large_one.log_odds | large_other.log_odds)
    weight, slope, intercept = calibration.calibrate_beside(small, large, [one, other], BAR)
    bar = math.log(BAR / (1 - BAR))
    for pairs in (one, other):
        alone = [pair for pair in pairs if small.log_odds[pair.a] >= bar]
        both = [
            pair
            for pair in pairs
            if weight * small.log_odds[pair.a] + slope * large.log_odds[pair.a] + intercept >= bar
        ]
        assert sum(not pair.same for pair in both) <= 0.85 * sum(not pair.same for pair in alone)
        assert sum(pair.same for pair in both) > sum(pair.same for pair in alone)
