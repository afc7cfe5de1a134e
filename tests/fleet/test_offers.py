"""Which offers are bought first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.fleet.models import Offer
from llmhost.fleet.offers import choose, price_of_performance, rank


def make_offer(id: str, price: float = 0.4, performance: float = 100.0, **more: Any) -> Offer:
    values = {"reliability": 0.99, "region": "US", "machine": f"m-{id}", **more}
    return Offer(id, "RTX 4090", price, performance=performance, **values)


def ids(offers: tuple[Offer, ...]) -> list[str]:
    return [offer.id for offer in offers]


PRICES = st.sampled_from([0.0, 0.2, 0.3, 0.4])
OFFERS = st.lists(
    st.builds(
        make_offer,
        id=st.integers(0, 99).map(str),
        price=PRICES,
        performance=st.sampled_from([0.0, 50.0, 100.0, float("nan"), -1.0]),
        reliability=st.sampled_from([0.9, 0.99]),
        machine=st.sampled_from(["a", "b", "c"]),
    ),
    max_size=8,
    unique_by=lambda offer: offer.id,
)


def test_a_dear_machine_that_is_fast_enough_goes_first() -> None:
    slow, fast = make_offer("slow", 0.3, 50.0), make_offer("fast", 0.4, 100.0)
    assert ids(rank([slow, fast])) == ["fast", "slow"]


def test_unknown_performance_goes_last_by_price() -> None:
    offers = [make_offer("b", 0.2, 0.0), make_offer("a", 0.1, float("nan")), make_offer("dear", 9.0, 1.0)]
    assert ids(rank(offers)) == ["dear", "a", "b"]


def test_of_two_alike_the_reliable_one_goes_first_then_the_lower_id() -> None:
    offers = [make_offer("c"), make_offer("b"), make_offer("a", reliability=0.9)]
    assert ids(rank(offers)) == ["b", "c", "a"]


@pytest.mark.parametrize(("performance", "expected"), [(200.0, 0.002), (0.0, None), (float("inf"), None)])
def test_performance_has_its_price_where_it_is_known(performance: float, expected: float | None) -> None:
    assert price_of_performance(make_offer("a", 0.4, performance)) == expected


def test_no_more_are_chosen_than_wanted_or_there_are() -> None:
    offers = [make_offer("a"), make_offer("b"), make_offer("c")]
    assert ids(choose(offers, 2, ())) == ["a", "b"]
    assert ids(choose(offers, 9, ())) == ["a", "b", "c"]
    assert choose(offers, 0, ()) == choose(offers, -1, ()) == ()


def test_a_machine_to_avoid_is_avoided_in_all_its_parts() -> None:
    offers = [make_offer("a", machine="bad"), make_offer("b", machine="bad"), make_offer("c")]
    assert ids(choose(offers, 3, {"bad"})) == ["c"]


def test_an_offer_to_avoid_leaves_its_machine_in() -> None:
    offers = [make_offer("a", machine="m"), make_offer("b", machine="m")]
    assert ids(choose(offers, 3, {"a"})) == ["b"]


def test_an_offer_that_is_listed_twice_is_chosen_once() -> None:
    cheap, dear = make_offer("a", 0.3), make_offer("a", 0.5)
    assert choose([dear, cheap], 2, ()) == (cheap,)


@given(OFFERS, st.randoms())
def test_the_order_in_which_offers_come_changes_nothing(offers: list[Offer], dice: Any) -> None:
    shuffled = dice.sample(offers, len(offers))
    assert ids(rank(offers)) == ids(rank(shuffled))
    assert ids(choose(offers, 3, {"b"})) == ids(choose(shuffled, 3, {"b"}))


@given(OFFERS, st.integers(0, 9), st.sets(st.sampled_from(["a", "b", "c"])))
def test_what_is_chosen_is_the_best_of_what_may_be(offers: list[Offer], count: int, avoid: set[str]) -> None:
    allowed = [offer for offer in rank(offers) if offer.machine not in avoid]
    assert ids(choose(offers, count, avoid)) == [offer.id for offer in allowed[:count]]


@given(OFFERS)
def test_no_cheaper_token_stands_behind_a_dearer_one(offers: list[Offer]) -> None:
    costs = [price_of_performance(offer) for offer in rank(offers)]
    known = [cost for cost in costs if cost is not None]
    assert costs == sorted(known) + [None] * (len(costs) - len(known))
