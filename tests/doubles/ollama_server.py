"""A double of Ollama, written from its published API reference."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import Any, ClassVar

from doubles.chat_server import ChatServer, asked_path, vector_of
from doubles.http_server import Reply, Request


@dataclass(slots=True)
class Download:
    """A model in the registry. `failures` says after how many bytes each attempt breaks off, in turn;
    `errors` are what each attempt reports instead, in turn; `pause` is seconds for each tenth of it."""

    size: int = 1000
    failures: tuple[int, ...] = ()
    errors: tuple[str, ...] = ()
    fetched: int = 0
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Running:
    """A model in memory, in bytes."""

    size: int
    size_vram: int


class OllamaServer(ChatServer):
    """Holds `models` by their full names, runs those in `running`, and can pull those in `registry`.
    They chat and give embeddings, unless `chats` or `embeds` is False.
    """

    content_type: ClassVar[str] = "application/x-ndjson"
    chat_path: ClassVar[str] = "/api/chat"

    def __init__(self, model: str = "tiny:latest", token: str | None = None) -> None:
        super().__init__(model, token)
        self.models: set[str] = {model}
        self.running: dict[str, Running] = {}
        self.registry: dict[str, Download] = {}
        #: of each model by its full name; of any other the hash of its name
        self.digests: dict[str, str] = {}
        self.capabilities: object = ["completion", "insert"]
        self.prompt_tokens = 7
        self.embeds = self.chats = True

    async def answer(self, request: Request, reply: Reply) -> None:
        match request.method, request.path:
            case "POST", self.chat_path:
                await self._chat(request, reply)
            case "POST", "/api/generate":
                await self._generate(request, reply)
            case "POST", "/api/embed":
                await self._embed(request, reply)
            case "POST", "/api/pull":
                await self._pull(request, reply)
            case "GET", "/api/tags":
                await reply.json({"models": [self._listed(name) for name in sorted(self.models)]})
            case "POST", "/api/show":
                await self._show(request, reply)
            case "GET", "/api/ps":
                await reply.json({"models": [_running(name, run) for name, run in self.running.items()]})
            case "GET", "/api/version":
                await reply.json({"version": "0.12.3"})
            case _:
                await reply.body(b"404 page not found", 404, "text/plain")

    def _listed(self, name: str) -> dict[str, Any]:
        digest = self.digests.get(name, hashlib.sha256(name.encode()).hexdigest())
        return {"name": name, "model": name, "digest": digest, "size": 270_898_672}

    def piece(self, text: str) -> bytes:
        return self._line({**_said(text), "done": False})

    def thought(self, text: str) -> bytes:
        return self._line({**_said("", thinking=text), "done": False})

    def error(self, message: str) -> bytes:
        return _encode({"error": message})

    def refused(self, message: str) -> object:
        return {"error": message}

    def wrong_types(self) -> bytes:
        return self._line({"message": "word", "done": False})

    def ending(self, finish_reason: str | None, tokens: int) -> list[bytes]:
        last = {**_said(""), "done": True, "done_reason": finish_reason}
        if finish_reason is None:
            del last["done_reason"]
        durations = {"total_duration": 5_000_000, "load_duration": 1_000_000, "eval_duration": 3_000_000}
        counts = {"prompt_eval_count": self.prompt_tokens, "eval_count": tokens}
        return [self._line(last | durations | counts)]

    def most_tokens(self, request: Request) -> int:
        most: int = request.json["options"].get("num_predict", 1000)
        return most

    async def _chat(self, request: Request, reply: Reply) -> None:
        asked = request.json["model"]
        if not self.chats:
            await reply.json({"error": f'"{asked}" does not support chat'}, 400)
        elif full_name(asked) in self.models:
            await self.chat(request, reply)
        else:
            await reply.json({"error": f'model "{asked}" not found, try pulling it first'}, 404)

    async def _generate(self, request: Request, reply: Reply) -> None:
        capabilities = self.capabilities if isinstance(self.capabilities, list) else []
        if request.json.get("suffix") and "insert" not in capabilities:
            model = f"registry.ollama.ai/library/{full_name(request.json['model'])}"
            await reply.json({"error": f"{model} does not support insert"}, 400)
        else:
            await self._chat(request, reply)

    async def _embed(self, request: Request, reply: Reply) -> None:
        asked = request.json
        if full_name(asked["model"]) not in self.models:
            await reply.json({"error": f'model "{asked["model"]}" not found, try pulling it first'}, 404)
        elif not self.embeds:
            await reply.json({"error": "this model does not support embeddings"}, 500)
        else:
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            vectors = [vector_of(text, asked.get("dimensions") or 4) for text in texts]
            counts = {"total_duration": 5_000_000, "load_duration": 1_000_000}
            counts["prompt_eval_count"] = sum(len(text.split()) for text in texts)
            await reply.json({"model": asked["model"], "embeddings": vectors, **counts})

    async def _show(self, request: Request, reply: Reply) -> None:
        asked = request.json["model"]
        if full_name(asked) not in self.models:
            return await reply.json({"error": f"model '{asked}' not found"}, 404)
        details = {
            "format": "gguf",
            "family": "llama",
            "parameter_size": "134.52M",
            "quantization_level": "F16",
        }
        return await reply.json({"details": details, "capabilities": self.capabilities})

    async def _pull(self, request: Request, reply: Reply) -> None:
        name = full_name(request.json["model"])
        await reply.start(self.content_type)
        await reply.chunk(_encode({"status": "pulling manifest"}))
        download = self.registry.get(name)
        if download is None:
            await reply.chunk(self.error("pull model manifest: file does not exist"))
        elif download.errors:
            error, *later = download.errors
            download.errors = tuple(later)
            await reply.chunk(self.error(error))
        elif not await self._fetch(download, reply):
            reply.keep_alive = False
            return
        else:
            self.models.add(name)
            await reply.chunk(_encode({"status": "success"}))
        await reply.end()

    async def _fetch(self, download: Download, reply: Reply) -> bool:
        """Sends the layer's progress from where the last attempt stopped; False where it breaks off."""
        stop, download.failures = (*download.failures, download.size)[0], download.failures[1:]
        while download.fetched < stop:
            await asyncio.sleep(download.pause)
            download.fetched += download.size // 10
            layer = {"digest": "sha256:8934d96d3f08", "total": download.size, "completed": download.fetched}
            await reply.chunk(_encode({"status": "pulling 8934d96d3f08"} | layer))
        return download.fetched >= download.size

    def _line(self, fields: dict[str, Any]) -> bytes:
        return _encode({"model": self.model, "created_at": "2026-01-01T00:00:00Z"} | fields)


def _said(text: str, **more: str) -> dict[str, Any]:
    """A piece of a chat, or of a generated text."""
    if asked_path.get("") == "/api/generate":
        return {"response": text, **more}
    return {"message": {"role": "assistant", "content": text, **more}}


def _running(name: str, run: Running) -> dict[str, Any]:
    return {"name": name, "model": name, "size": run.size, "size_vram": run.size_vram}


def full_name(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
