"""An answer as it comes, for everyone of this process who asks the same question meanwhile.

A task fills it, which outlives the first request: it ends when no request is left that wants the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

from llmhost.answering.question import Reply
from llmhost.cache import single_flight
from llmhost.cache.single_flight import Lead
from llmhost.engines.engine import Delta, Piece, Thought

__all__ = ["Flight", "piece_of"]

#: seconds between two times at which other processes are told what came
_TELLING = 0.1


class Flight:
    """`pieces` are all that came until now, `worker` the last that was asked, `usd_per_second` what its time
    costs. It is over with a `reply` or a `failure`. `kept`: it goes on although no request waits for it.
    """

    def __init__(self, *, kept: bool = False) -> None:
        self._kept = kept
        self.pieces: list[Piece] = []
        self.worker: str | None = None
        self.usd_per_second = 0.0
        self.reply: Reply | None = None
        self.failure: Exception | None = None
        #: fills it
        self.task: asyncio.Task[None] | None = None
        self._askers = 0
        self._followers = 0
        self._news = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """Whether a request still waits for the answer, here or in another process."""
        return self._kept or self._askers > 0 or self._followers > 0

    @property
    def over(self) -> bool:
        return self.reply is not None or self.failure is not None

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self._wake()

    def finish(self, reply: Reply) -> None:
        self.reply = reply
        self._wake()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self._wake()

    async def stream(self) -> AsyncGenerator[Piece]:
        """All pieces from the first one on, and then the failure where there is one."""
        seen = 0
        self._askers += 1
        try:
            while True:
                while seen < len(self.pieces):
                    seen += 1
                    yield self.pieces[seen - 1]
                if self.failure is not None:
                    raise self.failure
                if self.reply is not None:
                    return
                await self._news.wait()
        finally:
            self._askers -= 1

    @asynccontextmanager
    async def told_by(self, lead: Lead | None) -> AsyncIterator[None]:
        """Within the block, the processes that follow are told what comes."""
        telling = asyncio.create_task(self._tell(lead)) if lead is not None else None
        try:
            yield
        finally:
            if telling is not None:
                telling.cancel()
                with suppress(asyncio.CancelledError):
                    await telling

    async def _tell(self, lead: Lead) -> None:
        while True:
            await asyncio.sleep(_TELLING)
            await lead.tell([_plain(piece) for piece in self.pieces] if lead.followers else ())
            self._followers = lead.followers
            if not self.wanted:
                self.abandon()

    def abandon(self) -> None:
        """Cancels the task that fills it: no request waits for the answer any more."""
        if self.task is not None:
            self.task.cancel()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _plain(piece: Piece) -> single_flight.Piece:
    """As it is sent to other processes. An answer that calls tools or has probabilities bypasses the cache:
    it has no followers.
    """
    if isinstance(piece, Delta):
        return "text", piece.text
    return "thought", piece.text if isinstance(piece, Thought) else ""


def piece_of(told: single_flight.Piece) -> Piece | None:
    """What another process told; None for a piece of a kind that is not known, and for an empty one."""
    kind, text = told
    if not text:
        return None
    return {"text": Delta, "thought": Thought}[kind](text) if kind in ("text", "thought") else None
