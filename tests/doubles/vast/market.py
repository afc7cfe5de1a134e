"""The marketplace: asks that can be searched, are taken, come back, or vanish."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from doubles.vast.answers import refusal
from doubles.vast.catalogue import FIRST_OFFER, Offer, default_catalogue, make_offer
from doubles.vast.filters import check, in_order, invalid, matches

#: hours; vast.ai's month of storage is 30 days (storage_cost x disk / 720 = diskHour in its examples).
MONTH = 720.0

#: GB; what a search prices when it names no size.
DEFAULT_STORAGE = 8.0

TYPES = {"ondemand": False, "on-demand": False, "reserved": False, "bid": True, "interruptible": True}

#: Keys of a query that are no filters.
SETTINGS = {"order", "type", "limit", "allocated_storage", "disable_bundling"}

#: Keys that can be searched and are worked out from others.
DERIVED = {"verified", "rented", "datacenter", "ubuntu_version", "start_date", "end_date"}

#: seconds; since when each offer has been there. Nobody looks at it.
LISTED = 86_400.0


class Market:
    def __init__(self) -> None:
        self.offers: dict[int, Offer] = {offer["id"]: offer for offer in default_catalogue()}
        self.rented: set[int] = set()
        self._ids = itertools.count(FIRST_OFFER + 1000)

    def add(self, **changes: Any) -> Offer:
        """Puts one more offer up for rent, with an id and a machine of its own unless told otherwise."""
        number = next(self._ids)
        offer = make_offer(**{"id": number, "machine_id": number, "host_id": number, **changes})
        self.offers[offer["id"]] = offer
        return offer

    def clear(self) -> None:
        self.offers.clear()

    def vanish(self, id: int) -> None:
        """The host withdraws it; searching and buying no longer find it."""
        self.offers.pop(id, None)

    def take(self, id: int) -> None:
        self.rented.add(id)

    def give_back(self, id: int) -> None:
        self.rented.discard(id)

    def search(self, query: Any, now: float) -> list[Mapping[str, Any]]:
        """Answers a search as it is sent. Raises Refused (400) at what cannot be understood."""
        if not isinstance(query, Mapping):
            raise refusal(400, "invalid_request", "Invalid json body")
        bid, storage = _bid(query), float(query.get("allocated_storage") or DEFAULT_STORAGE)
        filters = {key: value for key, value in query.items() if key not in SETTINGS}
        check(filters, set(make_offer()) | set(priced(make_offer())) | DERIVED)
        shown = (priced(self._today(offer, now), storage, bid) for offer in self.offers.values())
        found = [row for row in shown if matches(_searched(row), _bounded(filters))]
        rows = in_order(found, [tuple(pair) for pair in query.get("order") or [("score", "desc")]])
        return [dict(row) for row in rows[: query.get("limit")]]

    def _today(self, offer: Offer, now: float) -> Offer:
        return {
            **offer,
            "rented": offer["id"] in self.rented,
            "start_date": now - LISTED,
            "end_date": now + offer["duration"],
            "public_ipaddr": "203.0.113.1",
        }


def priced(offer: Offer, storage: float = DEFAULT_STORAGE, bid: bool = False) -> Offer:
    """With everything that hangs on how much disk is wanted and on how it is rented."""
    base = offer["min_bid"] if bid else offer["dph_base"]
    disk = offer["storage_cost"] * storage / MONTH
    total = base + disk
    return {
        **offer,
        "ask_contract_id": offer["id"],
        "is_bid": bid,
        "dph_base": base,
        "dph_total": total,
        "storage_total_cost": disk,
        "dlperf_per_dphtotal": offer["dlperf"] / total,
        "flops_per_dphtotal": offer["total_flops"] / total,
        "score": offer["dlperf"] / total * offer["reliability"],
        "search": {
            "gpuCostPerHour": base,
            "diskHour": disk,
            "totalHour": total,
            "discountTotalHour": 0,
            "discountedTotalPerHour": total,
        },
    }


def _bid(query: Mapping[str, Any]) -> bool:
    try:
        return TYPES[query.get("type", "ondemand")]
    except (KeyError, TypeError) as error:
        raise invalid(f"{query.get('type')} is not a valid type") from error


def _searched(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the values that filters compare, which are not always those that are shown."""
    return {
        **row,
        "verified": row["verification"] == "verified",
        "external": bool(row["external"]),
        "datacenter": row["hosting_type"] == 1,
        "ubuntu_version": row["os_version"],
        "geolocation": row["geolocation"].rpartition(" ")[2],
    }


def _bounded(filters: Mapping[str, Any]) -> dict[str, Any]:
    """What is rented is left out unless it is asked for."""
    return {"rented": {"eq": False}, **filters}
