"""A double of an OpenAI-compatible server, written from OpenAI's published API reference."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from doubles.chat_server import ChatServer
from doubles.http_server import Reply, Request


class OpenAIServer(ChatServer):
    """`has_usage`, `has_done` and `server_version` make it one of the servers that differ there."""

    content_type: ClassVar[str] = "text/event-stream"
    chat_path: ClassVar[str] = "/v1/chat/completions"

    def __init__(self, model: str = "tiny", token: str | None = None) -> None:
        super().__init__(model, token)
        self.has_usage = True
        self.has_done = True
        self.server_version: str | None = None

    async def answer(self, request: Request, reply: Reply) -> None:
        match request.method, request.path:
            case "POST", self.chat_path:
                await self.chat(request, reply)
            case "GET", "/v1/models":
                await reply.json({"object": "list", "data": [{"id": self.model, "object": "model"}]})
            case "GET", "/version" if self.server_version is not None:
                await reply.json({"version": self.server_version})
            case _:
                await reply.json(self.refused("File Not Found"), 404)

    def piece(self, text: str) -> bytes:
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
        lines = [b": ping\n\n", _event(_chunk({}, finish_reason))]
        if self.has_usage:
            usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
            lines.append(_event({"object": "chat.completion.chunk", "choices": [], "usage": usage}))
        if self.has_done:
            lines.append(b"data: [DONE]\n\n")
        return lines

    def most_tokens(self, request: Request) -> int:
        most: int = request.json.get("max_tokens", 1000)
        return most


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
