"""Ollama's `/api/chat` and `/api/generate`: a request in its words, and the lines of its answer. Facts: its
API reference.

Requests come in the form of OpenAI's API, with `think` and `options` beside its fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmhost.engines import wire
from llmhost.engines.engine import ChatRequest, Delta, Done, Message, Thought, ToolCall
from llmhost.engines.wire import Event, JsonObject, Malformed, Reported
from llmhost.errors import EngineRefused

__all__ = ["LineReader", "chat_payload", "model_options", "parse_line"]

#: fields of a request that are options of the model runner here
_OPTIONS = ("top_k", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
#: fields without which the answer would be another, and that Ollama does not have
_UNKNOWN = ("logit_bias", "repetition_penalty", "web_search_options", "raw_prompt", "suffix")
#: fields that are written below, or mean nothing here
_READ = frozenset(
    {"options", "response_format", "reasoning_effort", "tool_choice", "parallel_tool_calls", *_OPTIONS}
)


def chat_payload(request: ChatRequest, context: int) -> JsonObject:
    """The body that asks for a streamed answer, with `context` tokens unless the request says otherwise.

    Raises EngineRefused for what Ollama cannot do.
    """
    fields = request.fields
    for name in _UNKNOWN:
        if fields.get(name):
            raise EngineRefused(f"the engine does not support `{name}`", hint="leave it out")
    choice = fields.get("tool_choice", "auto")
    if choice not in ("auto", "none", None):
        raise EngineRefused("the engine only supports `tool_choice` auto and none", hint="leave it out")
    payload = {
        # Ollama drops what does not fit its context, and forgets the prompt's beginning while it answers,
        # without a word, unless it is told to refuse; before 0.12.6 it does so all the same.
        "truncate": False,
        "shift": False,
        **{name: value for name, value in fields.items() if name not in _READ},
        "model": request.model,
        **_asked(request),
        "stream": True,
        "options": {
            **model_options(request, context),
            **wire.sampling_fields(request.sampling, max_tokens="num_predict"),
        },
    }
    if choice == "none":
        payload.pop("tools", None)
    if (schema := _format(fields.get("response_format"))) is not None:
        payload["format"] = schema
    if (effort := fields.get("reasoning_effort")) is not None:
        payload.setdefault("think", False if effort in ("none", "minimal") else effort)
    return payload


def _asked(request: ChatRequest) -> JsonObject:
    """The messages; or a prompt, which a model's own template turns into a gap to fill where it has a suffix,
    and which is read as it is where it has none."""
    if (completion := request.completion) is None:
        return {"messages": _messages(request.messages)}
    raw = {} if completion.suffix else {"raw": True}
    return {**wire.completion_fields(completion), **raw}


def model_options(request: ChatRequest, context: int) -> JsonObject:
    """The request's `options`, with those that OpenAI's API has as fields."""
    flat = {name: request.fields[name] for name in _OPTIONS if request.fields.get(name) is not None}
    return {"num_ctx": context, **flat, **wire.sent_object(request.fields, "options")}


def _format(response_format: Any) -> Any:
    """Ollama's `format`; None for plain text. Raises EngineRefused."""
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_object":
        return "json"
    if kind == "json_schema":
        return wire.sent_object(response_format, "json_schema").get("schema") or "json"
    return None


def _messages(messages: Sequence[Message]) -> list[JsonObject]:
    """Raises EngineRefused for what is not as OpenAI's API has it, or has no place in Ollama's."""
    names: dict[str, str] = {}  #: of the tools called so far, by the id of the call
    return [_message(message, names) for message in messages]


def _message(message: Message, names: dict[str, str]) -> JsonObject:
    texts, images = _parts(message.content)
    written: JsonObject = {
        "role": "system" if message.role == "developer" else message.role,
        "content": "\n".join(texts),
    }
    if images:
        written["images"] = images
    fields = message.fields
    if thinking := fields.get("reasoning_content"):
        written["thinking"] = thinking
    if calls := fields.get("tool_calls"):
        if not isinstance(calls, list):
            raise EngineRefused("the `tool_calls` of a message must be a list")
        written["tool_calls"] = [_call(call, names) for call in calls]
    if message.role == "tool":
        name = names.get(str(fields.get("tool_call_id", "")), fields.get("name", ""))
        if name:
            written["tool_name"] = name
    return written


def _parts(content: str | list[Any] | None) -> tuple[list[str], list[str]]:
    """The texts and the images, as base64, of a message."""
    if not isinstance(content, list):
        return [content or ""], []
    texts, images = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_image(part.get("image_url")))
        else:
            raise EngineRefused(f"the engine does not support content of type {wire.shorten(str(kind))!r}")
    return texts, images


def _image(source: Any) -> str:
    url = source.get("url") if isinstance(source, dict) else source
    head, comma, data = str(url).partition(",")
    if not (head.startswith("data:") and head.endswith(";base64") and comma):
        raise EngineRefused(
            "the engine takes images only as data URLs", hint="send it as data:image/…;base64,…"
        )
    return data


def _call(call: Any, names: dict[str, str]) -> JsonObject:
    """An earlier call of a tool, whose arguments are a JSON text in OpenAI's API and an object here."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise EngineRefused("a tool call of the conversation names no function")
    names[str(call.get("id", ""))] = function["name"]
    arguments = function.get("arguments") or {}
    try:
        read = arguments if isinstance(arguments, dict) else wire.parse_object(str(arguments))
    except Malformed as error:
        raise EngineRefused("the arguments of a tool call are not a JSON object") from error
    return {"function": {"name": function["name"], "arguments": read}}


class LineReader:
    """Reads the lines of one answer, one JSON object each."""

    def __init__(self) -> None:
        self._calls = 0

    def read(self, line: str) -> Sequence[Event]:
        if not line.strip():
            return ()
        reply = parse_line(line)
        message = wire.child(reply, "message")
        events: list[Event] = []
        if thinking := wire.text(message, "thinking") or wire.text(reply, "thinking"):
            events.append(Thought(thinking))
        if content := wire.text(message, "content") or wire.text(reply, "response"):
            events.append(Delta(content, tuple(wire.list_of(reply, "logprobs"))))
        events += map(self._call, wire.list_of(message, "tool_calls"))
        if reply.get("done") is True:
            # Without a reason it is not known to be complete, so it is not called `stop`.
            reason = wire.finish_reason(reply, "done_reason") or "unknown"
            if self._calls and reason == "stop":
                reason = "tool_calls"
            prompt, answer = wire.count(reply, "prompt_eval_count"), wire.count(reply, "eval_count")
            events.append(Done(reason, prompt, answer))
        return events

    def _call(self, call: Mapping[str, Any]) -> ToolCall:
        function = wire.child(dict(call), "function")
        index, self._calls = self._calls, self._calls + 1
        if index >= wire.MOST_TOOL_CALLS:
            raise Malformed("sent more tool calls than any answer has")
        arguments = json.dumps(wire.child(function, "arguments"), ensure_ascii=False)
        return ToolCall(index, wire.text(dict(call), "id"), wire.text(function, "name"), arguments)


def parse_line(line: str) -> JsonObject:
    """One JSON object. Raises Malformed, and Reported where it is an error of Ollama's own."""
    reply = wire.parse_object(line)
    if reply.get("error"):
        raise Reported(wire.error_text(reply["error"]))
    return reply
