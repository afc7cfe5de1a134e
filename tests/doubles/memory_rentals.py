"""A rental book in memory. It keeps the whole contract and joins its suite (tests/ledger/test_rentals.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmhost.ledger.rentals import Charge, Rental


class MemoryRentals:
    def __init__(self) -> None:
        self._segments: dict[tuple[str, float], list[Rental]] = {}
        self._seen: dict[tuple[str, float], float] = {}
        self._charges: dict[str, Charge] = {}
        self._once: dict[tuple[str, float], Rental] = {}

    async def observed(self, worker_id: str, price_per_hour: float, started: float, now: float) -> None:
        name, now = (worker_id, started), max(started, now)
        segments = self._segments.setdefault(name, [])
        if not segments:
            segments.append(Rental(worker_id, price_per_hour, started))
            self._seen[name] = now
        last, seen = segments[-1], self._seen[name]
        if last.ended is not None:
            if now < last.ended + 600:
                return
            seen = last.ended
            last = segments[-1] = replace(last, ended=None)
        if price_per_hour > last.price_per_hour:
            self._turn(segments, price_per_hour, min(seen, now))
        elif price_per_hour < last.price_per_hour and now >= seen:
            self._turn(segments, price_per_hour, now)
        self._seen[name] = max(seen, now)

    async def closed(self, worker_id: str, ended: float) -> None:
        for (worker, _), segments in self._segments.items():
            last = segments[-1]
            if worker == worker_id and last.ended is None:
                segments[-1] = replace(last, ended=max(ended, last.started))

    async def paid_once(self, worker_id: str, usd: float, started: float) -> None:
        paid = Rental(worker_id, 0.0, started, started, usd)
        self._once.setdefault((worker_id, started), paid)

    async def rentals(self) -> Sequence[Rental]:
        return sorted(self.all, key=lambda rental: (rental.started, rental.worker))

    async def billed(self, charges: Sequence[Charge], now: float) -> None:
        self._charges |= {charge.worker: charge for charge in charges}

    async def charges(self) -> Sequence[Charge]:
        return [charge for _, charge in sorted(self._charges.items())]

    @property
    def all(self) -> list[Rental]:
        return [
            *self._once.values(),
            *(rental for segments in self._segments.values() for rental in segments),
        ]

    def open_ones(self) -> set[str]:
        return {rental.worker for rental in self.all if rental.ended is None}

    @staticmethod
    def _turn(segments: list[Rental], price: float, moment: float) -> None:
        """From `moment` on it is the other price."""
        last = segments.pop()
        if moment > last.started:
            segments.append(replace(last, ended=moment))
        segments.append(Rental(last.worker, price, max(moment, last.started)))
