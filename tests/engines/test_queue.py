"""The queue of requests that wait for a worker."""

from __future__ import annotations

import asyncio

import pytest

from llmhost.engines.queue import FairQueue
from llmhost.errors import QueueFull


class Line:
    """Requests that stand in a queue; `served` names those that came to its front, in this order."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.served: list[str] = []
        self.doors: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def join(self, *names: str) -> None:
        """Each is named for its tenant, with a number."""
        for name in names:
            self.doors[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._stand(name))
            await asyncio.sleep(0)

    async def _stand(self, name: str) -> None:
        async with self.queue.front(name[0]):
            self.served.append(name)
            await self.doors[name].wait()

    async def serve_all(self) -> list[str]:
        while any(not task.done() for task in self.tasks.values()):
            self.doors[self.served[-1]].set()
            await asyncio.sleep(0)
        return self.served


@pytest.fixture
def line() -> Line:
    return Line(FairQueue(10, 60))


async def test_a_tenant_is_served_in_the_order_in_which_it_came(line: Line) -> None:
    await line.join("a1", "a2", "a3")
    assert await line.serve_all() == ["a1", "a2", "a3"]


async def test_tenants_take_turns_however_many_requests_each_has(line: Line) -> None:
    await line.join("a1", "a2", "a3", "a4", "b1", "c1", "b2")
    assert await line.serve_all() == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_one_at_a_time_is_at_the_front(line: Line) -> None:
    await line.join("a1", "b1", "c1")
    assert (line.served, len(line.queue)) == (["a1"], 3)


async def test_beyond_its_length_nobody_is_let_in(line: Line) -> None:
    await line.join(*(f"a{number}" for number in range(10)))
    with pytest.raises(QueueFull, match="10 requests wait already"):
        async with line.queue.front("b"):
            pass
    assert len(line.queue) == 10


@pytest.mark.parametrize("leaver", ["a1", "a2", "b1"])
async def test_who_leaves_holds_up_nobody(line: Line, leaver: str) -> None:
    await line.join("a1", "a2", "b1")
    line.tasks[leaver].cancel()
    await asyncio.wait([line.tasks[leaver]])
    rest = [name for name in await line.serve_all() if name != leaver]
    assert (rest, len(line.queue)) == ([name for name in ("a1", "a2", "b1") if name != leaver], 0)


async def test_a_slot_that_is_given_back_is_told_at_once_and_also_if_nobody_looked() -> None:
    queue = FairQueue(1, 60, period=3600)
    async with queue.front("a"):
        waiting = asyncio.create_task(queue.changed())
        await asyncio.sleep(0)
        queue.released()
        await waiting
        queue.released()
        await queue.changed()


async def test_it_is_looked_again_after_a_while_as_others_may_have_given_a_slot_back() -> None:
    queue = FairQueue(1, 60, period=0.001)
    async with queue.front("a"):
        await queue.changed()
