"""Pairs of questions, and models that say of them what the rows say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doubles.embedders import WordEmbedder
from doubles.scripted_verifier import DOUBT, REFUSAL, ScriptedGuards, ScriptedVerifier

from llmhost.cache.policy import CachePolicy, ThresholdPolicy, VerifiedPolicy
from llmhost.wiring.questions import CacheParts, thresholds

#: asked, stored, the same?, kind; what the verifier says of the stored one, and what guards object
ROWS = [
    ("red fish one", "red fish two", 1, "paraphrase", 0.95, []),
    ("red fish one", "red fish three", 1, "paraphrase", 0.7, []),
    ("red fish one", "red fish 5", 0, "number", 0.99, [REFUSAL]),
    ("red fish one", "red fish four", 0, "role", 0.93, [DOUBT]),
    ("red fish one", "red fish six", 0, "role", 0.92, []),
    ("red fish", " red fish ", 1, None, 0.0, []),
    ("red fish one", "green tea", 0, "unrelated", 0.0, []),
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"a": a, "b": b, "same": same, "kind": kind} for a, b, same, kind, _, _ in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that say what stands in ROWS, in place of the real ones, which take seconds to load; and a
    threshold that stays where it is when the default moves.
    """
    monkeypatch.setenv("LLMHOST_CACHE__CONFIDENCE", "0.9")
    verifier = ScriptedVerifier({row[1]: row[4] for row in ROWS})
    guards = ScriptedGuards({row[1]: row[5] for row in ROWS})

    async def embedder(_: CacheParts) -> WordEmbedder:
        return WordEmbedder()

    async def policy(parts: CacheParts) -> CachePolicy:
        config = parts._config.cache
        if config.policy == "threshold":
            return ThresholdPolicy(config.threshold)
        return VerifiedPolicy(guards, verifier.probability, thresholds(config))

    monkeypatch.setattr(CacheParts, "embedder", embedder)
    monkeypatch.setattr(CacheParts, "policy", policy)
