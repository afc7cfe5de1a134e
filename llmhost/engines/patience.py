"""How long an engine is waited for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

from llmhost.engines.wire import BadReply

__all__ = ["Patience"]

T = TypeVar("T")


class Patience:
    """Three limits in seconds: until the first token, between two tokens, and for everything.

    Bytes alone renew nothing: a server that only sends pings is as stuck as a silent one.
    """

    def __init__(self, first: float, pause: float, total: float = math.inf) -> None:
        now = asyncio.get_running_loop().time()
        self._pause = pause
        self._end = now + total
        self._next = now + first
        self._missing = f"sent no token within {first:g} s"
        self._unfinished = f"did not finish within {total:g} s"

    def renew(self) -> None:
        """A token came: the wait for the next one starts now."""
        self._next = asyncio.get_running_loop().time() + self._pause
        self._missing = f"paused for more than {self._pause:g} s"

    async def wait(self, step: Awaitable[T]) -> T:
        """What `step` gives. Raises BadReply when it takes too long."""
        try:
            async with asyncio.timeout_at(min(self._next, self._end)):
                return await step
        except TimeoutError as error:
            late = self._end <= self._next
            raise BadReply(self._unfinished if late else self._missing) from error
