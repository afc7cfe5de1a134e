"""Attempts to go over a budget by downloads: image and model of each purchase are billed by the GB."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

import pytest
from doubles.rented_fleet import SPEED, RentedFleet

from llmhost.errors import LimitError, LlmhostError
from llmhost.fleet.budget import Limits
from llmhost.fleet.models import Stay
from llmhost.ledger.ledger import Ledger

HOUR, DAY = 3600.0, 86_400.0

#: what a worker downloads, and what that costs at the price below
STAY, USD_PER_GB = Stay(image_gb=2.5, model_gb=5.0), 0.04
TRAFFIC = 0.3


async def at_midnight(fleet: RentedFleet, per_day: float) -> RentedFleet:
    for number, offer in list(fleet.server.market.offers.items()):
        fleet.server.market.offers[number] = {**offer, "inet_down_cost": USD_PER_GB}
    await fleet.clock.sleep(DAY - fleet.clock.now() % DAY)
    return replace(fleet, limits=Limits(per_day=per_day), stay=STAY)


def download(fleet: RentedFleet, billed: set[int]) -> None:
    """Every new worker is billed for what it downloads."""
    for number in set(fleet.server.alive()) - billed:
        fleet.server.traffic(number, down=STAY.image_gb + STAY.model_gb)
        billed.add(number)


async def test_traffic_of_a_purchase_is_within_the_budget_or_nothing_is_bought(fleet: RentedFleet) -> None:
    fleet = await at_midnight(fleet, per_day=5.2)  # a day of one worker costs 5.06
    with pytest.raises(LimitError, match=r"\$0\.30 for traffic"):
        await fleet.service().up(1)
    assert fleet.ids == set()
    await fleet.clock.sleep(2 * HOUR)
    await fleet.service().up(1)
    rentals = await Ledger(fleet.client, fleet.fleet).rentals()
    assert sum(rental.once for rental in rentals) == pytest.approx(TRAFFIC)


async def test_what_several_purchases_download_is_refused_together(fleet: RentedFleet) -> None:
    fleet = await at_midnight(fleet, per_day=1.0)
    await fleet.clock.sleep(23 * HOUR)
    with pytest.raises(LimitError, match=r"\$0\.60 for traffic"):
        await fleet.service().up(3)
    assert fleet.ids == set()


async def test_traffic_that_was_billed_is_not_counted_twice(fleet: RentedFleet) -> None:
    fleet = await at_midnight(fleet, per_day=100.0)
    await fleet.service().up(2)
    download(fleet, set())
    await fleet.clock.sleep(5 * HOUR)
    spent = fleet.server.billed_total()
    left = (sum(fleet.prices) + 0.25) * 19  # the third one costs a little less
    fleet = replace(fleet, limits=Limits(per_day=spent + left + TRAFFIC))
    await fleet.service().up(3)  # twice as much traffic would not fit
    assert len(fleet.ids) == 3
    spending = (await fleet.service().status()).spending
    assert spending.total == pytest.approx(fleet.server.billed_total(), abs=0.05)
    assert spending.periods.day == pytest.approx(fleet.server.billed_total(), abs=0.05)


async def test_a_step_of_autoscaling_expects_the_traffic_of_the_last_purchase(fleet: RentedFleet) -> None:
    fleet = await at_midnight(fleet, per_day=100.0)
    await fleet.service().up(1)
    left = 2 * fleet.prices[0] * 24
    fleet = replace(fleet, limits=Limits(per_day=left + 1.5 * TRAFFIC))  # one is spent
    fleet.traffic.ask(2 * SPEED * 0.75)
    await fleet.clock.sleep(90)
    result = await fleet.scaler().step()
    assert (result.decision.blocked is not None, len(fleet.ids)) == (True, 1)
    assert "$0.30 for traffic" in result.decision.reason


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_no_history_of_purchases_costs_more_in_a_day_than_its_budget_traffic_included(
    fleet: RentedFleet, seed: int
) -> None:
    """Even where the bill of the traffic comes only after that day."""
    chance = random.Random(seed)
    fleet = await at_midnight(fleet, per_day=3.0)
    midnight = fleet.clock.now() + DAY
    await fleet.clock.sleep(chance.uniform(12, 20) * HOUR)
    while fleet.clock.now() < midnight - 2 * HOUR:
        move = chance.choice(["up", "up", "down", "scale", "scale"])
        with suppress(LlmhostError):
            if move == "up":
                await fleet.service().up(chance.randint(1, 4))
            elif move == "down":
                await fleet.service().down()
            else:
                fleet.traffic.ask(chance.randint(0, 3) * SPEED * 0.75)
                await fleet.scaler().step()
        await fleet.clock.sleep(chance.uniform(60, 2400))
    await fleet.clock.sleep(midnight - fleet.clock.now())
    assert fleet.server.created_total >= 1
    assert fleet.server.billed_total() + fleet.server.created_total * TRAFFIC <= 3.0
