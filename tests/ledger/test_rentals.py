"""What workers cost, written down by whoever sees them: the ledger in a real Redis, and the double of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from doubles.memory_rentals import MemoryRentals

from llmhost.config.models import RedisConfig
from llmhost.errors import StoreRefused
from llmhost.ledger.cost import spent
from llmhost.ledger.ledger import Ledger
from llmhost.ledger.rentals import Rental
from llmhost.store.client import connect

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.ledger.rentals import RentalBook

KEY = "llmhost:fleet:ledger:rentals"
DAY = 86_400.0


@pytest.fixture
def ledger(redis_client: Redis) -> Ledger:
    return Ledger(redis_client, "fleet")


@pytest.fixture(params=["redis", "memory"])
def book(request: pytest.FixtureRequest) -> RentalBook:
    found: RentalBook = request.getfixturevalue("ledger") if request.param == "redis" else MemoryRentals()
    return found


async def observe(book: RentalBook, *prices: tuple[float, float]) -> Sequence[Rental]:
    """A worker since second 100 is seen at some prices, each at a moment."""
    for price, now in prices:
        await book.observed("w", price, 100.0, now)
    return await book.rentals()


async def test_a_worker_is_paid_for_since_it_was_started(book: RentalBook) -> None:
    assert await observe(book, (0.5, 160.0)) == [Rental("w", 0.5, 100.0)]


async def test_what_was_paid_once_counts_once_whatever_happens_to_the_worker(book: RentalBook) -> None:
    await book.paid_once("w", 0.3, 100.0)
    await book.paid_once("w", 0.7, 100.0)
    await observe(book, (0.36, 160.0), (0.72, 170.0))
    await book.closed("w", 200.0)
    assert spent(await book.rentals(), 0.0, 200.0) == pytest.approx(0.3 + 60 * 1e-4 + 40 * 2e-4)
    assert spent(await book.rentals(), 101.0, 101.0) == 0


async def test_seen_again_at_its_price_it_is_one_rental(book: RentalBook) -> None:
    assert await observe(book, (0.5, 160.0), (0.5, 260.0), (0.5, 261.0)) == [Rental("w", 0.5, 100.0)]


async def test_a_price_that_fell_holds_from_when_it_was_seen(book: RentalBook) -> None:
    found = await observe(book, (0.5, 160.0), (0.1, 260.0))
    assert found == [Rental("w", 0.5, 100.0, 260.0), Rental("w", 0.1, 260.0)]


async def test_a_price_that_rose_holds_since_the_worker_was_last_seen_at_the_old_one(
    book: RentalBook,
) -> None:
    found = await observe(book, (0.1, 160.0), (0.5, 260.0))
    assert found == [Rental("w", 0.1, 100.0, 160.0), Rental("w", 0.5, 160.0)]


async def test_every_look_counts_as_seen(book: RentalBook) -> None:
    found = await observe(book, (0.1, 160.0), (0.1, 230.0), (0.5, 260.0))
    assert found == [Rental("w", 0.1, 100.0, 230.0), Rental("w", 0.5, 230.0)]


async def test_a_price_that_rose_before_anybody_looked_twice_is_the_only_one(book: RentalBook) -> None:
    assert await observe(book, (0.1, 100.0), (0.5, 260.0)) == [Rental("w", 0.5, 100.0)]


async def test_prices_may_change_often(book: RentalBook) -> None:
    found = await observe(book, (0.1, 200.0), (0.5, 300.0), (0.1, 400.0), (0.5, 500.0))
    assert found == [
        Rental("w", 0.1, 100.0, 200.0),
        Rental("w", 0.5, 200.0, 400.0),
        # Nobody saw it between 400 and 500: all of that time is counted dear.
        Rental("w", 0.5, 400.0),
    ]


async def test_a_look_that_comes_in_late_makes_nothing_cheaper(book: RentalBook) -> None:
    assert await observe(book, (0.5, 300.0), (0.1, 200.0)) == [Rental("w", 0.5, 100.0)]


async def test_a_dear_look_that_comes_in_late_counts_from_then(book: RentalBook) -> None:
    found = await observe(book, (0.1, 300.0), (0.5, 200.0))
    assert found == [Rental("w", 0.1, 100.0, 200.0), Rental("w", 0.5, 200.0)]


async def test_what_is_gone_ends_at_its_last_price(book: RentalBook) -> None:
    await observe(book, (0.5, 160.0), (0.1, 260.0))
    await book.closed("w", 360.0)
    assert await book.rentals() == [Rental("w", 0.5, 100.0, 260.0), Rental("w", 0.1, 260.0, 360.0)]


async def test_a_closed_rental_is_not_opened_again_by_a_late_look(book: RentalBook) -> None:
    await observe(book, (0.5, 160.0))
    await book.closed("w", 300.0)
    assert await observe(book, (0.5, 290.0), (0.9, 310.0)) == [Rental("w", 0.5, 100.0, 300.0)]


async def test_a_worker_that_was_taken_for_gone_and_is_listed_later_was_paid_for_all_the_time(
    book: RentalBook,
) -> None:
    await observe(book, (0.5, 160.0))
    await book.closed("w", 200.0)
    assert await observe(book, (0.5, 800.0)) == [Rental("w", 0.5, 100.0)]


async def test_a_worker_that_comes_back_is_paid_for_again(book: RentalBook) -> None:
    await observe(book, (0.5, 160.0))
    await book.closed("w", 200.0)
    await book.observed("w", 0.9, 300.0, 310.0)
    await book.closed("w", 400.0)
    assert await book.rentals() == [Rental("w", 0.5, 100.0, 200.0), Rental("w", 0.9, 300.0, 400.0)]


async def test_a_rental_closed_twice_ended_the_first_time(book: RentalBook) -> None:
    await observe(book, (0.5, 160.0))
    for ended in (300.0, 400.0):
        await book.closed("w", ended)
    assert await book.rentals() == [Rental("w", 0.5, 100.0, 300.0)]


async def test_no_rental_ends_before_it_begins(book: RentalBook) -> None:
    await observe(book, (0.5, 160.0), (0.1, 260.0))
    await book.closed("w", 50.0)
    assert await book.rentals() == [Rental("w", 0.5, 100.0, 260.0), Rental("w", 0.1, 260.0, 260.0)]


async def test_a_worker_that_was_never_seen_costs_nothing(book: RentalBook) -> None:
    await book.closed("w", 300.0)
    assert await book.rentals() == []


async def test_rentals_come_in_the_order_of_their_start(book: RentalBook) -> None:
    for worker, started in (("b", 200.0), ("a", 300.0), ("c", 100.0)):
        await book.observed(worker, 1.0, started, started)
    assert [rental.worker for rental in await book.rentals()] == ["c", "b", "a"]


async def test_one_worker_is_not_another_whose_name_begins_alike(book: RentalBook) -> None:
    for worker in ("w", "w@1", "w/1"):
        await book.observed(worker, 0.5, 100.0, 100.0)
    await book.closed("w", 200.0)
    assert {r.worker for r in await book.rentals() if r.ended is None} == {"w@1", "w/1"}


@pytest.mark.parametrize("seed", range(5))
async def test_the_double_and_the_ledger_say_the_same_of_any_story(ledger: Ledger, seed: int) -> None:
    dice, memory, now = random.Random(seed), MemoryRentals(), 1_000.25
    for _ in range(60):
        now += dice.choice([31.0, 60.5, 3_600.125])
        worker = dice.choice(["a", "b"])
        if dice.random() < 0.05:
            await asyncio.gather(ledger.closed(worker, now), memory.closed(worker, now))
            continue
        look = (worker, dice.choice([0.1, 0.35, 1.7]), 1_000.25, now - dice.choice([0.0, 0.0, 500.0]))
        await asyncio.gather(ledger.observed(*look), memory.observed(*look))
    assert await ledger.rentals() == await memory.rentals()


@pytest.mark.parametrize("seed", range(10))
async def test_nothing_is_ever_counted_cheaper_than_it_was(ledger: Ledger, seed: int) -> None:
    """A worker whose price changes whenever it likes, and somebody who looks now and then."""
    dice, book, now, true_cost, price = random.Random(seed), ledger, 0.0, 0.0, 0.1
    await book.observed("w", price, 0.0, 0.0)
    for _ in range(50):
        # Between two looks the price changes once at most: what nobody can see, nobody can count.
        first, then = dice.uniform(0, 1000), dice.uniform(0, 1000)
        true_cost += first * price / 3600
        price = dice.choice([0.1, 0.5, 2.0])
        true_cost += then * price / 3600
        now += first + then
        await book.observed("w", price, 0.0, now)
    assert spent(await book.rentals(), 0.0, now) >= true_cost - 1e-9


async def test_processes_that_look_at_once_count_every_second_once(redis_server: Any) -> None:
    clients = [connect(RedisConfig(), socket=redis_server.socket) for _ in range(8)]
    dice = random.Random(7)

    async def look(client: Redis) -> None:
        ledger = Ledger(client, "fleet")
        for _ in range(50):
            worker, now = dice.choice("abc"), dice.uniform(100.0, 10_000.0)
            await ledger.observed(worker, dice.choice([0.1, 0.2, 0.3]), 100.0, now)

    await asyncio.gather(*(look(client) for client in clients))
    segments = defaultdict(list)
    for rental in await Ledger(clients[0], "fleet").rentals():
        segments[rental.worker].append(rental)
    await asyncio.gather(*(client.aclose() for client in clients))
    assert set(segments) == set("abc")
    for rentals in segments.values():
        assert (rentals[0].started, rentals[-1].ended) == (100.0, None)
        assert all(before.ended == after.started for before, after in pairwise(rentals))
        assert all(rental.ended > rental.started for rental in rentals[:-1])


async def test_closing_and_looking_at_once_leaves_nothing_open(redis_server: Any) -> None:
    clients = [connect(RedisConfig(), socket=redis_server.socket) for _ in range(6)]
    ledgers = [Ledger(client, "fleet") for client in clients]
    for round_ in range(20):
        worker = f"w{round_}"
        await ledgers[0].observed(worker, 0.5, 100.0, 150.0)
        looks = [ledger.observed(worker, 0.1 * n, 100.0, 200.0 + n) for n, ledger in enumerate(ledgers)]
        await asyncio.gather(*looks, ledgers[0].closed(worker, 300.0))
    rentals = await ledgers[0].rentals()
    await asyncio.gather(*(client.aclose() for client in clients))
    assert [rental for rental in rentals if rental.ended is None] == []


async def test_looking_again_soon_is_not_written_down(ledger: Ledger, redis_client: Redis) -> None:
    await observe(ledger, (0.5, 160.0))
    before = await redis_client.hgetall(KEY)
    await observe(ledger, (0.5, 189.0))
    assert await redis_client.hgetall(KEY) == before
    await observe(ledger, (0.5, 190.0))
    assert await redis_client.hgetall(KEY) != before


async def test_a_clock_that_is_ahead_hides_nothing(ledger: Ledger) -> None:
    """Else its look into next year would make all that is seen until then a thing of the past."""
    await ledger.observed("w", 0.5, 100.0, 4_000_000_000.0)
    await ledger.observed("w", 0.1, 100.0, 4_000_000_001.0)
    (dear, cheap) = await ledger.rentals()
    assert dear.ended is not None
    assert dear.ended < 4_000_000_000.0
    assert cheap == Rental("w", 0.1, dear.ended)


async def test_what_ends_by_a_clock_that_is_ahead_charges_no_hour_that_is_still_to_come(
    ledger: Ledger,
) -> None:
    await ledger.observed("w", 0.5, 100.0, 200.0)
    await ledger.closed("w", 4_000_000_000.0)
    (rental,) = await ledger.rentals()
    assert rental.ended is not None
    assert rental.ended < time.time() + 120


async def test_a_price_is_exact_however_many_digits_it_has(ledger: Ledger) -> None:
    started, price = 1_700_000_000.1234567, 0.1 + 0.2
    await ledger.observed("w", price, started, started)
    await ledger.observed("w", price / 3, started, started + 100.1)
    found = await ledger.rentals()
    assert found == [Rental("w", price, started, started + 100.1), Rental("w", price / 3, started + 100.1)]


async def test_records_of_before_there_were_looks_are_read(ledger: Ledger, redis_client: Redis) -> None:
    await redis_client.hset(KEY, "w@100.0", '{"price_per_hour": 0.5, "started": 100.0, "ended": null}')
    await redis_client.hset(KEY, "v@100.0", '{"price_per_hour": 0.5, "started": 100.0, "ended": 200.0}')
    assert await observe(ledger, (0.5, 160.0), (0.1, 260.0)) == [
        Rental("v", 0.5, 100.0, 200.0),
        Rental("w", 0.5, 100.0, 260.0),
        Rental("w", 0.1, 260.0),
    ]


async def test_what_ended_long_ago_is_dropped_when_something_ends(ledger: Ledger) -> None:
    for worker, ended in (("old", 1_000.0), ("kept", 2 * DAY), ("last", 401 * DAY)):
        await ledger.observed(worker, 0.5, 500.0, 500.0)
        await ledger.closed(worker, ended)
    assert [rental.worker for rental in await ledger.rentals()] == ["kept", "last"]


async def test_what_is_still_paid_for_is_never_dropped(ledger: Ledger) -> None:
    await ledger.observed("old", 0.5, 500.0, 500.0)
    await ledger.closed("other", 900 * DAY)
    assert [rental.worker for rental in await ledger.rentals()] == ["old"]


@pytest.mark.parametrize(
    "damage", ["{", "[]", "7", '{"price_per_hour": "much", "started": 1.0, "ended": null}']
)
async def test_a_damaged_record_is_named(ledger: Ledger, redis_client: Redis, damage: str) -> None:
    await redis_client.hset(KEY, "w@1.0", damage)
    for use in (ledger.rentals(), ledger.observed("w", 0.5, 1.0, 2.0), ledger.closed("w", 2.0)):
        with pytest.raises(StoreRefused, match="worker 'w'") as caught:
            await use
        assert f"{KEY} that begin with w@" in (caught.value.hint or "")


async def test_a_damaged_record_does_not_keep_another_worker_open(
    ledger: Ledger, redis_client: Redis
) -> None:
    await redis_client.hset(KEY, "w@1.0", "{")
    await ledger.observed("v", 0.5, 1.0, 2.0)
    await ledger.closed("v", 3.0)
    assert b'"ended": 3' in (await redis_client.hget(KEY, "v@1.0") or b"")


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -0.1])
async def test_a_price_that_is_none_is_not_written_down(ledger: Ledger, price: float) -> None:
    with pytest.raises(ValueError, match="no worker costs"):
        await ledger.observed("w", price, 100.0, 100.0)
    assert await ledger.rentals() == []
