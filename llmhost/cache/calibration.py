"""What a fleet has learnt about its own semantic hits, as the values that pass between the parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Change", "Label", "LabelsReport", "Source", "Tally", "Trust"]

#: who found out: `audit` compared the engine's own answer with the one served, `judge` was asked in the grey
#: zone, `forget` is the operator's word
Source = Literal["audit", "judge", "forget"]


@dataclass(frozen=True, slots=True)
class Trust:
    """`shift` is added to the verifier's log-odds: over 0, this fleet's questions are safer than the
    verifier believes. `raised` is by how many steps errors have raised the bar.
    """

    shift: float = 0.0
    raised: int = 0


@dataclass(frozen=True, slots=True)
class Label:
    """Whether one question's answer was right for another, as somebody found out afterwards.

    `raw` is the verifier's probability, 0..1; `doubts` names the guards that doubted.
    """

    source: Source
    right: bool
    raw: float
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """The bar now stands at step `raised`; `words` tell the operator why."""

    raised: int
    words: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How many labels said right, and how many wrong."""

    right: int = 0
    wrong: int = 0

    @property
    def samples(self) -> int:
        return self.right + self.wrong

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.right + other.right, self.wrong + other.wrong)


@dataclass(frozen=True, slots=True)
class LabelsReport:
    """All labels of a fleet.

    `bands` counts them by source and by band of the verifier's probability (`learning.BANDS`), `guards`
    those of audits by the guard that doubted, or `none`; where two doubted, under both. `since` counts
    audits since the bar last moved, which was at `changed`, Unix seconds; None: it never did.
    """

    bands: Mapping[Source, Mapping[str, Tally]] = field(default_factory=dict)
    guards: Mapping[str, Tally] = field(default_factory=dict)
    since: Tally = Tally()
    raised: int = 0
    changed: float | None = None

    def total(self, source: Source) -> Tally:
        return sum(self.bands.get(source, {}).values(), Tally())
