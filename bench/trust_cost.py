"""What a semantic decision costs beside one embedding; for trust.py."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from llmhost.cache.contracts import Embedder
from llmhost.cache.models import Verdict
from llmhost.cache.policy import CachePolicy
from llmhost.lab.evaluate import evaluate
from llmhost.lab.pairs import Pair

#: pairs that are timed, and how often
TIMED, ROUNDS = 40, 5


def cost(pairs: Sequence[Pair], embedder: Embedder, policy: CachePolicy) -> float | None:
    """What embedding a question and deciding on one stored question cost, in embeddings: medians, over pairs
    that no guard refuses; None where there is none."""
    verdicts = [(one.pair.a, one.verdict) for one in evaluate(pairs, embedder, policy) if one.pair.same]
    chosen = [(asked, found.candidate) for asked, found in verdicts if found and not refused(found)][:TIMED]
    embedding, deciding = [], []
    for _ in range(ROUNDS if chosen else 0):
        for asked, candidate in chosen:
            begun = time.perf_counter()
            embedder.embed(asked)
            embedded = time.perf_counter()
            policy.decide(asked, [candidate])
            embedding.append(embedded - begun)
            deciding.append(time.perf_counter() - embedded)
    return 1 + statistics.median(deciding) / statistics.median(embedding) if chosen else None


def refused(verdict: Verdict) -> bool:
    return any(objection.refuses for objection in verdict.objections)
