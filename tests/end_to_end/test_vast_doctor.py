"""What `llmhost doctor` says of a rented fleet, as a user runs it, and that it changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
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


def failed(checks: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, check in checks.items() if not check["ok"]]


@pytest.fixture
def house(rented_house: RentedHouse) -> RentedHouse:
    """With a budget that holds, and machines that boot for as long as the test lasts."""
    rented_house.configure(**BUDGET)
    rented_house.boot_for_ever()
    return rented_house


async def test_before_the_first_worker_all_checks_pass(house: RentedHouse) -> None:
    checks = await checks_of(house)
    assert failed(checks) == []
    assert checks["account"]["detail"] == "the key is valid; $100.00 of credit"
    assert checks["offers"]["detail"] == "10 fit now, from $0.31/h"
    assert (checks["workers"]["detail"], checks["costs"]["detail"]) == (
        "none; `llmhost up` rents them",
        "nothing is rented",
    )


async def test_with_workers_that_answer_all_checks_pass(rented_house: RentedHouse) -> None:
    rented_house.configure(**BUDGET)
    await rented_house.ok("up", "--gpus", "2", "--yes")
    checks = await checks_of(rented_house)
    assert failed(checks) == []
    for worker in rented_house.alive():
        assert checks[f"worker {worker}"]["detail"] == "answers (version 0.12.3); tiny is loaded"
    assert checks["costs"]["detail"].startswith("2 workers cost $0.63/h, $15.")


async def test_an_invalid_key_is_reported_once_and_where_to_get_one(house: RentedHouse) -> None:
    checks = await checks_of(house, VAST_API_KEY="0" * 64)
    assert failed(checks) == ["account"]
    assert "https://cloud.vast.ai/manage-keys/" in checks["account"]["fix"]
    assert {"offers", "workers", "budget", "orphans"} & set(checks) == set()


async def test_a_worker_whose_container_ended_is_reported_with_what_it_still_costs(
    house: RentedHouse,
) -> None:
    await house.ok("up", "--yes", "--no-wait")
    house.server.become(bought(1), "exited")
    checks = await checks_of(house)
    assert failed(checks) == [f"worker vast-{bought(1)}"]
    assert "until then it costs $0.01/h" in checks[f"worker vast-{bought(1)}"]["fix"]
    assert checks["costs"]["detail"].startswith("1 worker costs $0.01/h")
