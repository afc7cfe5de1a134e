"""Calibrates the verifier's probabilities: of the pairs given 0.9, nine in ten ask the same.

Fitted on pairs that the model has not learnt from, and of these on the ones that no guard refuses, as it is
never asked about others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llmhost.cache.guards import objections
from llmhost.cache.verifiers.onnx import OnnxVerifier
from verifier.data import Pair

__all__ = ["fit", "log_odds"]

#: steps of Newton's method; two figures are found in five
_STEPS = 50


def log_odds(verifier: OnnxVerifier, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """What an uncalibrated verifier (slope 1, intercept 0) gives for pairs that reach it; their labels."""
    reached = [pair for pair in pairs if not any(one.refuses for one in objections(pair.a, pair.b))]
    given = np.array([verifier.probability(pair.a, pair.b) for pair in reached])
    read = (given > 0) & (given < 1)
    labels = np.array([float(pair.same) for pair in reached])[read]
    return np.log(given[read] / (1 - given[read])), labels


def fit(given: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of `labels` on `given`, by Newton's method."""
    features = np.stack([given, np.ones_like(given)], axis=1)
    found = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        expected = 1 / (1 + np.exp(-features @ found))
        gradient = features.T @ (weights * (labels - expected))
        curvature = (features * (weights * expected * (1 - expected))[:, None]).T @ features
        step = np.linalg.solve(curvature, gradient)
        found = found + step
        if math.isclose(float(np.abs(step).max()), 0.0, abs_tol=1e-9):
            break
    return float(found[0]), float(found[1])
