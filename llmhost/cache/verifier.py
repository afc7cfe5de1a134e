"""The contract of a verifier."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Verifier"]


class Verifier(Protocol):
    """Says how likely two wordings ask the same thing. `id` names model and weights."""

    id: str

    def probability(self, question: str, stored: str) -> float:
        """0..1, calibrated, the same for both orders. Where the model cannot read either of them whole, 0.

        Safe to call from several threads at once. Raises ModelError where the model fails.
        """
        ...
