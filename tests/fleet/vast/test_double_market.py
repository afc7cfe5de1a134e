"""The double's marketplace, searched through the real SDK."""

from __future__ import annotations

from typing import Any

import pytest
from doubles.vast.sdk import Tenant

CHEAP_FIRST = "dph_total"


def ids(offers: list[dict[str, Any]]) -> list[int]:
    return [offer["id"] for offer in offers]


async def test_forty_offers_are_for_rent_by_default(tenant: Tenant) -> None:
    assert len(await tenant.sdk("search_offers", {}, no_default=True)) == 40


async def test_the_papers_filter_finds_reliable_cards_of_one_kind(tenant: Tenant) -> None:
    found = await tenant.sdk("search_offers", "gpu_name=RTX_4090 reliability>0.95", order=CHEAP_FIRST)
    assert {offer["gpu_name"] for offer in found} == {"RTX 4090"}
    assert min(offer["reliability"] for offer in found) > 0.95
    assert [offer["dph_total"] for offer in found] == sorted(offer["dph_total"] for offer in found)
    assert {offer["verification"] for offer in found} == {"verified"}


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({"dph_base": {"eq": 1.0}}, False),
        ({"dph_base": {"eq": 0.5}}, True),
        ({"dph_base": {"neq": 0.5}}, False),
        ({"dph_base": {"gt": 0.5}}, False),
        ({"dph_base": {"gte": 0.5}}, True),
        ({"dph_base": {"lt": 0.5}}, False),
        ({"dph_base": {"lte": "0.5"}}, True),
        ({"gpu_name": {"in": ["H200", "RTX 4090"]}}, True),
        ({"gpu_name": {"eq": "RTX_4090"}}, False),
        ({"gpu_name": {"notin": ["RTX 4090"]}}, False),
        ({"geolocation": {"in": ["SE", "NO"]}}, True),
        ({"geolocation": {"notin": ["SE"]}}, False),
        ({"verified": {"eq": True}}, True),
        ({"verification": {"eq": "deverified"}}, False),
        ({"external": {"eq": False}}, True),
        ({"duration": {"gte": 40 * 86400}}, False),
        ({"gpu_ram": {"gte": 24000}, "cuda_max_good": {"gte": 12.4}}, True),
    ],
)
async def test_an_offer_is_found_if_it_fits(tenant: Tenant, filters: dict[str, Any], fits: bool) -> None:
    tenant.server.market.clear()
    tenant.server.market.add(dph_base=0.5, geolocation="Sweden, SE")
    assert bool(await tenant.sdk("search_offers", filters, no_default=True)) == fits


async def test_prices_hold_the_disk_that_is_asked_for(tenant: Tenant) -> None:
    tenant.server.market.clear()
    tenant.server.market.add(dph_base=0.5, storage_cost=0.144)
    [small] = await tenant.sdk("search_offers", {}, storage=10.0)
    [large] = await tenant.sdk("search_offers", {}, storage=100.0)
    assert (small["dph_total"], large["dph_total"]) == (pytest.approx(0.502), pytest.approx(0.52))


async def test_interruptible_offers_cost_their_lowest_bid(tenant: Tenant) -> None:
    tenant.server.market.clear()
    tenant.server.market.add(dph_base=0.5, min_bid=0.2)
    [offer] = await tenant.sdk("search_offers", {}, type="bid")
    assert (offer["is_bid"], offer["dph_base"]) == (True, 0.2)


async def test_only_so_many_are_shown_as_asked_for(tenant: Tenant) -> None:
    assert len(await tenant.sdk("search_offers", {}, limit=3)) == 3


async def test_a_rented_offer_is_found_no_more_until_it_is_given_back(tenant: Tenant) -> None:
    offer = tenant.server.market.add()["id"]
    id = await tenant.rent(offer)
    assert offer not in ids(await tenant.sdk("search_offers", {}))
    await tenant.sdk("destroy_instance", id)
    assert offer in ids(await tenant.sdk("search_offers", {}))


async def test_an_offer_that_vanished_is_found_no_more(tenant: Tenant) -> None:
    offer = tenant.server.market.add()["id"]
    tenant.server.market.vanish(offer)
    assert offer not in ids(await tenant.sdk("search_offers", {}))


@pytest.mark.parametrize(
    "query", [{"colour": {"eq": "red"}}, {"gpu_name": {"like": "RTX"}}, {"dph_base": {"gt": "cheap"}}]
)
async def test_a_search_that_makes_no_sense_is_refused(tenant: Tenant, query: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="400 Client Error"):
        await tenant.sdk("search_offers", query)


async def test_two_offers_share_a_machine(tenant: Tenant) -> None:
    found = await tenant.sdk("search_offers", {}, no_default=True)
    assert len({offer["machine_id"] for offer in found}) == 39
