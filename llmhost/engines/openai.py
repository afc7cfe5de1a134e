"""Any OpenAI-compatible server: llama.cpp (so our own workers too), vLLM, and the like.

A streamed answer is complete when a chunk gave the finish reason *and* ``data: [DONE]`` followed:
the first alone is also what a proxy leaves behind that lost the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from llmhost.engines import wire
from llmhost.engines.engine import ChatRequest, Delta, Done, Endpoint, EngineLimits, ModelStatus, Progress
from llmhost.engines.faults import HttpStatus
from llmhost.engines.http import HttpEngine
from llmhost.engines.wire import BadReply, Event, JsonObject, Reported, Thinking
from llmhost.errors import EngineRefused

__all__ = ["OpenAIEngine"]


class OpenAIEngine(HttpEngine):
    """Speaks ``/v1/chat/completions``. The URL may end in ``/v1`` or not."""

    chat_path: ClassVar[str] = "/v1/chat/completions"

    def __init__(self, endpoint: Endpoint, limits: EngineLimits) -> None:
        super().__init__(replace(endpoint, url=endpoint.url.rstrip("/").removesuffix("/v1")), limits)

    def _payload(self, request: ChatRequest) -> JsonObject:
        return {
            **wire.chat_fields(request),
            **wire.sampling_fields(request.sampling, max_tokens="max_tokens"),
            "stream_options": {"include_usage": True},
        }

    def _reader(self) -> wire.Reader:
        return _EventReader().read

    async def model_status(self, model: str) -> ModelStatus:
        """`loaded` stays None: some of these servers list what they could load, too."""
        with self._transport.translated():
            names = [
                wire.text(entry, "id")
                for entry in wire.list_of(await self._transport.get("/v1/models"), "data")
            ]
        if model in names:
            return ModelStatus(present=True, loaded=None)
        return ModelStatus(
            present=False, loaded=None, detail=f"it serves {wire.shorten(', '.join(names)) or 'none'}"
        )

    async def ensure_model(self, model: str, on_progress: Callable[[Progress], None]) -> None:
        """These servers are started with their model; one that lacks it is refused."""
        status = await self.model_status(model)
        if not status.present:
            raise EngineRefused(
                f"{self._transport.where} has no model {model!r}: {status.detail}",
                hint="start that server with the model, or correct `engine.model`",
            )
        on_progress(Progress("present", 1.0))

    async def version(self) -> str:
        """vLLM's ``/version``; the others do not tell."""
        with self._transport.translated():
            try:
                return wire.shorten(wire.text(await self._transport.get("/version"), "version"))
            except HttpStatus as fault:
                if fault.status != 404:
                    raise
        return ""


class _EventReader:
    """Reads server-sent events, one JSON object a ``data:`` line."""

    def __init__(self) -> None:
        self._finish = ""
        self._usage: JsonObject = {}

    def read(self, line: str) -> Sequence[Event]:
        data = line if line.startswith("{") else _data(line)  # some report an error as bare JSON
        if data == "[DONE]":
            return (self._done(),)
        return self._chunk(wire.parse_object(data)) if data else ()

    def _done(self) -> Done:
        if not self._finish:
            raise BadReply("ended the answer without a finish reason")
        return Done(
            self._finish,
            wire.count(self._usage, "prompt_tokens"),
            wire.count(self._usage, "completion_tokens"),
        )

    def _chunk(self, chunk: JsonObject) -> Sequence[Event]:
        if chunk.get("error"):
            raise Reported(wire.error_text(chunk["error"]))
        self._usage = wire.child(chunk, "usage") or self._usage
        choice = next(iter(wire.list_of(chunk, "choices")), {})
        self._finish = wire.shorten(wire.text(choice, "finish_reason")) or self._finish
        delta = wire.child(choice, "delta")
        if content := wire.text(delta, "content"):
            return (Delta(content),)
        return (Thinking(),) if delta.get("reasoning_content") or delta.get("reasoning") else ()


def _data(line: str) -> str:
    """What a ``data:`` line holds; nothing for a blank line, a comment (``: ping``) or another field."""
    return line.removeprefix("data:").strip() if line.startswith("data:") else ""
