"""What the guard on the answer's side is worth: the table of docs/trust.md.

    python bench/answers.py [FILE] [--markdown]

FILE has pairs with the answer that is stored: `bench/pairs/answers.jsonl` are questions of the verifier's
families with what SmolLM2-135M answered at temperature 0.2, cut at 70 tokens. Each policy is asked for all of
them, by the code that serves.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from trust import (
    CONFIG,
    HERE,
    PARAPHRASE,
    KeptEmbedder,
    accepted,
    counted,
    show_markdown,
    show_text,
    verified,
)

from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.models import CacheDecision
from llmhost.cache.policy import CachePolicy, ThresholdPolicy, VerifiedPolicy
from llmhost.cache.verifiers.load import load_verifier
from llmhost.lab.evaluate import evaluate
from llmhost.lab.pairs import Pair, read_pairs

_MISS = CacheDecision("miss", None, None, "")


def main(path: Path, *, markdown: bool) -> None:
    pairs = read_pairs(path).rows
    embedder = KeptEmbedder(load_embedder(CONFIG.embedder, on_progress=print))
    verify = lru_cache(maxsize=None)(load_verifier("builtin", on_progress=print).probability)
    policy = verified(verify, CONFIG.confidence)
    assert isinstance(policy, VerifiedPolicy)
    silent = replace(policy, answers=lambda *_: None)
    lower = verified(verify, 0.5)
    assert isinstance(lower, VerifiedPolicy)
    alone = replace(policy, guards=lambda *_: ())
    policies: dict[str, CachePolicy] = {
        f"verified {CONFIG.confidence:g} (default)": policy,
        "without the answer's guard": silent,
        "the answer's guard alone": alone,
        "no guard at all": replace(alone, answers=lambda *_: None),
        "verified 0.5": lower,
        "verified 0.5 without the answer's guard": replace(lower, answers=lambda *_: None),
        "cosine 0.8": ThresholdPolicy(CONFIG.threshold),
        "cosine 0.8 and the answer's guard": replace(
            alone, verify=lambda *_: 1.0, thresholds=replace(policy.thresholds, serve=0.0, doubted=0.0)
        ),
    }
    kinds = sorted({pair.kind or "" for pair in pairs if not pair.same})
    head = ["policy", "near-misses served", *kinds, "paraphrases served"]
    rows = [[name, *row(pairs, embedder, one, kinds)] for name, one in policies.items()]
    (show_markdown if markdown else show_text)([head, *rows])


def row(
    pairs: Sequence[Pair], embedder: KeptEmbedder, policy: CachePolicy, kinds: Sequence[str]
) -> list[str]:
    outcomes = list(evaluate(pairs, embedder, policy))
    if isinstance(policy, VerifiedPolicy) and not policy.thresholds.serve:  # by similarity, and the answer
        outcomes = [
            one if (one.similarity or 0) >= CONFIG.threshold else replace(one, decision=_MISS)
            for one in outcomes
        ]
    judged = accepted(outcomes)
    by_kind = [counted(judged, [kind]) for kind in kinds]
    return [counted(judged, kinds, bounds=True), *by_kind, counted(judged, [PARAPHRASE], bounds=True)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?", default=HERE / "answers.jsonl")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    main(options.file, markdown=options.markdown)
