"""What a fleet does when its workers cost money: it asks, keeps to the budget, and replaces what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import ORIGIN, make_offer, make_spec
from doubles.memory_provider import RentingProvider

from llmhost.errors import FleetBusy, LimitError, LlmhostError, ProviderError, PurchaseUnclear
from llmhost.fleet.budget import Limits
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import WorkerState
from llmhost.fleet.provider import agree
from llmhost.fleet.provision import Approve
from llmhost.fleet.registry import FleetRegistry
from llmhost.store.keys import FleetKeys
from llmhost.store.lease import Lease


@pytest.fixture
def renting(bench: Any) -> Any:
    """A market of six machines, each a cent dearer than the one before."""
    bench.cloud.market = [make_offer(f"o-{n}", price_per_hour=0.40 + n / 100) for n in range(6)]
    return bench


def service(bench: Any, **more: Any) -> Any:
    return bench.make(provider=RentingProvider(bench.cloud), attempts=more.pop("attempts", 3), **more)


def noting(asked: list[Any]) -> Approve:
    """Agrees to everything, and keeps what it was shown."""

    async def approve(quote: Any) -> None:
        asked.append(quote)

    return approve


def ids(workers: Any) -> list[str]:
    return [worker.id for worker in workers]


def machines(workers: Any) -> list[str]:
    return [worker.machine for worker in workers]


async def test_what_would_be_bought_is_shown_before(renting: Any) -> None:
    shown: list[Any] = []
    await service(renting).up(2, approve=noting(shown))
    (quote,) = shown
    assert [offer.id for offer in quote.purchases] == ["o-0", "o-1"]
    assert quote.hourly_usd == pytest.approx(0.81)


async def test_what_is_shown_is_on_other_machines_than_those_that_failed_just_now(renting: Any) -> None:
    await service(renting).up(1)
    renting.cloud.fail("memory-1", "stuck")
    renting.cloud.market = [make_offer("o-0"), make_offer("o-1")]
    quote = await service(renting).plan(1)
    assert [offer.id for offer in quote.purchases] == ["o-1"]


async def test_without_approval_nothing_is_bought_and_nothing_destroyed(renting: Any) -> None:
    await service(renting).up(1)
    renting.cloud.fail("memory-1", "stuck")

    async def refuse(quote: Any) -> None:
        raise LlmhostError("no")

    with pytest.raises(LlmhostError, match="no"):
        await service(renting).up(2, approve=refuse)
    assert list(renting.cloud.machines) == ["memory-1"]


async def test_nobody_is_asked_when_nothing_is_bought(renting: Any) -> None:
    await service(renting).up(2)
    asked: list[Any] = []
    await service(renting).up(2, approve=noting(asked))
    await service(renting).up(1, approve=noting(asked))
    assert asked == []


# While the question is open, and after the answer


async def test_the_lock_is_free_while_the_question_is_open(renting: Any) -> None:
    async def approve(quote: Any) -> None:
        async with FleetLock(renting.folder / "lock").hold(wait=False):
            pass

    result = await service(renting).up(1, approve=approve)
    assert ids(result.workers) == ["memory-1"]


async def test_a_down_takes_its_turn_while_the_question_is_open(
    renting: Any, machine: Callable[..., Any]
) -> None:
    await machine("here").up(1)

    async def approve(quote: Any) -> None:
        assert (await machine("there").down()).destroyed == ("memory-1",)

    result = await machine("here").up(3, approve=approve)
    # Two were approved beside the one that was there; its place is not filled unasked.
    assert (ids(result.workers), renting.cloud.created) == (["memory-2", "memory-3"], 3)
    assert ["than you agreed to" in failure.message for failure in result.failed] == [True]


async def test_what_others_bought_while_the_question_was_open_is_not_bought_again(
    renting: Any, machine: Callable[..., Any]
) -> None:
    async def approve(quote: Any) -> None:
        await machine("there").up(2)

    result = await machine("here").up(2, approve=approve)
    assert (ids(result.workers), renting.cloud.created) == (["memory-1", "memory-2"], 2)


async def test_nothing_is_bought_where_prices_rose_while_the_question_was_open(renting: Any) -> None:
    async def approve(quote: Any) -> None:
        renting.cloud.market = [make_offer(f"n-{n}", price_per_hour=0.60) for n in range(6)]

    with pytest.raises(LimitError, match=r"the next offer costs \$0\.600 an hour"):
        await service(renting).up(2, approve=approve)
    assert renting.cloud.created == 0


async def test_a_working_worker_is_not_destroyed_for_one_that_became_too_dear(renting: Any) -> None:
    await service(renting).up(1)

    async def approve(quote: Any) -> None:
        renting.cloud.market = [make_offer("dear", price_per_hour=0.9)]

    with pytest.raises(LimitError):
        await service(renting, spec=make_spec(model="other")).up(1, approve=approve)
    assert list(renting.cloud.machines) == ["memory-1"]


async def test_a_purchase_that_came_up_after_the_quote_is_asked_about_without_the_lock(renting: Any) -> None:
    await service(renting).up(1)
    asked: list[Any] = []

    class Leaving(RentingProvider):
        """The worker is gone as soon as the fleet is locked."""

        async def resolve_pending(self) -> None:
            renting.cloud.machines.pop("memory-1", None)

    async def approve(quote: Any) -> None:
        async with FleetLock(renting.folder / "lock").hold(wait=False):
            asked.append(quote)

    result = await renting.make(provider=Leaving(renting.cloud)).up(1, approve=approve)
    assert (len(asked), ids(result.workers)) == (1, ["memory-2"])


async def test_the_lock_is_free_while_a_replacement_is_asked_about(renting: Any) -> None:
    await service(renting).up(1)
    renting.refusing.add("memory-1")

    async def approve(quote: Any) -> None:
        async with FleetLock(renting.folder / "lock").hold(wait=False):
            pass

    result = await service(renting).up(1, approve=approve)
    assert ids(result.workers) == ["memory-2"]


async def test_an_offer_that_somebody_else_took_is_passed_over(renting: Any) -> None:
    renting.cloud.taken = {"o-0", "o-2"}
    result = await service(renting).up(2)
    assert machines(result.workers) == ["m-o-1", "m-o-3"]
    assert result.failed == ()


async def test_nothing_much_dearer_than_what_was_agreed_to_is_bought(renting: Any) -> None:
    renting.cloud.market = [make_offer("cheap", price_per_hour=0.4), make_offer("dear", price_per_hour=0.9)]
    renting.cloud.taken = {"cheap"}
    with pytest.raises(LimitError, match=r"the next offer costs \$0\.900 an hour"):
        await service(renting).up(1)
    assert renting.cloud.created == 0


async def test_when_no_offer_is_left_the_rest_is_reported_with_what_was_turned_away(renting: Any) -> None:
    renting.cloud.market = [make_offer("only")]
    result = await service(renting).up(2)
    assert ids(result.workers) == ["memory-1"]
    (failure,) = result.failed
    assert failure.message == "no offer is left that fits; rejected: 4 by reliability>0.95"


async def test_a_failed_worker_is_replaced_on_another_machine(renting: Any) -> None:
    renting.refusing.add("memory-1")
    result = await service(renting).up(1)
    assert (ids(result.workers), machines(result.workers)) == (["memory-2"], ["m-o-1"])
    assert (result.failed, [failure.worker for failure in result.replaced]) == ((), ["memory-1"])
    assert list(renting.cloud.machines) == ["memory-2"]


async def test_the_failed_one_is_gone_before_another_is_bought(renting: Any) -> None:
    renting.refusing.add("memory-1")
    await service(renting).up(2)
    assert renting.cloud.most_at_once == 2


async def test_the_others_come_up_while_one_is_replaced(renting: Any) -> None:
    renting.refusing.update({"memory-1", "memory-3"})
    result = await service(renting).up(2)
    assert sorted(ids(result.workers)) == ["memory-2", "memory-4"]
    assert {worker.state for worker in result.workers} == {WorkerState.READY}


async def test_a_machine_that_failed_is_not_rented_again(renting: Any, redis_client: Any) -> None:
    from llmhost.fleet.registry import FleetRegistry

    renting.registry = FleetRegistry(redis_client, "test", ORIGIN)
    renting.refusing.add("memory-1")
    await service(renting).up(1)
    await service(renting).down()
    await renting.clock.sleep(1)
    renting.cloud.market = [make_offer("again", machine="m-o-0", price_per_hour=0.1), make_offer("other")]
    result = await service(renting).up(1)
    assert machines(result.workers) == ["m-other"]


async def test_a_worker_listed_as_failed_makes_its_machine_a_bad_one(renting: Any, redis_client: Any) -> None:
    from llmhost.fleet.registry import FleetRegistry

    renting.registry = FleetRegistry(redis_client, "test", ORIGIN)
    await service(renting).up(1)
    renting.cloud.fail("memory-1", "its container has ended", stage="exited")
    await service(renting).up(1)
    assert set(await renting.registry.bans()) == {"m-o-0"}


@pytest.mark.parametrize("stage", ["outbid", "stopped"])
async def test_a_worker_that_was_outbid_or_stopped_for_want_of_credit_bans_no_machine(
    renting: Any, redis_client: Any, stage: str
) -> None:
    from llmhost.fleet.registry import FleetRegistry

    renting.registry = FleetRegistry(redis_client, "test", ORIGIN)
    await service(renting).up(1)
    renting.cloud.fail("memory-1", "it is over", stage=stage)
    renting.cloud.market = [make_offer("again", machine="m-o-0")]
    result = await service(renting).up(1)
    assert machines(result.workers) == ["m-o-0"]


async def test_a_ban_of_a_machine_ends_after_a_day(renting: Any, redis_client: Any) -> None:
    from llmhost.fleet.registry import FleetRegistry

    renting.registry = FleetRegistry(redis_client, "test", ORIGIN)
    await service(renting).up(1)
    renting.cloud.fail("memory-1", "its container has ended", stage="exited")
    await service(renting).up(1)
    renting.cloud.market = [make_offer("again", machine="m-o-0")]
    assert (await service(renting).plan(2)).purchases == ()
    await renting.clock.sleep(86_400)
    assert [offer.id for offer in (await service(renting).plan(2)).purchases] == ["again"]


@pytest.mark.parametrize("jump", [-1e7, 1e7])
async def test_a_clock_that_jumps_makes_no_ban_eternal(renting: Any, redis_client: Any, jump: float) -> None:
    from llmhost.fleet.registry import Ban, FleetRegistry

    renting.registry = FleetRegistry(redis_client, "test", ORIGIN)
    await renting.registry.ban("m-o-0", Ban("it stuck", renting.clock.now() - jump))
    assert [offer.id for offer in (await service(renting).plan(1)).purchases] == ["o-0"]


async def test_a_worker_that_answers_is_kept_by_up_whatever_its_provider_says(renting: Any) -> None:
    await service(renting).up(2)
    renting.cloud.fail("memory-1", "its label was changed", answers=True)
    result = await service(renting).up(2)
    assert ids(result.workers) == ["memory-1", "memory-2"]
    assert {worker.state for worker in result.workers} == {WorkerState.READY}
    assert (renting.cloud.created, result.failed) == (2, ())


async def test_a_worker_that_failed_but_answers_is_not_bought_a_second_time(renting: Any) -> None:
    await service(renting).up(1)
    renting.cloud.fail("memory-1", "its label was changed", answers=True)
    result = await service(renting).up(2)
    assert (len(result.workers), renting.cloud.created) == (2, 2)


async def test_replacing_ends_after_a_few_attempts(renting: Any) -> None:
    renting.refusing.update(f"memory-{n}" for n in range(1, 9))
    result = await service(renting, attempts=2).up(1)
    assert (renting.cloud.created, renting.cloud.machines, result.workers) == (3, {}, ())
    assert [failure.worker for failure in result.failed] == ["memory-3"]


async def test_a_worker_that_cannot_be_destroyed_is_not_replaced(renting: Any) -> None:
    renting.refusing.add("memory-1")
    renting.cloud.undying.add("memory-1")
    result = await service(renting).up(1)
    assert renting.cloud.created == 1
    assert ids(result.workers) == ["memory-1"]
    assert {failure.worker for failure in result.failed} == {"memory-1"}


async def test_after_an_unclear_purchase_nothing_more_is_bought(renting: Any) -> None:
    renting.cloud.create_errors = [PurchaseUnclear("it cannot be found out")]
    with pytest.raises(PurchaseUnclear):
        await service(renting).up(3)
    assert renting.cloud.created == 0


async def test_what_an_unclear_purchase_left_fills_the_fleet_and_the_rest_is_ended(renting: Any) -> None:
    class Late(RentingProvider):
        """The second purchase is unclear, and two machines of it come to light while we wait."""

        async def create(self, spec: Any, offer: Any = None, confirm: Any = agree) -> Any:
            worker = await super().create(spec, offer)
            if worker.id != "memory-2":
                return worker
            await super().create(spec, renting.cloud.market[0])
            raise PurchaseUnclear("it cannot be found out")

    await renting.make(provider=Late(renting.cloud)).up(2)
    assert sorted(renting.cloud.machines) == ["memory-1", "memory-2"]


async def test_more_than_the_budget_allows_is_refused_as_a_whole(renting: Any) -> None:
    with pytest.raises(LimitError, match="per_hour"):
        await service(renting, limits=Limits(per_hour=1.0)).up(3)
    assert renting.cloud.created == 0


async def test_a_replacement_keeps_to_the_budget_too(renting: Any) -> None:
    renting.refusing.add("memory-1")
    renting.cloud.market = [make_offer("a", price_per_hour=0.40), make_offer("b", price_per_hour=0.45)]
    result = await service(renting, limits=Limits(per_hour=0.42)).up(1)
    assert renting.cloud.created == 1
    assert any("per_hour" in failure.message for failure in result.failed)


async def test_with_a_budget_and_no_ledger_nothing_is_bought(renting: Any) -> None:
    renting.rentals = None
    with pytest.raises(LlmhostError, match="not known without Redis"):
        await service(renting, limits=Limits(per_day=100.0)).up(1)
    assert renting.cloud.created == 0


async def test_what_the_provider_billed_counts_where_it_is_more_than_what_we_saw(renting: Any) -> None:
    from llmhost.ledger.rentals import Charge

    now = renting.clock.now()
    renting.cloud.bills = [Charge("memory-9", 99.0, now - 3600, now)]
    with pytest.raises(LimitError, match="per_month"):
        await service(renting, limits=Limits(per_month=100.0)).up(1)


async def test_credit_that_is_nearly_gone_refuses_a_purchase(renting: Any) -> None:
    renting.cloud.credit = 0.2
    with pytest.raises(LimitError, match="credit"):
        await service(renting).up(1)


async def test_status_says_what_is_left_of_the_credit_and_what_was_billed(renting: Any) -> None:
    from llmhost.ledger.rentals import Charge

    await service(renting).up(1)
    renting.cloud.credit = 12.5
    started = renting.clock.now()
    await renting.clock.sleep(3600)
    renting.cloud.bills = [Charge("memory-1", 0.25, started, renting.clock.now())]
    status = await service(renting).status()
    assert status.account.credit == 12.5
    assert status.spending.by_worker == {"memory-1": 0.25}


async def test_orphans_are_ended_and_the_known_are_not(renting: Any, redis_client: Any) -> None:
    from llmhost.fleet.models import Intent
    from llmhost.fleet.registry import FleetRegistry

    renting.registry = FleetRegistry(redis_client, "test", ORIGIN)
    await service(renting).up(1)
    await RentingProvider(renting.cloud).create(make_spec(), renting.cloud.market[0])
    renting.cloud.begun = [Intent("i-1", "o-9", "m-9", renting.clock.now())]
    await renting.clock.sleep(3600)
    result = await service(renting).down_orphans()
    assert (result.destroyed, result.intents) == (("memory-2",), ("i-1",))
    assert ids(result.remaining) == ["memory-1"]
    assert renting.cloud.begun == []


async def test_without_a_registry_nobody_knows_what_is_an_orphan(renting: Any) -> None:
    await service(renting).up(1)
    with pytest.raises(LlmhostError, match="which workers are orphans"):
        await service(renting).down_orphans()
    assert len(renting.cloud.machines) == 1


async def test_an_interruption_while_a_worker_is_replaced_leaves_no_worker_unlisted(renting: Any) -> None:
    renting.refusing.add("memory-1")
    bought = asyncio.Event()

    class Slow(RentingProvider):
        async def create(self, spec: Any, offer: Any = None, confirm: Any = agree) -> Any:
            worker = await super().create(spec, offer)
            if worker.id == "memory-2":
                bought.set()
                await asyncio.Event().wait()
            return worker

    task = asyncio.create_task(renting.make(provider=Slow(renting.cloud), attempts=1).up(1))
    await bought.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ids((await service(renting).status()).workers) == ["memory-2"]


async def test_a_list_that_fails_while_waiting_ends_the_wait_and_keeps_what_was_bought(renting: Any) -> None:
    renting.cloud.boot_seconds = 100

    def fail(step: Any) -> None:
        renting.cloud.list_error = ProviderError("the list cannot be read")

    with pytest.raises(ProviderError):
        await service(renting).up(1, on_progress=fail)
    assert len(renting.cloud.machines) == 1


# Several machines, one Redis


class Slow(RentingProvider):
    """Others get their turn before each purchase, as they do on any network."""

    async def create(self, spec: Any, offer: Any = None, confirm: Any = agree) -> Any:
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().create(spec, offer)


@pytest.fixture
def machine(renting: Any, redis_client: Any) -> Callable[..., Any]:
    """Gives the service as a machine of this name has it."""

    def make(name: str, provider: Any = None, redis: bool = True) -> Any:
        lease = Lease(redis_client, FleetKeys("test").scale, holder=name)
        lock = FleetLock(renting.folder / name / "lock", lease if redis else None)
        return renting.make(provider=provider or Slow(renting.cloud), lock=lock, attempts=3)

    return make


async def test_two_machines_at_once_buy_no_more_than_was_asked_for(
    renting: Any, machine: Callable[..., Any]
) -> None:
    await asyncio.gather(machine("here").up(3), machine("there").up(3))
    assert renting.cloud.created == 3
    assert len(renting.cloud.machines) == 3


async def test_without_redis_two_machines_end_what_they_bought_too_much(
    renting: Any, machine: Callable[..., Any]
) -> None:
    await asyncio.gather(machine("here", redis=False).up(2), machine("there", redis=False).up(2))
    assert renting.cloud.created > 2
    assert len(renting.cloud.machines) == 2


async def steal(client: Any) -> None:
    """The lease has ended, and somebody else took it."""
    await client.hset(FleetKeys("test").scale, "lock:until", "1")
    assert await Lease(client, FleetKeys("test").scale, holder="thief").take() is not None


async def test_without_the_lock_that_it_held_it_buys_nothing(
    renting: Any, machine: Callable[..., Any], redis_client: Any
) -> None:
    class Sleepy(RentingProvider):
        quotes = 0

        async def offers(self, spec: Any) -> Any:
            self.quotes += 1
            if self.quotes == 2:  # the first quote is made before the lock is taken
                await steal(redis_client)
            return await super().offers(spec)

    with pytest.raises(FleetBusy):
        await machine("here", Sleepy(renting.cloud)).up(2)
    assert renting.cloud.created == 0


async def test_whoever_loses_the_lock_between_two_purchases_keeps_the_first_and_buys_no_other(
    renting: Any, machine: Callable[..., Any], redis_client: Any
) -> None:
    class Sleepy(RentingProvider):
        async def create(self, spec: Any, offer: Any = None, confirm: Any = agree) -> Any:
            worker = await super().create(spec, offer)
            await steal(redis_client)
            await redis_client.hset(FleetKeys("test").scale, "lock:until", "1")  # and died
            return worker

    result = await machine("here", Sleepy(renting.cloud)).up(2)
    assert renting.cloud.created == 1
    assert ids(result.workers) == ["memory-1"]
    assert ["another" in failure.message for failure in result.failed] == [True]


# Workers that are too many


async def busy(redis: Any, worker: str, until: float) -> None:
    """It works on one question, by the clock of Redis."""
    await redis.zadd(f"llmhost:test:load:{worker}", {"question": until})


class Answering(ManualClock):
    """While it sleeps, the last answer comes to its end. `slept` counts."""

    slept = 0

    def __init__(self, redis: Any, ends_after: int) -> None:
        super().__init__()
        self.redis, self.ends_after = redis, ends_after

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        if self.slept == self.ends_after:
            await self.redis.delete("llmhost:test:load:memory-2")
        await super().sleep(seconds)


@pytest.fixture
def recorded(renting: Any, redis_client: Any) -> Any:
    renting.registry = FleetRegistry(redis_client, "test", ORIGIN)
    return renting


async def test_a_smaller_fleet_keeps_the_worker_that_is_busy(recorded: Any, redis_client: Any) -> None:
    await service(recorded).up(2)
    await busy(redis_client, "memory-2", 1e11)
    await service(recorded).up(1)
    assert list(recorded.cloud.machines) == ["memory-2"]


async def test_a_busy_worker_that_is_not_wanted_finishes_its_answers(
    recorded: Any, redis_client: Any
) -> None:
    await service(recorded).up(2)
    for worker in ("memory-1", "memory-2"):
        await busy(redis_client, worker, 1e11)
    clock = Answering(redis_client, ends_after=5)
    result = await service(recorded, clock=clock).up(1)
    assert (list(recorded.cloud.machines), clock.slept >= 5) == (["memory-1"], True)
    assert ids(result.plan.destroy) == ["memory-2"]


@pytest.mark.parametrize("command", ["up", "down"])
async def test_now_waits_for_no_answer(recorded: Any, redis_client: Any, command: str) -> None:
    await service(recorded).up(2)
    for worker in ("memory-1", "memory-2"):
        await busy(redis_client, worker, 1e11)
    clock = Answering(redis_client, ends_after=5)
    fleet = service(recorded, clock=clock)
    await (fleet.up(1, now=True) if command == "up" else fleet.down(now=True))
    assert (len(recorded.cloud.machines), clock.slept < 5) == (1 if command == "up" else 0, True)


async def test_down_lets_workers_finish_their_answers_for_as_long_as_one_may_take(
    recorded: Any, redis_client: Any
) -> None:
    await service(recorded).up(2)
    await busy(redis_client, "memory-2", 1e11)
    clock = Answering(redis_client, ends_after=10_000)
    begun = clock.monotonic()
    await service(recorded, clock=clock, drain_for=120.0).down()
    assert recorded.cloud.machines == {}
    assert clock.monotonic() - begun == pytest.approx(120, abs=1)


async def test_workers_that_may_not_be_replaced_take_questions_again(
    recorded: Any, redis_client: Any
) -> None:
    await service(recorded).up(1)
    await busy(redis_client, "memory-1", 1e11)

    class Interrupted(ManualClock):
        async def sleep(self, seconds: float) -> None:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await service(recorded, clock=Interrupted()).down()
    assert list(recorded.cloud.machines) == ["memory-1"]
    assert await recorded.registry.drains.draining() == frozenset()


async def test_what_was_spent_is_not_less_in_status_than_it_was_in_up(recorded: Any) -> None:
    await service(recorded).up(1)
    machine = recorded.cloud.machines["memory-1"]
    recorded.cloud.machines["memory-1"] = replace(machine, billing=0.01)  # while it boots, its disk alone
    await service(recorded).status()
    await recorded.clock.sleep(3600)
    up = await service(recorded).up(1)
    status = await service(recorded).status()
    assert 0.01 <= up.spent["memory-1"] <= status.spending.by_worker["memory-1"] < 0.1
