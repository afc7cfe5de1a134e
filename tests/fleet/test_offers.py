"""Which offers are bought first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.fleet.models import Offer, Stay
from llmhost.fleet.offers import (
    TokenCost,
    choose,
    estimate_model_gb,
    price_of_performance,
    rank,
    token_costs,
)

DAY = Stay(86_400.0, image_gb=2.0, model_gb=6.0)
HOUR = replace(DAY, seconds=3600.0)


def make_offer(id: str, price: float = 0.4, bandwidth: float = 1000.0, **more: Any) -> Offer:
    values = {
        "gpu": "RTX 4090",
        "reliability": 0.99,
        "region": "US",
        "machine": f"m-{id}",
        "download": 800.0,
        "download_price": 0.002,
        **more,
    }
    return Offer(id, price_per_hour=price, bandwidth=bandwidth, **values)


def ids(offers: tuple[Offer, ...]) -> list[str]:
    return [offer.id for offer in offers]


def cost(offer: Offer, stay: Stay = DAY, speeds: dict[str, float] | None = None) -> TokenCost:
    ((_, found),) = token_costs([offer], stay, speeds or {})
    return found


OFFERS = st.lists(
    st.builds(
        make_offer,
        id=st.integers(0, 99).map(str),
        gpu=st.sampled_from(["RTX 4090", "RTX 3090", "H100"]),
        price=st.sampled_from([0.0, 0.2, 0.3, 0.4]),
        bandwidth=st.sampled_from([0.0, 500.0, 1000.0]),
        reliability=st.sampled_from([0.9, 0.99]),
        machine=st.sampled_from(["a", "b", "c"]),
        download=st.sampled_from([0.0, 10.0, 800.0]),
        download_price=st.sampled_from([None, 0.0, 0.09]),
    ),
    max_size=8,
    unique_by=lambda offer: offer.id,
)
STAYS = st.sampled_from([DAY, HOUR, Stay(60.0, 2.0, 6.0), Stay()])
SPEEDS = st.dictionaries(st.sampled_from(["RTX 4090", "H100"]), st.sampled_from([20.0, 90.0, 300.0]))


def test_a_dear_machine_that_is_fast_enough_goes_first() -> None:
    slow, fast = make_offer("slow", 0.3, 500.0), make_offer("fast", 0.4, 1000.0)
    assert ids(rank([slow, fast], DAY, {})) == ["fast", "slow"]


def test_cheap_rent_with_dear_traffic_goes_last_for_an_hour_and_first_for_a_day() -> None:
    offers = [make_offer("traffic", 0.3, download_price=0.09), make_offer("rent", 0.4)]
    assert ids(rank(offers, HOUR, {})) == ["rent", "traffic"]
    assert ids(rank(offers, DAY, {})) == ["traffic", "rent"]


def test_a_slow_line_costs_the_gpu_while_the_model_is_downloaded() -> None:
    slow, fast = make_offer("slow", 0.38, download=100.0), make_offer("fast", 0.4, download=800.0)
    assert ids(rank([slow, fast], HOUR, {})) == ["fast", "slow"]


def test_the_cost_of_a_token_is_made_of_rent_traffic_boot_and_speed() -> None:
    found = cost(make_offer("a", 0.4, 1000.0, download=100.0, download_price=0.05))
    assert found.rent_usd == pytest.approx(0.4 * 24)
    assert found.traffic_usd == pytest.approx(8 * 0.05)
    assert found.boot_seconds == pytest.approx(640.0)
    assert found.idle_usd == pytest.approx(0.4 * 480 / 3600)
    assert found.tokens_per_s == pytest.approx(100.0)
    assert found.usd_per_million == pytest.approx((9.6 + 0.4) / ((86_400 - 480) * 100.0) * 1e6)


def test_a_measured_speed_replaces_the_one_by_bandwidth() -> None:
    found = cost(make_offer("a"), speeds={"RTX 4090": 42.0})
    assert (found.tokens_per_s, found.measured) == (42.0, True)
    assert not cost(make_offer("a"), speeds={"H100": 42.0}).measured


def test_what_one_gpu_was_measured_at_scales_the_bandwidth_of_the_others() -> None:
    offers = [make_offer("a", bandwidth=1000.0), make_offer("b", gpu="H100", bandwidth=3000.0)]
    found = {offer.id: cost for offer, cost in token_costs(offers, DAY, {"RTX 4090": 50.0})}
    assert (found["b"].tokens_per_s, found["b"].measured) == (pytest.approx(150.0), False)


def test_an_unknown_price_of_traffic_counts_as_dear_and_an_unknown_line_as_slow() -> None:
    unknown = cost(make_offer("a", download=0.0, download_price=None))
    assert unknown.traffic_usd > cost(make_offer("a")).traffic_usd
    assert unknown.boot_seconds > cost(make_offer("a")).boot_seconds


def test_unknown_speed_goes_last_by_price() -> None:
    offers = [make_offer("b", 0.2, 0.0), make_offer("a", 0.1, 0.0), make_offer("dear", 9.0, 1.0)]
    assert ids(rank(offers, DAY, {})) == ["dear", "a", "b"]


def test_an_offer_that_is_not_ready_within_the_stay_goes_last() -> None:
    offers = [make_offer("never", 0.1, download=10.0), make_offer("ready", 0.4)]
    assert ids(rank(offers, HOUR, {})) == ["ready", "never"]


def test_of_two_alike_the_reliable_one_goes_first_then_the_lower_id() -> None:
    offers = [make_offer("c"), make_offer("b"), make_offer("a", reliability=0.9)]
    assert ids(rank(offers, DAY, {})) == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("llama3.1:8b", 4.8),
        ("qwen2:7b-instruct-q6_K", 5.95),
        ("llama3.2:3b-instruct-fp16", 6.3),
        ("smollm2:135m", 0.08),
        ("mixtral:8x7b", 33.6),
        ("hf.co/acme/Llama-3.2-3B-Instruct-GGUF:Q8_0", 3.3),
        ("mistral", 5.0),
    ],
)
def test_the_size_of_a_model_is_estimated_by_its_name(name: str, size: float) -> None:
    assert estimate_model_gb(name) == pytest.approx(size, abs=0.01)


@pytest.mark.parametrize(("performance", "expected"), [(200.0, 0.002), (0.0, None), (float("inf"), None)])
def test_performance_has_its_price_where_it_is_known(performance: float, expected: float | None) -> None:
    assert price_of_performance(make_offer("a", 0.4, performance=performance)) == expected


def test_no_more_are_chosen_than_wanted_or_there_are() -> None:
    offers = [make_offer("a"), make_offer("b"), make_offer("c")]
    assert ids(choose(offers, 2, (), DAY, {})) == ["a", "b"]
    assert ids(choose(offers, 9, (), DAY, {})) == ["a", "b", "c"]
    assert choose(offers, 0, (), DAY, {}) == choose(offers, -1, (), DAY, {}) == ()


def test_a_machine_to_avoid_is_avoided_in_all_its_parts() -> None:
    offers = [make_offer("a", machine="bad"), make_offer("b", machine="bad"), make_offer("c")]
    assert ids(choose(offers, 3, {"bad"}, DAY, {})) == ["c"]


def test_an_offer_to_avoid_leaves_its_machine_in() -> None:
    offers = [make_offer("a", machine="m"), make_offer("b", machine="m")]
    assert ids(choose(offers, 3, {"a"}, DAY, {})) == ["b"]


def test_an_offer_that_is_listed_twice_is_chosen_once() -> None:
    cheap, dear, other = make_offer("a", 0.3), make_offer("a", 0.5), make_offer("b", 0.4)
    assert choose([dear, other, cheap], 3, (), DAY, {}) == (cheap, other)


@given(OFFERS, STAYS, SPEEDS, st.randoms())
def test_the_order_in_which_offers_come_changes_nothing(
    offers: list[Offer], stay: Stay, speeds: dict[str, float], dice: Any
) -> None:
    shuffled = dice.sample(offers, len(offers))
    assert ids(rank(offers, stay, speeds)) == ids(rank(shuffled, stay, speeds))
    assert ids(choose(offers, 3, {"b"}, stay, speeds)) == ids(choose(shuffled, 3, {"b"}, stay, speeds))


@given(OFFERS, STAYS, SPEEDS)
def test_every_offer_has_one_rank(offers: list[Offer], stay: Stay, speeds: dict[str, float]) -> None:
    assert sorted(ids(rank(offers, stay, speeds))) == sorted(offer.id for offer in offers)


@given(OFFERS, STAYS, SPEEDS, st.sampled_from([0.05, 0.5]), st.data())
def test_an_offer_that_becomes_cheaper_never_falls(
    offers: list[Offer], stay: Stay, speeds: dict[str, float], less: float, data: Any
) -> None:
    if not offers:
        return
    number = data.draw(st.integers(0, len(offers) - 1))
    cheaper = replace(offers[number], price_per_hour=offers[number].price_per_hour * less)
    changed = [*offers[:number], cheaper, *offers[number + 1 :]]
    before, after = ids(rank(offers, stay, speeds)), ids(rank(changed, stay, speeds))
    assert after.index(cheaper.id) <= before.index(cheaper.id)


@given(OFFERS, STAYS, SPEEDS, st.data())
def test_an_offer_that_is_gone_leaves_the_order_of_the_others(
    offers: list[Offer], stay: Stay, speeds: dict[str, float], data: Any
) -> None:
    measured = {offer.gpu for offer in offers if offer.gpu in speeds and offer.bandwidth}
    gone = data.draw(
        st.sets(st.sampled_from([offer.id for offer in offers if offer.gpu not in measured] or [""]))
    )
    rest = [offer for offer in offers if offer.id not in gone]
    assert ids(rank(rest, stay, speeds)) == [id for id in ids(rank(offers, stay, speeds)) if id not in gone]


@given(OFFERS, st.integers(0, 9), st.sets(st.sampled_from(["a", "b", "c"])), SPEEDS)
def test_what_is_chosen_is_the_best_of_what_may_be(
    offers: list[Offer], count: int, avoid: set[str], speeds: dict[str, float]
) -> None:
    allowed = [offer for offer in rank(offers, DAY, speeds) if offer.machine not in avoid]
    assert ids(choose(offers, count, avoid, DAY, speeds)) == [offer.id for offer in allowed[:count]]


@given(OFFERS, STAYS, SPEEDS)
def test_no_cheaper_token_stands_behind_a_dearer_one(
    offers: list[Offer], stay: Stay, speeds: dict[str, float]
) -> None:
    costs = [cost.usd_per_million for _, cost in token_costs(offers, stay, speeds)]
    known = [cost for cost in costs if cost is not None]
    assert costs == sorted(known) + [None] * (len(costs) - len(known))
