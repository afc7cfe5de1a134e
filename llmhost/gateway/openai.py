"""OpenAI's API: chat completions, completions, embeddings, models. Facts: its published API reference."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, TypeAdapter

from llmhost.answering.question import Reply
from llmhost.engines.engine import Completion, Message, Sampling, ToolCall
from llmhost.gateway.chat import Chat, Choice, merge_calls, stop_texts
from llmhost.gateway.faults import BadRequest, Fault
from llmhost.gateway.fields import COMPLETIONS, OPENAI
from llmhost.gateway.ids import new_id

__all__ = [
    "CHAT_BODY",
    "COMPLETION_BODY",
    "ChatBody",
    "ChatWriter",
    "CompletionBody",
    "CompletionWriter",
    "EngineSampling",
    "MessageBody",
    "chat_of",
    "completions_of",
    "error",
    "finish_reason",
    "message_of",
    "model",
    "usage",
]

#: answers to one request; each is asked of an engine
MOST_CHOICES = 16


class Body(BaseModel):
    """A request's body: fields that are not read are kept as they came."""

    model_config = ConfigDict(extra="allow", frozen=True)


class MessageBody(Body):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(Body):
    include_usage: bool = False


class SamplingBody(Body):
    model: str = Field(min_length=1, max_length=200)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    max_tokens: int | None = Field(None, ge=1, le=10_000_000)
    stop: str | list[str] | None = Field(None, max_length=10_000)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(1, ge=1, le=MOST_CHOICES)

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


_Number = Annotated[int | float, Field(allow_inf_nan=False)]


class EngineSampling(BaseModel):
    """How engines draw tokens, as `/v1/chat/completions` calls it: for the APIs that have no such fields."""

    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    top_k: int | None = Field(None, ge=0, le=10_000_000)
    min_p: _Number | None = None
    typical_p: _Number | None = None
    repeat_penalty: _Number | None = None
    repetition_penalty: _Number | None = None
    presence_penalty: _Number | None = None
    frequency_penalty: _Number | None = None
    logit_bias: dict[str, _Number] | None = None

    @property
    def passed_on(self) -> Mapping[str, Any]:
        """Those that are fields of the request to an engine: all but the seed."""
        return {name: getattr(self, name) for name in EngineSampling.model_fields if name != "seed"}


class ChatBody(SamplingBody):
    messages: list[MessageBody] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=10_000_000)


class CompletionBody(SamplingBody):
    prompt: str | list[str]
    suffix: str | None = None
    echo: bool | None = False
    best_of: int | None = None
    logprobs: StrictBool | Annotated[int, Field(ge=0, le=20)] | None = None


CHAT_BODY = TypeAdapter(ChatBody)
COMPLETION_BODY = TypeAdapter(CompletionBody)


def chat_of(body: ChatBody) -> Chat:
    """What a body asks. Raises BadRequest."""
    fields = OPENAI.read(body)
    return Chat(
        model=body.model,
        messages=tuple(map(message_of, body.messages)),
        sampling=_sampling(body, body.max_completion_tokens or body.max_tokens),
        fields=fields.passed,
        unknown=fields.unknown,
        stream=bool(body.stream),
        choices=body.n or 1,
        sticky=_text_or_empty((body.model_extra or {}).get("prompt_cache_key")),
    )


def completions_of(body: CompletionBody) -> Sequence[Chat]:
    """A chat for each prompt, with the model's own template around it; with a suffix, a text that stands
    before a gap. Raises BadRequest for what no engine is asked for."""
    if body.echo:
        raise BadRequest("`echo` is not supported", "echo")
    if body.best_of not in (None, 1, body.n or 1):
        raise BadRequest("`best_of` is not supported", "best_of")
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not prompts or len(prompts) * (body.n or 1) > MOST_CHOICES:
        raise BadRequest(f"`prompt` must hold 1 to {MOST_CHOICES} texts, times `n`", "prompt")
    logprobs = _logprobs_of(body)
    if body.suffix and logprobs:
        raise BadRequest("`logprobs` does not go with `suffix`", "logprobs")
    fields = COMPLETIONS.read(body, logprobs)
    return [
        Chat(
            model=body.model,
            messages=() if body.suffix else (Message("user", prompt),),
            completion=Completion(prompt, body.suffix) if body.suffix else None,
            sampling=_sampling(body, body.max_tokens),
            fields=fields.passed,
            unknown=fields.unknown,
            stream=bool(body.stream),
            choices=body.n or 1,
        )
        for prompt in prompts
    ]


