"""The local fleet, scaled as a user's cron scales it: real questions, real workers, real kills."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from doubles.fleet_time import ScaledFleet, change, fleet_time, frozen
from doubles.waiting import until
from plugins.commands import Finished, House, Running

pytestmark = pytest.mark.slow

#: what takes more than `ANSWER` tokens to answer: it is cut there, so that a whole answer has exactly so many
QUESTION, ANSWER = "Tell me a long story.", 24

LeftRunning = Callable[[], list[psutil.Process]]


@dataclass(frozen=True, slots=True)
class Fleet(ScaledFleet):
    """A local fleet."""

    processes: LeftRunning
    worker_processes: LeftRunning

    @property
    def workers(self) -> list[psutil.Process]:
        return self.worker_processes()

    async def ask(self, count: int, workers: Sequence[str]) -> list[Running]:
        """So many `llmhost ask` at once; returns when all of them have been given one of these `workers`."""
        asked = [await self.house.start("ask", "--json", "--no-cache", QUESTION) for _ in range(count)]
        await self.waiting(count, workers)
        return asked


@pytest.fixture
async def fleet(
    house: House, left_running: LeftRunning, worker_processes: LeftRunning, state_folder: Path
) -> AsyncIterator[Fleet]:
    """Nothing of it runs yet."""
    configure(house)
    async with fleet_time(state_folder, "test") as time:
        yield Fleet(house, time, left_running, worker_processes)


@pytest.fixture
def elsewhere(fleet: Fleet, state_folder: Path) -> dict[str, str]:
    """The environment of another machine that uses the same Redis."""
    return {
        "LLMHOST_STATE_DIR": str(state_folder / "elsewhere"),
        "LLMHOST_REDIS__URL": f"unix://{fleet.time.socket}",
    }


def configure(house: House, **scale: Any) -> None:
    """A worker boots in a second and answers in little more; nobody may wait for two answers of others."""
    speed = {"boot_time": "1s", "tokens_per_s": 20, "tokens_per_answer": ANSWER, "queue_time": "2s"}
    house.configure(
        fleet={"name": "test", "max_gpus": 3},
        engine={"context": 512, "temperature": 0, "max_tokens": ANSWER},
        scale={**speed, **scale},
    )


def kinds(step: Any) -> list[str]:
    return [action["kind"] for action in step["actions"]]


async def whole(asked: Iterable[Running]) -> list[Any]:
    """The answers, all of them whole."""
    ended: list[Finished] = await asyncio.gather(*(one.end() for one in asked))
    assert [one.code for one in ended] == [0] * len(ended), [one.err for one in ended]
    answers = [one.json for one in ended]
    assert {(one["finish_reason"], one["tokens"]["completion"]) for one in answers} == {("length", ANSWER)}
    return answers


# Following the load


async def test_a_fleet_grows_to_three_under_load_and_shrinks_to_one_without_breaking_an_answer(
    fleet: Fleet,
) -> None:
    assert change(await fleet.scale()) == ("up", 0, 1)
    first = await fleet.ready(1)
    assert change(await fleet.scale()) == ("hold", 1, 1)

    with frozen(fleet.workers):
        jam = await fleet.ask(10, first)
        grown = await fleet.scale()
    assert (change(grown), kinds(grown)) == (("up", 1, 3), ["buy", "buy"])
    assert {answer["worker"] for answer in await whole(jam)} == set(first)
    workers = await fleet.ready(3)
    assert change(await fleet.scale()) == ("hold", 3, 3)

    with frozen(fleet.workers):
        last = await fleet.ask(3, workers)
        await fleet.time.pass_time(600)
        shrinking = await fleet.house.start("scale", "--json")
        await until(fleet.time.draining)
        assert len(fleet.workers) == 3
    assert {answer["worker"] for answer in await whole(last)} == set(workers)
    shrunk = (await shrinking.end()).json
    assert change(shrunk) == ("down", 3, 1)
    assert sorted(kinds(shrunk)) == ["drain", "drain", "end", "end"]
    assert len(fleet.workers) == 1

    past = (await fleet.house.ok("scale", "history"))["decisions"]
    assert [change(step) for step in past if step["decision"] != "hold"] == [
        ("up", 0, 1),
        ("up", 1, 3),
        ("down", 3, 1),
    ]
    await fleet.house.ok("down", "--all")
    assert fleet.processes() == []


async def test_a_fleet_of_nothing_comes_when_it_is_asked_and_goes_when_nobody_does(fleet: Fleet) -> None:
    configure(fleet.house, min_gpus=0)
    assert change(await fleet.scale()) == ("hold", 0, 0)
    refused = await fleet.house.run("ask", "What is Redis?")
    assert refused.code == 5
    assert "no worker is ready" in refused.error
    assert "run `llmhost up`" in refused.err
    assert change(await fleet.scale()) == ("up", 0, 1)
    await fleet.ready(1)
    await fleet.house.ok("ask", "What is Redis?")
    await fleet.time.pass_time(1830)
    assert change(await fleet.scale()) == ("down", 1, 0)
    assert fleet.workers == []


# Steps that die, and steps that meet


async def test_a_step_that_was_killed_while_it_drained_breaks_no_answer_and_is_made_good(
    fleet: Fleet,
) -> None:
    workers = await fleet.settled(2)
    with frozen(fleet.workers):
        asked = await fleet.ask(2, workers)
        await fleet.time.pass_time(600)
        draining = await fleet.house.start("scale")
        await until(fleet.time.draining)
        draining.process.kill()
        await draining.end()
    assert {answer["worker"] for answer in await whole(asked)} == set(workers)
    finished = await fleet.scale()
    assert (change(finished), kinds(finished)) == (("hold", 1, 1), ["finish"])
    assert len(fleet.workers) == 1
    await fleet.house.ok("down", "--all")
    assert fleet.processes() == []


async def test_a_step_that_meets_another_leaves_it_to_that_one(
    fleet: Fleet, elsewhere: dict[str, str]
) -> None:
    await fleet.settled(1)
    with frozen(fleet.workers):  # so that the step waits for it, holding the lock
        first = await fleet.house.start("scale")
        await until(fleet.time.locked)
        first.process.send_signal(signal.SIGSTOP)
        here, there = await asyncio.gather(fleet.scale(), fleet.scale(**elsewhere))
        first.process.kill()
        await first.end()
    assert (change(here), here["actions"]) == (change(there), there["actions"]) == (("hold", 0, 0), [])
    assert "another llmhost on this machine" in here["reason"]
    assert "on another machine" in there["reason"]

    assert change(await fleet.scale()) == ("hold", 1, 1)


async def test_what_a_killed_step_held_expires_for_other_machines(
    fleet: Fleet, elsewhere: dict[str, str]
) -> None:
    await fleet.settled(1)
    with frozen(fleet.workers):
        dying = await fleet.house.start("scale")
        await until(fleet.time.locked)
        dying.process.kill()
        await dying.end()
    assert "on another machine" in (await fleet.scale(**elsewhere))["reason"]
    await fleet.time.pass_time(60)
    assert change(await fleet.scale(**elsewhere)) == ("up", 0, 1)


# Workers that break


async def test_without_redis_nothing_is_changed_and_one_line_says_why(
    fleet: Fleet, refusing_port: int
) -> None:
    await fleet.settled(1)
    before = [process.pid for process in fleet.workers]
    away = {"LLMHOST_REDIS__URL": f"redis://127.0.0.1:{refusing_port}"}
    told, machine = await fleet.house.run("scale", **away), await fleet.house.run("scale", "--json", **away)
    assert (told.code, machine.code) == (5, 5)
    header, *lines = told.err.splitlines()
    assert header.startswith("fleet test (from ")
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"]
    assert f"Redis at 127.0.0.1:{refusing_port} cannot be reached" in told.error
    assert (machine.json["decision"], machine.json["actions"]) == ("hold", [])
    assert [process.pid for process in fleet.workers] == before
