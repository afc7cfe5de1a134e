"""Ollama's own API. Facts: its published API reference.

An error in mid-stream comes as an ``error`` line under HTTP 200; only ``done: true`` ends an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from llmhost.engines import wire
from llmhost.engines.engine import (
    ChatRequest,
    Done,
    Embedded,
    EmbedRequest,
    Endpoint,
    EngineLimits,
    ModelDetails,
    ModelStatus,
    Piece,
    Progress,
)
from llmhost.engines.faults import HttpStatus
from llmhost.engines.http import HttpEngine, StreamDeadlines
from llmhost.engines.ollama_wire import LineReader, chat_payload, model_options, parse_line
from llmhost.engines.wire import BadReply, JsonObject, Malformed, Reported
from llmhost.errors import EngineRefused, LlmhostError

__all__ = ["OllamaEngine"]

#: seconds; checking the digest of a 40 GB file on a slow disk says nothing for minutes
_PULL_SILENCE = 600.0

#: Ollama keeps what it has, so asking again goes on from there; more often than this, something is wrong
_PULL_ATTEMPTS = 3

#: bytes; English has about 4.5 a token, and a prompt of which each token had more was read in part
_MOST_BYTES_A_TOKEN = 6

#: bytes; more than any disk holds
_MOST_BYTES = 10**18

#: what a model can do for a client
_CAPABILITIES = ("completion", "tools", "insert", "vision", "embedding", "thinking")

#: what Ollama says of a pull that would fail again, and what helps
_PERMANENT = {
    "no space left on device": "free some disk space on that server, or use a smaller `engine.model`",
    "file does not exist": "correct `engine.model`",
    "not found": "correct `engine.model`",
    "invalid model name": "correct `engine.model`",
    "newer version of ollama": "upgrade Ollama on that server",
    "unauthorized": "`engine.model` needs an account: pull it on that server, or use another one",
    "access denied": "`engine.model` needs an account: pull it on that server, or use another one",
    "permission denied": "let Ollama write into the folder of its models on that server",
    "read-only file system": "let Ollama write into the folder of its models on that server",
}


class OllamaEngine(HttpEngine):
    """Speaks ``/api/chat``, ``/api/generate`` for a completion, and ``/api/embed``."""

    def __init__(self, endpoint: Endpoint, limits: EngineLimits) -> None:
        super().__init__(endpoint, limits)
        #: requests for digests. None is cut off: a connection that is cut in its handshake is not closed
        self._asking: set[asyncio.Task[str | None]] = set()

    async def aclose(self) -> None:
        await super().aclose()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Piece | Done, None]:
        asking = asyncio.create_task(self._digest(request.model))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            async with aclosing(super().chat(request)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        cut = event.finish_reason == "stop" and self._was_cut(request, event)
                        reason = "prompt_cut" if cut else event.finish_reason
                        yield replace(event, finish_reason=reason, digest=await asking)
                    else:
                        yield event
        except LlmhostError:
            await asking  # within seconds
            raise

    def _path(self, request: ChatRequest) -> str:
        return "/api/chat" if request.completion is None else "/api/generate"

    def _payload(self, request: ChatRequest) -> JsonObject:
        return chat_payload(request, self._limits.context)

    def _embedding(self, request: EmbedRequest) -> tuple[str, JsonObject]:
        return "/api/embed", {
            "model": request.model,
            "input": list(request.texts),
            "truncate": request.cut,
            "options": {"num_ctx": self._limits.context},
            **({} if request.dimensions is None else {"dimensions": request.dimensions}),
        }

    def _embedded(self, reply: JsonObject) -> Embedded:
        listed = reply.get("embeddings")
        if not isinstance(listed, list):
            raise Malformed("sent no list of `embeddings`")
        vectors = [wire.vector({"embeddings": one}, "embeddings") for one in listed]
        return Embedded(vectors, wire.count(reply, "prompt_eval_count"))

    def _was_cut(self, request: ChatRequest, done: Done) -> bool:
        """Whether the model has probably not read all of the prompt. A token is a byte at least."""
        length = sum(
            len(content.encode("utf-8", "replace"))
            for content in request.contents
            if isinstance(content, str)
        )
        context = model_options(request, self._limits.context)["num_ctx"]
        if length + done.completion_tokens < context:
            return False
        full = done.prompt_tokens + done.completion_tokens >= context
        return full or length > _MOST_BYTES_A_TOKEN * done.prompt_tokens

    async def _digest(self, model: str) -> str | None:
        """The digest of the model as it is served now; empty where the server has none, None where it does
        not tell."""
        try:
            listed = await self._listed("/api/tags", model)
            return None if listed is None else wire.shorten(wire.text(listed, "digest"))
        except BadReply:
            return None

    def _reader(self) -> wire.Reader:
        return LineReader().read

    async def model_status(self, model: str) -> ModelStatus:
        with self._transport.translated():
            present = await self._listed("/api/tags", model) is not None
            running = await self._listed("/api/ps", model)
        if running is None:
            return ModelStatus(present, loaded=False, detail="" if present else "not pulled")
        whole, on_gpu = (
            wire.count(running, "size", _MOST_BYTES),
            wire.count(running, "size_vram", _MOST_BYTES),
        )
        return ModelStatus(
            present,
            loaded=True,
            detail=_placement(whole, on_gpu),
            spilled=0 < on_gpu < whole,
            on_cpu=on_gpu == 0 < whole,
        )

    async def model_details(self, model: str) -> ModelDetails:
        with self._transport.translated():
            listed = await self._listed("/api/tags", model) or {}
            running = await self._listed("/api/ps", model) or {}
            shown = await self._transport.post("/api/show", {"model": model})
            details = wire.child(shown, "details")
            told = shown.get("capabilities")
            return ModelDetails(
                format=wire.shorten(wire.text(details, "format")),
                family=wire.shorten(wire.text(details, "family")),
                parameter_size=wire.shorten(wire.text(details, "parameter_size")),
                quantization=wire.shorten(wire.text(details, "quantization_level")),
                size=wire.count(listed, "size", _MOST_BYTES),
                on_gpu=wire.count(running, "size_vram", _MOST_BYTES),
                capabilities=tuple(one for one in _CAPABILITIES if one in told)
                if isinstance(told, list)
                else None,
            )

    async def ensure_model(self, model: str, on_progress: Callable[[Progress], None]) -> None:
        """Pulls the model unless it is there.

        Raises:
            EngineRefused: it cannot be pulled: there is no such model, or no room for it.
            EngineUnavailable: the pull failed; another call goes on from where it stopped.
        """
        if not (await self.model_status(model)).present:
            try:
                await self._pull_resuming(model, on_progress)
            except BadReply as fault:
                if (hint := _permanent(fault)) is not None:
                    words = fault.said if isinstance(fault, Reported | HttpStatus) else str(fault)
                    raise EngineRefused(
                        f"the engine cannot pull {model!r}",
                        said=f"{self._transport.where}: {words}",
                        hint=hint,
                    ) from fault
                raise self._transport.error(fault) from fault
        on_progress(Progress("present", 1.0))

    async def version(self) -> str:
        with self._transport.translated():
            return wire.shorten(wire.text(await self._transport.get("/api/version"), "version"))

    async def _listed(self, path: str, model: str) -> JsonObject | None:
        """The entry of this model in a list of models."""
        wanted, models = _full_name(model), wire.list_of(await self._transport.get(path), "models")
        return next((entry for entry in models if _full_name(wire.text(entry, "name")) == wanted), None)

    async def _pull_resuming(self, model: str, on_progress: Callable[[Progress], None]) -> None:
        for attempt in range(1, _PULL_ATTEMPTS + 1):
            try:
                await self._pull(model, on_progress)
            except BadReply as fault:
                if attempt == _PULL_ATTEMPTS or _permanent(fault) is not None:
                    raise
            else:
                return

    async def _pull(self, model: str, on_progress: Callable[[Progress], None]) -> None:
        deadlines = StreamDeadlines(_PULL_SILENCE, _PULL_SILENCE)
        async with self._transport.lines("/api/pull", {"model": model, "stream": True}, deadlines) as lines:
            async for line in lines:
                step = parse_line(line)
                deadlines.renew()
                if wire.text(step, "status") == "success":
                    return
                on_progress(_progress(step))
        raise BadReply("ended the pull before it was done")


def _permanent(fault: BadReply) -> str | None:
    """What is to be done about a pull that would fail again; None where another try may do."""
    if not isinstance(fault, Reported | HttpStatus):
        return None
    said = fault.said.lower()
    return next((hint for words, hint in _PERMANENT.items() if words in said), None)


def _full_name(model: str) -> str:
    """Ollama's name for a model without a tag ends in ``:latest``. A registry's port is no tag."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _placement(whole: int, on_gpu: int) -> str:
    if on_gpu >= whole:
        return ""
    if on_gpu == 0:
        return "runs on the CPU"
    return f"spilled to the CPU: {on_gpu / whole:.0%} of it is on the GPU"


def _progress(step: JsonObject) -> Progress:
    total, done = wire.count(step, "total", _MOST_BYTES), wire.count(step, "completed", _MOST_BYTES)
    return Progress(wire.shorten(wire.text(step, "status")), min(done / total, 1.0) if total else None)
