"""Where the traffic of a fleet lies in Redis, and the scripts that count it.

Keys, of which none carries a lifetime: a full Redis evicts answers, never these.

* ``llmhost:{fleet}:load:{worker}``   sorted set, the requests that the worker has in flight
* ``llmhost:{fleet}:speed:{worker}``  hash, what the worker was measured to deliver
* ``llmhost:{fleet}:traffic``         hash, questions, answers and tokens by time
* ``llmhost:{fleet}:draining``        set of the workers that are given no more questions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmhost.engines.traffic import BUCKET, KEPT
from llmhost.store.client import load_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Count", "TrafficKeys", "counting_script"]

Count = Callable[[Sequence[str], Sequence[str | int | float]], Awaitable[Any]]


class TrafficKeys:
    """The names of one fleet's keys."""

    def __init__(self, fleet: str) -> None:
        self._prefix = f"llmhost:{fleet}"
        self.traffic = f"{self._prefix}:traffic"
        self.draining = f"{self._prefix}:draining"

    def load(self, worker: str) -> str:
        return f"{self._prefix}:load:{worker}"

    def speed(self, worker: str) -> str:
        return f"{self._prefix}:speed:{worker}"


def counting_script(client: Redis, name: str) -> Count:
    """The script of that name: a function of its keys, and of those arguments that are its own."""
    parts = (load_script("llmhost.engines.lua", file) for file in ("counting.lua", name))
    script = client.register_script("\n".join(parts))

    def count(keys: Sequence[str], arguments: Sequence[str | int | float]) -> Awaitable[Any]:
        return script(keys=keys, args=[BUCKET, KEPT, *arguments])

    return count
