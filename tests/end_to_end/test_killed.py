"""`kill -9` of `llmhost up` and of `llmhost scale` at each of their steps; the next one puts everything right
and pays for nothing twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doubles.forked_command import ForkedCommand, die_at_step
from doubles.vast.instances import Boot
from doubles.vast.server import VastServer
from plugins.commands import House
from redis.asyncio import Redis

from llmhost.config.models import RedisConfig
from llmhost.fleet.clock import SystemClock
from llmhost.fleet.registry import FleetRegistry, Origin
from llmhost.ledger.ledger import Ledger
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys

FLEET = "killed"
GPUS = 2
UP = ["up", "--gpus", str(GPUS), "--yes", "--no-wait"]
SCALE = ["scale"]

#: seconds; for so long nobody has asked anything
LONG = 7200

#: things that one command does, at most
MOST_STEPS = 300

#: seconds of real time; one command takes a fifth of a second
LONGEST = 60.0


@dataclass
class Runner:
    """Runs commands that may die at their n-th step."""

    running: ForkedCommand | None = None
    stderr: str = ""

    async def run(self, args: list[str], die_at: Any = None, **environ: str) -> dict[str, Any]:
        first = None if die_at is None else partial(die_at_step, die_at)
        self.running = ForkedCommand(args, {**os.environ, **environ}, first=first)
        await self.running.connect()
        async with asyncio.timeout(LONGEST):
            _, err = await self.running.communicate()
        self.stderr = err.decode()
        return {
            "code": self.running.returncode,
            "killed": self.running.returncode == -signal.SIGKILL,
        }

    async def ok(self, args: list[str], **environ: str) -> dict[str, Any]:
        done = await self.run(args, **environ)
        assert done["code"] == 0, self.stderr
        return done


@pytest.fixture
async def server() -> AsyncIterator[VastServer]:
    """An account on the machine's own clock, without limits of frequency: pacing has tests of its own."""
    async with VastServer(SystemClock(), boot=Boot(created=0, loading=0, running=0), pace=0) as server:
        yield server


