"""How `cache eval` and `cache tune` run pairs through the product's own policies, and are interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmhost.cache.calibration import Trust
    from llmhost.cache.embedding import Embedder
    from llmhost.cache.policy import Policy
    from llmhost.cli.options import Globals
    from llmhost.lab.evaluate import Outcome
    from llmhost.lab.lines import Lines
    from llmhost.lab.pairs import Pair

__all__ = ["pairs_in", "run_pairs"]

#: pairs; they take well under a second, and Ctrl-C is heeded between two such steps
_STEP = 16


def pairs_in(options: Globals, file: Path) -> Lines[Pair]:
    """The file's pairs; its broken lines are told. Raises UsageError."""
    from llmhost.lab.lines import skipped_words
    from llmhost.lab.pairs import read_pairs

    read = read_pairs(file)
    if read.broken:
        options.output.warn(skipped_words(file, read.broken))
    return read


async def run_pairs(
    options: Globals, pairs: Sequence[Pair], embedder: Embedder, policy: Policy, trust: Trust
) -> list[Outcome]:
    """What becomes of each pair. One thread does it: the models use all cores by themselves.

    Raises ModelError.
    """
    import asyncio

    from llmhost.lab.evaluate import evaluate

    outcomes = evaluate(pairs, embedder, policy, trust)
    done: list[Outcome] = []
    with options.output.progress() as progress:
        progress.update("pairs", "judging", 0.0)
        while step := await asyncio.to_thread(lambda: list(islice(outcomes, _STEP))):
            done += step
            progress.update("pairs", "judging", len(done) / len(pairs))
        progress.done("pairs", f"judged {len(done):,}")
    return done
