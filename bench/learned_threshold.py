"""A rival to the product's policies: every stored question learns a threshold of its own.

The idea is that of the paper "vCache: Verified Semantic Prompt Caching" (Schroeder and others, 2025,
https://arxiv.org/abs/2502.03771), implemented from the idea alone. No one similarity is safe for all
questions, so every entry keeps what has been seen at it: how similar a question was whose nearest entry it
is, and whether its answer was right for that question. A sigmoid of correctness over similarity is fitted
to that. A question is served (exploited) or given to the engine (explored), at random: explored as often
as it takes that no more than the share `max_error` of all questions is answered wrongly, even where the
sigmoid is no better than its confidence bound. Exploring is what brings new observations. Error is
counted over all questions, not over hits, as in the paper.

Simplified here:

* the bound is taken on the log-odds at the question's similarity, from the curvature of the fit (Laplace's
  approximation), not on threshold and steepness each by itself; several confidences are tried, and the
  one that explores least is taken;
* a weak prior keeps the fit finite where all observations agree;
* an entry with no observation is always explored, and what is less similar than `FLOOR` is a plain miss:
  else the rule would now and then serve anything for anything;
* the true class stands in for comparing two answers, and every wording that an engine has answered is
  found again exactly.
"""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.keys import CacheKey
from llmhost.lab.pairs import About
from llmhost.lab.replay import Embed, PlayOutcome, Shelf

__all__ = ["FLOOR", "LearnedPlayer", "Observations"]

#: cosine; as for the verified policy, so that both are asked about the same questions
FLOOR = 0.5

#: the same stream is played the same way every time
_SEED = 20_250_206

#: cosine; similarity is counted from here in tenths, so that both parameters are of one size
_CENTRE, _UNIT = 0.85, 0.1

#: log-odds at the centre, and by how much they rise with a tenth of similarity: mean and deviation of the
#: prior. It knows next to nothing, only that more similar is rather better.
_PRIOR_MEAN = np.array([0.0, 1.0])
_PRIOR_PRECISION = np.diag([1 / 3.0**2, 1 / 2.0**2])

#: Newton's steps; ten are enough unless observations are very odd
_MOST_STEPS = 50
#: log-odds; the longest step, as Newton's overshoot where all observations agree
_LONGEST_STEP = 2.0
_CLOSE_ENOUGH = 1e-9

#: by the chance that the bound does not hold, how many deviations below the fit it lies
_BOUNDS = tuple(
    (chance, NormalDist().inv_cdf(1 - chance)) for chance in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
)


class Observations:
    """What has been seen at one entry, and what follows from it."""

    def __init__(self) -> None:
        self._tenths: list[float] = []
        self._right: list[bool] = []
        self._fit: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def see(self, similarity: float, right: bool) -> None:
        self._tenths.append((similarity - _CENTRE) / _UNIT)
        self._right.append(right)
        self._fit = None

    def serving(self, similarity: float, max_error: float) -> float:
        """With what probability, 0..1, a question of this similarity may be served."""
        if not self._right:
            return 0.0
        mean, covariance = self._fitted()
        at = np.array([1.0, (similarity - _CENTRE) / _UNIT])
        log_odds, deviation = float(at @ mean), math.sqrt(float(at @ covariance @ at))
        bounds = ((1 - chance) * _sigmoid(log_odds - z * deviation) for chance, z in _BOUNDS)
        surely_right = max(bounds)
        return min(1.0, max_error / (1 - surely_right))

    def _fitted(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The most probable parameters, shape (2,), and their covariance, shape (2, 2)."""
        if self._fit is None:
            tenths = np.array(self._tenths)
            self._fit = _fit(np.column_stack([np.ones_like(tenths), tenths]), np.array(self._right))
        return self._fit


class LearnedPlayer:
    """See the module. `max_error` is the share of all questions that may be answered wrongly, 0..1."""

    def __init__(self, max_error: float) -> None:
        self._max_error = max_error
        self._shelf = Shelf()
        self._seen: dict[str, Observations] = {}
        self._random = random.Random(_SEED)

    def ask(self, key: CacheKey, about: About, embed: Embed) -> PlayOutcome:
        """See `Player.ask`."""
        exact = self._shelf.exact(key, about)
        if exact is not None:
            return exact
        vector = embed(key.question)
        found = [] if vector is None else self._shelf.nearest(vector, 1, FLOOR)
        if not found:
            self._shelf.keep(key, about, vector)
            return PlayOutcome("engine")
        (nearest,) = found
        right = self._shelf.about(nearest) == about
        seen = self._seen.setdefault(nearest.entry, Observations())
        if self._random.random() < seen.serving(nearest.similarity, self._max_error):
            return PlayOutcome("semantic", wrong=not right)
        seen.see(nearest.similarity, right)
        # Another wording of what is stored adds to that entry's observations, not an entry of its own.
        self._shelf.keep(key, about, None if right else vector)
        return PlayOutcome("engine", explored=True)


def _fit(
    features: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A logistic fit under the prior by Newton's method; features have shape (observations, 2)."""
    mean = _PRIOR_MEAN
    for _ in range(_MOST_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(features @ mean, -50.0, 50.0)))
        curvature = (features.T * (chances * (1 - chances))) @ features + _PRIOR_PRECISION
        slope = features.T @ (right - chances) - _PRIOR_PRECISION @ (mean - _PRIOR_MEAN)
        step = np.linalg.solve(curvature, slope)
        length = float(np.linalg.norm(step))
        mean = mean + step * min(1.0, _LONGEST_STEP / max(length, _CLOSE_ENOUGH))
        if length < _CLOSE_ENOUGH:
            break
    return mean, np.linalg.inv(curvature)


def _sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, log_odds))))