def _logprobs_of(body: CompletionBody) -> Mapping[str, Any]:
    """As chats ask for them: this older API has one number, of the alternatives to each token."""
    if body.logprobs is None or body.logprobs is False:
        return {}
    return {"logprobs": True, "top_logprobs": int(body.logprobs)}


def message_of(body: MessageBody) -> Message:
    """The message as it was sent; a text in a list of its own is that text."""
    content: Any = body.content
    if isinstance(content, list) and len(content) == 1 and content[0].keys() == {"type", "text"}:
        text = content[0]["text"]
        content = text if isinstance(text, str) and content[0]["type"] == "text" else content
    fields = {name: value for name, value in (body.model_extra or {}).items() if value is not None}
    return Message(body.role, content, fields)


def _sampling(body: SamplingBody, max_tokens: int | None) -> Sampling:
    return Sampling(body.temperature, body.top_p, body.seed, max_tokens, stop_texts(body.stop))


def _text_or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""


# Answers


def error(fault: Fault) -> Mapping[str, Any]:
    return {
        "error": {"message": fault.message, "type": _kind(fault), "param": fault.field, "code": fault.code}
    }


def _kind(fault: Fault) -> str:
    """The type of an error, which clients' libraries read."""
    if fault.status >= 500:
        return "server_error"
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        fault.status, "invalid_request_error"
    )


#: the finish reasons of the API; any other end is that of an answer that is not whole
_FINISH = {"stop", "length", "tool_calls", "content_filter", "function_call"}


def finish_reason(reply: Reply) -> str:
    reason = reply.answer.finish_reason
    return reason if reason in _FINISH else "length"


