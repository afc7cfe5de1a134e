"""Any OpenAI-compatible server: llama.cpp (so our own workers too), vLLM, and the like.

A streamed answer is complete when a chunk gave the finish reason *and* ``data: [DONE]`` followed:
the first alone is also what a proxy leaves behind that lost the rest.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from llmhost.engines import wire
from llmhost.engines.engine import (
    ChatRequest,
    Delta,
    Done,
    Embedded,
    EmbedRequest,
    Endpoint,
    EngineLimits,
    Message,
    ModelStatus,
    Progress,
    Sampling,
    Thought,
    ToolCall,
)
from llmhost.engines.faults import HttpStatus, has_no_route
from llmhost.engines.http import HttpEngine, StreamDeadlines
from llmhost.engines.wire import BadReply, Event, JsonObject, Malformed, Reported, Thinking
from llmhost.errors import EngineRefused

__all__ = ["OpenAIEngine"]


class OpenAIEngine(HttpEngine):
    """Speaks ``/chat/completions`` below the URL as it is given; below ``/v1`` where that has no path.

    A completion goes to ``/completions``. One with a suffix goes to llama.cpp's ``/infill`` where the server
    has that: llama.cpp takes a `suffix` at ``/completions`` as well, and ignores it.
    """

    def __init__(self, endpoint: Endpoint, limits: EngineLimits) -> None:
        base = endpoint.url.rstrip("/")
        root = base.removesuffix("/v1")
        super().__init__(replace(endpoint, url=root), limits)
        has_other_path = root == base and "/" in base.partition("://")[2]
        self._prefix = "" if has_other_path else "/v1"
        self._has_infill = True  #: until the server says otherwise
        #: fields that this server has refused, and answered without: with this value, or with any (None)
        self._refused: dict[tuple[str, float | None], None] = {}

    def _path(self, request: ChatRequest) -> str:
        if request.completion is None:
            return f"{self._prefix}/chat/completions"
        return _INFILL if self._infills(request) else f"{self._prefix}/completions"

    def _infills(self, request: ChatRequest) -> bool:
        return request.completion is not None and bool(request.completion.suffix) and self._has_infill

    def _payload(self, request: ChatRequest) -> JsonObject:
        return self._without(self._left_out(request), request)

    def _left_out(self, request: ChatRequest) -> set[str]:
        """The request's fields that the server is known to refuse."""
        values = wire.sampling_fields(request.sampling, max_tokens="max_tokens")
        return {name for name, value in self._refused if value is None or value == values.get(name)}

    def _without(self, unknown: Collection[str], request: ChatRequest) -> JsonObject:
        """The body that asks for a streamed answer, without these fields."""
        if request.completion is not None and request.fields.get("response_format"):
            # llama.cpp would ignore it here.
            raise EngineRefused("the engine continues a text without a `format`", hint="leave it out")
        if request.completion is not None and self._infills(request):
            return {
                **_fields(request.fields),
                "model": request.model,
                "input_prefix": request.completion.prompt,
                "input_suffix": request.completion.suffix,
                "stream": True,
                **wire.sampling_fields(request.sampling, max_tokens="n_predict"),
            }
        most = "max_completion_tokens" if "max_tokens" in unknown else "max_tokens"
        payload = {
            **wire.sampling_fields(request.sampling, max_tokens=most),
            "stream_options": {"include_usage": True},
        }
        known = {name: value for name, value in payload.items() if name not in unknown}
        return {**wire.chat_fields(replace(request, fields=_fields(request.fields))), **known}

    def _reader(self) -> wire.Reader:
        return _EventReader().read

    def _embedding(self, request: EmbedRequest) -> tuple[str, JsonObject]:
        payload = {"model": request.model, "input": list(request.texts), "encoding_format": "float"}
        dimensions = {} if request.dimensions is None else {"dimensions": request.dimensions}
        return f"{self._prefix}/embeddings", {**payload, **dimensions}

    def _embedded(self, reply: JsonObject) -> Embedded:
        listed = sorted(wire.list_of(reply, "data"), key=lambda one: wire.count(one, "index"))
        vectors = [wire.vector(one, "embedding") for one in listed]
        return Embedded(vectors, wire.count(wire.child(reply, "usage"), "prompt_tokens"))

    @asynccontextmanager
    async def _lines(
        self, request: ChatRequest, deadlines: StreamDeadlines
    ) -> AsyncIterator[AsyncGenerator[str, None]]:
        """Asks again without what the server says that it does not have. That holds for later requests where
        it then answers: an error may quote what a client wrote, and refuse something else. Where it may be
        about a value, it holds for those with the same one."""
        values = wire.sampling_fields(request.sampling, max_tokens="max_tokens")
        left_out = self._left_out(request)
        refused: dict[tuple[str, float | None], None] = {}
        async with AsyncExitStack() as stack:
            while True:
                payload = self._without(left_out, request)
                asking = self._transport.lines(self._path(request), payload, deadlines)
                try:
                    lines = await stack.enter_async_context(asking)
                    break
                except HttpStatus as fault:
                    if self._infills(request) and has_no_route(fault):
                        self._has_infill = False
                        continue
                    named = _refused_fields(fault, payload) - left_out
                    if not named:
                        raise
                    left_out |= named
                    is_of_value = _names_number(fault)
                    refused |= {(name, values.get(name) if is_of_value else None): None for name in named}
            self._refused |= refused
            for oldest in list(self._refused)[:-_MOST_REFUSED]:
                del self._refused[oldest]
            yield lines

    async def model_status(self, model: str) -> ModelStatus:
        """`present` is None where the server has no list that can be read. One that does not list the model
        is asked for a token: many know a model by more names than they list. Not llama.cpp, which serves its
        file under any name. `loaded` stays None: some list what they could load, too."""
        with self._transport.translated():
            models = await self._models()
        if models is None:
            return ModelStatus(present=None, loaded=None, detail="it does not list its models")
        names = [entry["id"] for entry in models]
        if any(_same_model(model, name) for name in names):
            return ModelStatus(present=True, loaded=None)
        any_name = any(entry.get("owned_by") == "llamacpp" for entry in models)
        present = not any_name and await self._serves(model)
        return ModelStatus(present, loaded=None, detail=f"it serves {wire.shorten(', '.join(names))}")

    async def ensure_model(self, model: str, on_progress: Callable[[Progress], None]) -> None:
        """These servers are started with their model; one that lacks it is refused."""
        status = await self.model_status(model)
        if status.present is False:
            raise EngineRefused(
                f"the engine has no model {model!r}",
                said=f"{self._transport.where}: {status.detail}",
                hint="start that server with the model, or correct `engine.model`",
            )
        on_progress(Progress("present", 1.0))

    async def version(self) -> str:
        """vLLM's ``/version``; the others do not tell."""
        with self._transport.translated(), suppress(HttpStatus, Malformed):
            return wire.shorten(wire.text(await self._transport.get("/version"), "version"))
        return ""

    async def _models(self) -> Sequence[JsonObject] | None:
        """The entries of the list, which is OpenAI's or bare; None where there is none that can be read."""
        try:
            listed = await self._transport.get_any(f"{self._prefix}/models")
            entries = wire.list_of(listed if isinstance(listed, dict) else {"data": listed}, "data")
            return entries if entries and all(wire.text(entry, "id") for entry in entries) else None
        except Malformed:
            return None
        except HttpStatus as fault:
            if fault.status in (401, 403) or fault.target:
                raise
            return None

    async def _serves(self, model: str) -> bool:
        request = ChatRequest(model, (Message("user", "Hi"),), Sampling(max_tokens=1))
        try:
            async with aclosing(self.chat(request)) as events:
                return await anext(events, None) is not None
        except EngineRefused:
            return False


