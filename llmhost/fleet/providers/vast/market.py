"""vast.ai's offers, read and sifted. Pure.

The market is asked for broadly and filtered here, so that each filter can be shown with how many it rejected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from llmhost.config.fleet import VastConfig
from llmhost.config.offer_filter import Term, parse_filter
from llmhost.errors import ProviderError
from llmhost.fleet.models import Market, Offer
from llmhost.fleet.providers.vast.faults import clean
from llmhost.fleet.providers.vast.rows import Id, Machine, Number, Text, read, unreadable

__all__ = ["read_market"]

_UNREADABLE = "unreadable"
_TOO_SHORT = "contract shorter than vast.expected_stay"  #: at its end the instance is stopped for good
_ABOVE_MINIMUM = 1.1  #: bid so much more than the least, so that the next bidder does not win at once
_ROUNDING = 1e-9  #: USD; a bid and its disk may add up to a bit more than they were taken apart from
_BID_STEP = 1000  #: bids are counted in thousandths of a USD


class _Listed(Machine):
    """An offer as vast.ai lists it. `min_bid` is USD an hour without the disk, `dph_total` with it;
    `duration` is seconds until its contract ends."""

    machine_id: Id
    disk_space: Number
    dph_total: Number | None = None
    min_bid: Number | None = None
    reliability: Number | None = None
    reliability2: Number | None = None
    geolocation: Text | None = None
    dlperf: Number | None = None
    inet_down: Number | None = None
    inet_down_cost: Number | None = None
    gpu_mem_bw: Number | None = None
    duration: Number | None = None
    cuda_max_good: Number | None = None
    verification: Text | None = None


def read_market(rows: object, settings: VastConfig) -> Market:
    """The offers that fit, and how many each filter rejected. Raises ProviderError where `rows` is none."""
    if not isinstance(rows, list):
        raise unreadable("the market is not a list")
    terms = parse_filter(settings.offers)
    offers: list[Offer] = []
    rejected: Counter[str] = Counter()
    for row in rows:
        try:
            judged = _judge(row, terms, settings)
        except ProviderError:
            judged = _UNREADABLE
        if isinstance(judged, Offer):
            offers.append(judged)
        else:
            rejected[judged] += 1
    return Market(tuple(offers), dict(rejected))


def _judge(row: object, terms: Sequence[Term], settings: VastConfig) -> Offer | str:
    """The offer, or the first filter that it fails."""
    if isinstance(row, Mapping):
        for term in terms:
            if not term.accepts(row):
                return term.text
    listed = read(_Listed, row, "an offer")
    if listed.disk_space < settings.disk:
        return f"disk_space>={settings.disk:g}"
    if listed.duration is None or listed.duration < settings.expected_stay:
        return _TOO_SHORT
    priced = _price(listed, settings)
    if isinstance(priced, str):
        return priced
    bid, price = priced
    reliability = listed.reliability2 if listed.reliability is None else listed.reliability
    return Offer(
        id=str(listed.id),
        gpu=listed.gpu,
        price_per_hour=price,
        reliability=reliability or 0.0,
        region=clean(listed.geolocation or ""),
        machine=str(listed.machine_id),
        performance=listed.dlperf or 0.0,
        bid=bid,
        download=listed.inet_down or 0.0,
        download_price=listed.inet_down_cost,
        cuda=listed.cuda_max_good or 0.0,
        verified=listed.verification == "verified",
        bandwidth=listed.gpu_mem_bw or 0.0,
        contract=listed.duration,
    )


def _price(listed: _Listed, settings: VastConfig) -> tuple[float | None, float] | str:
    """The bid, and USD an hour with the disk; or the filter that it fails."""
    bid, price = None, listed.dph_total
    if settings.interruptible:
        disk = listed.storage_price(settings.disk)
        if listed.min_bid is None or disk is None:
            return _UNREADABLE
        if settings.max_bid is not None and listed.min_bid > settings.max_bid:
            return "bid over vast.max_bid"
        bid = _bid(listed.min_bid, disk, settings)
        price = bid + disk
    if price is None:
        return _UNREADABLE
    if settings.max_price is not None and price > settings.max_price + _ROUNDING:
        return f"dph_total<={settings.max_price:g}"
    return bid, price


def _bid(least: float, disk: float, settings: VastConfig) -> float:
    """What to bid, USD an hour without the `disk`: a little over the least, and no more than the ceilings."""
    ceilings = [settings.max_bid, None if settings.max_price is None else settings.max_price - disk]
    ceiling = min((limit for limit in ceilings if limit is not None), default=math.inf)
    # Rounded first: 0.3 * 1.1 is a little over 0.33, and would become 0.331.
    wanted = math.ceil(round(least * _ABOVE_MINIMUM * _BID_STEP, 6)) / _BID_STEP
    return max(least, min(ceiling, wanted))
