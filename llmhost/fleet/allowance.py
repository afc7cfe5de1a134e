"""What the operator agreed to buy. Without asking again, nothing much dearer is bought, and no more."""

from __future__ import annotations

from collections.abc import Sequence

from llmhost.errors import LimitError
from llmhost.fleet.models import Offer

__all__ = ["SURPRISE", "Allowance"]

#: of a price that was shown: what may be paid without asking again
SURPRISE = 1.25

_HINT = "run `llmhost up` again to see what there is now"


class Allowance:
    """`purchases` are the offers that were shown. Prices are USD an hour."""

    def __init__(self, purchases: Sequence[Offer]) -> None:
        prices = [offer.price_per_hour for offer in purchases]
        self._count = len(prices)
        self._dearest = max(prices, default=0.0) * SURPRISE
        self._total = sum(prices) * SURPRISE

    def check(self, price: float) -> None:
        """Raises LimitError where one more of this price was not agreed to."""
        if self._count <= 0:
            raise LimitError("there are offers now that were not there when you were asked", hint=_HINT)
        ceiling = min(self._dearest, self._total)
        if price > ceiling:
            raise LimitError(
                f"the next offer costs ${price:.3f} an hour, and what you agreed to cost at most"
                f" ${ceiling / SURPRISE:.3f}",
                hint=_HINT,
            )

    def take(self, price: float) -> None:
        """One was bought."""
        self._count -= 1
        self._total -= price

    def give_back(self, price: float) -> None:
        """One that was agreed to, or was there before, is gone: another one may take its place."""
        self._count += 1
        self._total += price * SURPRISE
