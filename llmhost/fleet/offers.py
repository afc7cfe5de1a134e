"""Which offers to buy first: those where a token costs least. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from llmhost.fleet.models import Offer

__all__ = ["choose", "price_of_performance", "rank"]


def price_of_performance(offer: Offer) -> float | None:
    """USD an hour for one unit of the provider's measure; None where its performance is not known.

    The price is the whole one, the disk included, and tokens come in proportion to the performance.
    """
    known = math.isfinite(offer.performance) and offer.performance > 0
    return offer.price_per_hour / offer.performance if known else None


def rank(offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """The offers, best first: by what a token costs, then those of unknown performance by their price.

    Of two that are alike the more reliable one comes first, then the one with the lower id.
    """
    return tuple(sorted(offers, key=_key))


def choose(offers: Iterable[Offer], count: int, avoid: Collection[str]) -> tuple[Offer, ...]:
    """The best offers, `count` at most, each once. `avoid` names machines, and offers, to leave alone."""
    fitting = [offer for offer in offers if offer.machine not in avoid and offer.id not in avoid]
    once = {offer.id: offer for offer in reversed(rank(fitting))}
    return rank(once.values())[: max(0, count)]


def _key(offer: Offer) -> tuple[bool, float, float, str]:
    cost = price_of_performance(offer)
    return (cost is None, offer.price_per_hour if cost is None else cost, -offer.reliability, offer.id)