def _fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """A request's further fields as these servers call them: an option of Ollama has the same name here.
    Raises EngineRefused."""
    options = wire.sent_object(fields, "options")
    written = {name: value for name, value in {**options, **fields}.items() if name not in _OLLAMA}
    if isinstance(think := fields.get("think"), bool):
        template = {"enable_thinking": think, **wire.sent_object(fields, "chat_template_kwargs")}
        return {**written, "chat_template_kwargs": template}
    return {**written, "reasoning_effort": think} if think else written


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
        usage = chunk.get("usage")
        self._usage = usage if usage and isinstance(usage, dict) else self._usage
        if "choices" not in chunk and "stop" in chunk:
            return _infilled(chunk)
        choices = (one for one in wire.list_of(chunk, "choices") if not one.get("index"))
        choice = next(choices, {})  # the first of several answers is the one that was asked for
        self._finish = wire.finish_reason(choice, "finish_reason") or self._finish
        delta = wire.child(choice, "delta")
        events: list[Event] = [
            Thought(thought)
            for name in ("reasoning_content", "reasoning")
            if isinstance(thought := delta.get(name), str) and thought
        ]
        if content := _text(delta) or wire.text(choice, "text"):
            events.append(Delta(content, tuple(wire.list_of(wire.child(choice, "logprobs"), "content"))))
        events += map(_tool_call, wire.list_of(delta, "tool_calls"))
        if not events and any(delta.get(name) for name in ("content", "reasoning_content", "reasoning")):
            return (Thinking(),)
        return events