def usage(replies: Sequence[Reply | None]) -> dict[str, Any]:
    """The tokens of all choices; those of a hit's prompt and answer when they were generated."""
    answers = [reply.answer for reply in replies if reply is not None]
    prompt = max((answer.prompt_tokens for answer in answers), default=0)
    completion = sum(answer.completion_tokens for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id or new_id("call_"),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def model(name: str, *, embeds: bool = False) -> object:
    """A model as `/v1/models` lists it."""
    more = {"capabilities": ["embedding"]} if embeds else {}
    return {"id": name, "object": "model", "created": 0, "owned_by": "llmhost", **more}


class _Writer:
    """What both kinds of completions share. All chunks of a stream have the same `id` and `created`."""

    media_type = "text/event-stream"
    kind: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self.model = model
        self.head = {
            "id": new_id(f"{self.prefix}-"),
            "created": int(time.time()),
            "model": model,
        }
        self._include_usage = include_usage
        self._replies: list[Reply] = []

    def begin(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b": ping\n\n"

    def end(self) -> bytes:
        last = b"data: [DONE]\n\n"
        return self.chunk([], usage=usage(self._replies)) + last if self._include_usage else last

    def broken(self, fault: Fault) -> bytes:
        return _event(error(fault))

    def chunk(self, choices: Sequence[Mapping[str, Any]], **fields: Any) -> bytes:
        return _event({**self.head, "object": self.kind, "choices": choices, **fields})


class ChatWriter(_Writer):
    """`/v1/chat/completions`."""

    kind = "chat.completion.chunk"
    prefix = "chatcmpl"

    def whole(self, choices: Sequence[Choice]) -> object:
        return {
            **self.head,
            "object": "chat.completion",
            "choices": [self._whole(index, choice) for index, choice in enumerate(choices)],
            "usage": usage([choice.reply for choice in choices]),
        }

    def _whole(self, index: int, choice: Choice) -> dict[str, Any]:
        assert choice.reply is not None  # noqa: S101 - a choice is whole with its reply
        calls = [_tool_call(call) for call in merge_calls(choice.calls)]
        message: dict[str, Any] = {"role": "assistant", "content": choice.text or (None if calls else "")}
        if choice.thought:
            message["reasoning_content"] = choice.thought
        if calls:
            message["tool_calls"] = calls
        written: dict[str, Any] = {
            "index": index,
            "message": message,
            "finish_reason": finish_reason(choice.reply),
        }
        if choice.logprobs:
            written["logprobs"] = {"content": list(choice.logprobs)}
        return written

    def started(self, index: int) -> bytes:
        return self._delta(index, {"role": "assistant", "content": ""})

    def text(self, index: int, text: str, logprobs: Sequence[Mapping[str, Any]]) -> bytes:
        more = {"logprobs": {"content": list(logprobs)}} if logprobs else {}
        return self._delta(index, {"content": text}, fields=more)

    def thought(self, index: int, text: str) -> bytes:
        return self._delta(index, {"reasoning_content": text})

    def call(self, index: int, call: ToolCall) -> bytes:
        piece: dict[str, Any] = {"index": call.index, "function": {"arguments": call.arguments}}
        if call.name:
            whole = _tool_call(call)
            piece = {"index": call.index, **whole}
        return self._delta(index, {"tool_calls": [piece]})

    def finish(self, index: int, reply: Reply) -> bytes:
        self._replies.append(reply)
        return self._delta(index, {}, finish=finish_reason(reply))

    def _delta(
        self,
        index: int,
        delta: Mapping[str, Any],
        finish: str | None = None,
        fields: Mapping[str, Any] = {},
    ) -> bytes:
        return self.chunk([{"index": index, "delta": delta, "finish_reason": finish, **fields}])


class CompletionWriter(_Writer):
    """`/v1/completions`."""

    kind = "text_completion"
    prefix = "cmpl"

    def __init__(self, model: str, *, include_usage: bool) -> None:
        super().__init__(model, include_usage=include_usage)
        #: characters of each choice that were written
        self._offsets: Counter[int] = Counter()

    def whole(self, choices: Sequence[Choice]) -> object:
        written = []
        for index, choice in enumerate(choices):
            assert choice.reply is not None  # noqa: S101 - a choice is whole with its reply
            finish = finish_reason(choice.reply)
            written.append(self._choice(index, choice.text, finish, choice.logprobs))
        return {
            **self.head,
            "object": self.kind,
            "choices": written,
            "usage": usage([choice.reply for choice in choices]),
        }

    def started(self, index: int) -> bytes:  # noqa: ARG002
        return b""

    def text(self, index: int, text: str, logprobs: Sequence[Mapping[str, Any]]) -> bytes:
        return self.chunk([self._choice(index, text, None, logprobs)])

    def thought(self, index: int, text: str) -> bytes:  # noqa: ARG002
        return b""

    def call(self, index: int, call: ToolCall) -> bytes:  # noqa: ARG002
        return b""

    def finish(self, index: int, reply: Reply) -> bytes:
        self._replies.append(reply)
        return self.chunk([self._choice(index, "", finish_reason(reply))])

    def _choice(
        self, index: int, text: str, finish: str | None, logprobs: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        listed = _listed_logprobs(logprobs, self._offsets[index]) if logprobs else None
        self._offsets[index] += len(text)
        return {"text": text, "index": index, "logprobs": listed, "finish_reason": finish}


def _listed_logprobs(logprobs: Sequence[Mapping[str, Any]], offset: int) -> Mapping[str, Any]:
    """Those of a chat's tokens as lists; the first token is that many characters from the beginning."""
    tokens = [_token(one) for one in logprobs]
    alternatives = [
        {_token(other): other.get("logprob") for other in tops if isinstance(other, dict)}
        for one in logprobs
        if isinstance(tops := one.get("top_logprobs"), list)
    ]
    return {
        "tokens": tokens,
        "token_logprobs": [one.get("logprob") for one in logprobs],
        "top_logprobs": alternatives if any(alternatives) else None,
        "text_offset": list(accumulate(map(len, tokens[:-1]), initial=offset)),
    }


def _token(logprob: Mapping[str, Any]) -> str:
    return str(logprob.get("token", ""))


def _event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
