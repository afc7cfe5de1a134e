"""What a fleet has learnt about its own semantic hits, as the values that pass between the parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Label", "Trust"]


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

    `audit` compared the engine's own answer with the one served, `judge` was asked in the grey zone,
    `forget` is the operator's word. `raw` is the verifier's probability, 0..1; `doubts` names the guards that
    doubted.
    """

    source: Literal["audit", "judge", "forget"]
    right: bool
    raw: float
    doubts: tuple[str, ...] = ()
