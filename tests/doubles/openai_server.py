"""A double of an OpenAI-compatible server, written from OpenAI's published API reference, and of llama.cpp's
`/infill`, written from its published reference."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from doubles.chat_server import ChatServer, asked_path, vector_of
from doubles.http_server import Reply, Request


class OpenAIServer(ChatServer):
    """Everything that it is told makes it one of the servers that differ there.

    `known` are models that it serves and does not list; `listed` is what it answers instead of a list, None
    for status 404; `unknown` has for a field of a request the status and the reply with which it is refused,
    `unsupported` for one value of a field.
    `completes`: it has `/completions`; `infill`: its model can fill a gap, None without such a path;
    `embeds`: it gives embeddings, False for a llama.cpp that was started without, None without such a path,
    or what it answers.
    """

    content_type: ClassVar[str] = "text/event-stream"
    chat_path: ClassVar[str] = "/v1/chat/completions"

    def __init__(self, model: str = "tiny", token: str | None = None) -> None:
        super().__init__(model, token)
        self.base = "/v1"
        self.known: set[str] = set()
        self.listed: bytes | None = b""
        self.unknown: dict[str, tuple[int, object]] = {}
        self.unsupported: dict[tuple[str, object], tuple[int, object]] = {}
        self.usage: object = None
        self.has_usage = True
        self.has_done = True
        self.server_version: str | None = None
        self.completes = True
        self.infill: bool | None = None
        self.embeds: bool | dict[str, Any] | None = None

    async def answer(self, request: Request, reply: Reply) -> None:
        match request.method, request.path:
            case "POST", path if path == f"{self.base}/chat/completions":
                await self._chat(request, reply)
            case "POST", path if path == f"{self.base}/completions" and self.completes:
                await self._chat(request, reply)
            case "POST", path if path == f"{self.base}/embeddings" and self.embeds is not None:
                await self._embed(request, reply)
            case "POST", "/infill" if self.infill is not None:
                await self._infill(request, reply)
            case "GET", path if path == f"{self.base}/models" and self.listed is not None:
                models = {"object": "list", "data": [{"id": self.model, "object": "model"}]}
                await reply.body(self.listed or json.dumps(models).encode())
            case "GET", "/version" if self.server_version is not None:
                await reply.json({"version": self.server_version})
            case _:
                await reply.json(self.refused("File Not Found"), 404)

    async def _chat(self, request: Request, reply: Reply) -> None:
        refusals = [self.unknown.get(name) for name in request.json]
        refusals += [self.unsupported.get((name, request.json.get(name))) for name, _ in self.unsupported]
        refused = next(filter(None, refusals), None)
        if refused is not None:
            await reply.json(refused[1], refused[0])
        elif request.json["model"] in {self.model, *self.known}:
            await self.chat(request, reply)
        else:
            await reply.json(self.refused(f"The model `{request.json['model']}` does not exist."), 404)

    async def _infill(self, request: Request, reply: Reply) -> None:
        if self.infill:
            await self.chat(request, reply)
        else:
            said = "Infill is not supported by this model: prefix token is missing. "
            await reply.json({"error": {"code": 501, "message": said, "type": "not_supported_error"}}, 501)

    async def _embed(self, request: Request, reply: Reply) -> None:
        if not self.embeds:
            said = "This server does not support embeddings. Start it with `--embeddings`"
            return await reply.json(
                {"error": {"code": 501, "message": said, "type": "not_supported_error"}}, 501
            )
        if isinstance(self.embeds, dict):
            return await reply.json(self.embeds)
        texts = request.json["input"]
        data = [
            {"object": "embedding", "index": index, "embedding": vector_of(text, 4)}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": sum(len(text.split()) for text in texts)}
        listed = {"object": "list", "model": self.model, "data": data[::-1], "usage": usage}
        return await reply.json(listed)

    def delta(self, fields: dict[str, Any]) -> bytes:
        return _event(_chunk(fields))

    def piece(self, text: str) -> bytes:
        path = asked_path.get("")
        if path == "/infill":
            return _event({"index": 0, "content": text, "stop": False, "tokens_predicted": 1})
        if path == f"{self.base}/completions":
            choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
            return _event({"object": "text_completion", "choices": [choice]})
        return _event(_chunk({"content": text}))

    def thought(self, text: str) -> bytes:
        return _event(_chunk({"reasoning_content": text}))

    def error(self, message: str) -> bytes:
        return _event({"error": {"message": message, "type": "server_error"}})

    def refused(self, message: str) -> object:
        return {"error": {"message": message, "type": "invalid_request_error"}}

    def wrong_types(self) -> bytes:
        return _event({"choices": "none"})

    def ending(self, finish_reason: str | None, tokens: int) -> list[bytes]:
        if asked_path.get("") == "/infill":
            why = {"stop": "eos", "length": "limit"}.get(finish_reason or "", "none")
            last = {"content": "", "stop": True, "stop_type": why, "truncated": False}
            return [_event({**last, "tokens_predicted": tokens, "tokens_evaluated": 7})]
        lines = [b": ping\n\n", _event(_chunk({}, finish_reason))]
        if self.has_usage:
            counted = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
            usage = counted if self.usage is None else self.usage
            lines.append(_event({"object": "chat.completion.chunk", "choices": [], "usage": usage}))
        if self.has_done:
            lines.append(b"data: [DONE]\n\n")
        return lines

    def most_tokens(self, request: Request) -> int:
        most: int = next((request.json[name] for name in _MOST_TOKENS if name in request.json), 1000)
        return most


_MOST_TOKENS = ("max_tokens", "max_completion_tokens", "n_predict")


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
