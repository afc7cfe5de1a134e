"""Calibrates the verifier's probabilities: of the pairs given 0.9, nine in ten ask the same.

Fitted on pairs that the model has not learnt from, and of these on the ones that no guard refuses, as it is
never asked about others. All sources count the same, however many pairs each has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llmhost.cache.guards import objections
from llmhost.cache.verifiers.onnx import OnnxVerifier
from verifier.data import Pair

__all__ = ["calibrate", "calibrate_beside"]

#: steps of Newton's method; three figures are found in ten
_STEPS = 50
#: of the others that the small one alone would serve, what both together may: less than all, since the pairs
#: that this is found by are a sample
_AS_SAFE = 0.85


def calibrate(verifier: OnnxVerifier, sources: Sequence[Sequence[Pair]]) -> tuple[float, float]:
    """Slope and intercept for a verifier that has none yet (1 and 0)."""
    features, labels = [], []
    for pairs in map(_reached, sources):
        given = np.array([verifier.probability(pair.a, pair.b) for pair in pairs])
        read = (given > 0) & (given < 1)
        features.append(_log_odds(given[read])[:, None])
        labels.append(_labels(pairs)[read])
    slope, intercept = _fit(features, labels)
    return slope, intercept


def calibrate_beside(
    small: OnnxVerifier, both: OnnxVerifier, sources: Sequence[Sequence[Pair]], threshold: float
) -> tuple[float, float, float]:
    """The weight of the small one's log-odds, slope and intercept of the larger one's, for a larger one that
    has none yet (0, 1 and 0). From `threshold`, a probability, on, they serve no source's others more often
    than the small one alone; where the fit would, the intercept is lower."""
    features, labels = [], []
    for pairs in map(_reached, sources):
        alone = np.array([small.probability(pair.a, pair.b) for pair in pairs])
        given = np.array([both.probability(pair.a, pair.b) for pair in pairs])
        asked = alone != given  # elsewhere the small one decides
        features.append(np.stack([_log_odds(alone[asked]), _log_odds(given[asked])], axis=1))
        labels.append(_labels(pairs)[asked])
    weight, slope, intercept = _fit(features, labels)
    bar = math.log(threshold / (1 - threshold))
    excess = 0.0
    for given, same in zip(features, labels, strict=True):
        others = given[same == 0]
        allowed = int(_AS_SAFE * (others[:, 0] >= bar).sum())
        joined = np.sort(others @ (weight, slope) + intercept)[::-1]
        excess = max(excess, float(joined[allowed]) - bar)
    return weight, slope, intercept - excess


def _reached(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if not any(one.refuses for one in objections(pair.a, pair.b))]


def _labels(pairs: Sequence[Pair]) -> np.ndarray:
    return np.array([float(pair.same) for pair in pairs])


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities / (1 - probabilities))


def _fit(features: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> list[float]:
    """The logistic regression of the labels on the features and a constant, by Newton's method: a weight for
    each feature, and the constant."""
    all_features, all_labels = np.concatenate(features), np.concatenate(labels)
    share = len(all_labels) / len(labels)
    weights = np.concatenate([np.full(len(same), share / len(same)) for same in labels])
    design = np.column_stack([all_features, np.ones(len(all_labels))])
    found = np.array([1.0] + [0.0] * all_features.shape[1])
    for _ in range(_STEPS):
        expected = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (weights * (all_labels - expected))
        curvature = (design * (weights * expected * (1 - expected))[:, None]).T @ design
        step = np.linalg.solve(curvature, gradient)
        found = found + step
        if math.isclose(float(np.abs(step).max()), 0.0, abs_tol=1e-9):
            break
    return [float(one) for one in found]
