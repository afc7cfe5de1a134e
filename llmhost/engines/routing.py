"""Which worker gets a question: that of its conversation, whose context it has in memory, else the one with
the fewest tokens to read and write. Pure.

`lua/acquire.lua` decides by the same rule for all processes of a fleet at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b

__all__ = ["SPREAD", "choose", "preference"]

#: how many times the average load a worker may have before its conversations go to the next one; with 1.25,
#: few of them move, and no worker has much more to do than the others (Mirrokni et al., 2016)
SPREAD = 1.25


def preference(conversation: str, workers: Iterable[str]) -> tuple[str, ...]:
    """The workers in the order in which this conversation prefers them, the same in every process.

    Rendezvous hashing: where a worker comes or goes, no conversation of another one moves.
    """
    return tuple(sorted(workers, key=lambda worker: _weight(conversation, worker), reverse=True))


def _weight(conversation: str, worker: str) -> bytes:
    return blake2b(f"{conversation}\n{worker}".encode(), digest_size=8).digest()


def choose(
    loads: Sequence[int],
    tokens: Sequence[int],
    turns: Sequence[int],
    slots: int,
    *,
    affine: bool,
    queues: bool,
) -> int | None:
    """The place of the worker that gets a question; None where it has to wait for one.

    `loads` are the requests in flight of each worker, `tokens` what these may read and write, `turns` when
    each was asked last: a number that grows. `affine`: the first of them that is not overloaded gets it; else
    the one with the fewest tokens, then requests, then the one that was asked longest ago. `queues`: none
    gets more than its `slots`.
    """
    free = [place for place, load in enumerate(loads) if load < slots or not queues]
    if affine and loads:
        bound = max(slots, math.ceil(SPREAD * (sum(loads) + 1) / len(loads)))
        free = [place for place in free if loads[place] < bound][:1]
    return min(free, key=lambda place: (tokens[place], loads[place], turns[place], place), default=None)
