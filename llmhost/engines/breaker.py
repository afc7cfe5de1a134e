"""Which workers are left alone for a while because they fail: a circuit breaker for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from llmhost.errors import EngineUnavailable, RefusingWorker, UnreachedWorker, UntrustedWorker

__all__ = ["Breakers"]

#: failures in a row; fewer are the fault of a request, or pass
_FAILURES = 3

#: seconds for which a worker is left alone at first, and at most
_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

#: what the next request meets as well
_CERTAIN = (UnreachedWorker, RefusingWorker, UntrustedWorker)


@dataclass(slots=True)
class _Circuit:
    """`failures` in a row; from `until` on it is tried again, by one request at a time."""

    failures: int = 0
    pause: float = 0.0
    until: float = 0.0
    tried: bool = False


class Breakers:
    """What this process has seen of workers that failed before their first token. It is forgotten once one
    answers. `clock` in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._circuits: dict[str, _Circuit] = {}

    def allows(self, worker: str) -> bool:
        """Whether it may be asked now."""
        circuit = self._circuits.get(worker)
        return circuit is None or not circuit.pause or self._wait(circuit) == 0

    def retry_in(self, workers: Collection[str]) -> float:
        """Seconds until one of these workers, which are all left alone, is tried again."""
        waits = [self._wait(self._circuits[worker]) for worker in workers if worker in self._circuits]
        return min(waits, default=0.0)

    def asked(self, worker: str) -> None:
        """It is asked now: where it was left alone, no other request tries it meanwhile."""
        if (circuit := self._circuits.get(worker)) is not None and circuit.pause:
            circuit.tried = True

    def answered(self, worker: str) -> None:
        """It gave a first token, or said what is wrong with the request."""
        self._circuits.pop(worker, None)

    def failed(self, worker: str, error: EngineUnavailable) -> None:
        """It failed before its first token."""
        circuit = self._circuits.setdefault(worker, _Circuit())
        if self._clock() < circuit.until:  # it was asked before it was left alone
            return
        circuit.failures += 1
        circuit.tried = False
        if circuit.pause or circuit.failures >= _FAILURES or isinstance(error, _CERTAIN):
            circuit.pause = min(circuit.pause * 2 or _PAUSE, _LONGEST_PAUSE)
            circuit.until = self._clock() + circuit.pause

    def left(self, worker: str) -> None:
        """The request ended before the worker answered: that says nothing about the worker."""
        if (circuit := self._circuits.get(worker)) is not None:
            circuit.tried = False

    def forget_all_but(self, workers: Collection[str]) -> None:
        """The others are gone."""
        for worker in self._circuits.keys() - set(workers):
            del self._circuits[worker]

    def _wait(self, circuit: _Circuit) -> float:
        return max(0.0, circuit.until - self._clock()) or (_PAUSE if circuit.tried else 0.0)
