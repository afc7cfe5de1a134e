"""The answer of OpenAI's `/v1/responses`, whole and as a stream. Facts: its published API reference."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter

from llmhost.answering.question import Reply
from llmhost.engines.engine import ToolCall
from llmhost.gateway.chat import BlockOrder, Choice, merge_calls
from llmhost.gateway.faults import Fault
from llmhost.gateway.ids import new_id
from llmhost.gateway.openai import error, finish_reason, usage
from llmhost.gateway.responses import (
    Reasoning,
    ResponseBody,
    TextConfig,
    TextFormat,
    Tool,
    ToolChoice,
    full_name,
    functions_of,
)

__all__ = ["ResponseWriter"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a kind of item is written: its `type`, the `prefix` of its id, the `field` that holds its text and
    the `events` of that; the events and the index of the part that holds the text, empty where there is none.
    """

    type: str
    prefix: str
    field: str
    events: str
    part_events: str = ""
    part_index: str = ""


_KINDS = {
    "thoughts": _Kind(
        "reasoning", "rs", "text", "response.reasoning_text", "response.content_part", "content_index"
    ),
    # the same for clients that ask for a summary: they look for thoughts nowhere else
    "summary": _Kind(
        *("reasoning", "rs", "text", "response.reasoning_summary_text"),
        *("response.reasoning_summary_part", "summary_index"),
    ),
    "message": _Kind(
        "message", "msg", "text", "response.output_text", "response.content_part", "content_index"
    ),
    "call": _Kind("function_call", "fc", "arguments", "response.function_call_arguments"),
}


@dataclass(slots=True)
class _Output:
    """An item of the answer as it grows: thoughts, text, or the call of a tool."""

    name: str
    index: int
    #: of a call
    fields: Mapping[str, Any] = field(default_factory=dict)
    pieces: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = new_id(f"{self.kind.prefix}_")

    @property
    def kind(self) -> _Kind:
        return _KINDS[self.name]

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def where(self) -> Mapping[str, Any]:
        """What the events of its text say of their place."""
        where = {"item_id": self.id, "output_index": self.index}
        return {**where, self.kind.part_index: 0} if self.kind.part_index else where

    def part(self) -> Mapping[str, Any]:
        if self.name == "message":
            return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs}
        return {"type": "summary_text" if self.name == "summary" else "reasoning_text", "text": self.text}

    def written(self, status: str) -> Mapping[str, Any]:
        item = {"id": self.id, "type": self.kind.type, "status": status, **self.fields}
        if self.name == "call":
            return {**item, "arguments": self.text}
        parts = [self.part()] if self.pieces or status != "in_progress" else []
        if self.name == "message":
            return {**item, "role": "assistant", "content": parts}
        return (
            {**item, "summary": parts}
            if self.name == "summary"
            else {**item, "summary": [], "content": parts}
        )


_TOOLS = TypeAdapter(list[Tool])


