"""What the doubles of both chat APIs share: a scripted answer, and every way in which it can go wrong."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextvars import ContextVar
from enum import Enum, auto
from itertools import count
from typing import ClassVar

from doubles.http_server import HttpServer, Reply, Request


class Fault(Enum):
    """What happens instead of the rest of an answer."""

    HANGS = auto()  # the connection stays open, nothing more comes
    CLOSES = auto()  # the connection is cut in the middle of the body
    ENDS = auto()  # the body ends properly, without the API's own end mark
    NOT_HTTP = auto()
    INVALID_JSON = auto()
    DEEP_JSON = auto()  # nested so deeply that a parser overflows
    NOT_AN_OBJECT = auto()
    WRONG_TYPES = auto()  # JSON of another shape than the API's
    INVALID_UTF8 = auto()
    HALF_CHARACTER = auto()  # a lone surrogate, valid in JSON and in no encoding
    ERROR = auto()  # the API's own error, under HTTP 200
    ENDLESS_LINE = auto()
    ENDLESS_ANSWER = auto()
    PINGS = auto()  # empty lines for ever


#: the path of the request that is answered: a completion is written in other words than a chat
asked_path: ContextVar[str] = ContextVar("asked_path")


def vector_of(text: str, dimensions: int) -> list[float]:
    """The embedding of a text: the same for the same text."""
    return [random.Random(f"{text} {number}").uniform(-1, 1) for number in range(dimensions)]


class ChatServer(HttpServer, ABC):
    """Answers every question with `pieces`, unless told to fail.

    It counts a token a piece, cuts off at the most tokens asked for, and refuses what is longer than
    `longest_prompt` characters as a real engine refuses what does not fit its context.
    """

    content_type: ClassVar[str]
    chat_path: ClassVar[str]
    longest_prompt: ClassVar[int] = 50_000

    def __init__(self, model: str, token: str | None = None) -> None:
        super().__init__(token)
        self.model = model
        self.pieces: tuple[str, ...] = ("Hello", ", ", "Wörld", "!")
        self.finish_reason: str | None = "stop"
        self._fault: Fault | None = None
        self._after: int | None = None
        self.compressed = False
        self._refusal: tuple[int, bytes, Mapping[str, str]] | None = None

    def fail(self, fault: Fault, after: int | None = None) -> None:
        """Goes wrong after this many pieces; None is before the first byte of the response."""
        self._fault, self._after = fault, after

    def refuse(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answers every question with this status."""
        self._refusal = (status, body, headers or {})

    def heal(self) -> None:
        self._fault, self._after, self._refusal = None, None, None

    @abstractmethod
    def piece(self, text: str) -> bytes: ...

    @abstractmethod
    def error(self, message: str) -> bytes: ...

    @abstractmethod
    def refused(self, message: str) -> object:
        """The JSON body of an error status."""

    @abstractmethod
    def ending(self, finish_reason: str | None, tokens: int) -> list[bytes]: ...

    @abstractmethod
    def wrong_types(self) -> bytes: ...

    @abstractmethod
    def most_tokens(self, request: Request) -> int: ...

    async def chat(self, request: Request, reply: Reply) -> None:
        asked_path.set(request.path)
        if self._refusal is not None:
            status, body, headers = self._refusal
            return await reply.body(body, status, headers=headers)
        if len(request.body) > self.longest_prompt:
            return await reply.json(self.refused("the request exceeds the context size"), 400)
        if self._fault is not None and self._after is None:
            return await self._go_wrong(self._fault, reply)
        await reply.start(self.content_type, compressed=self.compressed)
        if self._fault is None:
            return await self._answer_well(request, reply)
        for text in self.pieces[: self._after]:
            await reply.chunk(self.piece(text))
        return await self._go_wrong(self._fault, reply)

    async def _answer_well(self, request: Request, reply: Reply) -> None:
        pieces = self.pieces[: self.most_tokens(request)]
        for text in pieces:
            await reply.chunk(self.piece(text))
        reason = self.finish_reason if pieces == self.pieces else "length"
        for line in self.ending(reason, len(pieces)):
            await reply.chunk(line)
        await reply.end()

    async def _go_wrong(self, fault: Fault, reply: Reply) -> None:
        match fault:
            case Fault.HANGS:
                await self.wait(reply)
            case Fault.CLOSES:
                reply.keep_alive = False
            case Fault.ENDS:
                await reply.end()
            case Fault.NOT_HTTP:
                await reply.raw(b"220 mail.example ESMTP\r\n\r\n")
                reply.keep_alive = False
            case Fault.PINGS:
                await self._for_ever(reply, b"\n", pause=0.01)
            case Fault.ENDLESS_LINE:
                await self._for_ever(reply, b"x" * 65_536, pause=0)
            case Fault.ENDLESS_ANSWER:
                await self._for_ever(reply, self.piece("x" * 1000), pause=0)
            case _:
                await reply.chunk(self._bad_line(fault))
                await self.wait(reply)

    def _bad_line(self, fault: Fault) -> bytes:
        good = self.piece("word")
        return {
            Fault.INVALID_JSON: good.replace(b"}", b"]"),
            Fault.DEEP_JSON: good[: good.index(b"{")] + b'{"a":' + b"[" * 100_000 + b"\n\n",
            Fault.NOT_AN_OBJECT: good[: good.index(b"{")] + b"[1, 2]\n\n",
            Fault.WRONG_TYPES: self.wrong_types(),
            Fault.INVALID_UTF8: good.replace(b"word", b"w\xffrd"),
            Fault.HALF_CHARACTER: good.replace(b"word", b"\\ude00"),
            Fault.ERROR: self.error("the GPU\x1b[31m is\non fire"),
        }[fault]

    async def _for_ever(self, reply: Reply, data: bytes, pause: float) -> None:
        for _ in count():
            await reply.chunk(data)
            await asyncio.sleep(pause)
