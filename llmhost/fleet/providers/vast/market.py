"""vast.ai's offers, read and sifted. Pure.

The market is asked for broadly and filtered here, so that each filter can be shown with how many it rejected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llmhost.config.offer_filter import Term, parse_filter
from llmhost.errors import ProviderError
from llmhost.fleet.models import Market, Offer
from llmhost.fleet.offers import rank
from llmhost.fleet.providers.vast.faults import clean
from llmhost.fleet.providers.vast.identity import VastSettings
from llmhost.fleet.providers.vast.rows import Fields, Row, as_row, gpu_of, storage_price

__all__ = ["read_market"]

_UNREADABLE = "unreadable"
_ABOVE_MINIMUM = 1.1  #: bid so much more than the least, so that the next bidder does not win at once
_ROUNDING = 1e-9  #: USD; a bid and its disk may add up to a bit more than they were taken apart from
_BID_STEP = 1000  #: bids are counted in thousandths of a USD


@dataclass(frozen=True, slots=True)
class _Price:
    """USD an hour: the whole price, and the bid within it where one bids."""

    total: float
    bid: float | None = None


def read_market(rows: Sequence[object], settings: VastSettings) -> Market:
    """The offers that fit, best first, and how many each filter rejected."""
    terms = parse_filter(settings.filter)
    offers: list[Offer] = []
    rejected: Counter[str] = Counter()
    for row in rows:
        try:
            judged = _judge(as_row(row, "an offer"), terms, settings)
        except ProviderError:
            judged = _UNREADABLE
        if isinstance(judged, Offer):
            offers.append(judged)
        else:
            rejected[judged] += 1
    return Market(rank(offers), dict(rejected))


def _judge(row: Row, terms: Sequence[Term], settings: VastSettings) -> Offer | str:
    """The offer, or the first filter that it fails."""
    for term in terms:
        if not term.accepts(row):
            return term.text
    fields = Fields(row, f"offer {Fields(row, 'an offer').id()}")
    if fields.needed("disk_space") < settings.disk:
        return f"disk_space>={settings.disk:g}"
    price = _bid(fields, settings) if settings.interruptible else _Price(fields.needed("dph_total"))
    if price is None:
        return "bid over vast.max_bid"
    if settings.max_price is not None and price.total > settings.max_price + _ROUNDING:
        return f"dph_total<={settings.max_price:g}"
    return _offer(fields, price)


def _bid(fields: Fields, settings: VastSettings) -> _Price | None:
    """What to bid and what it makes in all; None where the least bid is over the ceiling for bids."""
    least = fields.needed("min_bid")
    disk = storage_price(fields, settings.disk)
    if disk is None:
        raise fields.wrong("storage_cost", "a number, 0 or more")
    if settings.max_bid is not None and least > settings.max_bid:
        return None
    ceilings = [settings.max_bid, None if settings.max_price is None else settings.max_price - disk]
    ceiling = min((limit for limit in ceilings if limit is not None), default=math.inf)
    # Rounded first: 0.3 * 1.1 is a little over 0.33, and would become 0.331.
    wanted = math.ceil(round(least * _ABOVE_MINIMUM * _BID_STEP, 6)) / _BID_STEP
    bid = max(least, min(ceiling, wanted))
    return _Price(bid + disk, bid)


def _offer(fields: Fields, price: _Price) -> Offer:
    reliability = fields.number("reliability")
    return Offer(
        id=str(fields.id()),
        gpu=gpu_of(fields),
        price_per_hour=price.total,
        reliability=(fields.number("reliability2") if reliability is None else reliability) or 0.0,
        region=clean(fields.text("geolocation") or ""),
        machine=str(fields.id("machine_id")),
        performance=fields.number("dlperf") or 0.0,
        bid=price.bid,
        download=fields.number("inet_down") or 0.0,
        download_price=fields.number("inet_down_cost") or 0.0,
        cuda=fields.number("cuda_max_good") or 0.0,
        verified=fields.text("verification") == "verified",
    )