class ResponseWriter:
    """`/v1/responses`."""

    media_type = "text/event-stream"

    def __init__(self, body: ResponseBody) -> None:
        self._head = _head(body, int(time.time()))
        self._functions = {
            full_name(space, tool.name): (space, tool.name) for space, tool in functions_of(body)
        }
        self._thoughts = "summary" if body.reasoning and body.reasoning.summary else "thoughts"
        self._order = BlockOrder()
        #: the last is open while the answer is streamed
        self._outputs: list[_Output] = []
        self._reply: Reply | None = None
        self._events = 0

    def whole(self, choices: Sequence[Choice]) -> object:
        (choice,) = choices
        if choice.thought:
            self._add(self._thoughts).pieces.append(choice.thought)
        if choice.text or not choice.calls:
            message = self._add("message")
            message.pieces.append(choice.text)
            message.logprobs += choice.logprobs
        for call in merge_calls(choice.calls):
            self._add("call", self._call_fields(call)).pieces.append(call.arguments)
        self._reply = choice.reply
        return self._ended()

    def begin(self) -> bytes:
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def ping(self) -> bytes:
        return b": ping\n\n"

    def started(self, index: int) -> bytes:  # noqa: ARG002
        return b""

    def text(self, index: int, text: str, logprobs: Sequence[Mapping[str, Any]]) -> bytes:  # noqa: ARG002
        return self._piece("message", 0, text, logprobs=list(logprobs))

    def thought(self, index: int, text: str) -> bytes:  # noqa: ARG002
        return self._piece(self._thoughts, 0, text)

    def call(self, index: int, call: ToolCall) -> bytes:  # noqa: ARG002
        return self._piece("call", call.index, call.arguments, self._call_fields(call))

    def finish(self, index: int, reply: Reply) -> bytes:  # noqa: ARG002
        self._reply = reply
        empty = b"" if self._outputs else self._piece("message", 0, "", logprobs=[])
        return empty + self._close(_status(reply))

    def end(self) -> bytes:
        response = self._ended()
        return self._event(f"response.{response['status']}", response=response)

    def broken(self, fault: Fault) -> bytes:
        code = "server_error" if fault.status >= 500 else fault.code
        code = "rate_limit_exceeded" if fault.status == 429 else code
        told = {"code": code, "message": fault.message}
        failed = self._event("response.failed", response=self._response("failed", error=told))
        return failed + self._event("error", **told, param=None, **error(fault))

    def _piece(
        self, name: str, number: int, text: str, fields: Mapping[str, Any] | None = None, **more: Any
    ) -> bytes:
        """A piece of this item, which is begun where it is another; `number` is that of a call."""
        begun = b""
        if self._order.enters(name, number):
            begun = self._close("completed") + self._open(self._add(name, fields or {}))
        output = self._outputs[-1]
        output.pieces.append(text)
        output.logprobs += more.get("logprobs", ())
        if not text:
            return begun
        return begun + self._event(f"{output.kind.events}.delta", **output.where, delta=text, **more)

    def _open(self, output: _Output) -> bytes:
        item = output.written("in_progress")
        added = self._event("response.output_item.added", output_index=output.index, item=item)
        if not output.kind.part_events:
            return added
        return added + self._event(f"{output.kind.part_events}.added", **output.where, part=output.part())

    def _close(self, status: str) -> bytes:
        if not self._outputs:
            return b""
        output = self._outputs[-1]
        kind = output.kind
        done: dict[str, Any] = {**output.where, kind.field: output.text}
        if output.name == "message":
            done["logprobs"] = output.logprobs
        if output.name == "call":
            done["name"] = output.fields["name"]
        ended = self._event(f"{kind.events}.done", **done)
        if kind.part_events:
            ended += self._event(f"{kind.part_events}.done", **output.where, part=output.part())
        item = output.written(status)
        return ended + self._event("response.output_item.done", output_index=output.index, item=item)

    def _add(self, name: str, fields: Mapping[str, Any] = {}) -> _Output:
        self._outputs.append(_Output(name, len(self._outputs), fields))
        return self._outputs[-1]

    def _call_fields(self, call: ToolCall) -> Mapping[str, Any]:
        namespace, name = self._functions.get(call.name, (None, call.name))
        fields = {"call_id": call.id or new_id("call_"), "name": name}
        return {**fields, "namespace": namespace} if namespace else fields

    def _ended(self) -> Mapping[str, Any]:
        assert self._reply is not None  # noqa: S101 - an answer ends with its reply
        status = _status(self._reply)
        details = None
        if status == "incomplete":
            filtered = finish_reason(self._reply) == "content_filter"
            details = {"reason": "content_filter" if filtered else "max_output_tokens"}
        return self._response(status, incomplete_details=details, usage=_usage(self._reply))

    def _response(self, status: str, **fields: Any) -> Mapping[str, Any]:
        last = "completed" if status == "completed" else "incomplete"
        output = [one.written(last if one is self._outputs[-1] else "completed") for one in self._outputs]
        return {**self._head, "status": status, "output": output, **fields}

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": kind, "sequence_number": self._events, **fields})
        self._events += 1
        return f"event: {kind}\ndata: ".encode() + data + b"\n\n"


def _head(body: ResponseBody, now: int) -> Mapping[str, Any]:
    """What a response says of its request."""
    choice = body.tool_choice
    text = body.text or TextConfig(format=TextFormat(type="text"))
    return {
        "id": new_id("resp_", 32),
        "object": "response",
        "created_at": now,
        "model": body.model,
        "instructions": body.instructions,
        "tools": orjson.Fragment(_TOOLS.dump_json(body.tools or [], by_alias=True, exclude_none=True)),
        "tool_choice": _json(choice) if isinstance(choice, ToolChoice) else choice or "auto",
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "text": _json(text, exclude_none=True),
        "reasoning": _json(body.reasoning or Reasoning()),
        "temperature": body.temperature,
        "top_p": body.top_p,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "prompt_cache_key": body.prompt_cache_key,
        "previous_response_id": None,
        "store": False,
        "background": False,
        "truncation": "disabled",
        "error": None,
        "incomplete_details": None,
        "usage": None,
    }


def _json(value: BaseModel, *, exclude_none: bool = False) -> orjson.Fragment:
    """Its JSON text, in which a client's numbers may have any size."""
    return orjson.Fragment(value.model_dump_json(by_alias=True, exclude_none=exclude_none))


def _status(reply: Reply) -> str:
    return "incomplete" if finish_reason(reply) in ("length", "content_filter") else "completed"


def _usage(reply: Reply) -> Mapping[str, Any]:
    tokens = usage([reply])
    return {
        "input_tokens": tokens["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": tokens["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens["total_tokens"],
    }
