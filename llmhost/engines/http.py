"""What every engine over HTTP shares: how an answer is streamed, and what ends it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import ClassVar

from llmhost.engines.engine import ChatRequest, Delta, Done, Endpoint, EngineLimits, ModelStatus, Progress
from llmhost.engines.patience import Patience
from llmhost.engines.transport import HttpTransport
from llmhost.engines.wire import BadReply, Event, JsonObject, Reader, Thinking
from llmhost.errors import StreamBroken

__all__ = ["HttpEngine"]


class HttpEngine(ABC):
    """An engine behind HTTP. A backend says how a request is written and how a line is read."""

    chat_path: ClassVar[str]

    def __init__(self, endpoint: Endpoint, limits: EngineLimits | None = None) -> None:
        """Raises ConfigError for a URL or token that HTTP cannot carry."""
        self._limits = limits or EngineLimits()
        self._transport = HttpTransport(endpoint, self._limits)

    @abstractmethod
    def _payload(self, request: ChatRequest) -> JsonObject:
        """The body that asks for a streamed answer."""

    @abstractmethod
    def _reader(self) -> Reader:
        """A reader for one answer."""

    @abstractmethod
    async def model_status(self, model: str) -> ModelStatus: ...

    @abstractmethod
    async def ensure_model(self, model: str, on_progress: Callable[[Progress], None]) -> None: ...

    @abstractmethod
    async def version(self) -> str: ...

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done, None]:
        """Streams the answer; see `Engine.chat`."""
        started = False
        try:
            async with aclosing(self._events(request)) as events:
                async for event in events:
                    if not isinstance(event, Thinking):
                        started = True
                        yield event
        except BadReply as fault:
            if not started:
                raise self._transport.error(fault) from fault
            raise StreamBroken(
                f"the answer broke off: {self._transport.where} {fault}", hint="ask again"
            ) from fault

    async def aclose(self) -> None:
        """Closes connections. Asking twice is fine."""
        await self._transport.aclose()

    async def _events(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        limits = self._limits
        patience = Patience(limits.first_token_timeout, limits.token_timeout, limits.answer_timeout)
        reader, length = self._reader(), 0
        async with self._transport.lines(self.chat_path, self._payload(request), patience) as lines:
            async for line in lines:
                for event in reader.read(line):
                    if isinstance(event, Delta):
                        length += len(event.text)
                        self._check_length(length)
                    yield event
                    if isinstance(event, Done):
                        return
                    patience.renew()
        raise BadReply("ended the answer without an end mark")

    def _check_length(self, length: int) -> None:
        if length > self._limits.max_answer_chars:
            raise BadReply(
                f"sent more than the {self._limits.max_answer_chars} characters of `limits.max_answer_chars`"
            )
