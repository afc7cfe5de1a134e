"""Waiting for what another task or process does in its own time, with an end."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

#: seconds; a worker loads its model in about one, on a busy machine in many.
LONGEST = 60.0

#: seconds between two looks
PAUSE = 0.01


async def until(question: Callable[[], Awaitable[Any] | Any], pause: float = PAUSE) -> Any:
    """Asks again and again, `pause` seconds apart, until the answer is true, and gives it."""
    async with asyncio.timeout(LONGEST):
        while True:
            answer = question()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(pause)


def wait_until(question: Callable[[], Any]) -> Any:
    """As `until`, for a test without an event loop."""
    deadline = time.monotonic() + LONGEST
    while not (answer := question()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(PAUSE)
    return answer