@pytest.fixture
def runner(
    server: VastServer,
    house: House,
    redis_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Runner:
    house.configure(
        fleet={
            "name": FLEET,
            "provider": "vast",
            "gpus": GPUS,
            "max_gpus": GPUS,
            "budget": {"per_hour": 10.0},
        },
        vast={"pace": 0.001},
        engine={"kind": "ollama", "model": "tiny"},
        redis={"url": f"unix://{redis_server.socket}"},
        cache={"enabled": False},
    )
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return Runner()


async def start_again(runner: Runner, server: VastServer) -> None:
    """An empty account. Of what was killed as it bought, it is not known for a while what it bought."""
    down = await runner.run(["down"])
    assert down["code"] == 0 or "it is not known yet whether the purchase" in runner.stderr, runner.stderr
    assert server.alive() == []


def assert_right(server: VastServer, die_at: object) -> None:
    assert len(server.alive()) == GPUS, f"after a death at {die_at}"
    assert server.double_paid() == [], f"after a death at {die_at}"


@pytest.mark.slow
async def test_killed_at_any_step_of_its_own_the_next_up_makes_n_and_pays_none_twice(
    runner: Runner, server: VastServer
) -> None:
    await runner.ok(UP)  # the first one makes folders
    await start_again(runner, server)
    most = 0
    for die_at in range(1, MOST_STEPS):
        done = await runner.run(UP, die_at)
        if not done["killed"]:
            assert (done["code"], most) == (0, GPUS)
            assert die_at > 20
            return
        most = max(most, len(server.alive()))
        await runner.ok(UP)
        assert_right(server, die_at)
        await start_again(runner, server)
    raise AssertionError("`up` has no end")


@pytest.mark.slow
async def test_killed_between_what_the_provider_did_and_its_answer_it_is_put_right(
    runner: Runner, server: VastServer
) -> None:
    await runner.ok(UP)
    await start_again(runner, server)
    calls = await count_calls(runner, server)
    for at in range(1, calls + 1):
        server.after = killer(runner, at)
        done = await runner.run(UP)
        server.after = None
        assert done["killed"], f"call {at} was not reached"
        await runner.ok(UP)
        assert_right(server, at)
        await start_again(runner, server)


async def count_calls(runner: Runner, server: VastServer) -> int:
    before = len(server.steps)
    await runner.ok(UP)
    calls = (len(server.steps) - before) // 2
    await start_again(runner, server)
    return calls


def killer(runner: Runner, at: int) -> Callable[[str, int], Any]:
    """Kills the command when its `at`-th call has been executed and not yet answered."""
    calls = 0

    async def kill(endpoint: str, number: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            assert runner.running is not None
            runner.running.kill()

    return kill


# The autoscaler: a broken worker is replaced and another one bought, then one of them is sent away.


@dataclass
class Scene:
    """One fleet whose size is what `scale.min_gpus` says: nobody asks it anything, and has not for long."""

    runner: Runner
    server: VastServer
    redis: Redis

    async def begin(self, wanted: int, *, broken: bool) -> dict[str, str]:
        """What a step of `scale` must be told; failures of earlier deaths are forgotten."""
        await self.redis.hset(FleetKeys(FLEET).traffic, "since", int(time.time()) - LONG)
        await self.redis.hdel(FleetKeys(FLEET).scale, "failures")
        if broken:
            self.server.become(self.server.alive()[0], "exited")
            for _ in range(GPUS):  # nothing is rented again on a machine that failed
                self.server.market.add(dph_base=0.3)
        return {"LLMHOST_SCALE__MIN_GPUS": str(wanted)}

    async def end(self, wanted: int, where: object, **environ: str) -> None:
        """One more step: so many workers, each on record, and what a dead step left is not paid for."""
        await self.redis.hset(FleetKeys(FLEET).scale, "lock:until", 0)  # a minute later
        await self.runner.ok(SCALE, **environ)
        alive = {f"vast-{number}" for number in self.server.alive()}
        rentals = await Ledger(self.redis, FLEET).rentals()
        assert len(alive) == wanted, where
        assert self.server.double_paid() == [], where
        origin = Origin("vast", "vast", rents=True, key=self.server.key.encode())
        on_record = await FleetRegistry(self.redis, FLEET, origin).workers()
        assert ({worker.id for worker in on_record.workers}, on_record.damaged) == (alive, ()), where
        assert {rental.worker for rental in rentals if rental.ended is None} == alive, where
        assert await self.redis.scard(FleetKeys(FLEET).draining) == 0, where


@pytest.fixture
async def scene(runner: Runner, server: VastServer, redis_server: Any) -> AsyncIterator[Scene]:
    """One worker is there. Machines boot for ever: nobody is at home who could be asked."""
    server.world.boot = Boot(created=0, loading=0, running=3600)
    client = connect(RedisConfig(), socket=redis_server.socket)
    scene = Scene(runner, server, client)
    await runner.ok(SCALE)
    assert len(server.alive()) == 1
    yield scene
    await client.aclose()


@pytest.mark.slow
async def test_scale_killed_at_any_step_of_its_own_is_made_good_by_the_next(scene: Scene) -> None:
    left = {GPUS, 1}
    for die_at in range(1, MOST_STEPS):
        for wanted in sorted(left, reverse=True):
            environ = await scene.begin(wanted, broken=wanted == GPUS)
            done = await scene.runner.run(SCALE, die_at, **environ)
            if not done["killed"]:
                assert done["code"] == 0
                left.discard(wanted)
            assert len(scene.server.alive()) <= GPUS
            await scene.end(wanted, (die_at, wanted), **environ)
        if not left:
            assert die_at > 20
            return
    raise AssertionError("a step has no end")


@pytest.mark.slow
async def test_scale_killed_between_what_the_provider_did_and_its_answer_is_made_good_elsewhere(
    scene: Scene, tmp_path: Path
) -> None:
    elsewhere = {"LLMHOST_STATE_DIR": str(tmp_path / "elsewhere")}
    left = {GPUS, 1}
    for at in range(1, MOST_STEPS):
        for wanted in sorted(left, reverse=True):
            environ = await scene.begin(wanted, broken=wanted == GPUS)
            scene.server.after = killer(scene.runner, at)
            done = await scene.runner.run(SCALE, **environ)
            scene.server.after = None
            if not done["killed"]:
                left.discard(wanted)
            await scene.end(wanted, (at, wanted), **environ, **elsewhere)
        if not left:
            assert at > 5
            return
    raise AssertionError("a step has no end")
