"""How well a judge judges, from pairs of which somebody has said whether they ask the same."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from llmhost.cache.fitness import Fitness, Trial, fitness_of
from llmhost.lab.pairs import Pair, sample

__all__ = ["balanced", "measured"]


def balanced(pairs: Sequence[Pair], limit: int) -> Sequence[Pair]:
    """At most `limit` of the pairs, as many that ask the same as that do not; always the same ones."""
    same = [pair for pair in pairs if pair.same]
    different = [pair for pair in pairs if not pair.same]
    each = min(len(same), len(different), limit // 2)
    return [*sample(same, each), *sample(different, each)]


async def measured(
    word: Callable[[str, str], Awaitable[bool | None]], model: str, pairs: Sequence[Pair], now: float
) -> Fitness:
    """Asks for the word on each pair, one after the other; there must be at least one. `now`: Unix seconds.

    Raises what `word` raises: a judge that cannot be asked has not been measured.
    """
    trials = []
    for pair in pairs:
        begun = time.perf_counter()
        said = await word(pair.a, pair.b)
        trials.append(Trial(pair.same, said, (time.perf_counter() - begun) * 1000))
    return fitness_of(model, trials, now)
