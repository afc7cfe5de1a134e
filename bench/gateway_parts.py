"""What the benchmarks of the gateway put beside it, each a process of its own.

python bench/gateway_parts.py engine PORT          an OpenAI server that streams 50 tokens a second
python bench/gateway_parts.py marked PORT          one whose answers carry their questions' marks
python bench/gateway_parts.py bare PORT SOCKET     a handler of the gateway's own server: one Redis GET
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.verifiers.load import load_verifier
from llmhost.config.models import CacheConfig
from llmhost.gateway.server import GatewayServer, listen

TOKENS_A_SECOND = 50
ANSWER = "It learns from data. " * 40
PAIR = ("Explain machine learning in simple terms", "What is machine learning in simple terms?")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def reply(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


#: how many questions the engine was asked: what a cache in front of it did not answer
questions = 0


async def engine(scope: Any, receive: Any, send: Any) -> None:
    global questions
    if scope["path"].endswith("/models"):
        await reply(send, b'{"object":"list","data":[{"id":"tiny","object":"model"}]}')
        return
    if scope["path"] == "/questions":
        await body_of(receive)
        await reply(send, str(questions).encode())
        return
    asked = json.loads(await body_of(receive))
    questions += 1
    tokens = asked.get("max_tokens") or 20
    if not asked.get("stream"):
        await reply(send, _completion("".join(f"t{number} " for number in range(tokens))))
        return
    # A question that is not streamed to its client is streamed to the gateway: it need not take a second.
    pause = 1 / TOKENS_A_SECOND if tokens < 1000 else 0.0
    tokens = min(tokens, 40) if tokens >= 1000 else tokens
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )
    due = time.perf_counter()
    for number in range(tokens):
        due += pause
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await send(_event({"content": f"t{number} "}))
    await send(_event({}, "stop"))
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def _completion(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}
    whole = {"id": "x", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice]}
    return json.dumps(whole | {"usage": usage}).encode()


def _event(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "tiny", "choices": [choice]}
    return {
        "type": "http.response.body",
        "body": b"data: " + json.dumps(chunk).encode() + b"\n\n",
        "more_body": True,
    }


#: pieces of a marked answer, and seconds between two of them
PIECES, PIECE_PAUSE = 6, 0.015


def marked_pieces(shop: int, compound: int) -> list[str]:
    """The answer to the question with these marks: each piece carries them, and its place."""
    return [f"{shop}/{compound}.{number} " for number in range(PIECES)]


def marked_text(shop: int, compound: int) -> str:
    return "".join(marked_pieces(shop, compound)).strip()


async def marked(scope: Any, receive: Any, send: Any) -> None:
    """Answers by the marks in the system prompt and in the last message of the user."""
    if scope["path"].endswith("/models"):
        await reply(send, b'{"object":"list","data":[{"id":"tiny","object":"model"}]}')
        return
    body = await body_of(receive)
    if not body:  # the gateway has left
        return
    messages = json.loads(body)["messages"]
    shop = re.search(r"shop (\d+)", str(messages[0]["content"]))
    compound = re.search(r"compound (\d+)", str(messages[-1]["content"]))
    pieces = marked_pieces(int(shop[1]) if shop else 0, int(compound[1]) if compound else 0)
    pieces[-1] = pieces[-1].strip()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )
    for piece in pieces:
        await asyncio.sleep(PIECE_PAUSE)
        await send(_event({"content": piece}))
    await send(_event({}, "stop"))
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


class Bare:
    """`/get` does one Redis GET and returns what is stored; `/judge` embeds and verifies before it."""

    def __init__(self, path: str) -> None:
        self._redis = Redis(unix_socket_path=path, protocol=2)
        self._embedder: Any = None
        self._verifier: Any = None

    async def load(self) -> None:
        self._embedder = load_embedder(CacheConfig().embedder, on_progress=str)
        self._verifier = load_verifier(CacheConfig().verifier, on_progress=str)
        await self._redis.set("bench:answer", json.dumps({"choices": [{"message": {"content": ANSWER}}]}))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        if scope["path"] == "/judge":
            self._embedder.embed(PAIR[0])
            self._verifier.probability(*PAIR)
        await reply(send, await self._redis.get("bench:answer") or b"")


async def run(app: Any, port: int) -> None:
    server = GatewayServer(app, [listen("127.0.0.1", port)])
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    print("ready", flush=True)
    await server.run()


async def main(words: Sequence[str]) -> None:
    what, port, *more = words
    if what in ("engine", "marked"):
        await run(engine if what == "engine" else marked, int(port))
        return
    bare = Bare(str(Path(more[0])))
    await bare.load()
    await run(bare, int(port))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
