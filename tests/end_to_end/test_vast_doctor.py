"""What `llmhost doctor` says of a rented fleet, as a user runs it, and that it changes nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest
from doubles.vast.faults import Fault
from doubles.vast.server import Drop
from plugins.rented_commands import RentedHouse, bought

pytestmark = pytest.mark.slow

#: USD; far over what the double's machines cost
BUDGET = {"fleet": {"budget": {"per_hour": 10.0, "per_day": 200.0}}}


async def checks_of(house: RentedHouse, **environ: str) -> dict[str, dict[str, Any]]:
    """The findings by name. The account must be as it was before."""
    before = house.alive()
    done = await house.run("doctor", "--json", **environ)
    checks = {check["name"]: check for check in done.json["checks"]}
    assert done.code == (0 if all(check["ok"] for check in checks.values()) else 1)
    assert house.alive() == before
    assert house.server.key not in done.out + done.err
    return checks


def wrong(checks: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, check in checks.items() if not check["ok"]]


@pytest.fixture
def house(rented_house: RentedHouse) -> RentedHouse:
    """With a budget that holds, and machines that boot for as long as the test lasts."""
    rented_house.configure(**BUDGET)
    rented_house.boot_for_ever()
    return rented_house


async def test_before_the_first_worker_all_is_well(house: RentedHouse) -> None:
    checks = await checks_of(house)
    assert wrong(checks) == []
    assert checks["account"]["detail"] == "the key is valid; $100.00 of credit"
    assert checks["offers"]["detail"] == "10 fit now, from $0.31/h"
    assert (checks["workers"]["detail"], checks["costs"]["detail"]) == (
        "none; `llmhost up` rents them",
        "nothing is rented",
    )


async def test_with_workers_that_answer_all_is_well(rented_house: RentedHouse) -> None:
    rented_house.configure(**BUDGET)
    await rented_house.ok("up", "--gpus", "2", "--yes")
    checks = await checks_of(rented_house)
    assert wrong(checks) == []
    for worker in rented_house.alive():
        assert checks[f"worker {worker}"]["detail"] == "answers (version 0.12.3); tiny is loaded"
    assert checks["costs"]["detail"].startswith("2 workers cost $0.63/h, $15.")


async def test_a_key_that_is_not_accepted_is_told_once_and_where_to_get_one(house: RentedHouse) -> None:
    checks = await checks_of(house, VAST_API_KEY="0" * 64)
    assert wrong(checks) == ["account"]
    assert "https://cloud.vast.ai/manage-keys/" in checks["account"]["fix"]
    assert {"offers", "workers", "budget", "orphans"} & set(checks) == set()


async def test_offers_that_do_not_suffice_are_told_with_what_turns_them_away(house: RentedHouse) -> None:
    checks = await checks_of(house, LLMHOST_VAST__OFFERS="reliability>0.999")
    assert wrong(checks) == ["offers"]
    assert checks["offers"]["detail"] == "0 fit now, 1 needed; rejected: 10 by reliability>0.999"


async def test_a_fleet_without_a_budget_is_told_which_key_to_set(house: RentedHouse) -> None:
    house.configure()
    checks = await checks_of(house)
    assert wrong(checks) == ["budget"]
    assert "`fleet.budget.per_day`" in checks["budget"]["fix"]


async def test_a_budget_that_is_too_small_for_what_runs_is_told(house: RentedHouse) -> None:
    await house.ok("up", "--gpus", "2", "--yes", "--no-wait")
    checks = await checks_of(house, LLMHOST_FLEET__BUDGET__PER_HOUR="0.5")
    assert wrong(checks) == ["budget"]
    # The rest of the sentence depends on how much of the hour is left.
    assert "over the limit of $0.50" in checks["budget"]["detail"]


async def test_credit_that_ends_tonight_is_told(house: RentedHouse) -> None:
    await house.ok("up", "--yes", "--no-wait")
    house.server.credit = 2.0
    checks = await checks_of(house)
    assert wrong(checks) == ["account"]
    assert "$2.00 of credit, 6.4 h at $0.31/h" in checks["account"]["detail"]


async def test_a_machine_that_nobody_remembers_is_told_and_what_it_costs(house: RentedHouse) -> None:
    label = f"llmhost/rented/{time.time():.0f}-0123abcd"
    await house.sdk("create_instance", house.offers[0]["id"], image="x", disk=50, label=label)
    checks = await checks_of(house)
    assert wrong(checks) == ["orphans"]
    assert checks["orphans"]["detail"] == (
        f"vast-{bought(1)}: rented for this fleet but not on record, $0.31/h"
    )


async def test_a_purchase_that_came_to_nothing_is_told_until_it_is_forgotten(house: RentedHouse) -> None:
    async def kill(endpoint: str, _: int) -> None:
        if endpoint == "create":
            up.process.kill()
            raise Drop

    house.server.before = kill
    up = await house.start("up", "--yes")
    await up.end()
    house.server.before = None
    checks = await checks_of(house)
    assert (wrong(checks), checks["orphans"]["detail"]) == (
        ["orphans"],
        "1 purchase pending for which vast.ai lists no instance",
    )
    await house.ok("down", "--orphans")
    assert wrong(await checks_of(house)) == []


async def test_a_worker_that_has_come_nowhere_for_too_long_is_told(house: RentedHouse) -> None:
    house.server.arm(Fault.STUCK)
    await house.ok("up", "--yes", "--no-wait")
    assert wrong(await checks_of(house)) == []
    checks = await checks_of(house, LLMHOST_FLEET__READY_TIMEOUT="1ms")
    (name,) = wrong(checks)
    assert (name, " already" in checks[name]["detail"]) == (f"worker vast-{bought(1)}", True)
    assert "`llmhost up`" in checks[name]["fix"]


async def test_a_worker_whose_container_ended_is_told_with_what_it_still_costs(house: RentedHouse) -> None:
    await house.ok("up", "--yes", "--no-wait")
    house.server.become(bought(1), "exited")
    checks = await checks_of(house)
    assert wrong(checks) == [f"worker vast-{bought(1)}"]
    assert "until then it costs $0.01/h" in checks[f"worker vast-{bought(1)}"]["fix"]
    assert checks["costs"]["detail"].startswith("1 worker costs $0.01/h")


async def test_a_list_that_cannot_be_read_hides_nothing_else(house: RentedHouse) -> None:
    house.server.arm(Fault.LIST_NULL, times=None)
    checks = await checks_of(house)
    assert wrong(checks) == ["workers"]
    assert "cannot be read" in checks["workers"]["detail"]
    assert {"account", "redis"} <= set(checks)