def _infilled(chunk: JsonObject) -> Sequence[Event]:
    """A chunk of ``/infill``, whose last one says so itself."""
    text = wire.text(chunk, "content")
    events: list[Event] = [Delta(text)] if text else []
    if chunk["stop"] is True:
        reason = _STOP_TYPES.get(wire.text(chunk, "stop_type"), "unknown")
        prompt, answer = wire.count(chunk, "tokens_evaluated"), wire.count(chunk, "tokens_predicted")
        events.append(Done("length" if chunk.get("truncated") is True else reason, prompt, answer))
    return events


def _tool_call(piece: JsonObject) -> ToolCall:
    function = wire.child(piece, "function")
    return ToolCall(
        wire.count(piece, "index", wire.MOST_TOOL_CALLS),
        wire.text(piece, "id"),
        wire.text(function, "name"),
        wire.text(function, "arguments"),
    )


def _text(delta: JsonObject) -> str:
    """The text of a delta, which may be a list of parts; those that are no text are thoughts."""
    if isinstance(delta.get("content"), list):
        return "".join(
            wire.text(part, "text") for part in wire.list_of(delta, "content") if part.get("type") == "text"
        )
    return wire.text(delta, "content")


#: what a line of server-sent events may begin with besides ``data:``; a colon begins a comment
_OTHER_FIELDS = ("", "event", "id", "retry")


def _data(line: str) -> str:
    """What a ``data:`` line holds; nothing for a blank line, a comment (``: ping``) or a field without an
    answer. Raises Malformed for anything else: it may be a part of the answer."""
    field, _, value = line.partition(":")
    if field == "data":
        return value.strip()
    if field not in _OTHER_FIELDS:
        raise Malformed(f"sent a line that is no event: {wire.shorten(line)}")
    return ""


def _same_model(one: str, other: str) -> bool:
    return one.removesuffix(":latest") == other.removesuffix(":latest")


_INFILL = "/infill"
#: why an answer of ``/infill`` ended: the model said so, a stop sequence came, it had no tokens left
_STOP_TYPES = {"eos": "stop", "word": "stop", "limit": "length"}
#: what is written under other names here, or means nothing
_OLLAMA = frozenset({"options", "think", "num_ctx"})
#: fields that a server may do without: usage is shown where it is known; sampling is then the server's own
_OPTIONAL = frozenset({"stream_options", "temperature", "top_p", "seed"})
#: of what a server has refused, so much is known
_MOST_REFUSED = 100
#: one that is no part of a name: "1.9", not "llama3.2"
_NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])")
_NOT_KNOWN = re.compile(
    r"unknown|unrecogni[sz]ed|unexpected|unsupported|not (?:supported|permitted|allowed|recogni[sz]ed)|extra"
    r"|max_completion_tokens|does not support",
    re.IGNORECASE,
)


def _refused_fields(fault: HttpStatus, sent: JsonObject) -> set[str]:
    """The fields of `sent` that the server says it does not know, of those that it can be asked without."""
    if fault.status not in (400, 422) or not _NOT_KNOWN.search(fault.body):
        return set()
    named = set(re.findall(r"\w+", fault.body))
    return named & sent.keys() & (_OPTIONAL | {"max_tokens"})


def _names_number(fault: HttpStatus) -> bool:
    """Whether a refusal names a number besides its status: then it may be about a value of the field."""
    return any(number != str(fault.status) for number in _NUMBER.findall(fault.body))
