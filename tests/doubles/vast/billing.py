"""What is paid: spells at a price, the bill of an instance, and how vast.ai shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: seconds
HOUR, DAY = 3600.0, 86_400.0


@dataclass(slots=True)
class Spell:
    """Something billed at `rate`, USD an hour, from `start` on, Unix seconds. `end` None: it goes on."""

    kind: str
    rate: float
    start: float
    end: float | None = None

    def hours(self, since: float, until: float) -> float:
        end = until if self.end is None else min(self.end, until)
        return max(end - max(self.start, since), 0.0) / HOUR

    def usd(self, since: float, until: float) -> float:
        return self.rate * self.hours(since, until)


class Bill:
    """Of one instance: its GPU while it runs, its disk unless it is gone or offline, its traffic."""

    def __init__(self) -> None:
        self.spells: list[Spell] = []
        self.traffic: list[tuple[str, float, float]] = []  # kind, when, USD

    @property
    def burn(self) -> float:
        """USD an hour at this moment."""
        return sum(spell.rate for spell in self.spells if spell.end is None)

    def begin(self, kind: str, rate: float, at: float) -> None:
        self.finish(kind, at)
        self.spells.append(Spell(kind, rate, at))

    def finish(self, kind: str, at: float) -> None:
        for spell in self.spells:
            if spell.kind == kind and spell.end is None:
                spell.end = at

    def close(self, at: float) -> None:
        for kind in ("gpu", "disk"):
            self.finish(kind, at)

    def usd(self, until: float, since: float = 0.0) -> float:
        moved = sum(usd for _, when, usd in self.traffic if since <= when <= until)
        return moved + sum(spell.usd(since, until) for spell in self.spells)


def charge(id: int, label: str | None, bill: Bill, since: float, until: float) -> Mapping[str, Any] | None:
    """One instance's entry in `GET /charges/`; None if it cost nothing in that time."""
    items = [*_rentals(bill, since, until), *_traffic(bill, since, until)]
    if not items:
        return None
    start, end = min(item["start"] for item in items), max(item["end"] for item in items)
    return {
        "start": start,
        "end": end,
        "type": "instance",
        "source": f"instance-{id}",
        "description": f"Instance {id} Charges - {(end - start) / DAY + 1:.0f} days",
        "amount": round(bill.usd(until, since), 3),
        "metadata": {} if label is None else {"label": label},
        "items": items,
    }


def _rentals(bill: Bill, since: float, until: float) -> Iterable[dict[str, Any]]:
    for spell in bill.spells:
        hours = spell.hours(since, until)
        if hours:
            start = max(spell.start, since)
            text = f"{hours:.3f} hours at ${spell.rate:.3f}/hour"
            yield _item(spell.kind, start, start + hours * HOUR, text, spell.usd(since, until))


def _traffic(bill: Bill, since: float, until: float) -> Iterable[dict[str, Any]]:
    for kind, when, usd in bill.traffic:
        if since <= when <= until:
            yield _item(kind, when, when, "traffic", usd)


def _item(kind: str, start: float, end: float, text: str, usd: float) -> dict[str, Any]:
    """`start` and `end` are shown as the first moment of their day (UTC), as in the published example."""
    return {
        "start": int(start // DAY * DAY),
        "end": int(end // DAY * DAY),
        "type": kind,
        "source": None,
        "description": text,
        "amount": round(usd, 3),
        "metadata": {},
        "items": [],
    }
