"""Engines that answer as a test says, under a real pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from llmhost.engines.engine import (
    ChatRequest,
    Delta,
    Done,
    Embedded,
    EmbedRequest,
    ModelDetails,
    ModelStatus,
    Progress,
)
from llmhost.engines.load import LocalLoad
from llmhost.engines.pool import Pool, Upstream

Step = str | Done | Exception | asyncio.Event | Callable[[], None]


class ScriptedEngine:
    """An engine that plays steps: text to stream, an end mark, an error to raise, an event to wait for, a
    call to make."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.requests: list[ChatRequest] = []
        self.embedded: list[EmbedRequest] = []

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done]:
        self.requests.append(request)
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, str):
                yield Delta(step)
            elif isinstance(step, Done):
                yield step
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                step()

    async def embed(self, request: EmbedRequest) -> Embedded:
        """A vector of the length of each text, or the error of the first step."""
        self.embedded.append(request)
        if self.steps and isinstance(error := self.steps[0], Exception):
            raise error
        return Embedded([[float(len(text))] for text in request.texts], 2 * len(request.texts))

    async def model_status(self, model: str) -> ModelStatus:
        return ModelStatus(present=True, loaded=True)

    async def model_details(self, model: str) -> ModelDetails:
        return ModelDetails()

    async def ensure_model(self, model: str, on_progress: Callable[[Progress], None]) -> None:
        pass

    async def version(self) -> str:
        return ""

    async def aclose(self) -> None:
        pass


def pool_of(*engines: ScriptedEngine, price_per_hour: float = 3600.0) -> Pool:
    """A pool of workers w0, w1, …; the price makes a second of engine time cost 1 USD."""

    async def upstreams(model: str) -> Sequence[Upstream]:
        return [Upstream(f"w{number}", engine, price_per_hour) for number, engine in enumerate(engines)]

    return Pool(upstreams, LocalLoad(), max_attempts=3)
