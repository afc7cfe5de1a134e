"""The contract of a judge: the fleet's own model, asked in the grey zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Judge", "Judgement"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """`same` None: it did not say, or not in time. `remembered`: it had been asked about this pair before."""

    same: bool | None
    remembered: bool = False


class Judge(Protocol):
    """Says whether two questions have the same answer."""

    async def judge(self, scope: str, question: str, stored: str) -> Judgement:
        """Bounded in time; an engine that fails has not said anything.

        Raises StoreError where Redis is away.
        """
        ...
