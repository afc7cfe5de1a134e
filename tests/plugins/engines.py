"""Engines for tests: doubles on real sockets, and real llama.cpp workers with the packaged model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from doubles.chat_server import ChatServer
from doubles.engine_limits import LIMITS
from doubles.ollama_server import OllamaServer
from doubles.openai_server import OpenAIServer
from doubles.waiting import wait_until

from llmhost.engines.engine import (
    ChatRequest,
    Completion,
    Delta,
    Done,
    Endpoint,
    Engine,
    EngineLimits,
    Message,
    Sampling,
    ToolCall,
)
from llmhost.engines.http import HttpEngine
from llmhost.engines.llama_cpp import ADDRESS_FILE, FAILURE_FILE, WorkerSpec, write_spec
from llmhost.engines.model_file import find_model
from llmhost.engines.ollama import OllamaEngine
from llmhost.engines.openai import OpenAIEngine

MODEL = "smollm2:135m"
TOKEN = "a-token-of-the-tests"


@dataclass(frozen=True, slots=True)
class LlamaWorker:
    """A `llama_cpp` worker process in its folder, which holds its log as well."""

    folder: Path
    process: subprocess.Popen[bytes]
    spec: WorkerSpec

    @property
    def url(self) -> str:
        url: str = self._read(ADDRESS_FILE)["url"]
        return url

    @property
    def failure(self) -> dict[str, Any]:
        return self._read(FAILURE_FILE)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_until_it_listens(self) -> None:
        def listens() -> bool:
            assert self.process.poll() is None, self.log
            return (self.folder / ADDRESS_FILE).exists()

        wait_until(listens)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / name).read_text())
        return content


@dataclass(frozen=True, slots=True)
class Side:
    """One engine of the contract: how to reach it, and how to make another client of it."""

    kind: type[HttpEngine]
    endpoint: Endpoint
    model: str
    server: ChatServer | None
    _open: AsyncExitStack = field(repr=False)

    def engine(self, limits: EngineLimits = LIMITS, **endpoint: Any) -> Engine:
        engine = self.kind(replace(self.endpoint, **endpoint), limits)
        self._open.push_async_callback(engine.aclose)
        return engine


@pytest.fixture
def question() -> Callable[..., ChatRequest]:
    """A request with one user message: `question("Hi", model="tiny", max_tokens=5)`."""

    def make(text: str = "Say hello.", *, model: str = "tiny", **sampling: Any) -> ChatRequest:
        return ChatRequest(model, (Message("user", text),), Sampling(**sampling))

    return make


@pytest.fixture
def completion() -> Callable[..., ChatRequest]:
    """A request to continue a text: `completion("def add(", "return", model="tiny", max_tokens=5)`."""

    def make(
        prompt: str = "def add(", suffix: str = "", *, model: str = "tiny", **sampling: Any
    ) -> ChatRequest:
        return ChatRequest(model, (), Sampling(**sampling), completion=Completion(prompt, suffix))

    return make


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Streams one answer to its end and gives its text and its end mark."""

    async def run(engine: Engine, request: ChatRequest) -> tuple[str, Done]:
        events = [event async for event in engine.chat(request)]
        *deltas, done = events
        assert isinstance(done, Done)
        texts = [delta.text for delta in deltas if isinstance(delta, Delta)]
        assert not any(isinstance(event, ToolCall) for event in deltas)
        return "".join(texts), done

    return run


@pytest.fixture
async def openai_server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer(token=TOKEN) as server:
        yield server


@pytest.fixture
async def ollama_server() -> AsyncIterator[OllamaServer]:
    async with OllamaServer(token=TOKEN) as server:
        yield server


@pytest.fixture
async def openai_side(openai_server: OpenAIServer) -> AsyncIterator[Side]:
    async with AsyncExitStack() as stack:
        yield Side(OpenAIEngine, Endpoint(openai_server.url, TOKEN), "tiny", openai_server, stack)


@pytest.fixture
async def ollama_side(ollama_server: OllamaServer) -> AsyncIterator[Side]:
    async with AsyncExitStack() as stack:
        yield Side(OllamaEngine, Endpoint(ollama_server.url, TOKEN), "tiny", ollama_server, stack)


@pytest.fixture
async def llama_cpp_side(llama_worker: LlamaWorker) -> AsyncIterator[Side]:
    async with AsyncExitStack() as stack:
        yield Side(OpenAIEngine, Endpoint(llama_worker.url, TOKEN), MODEL, None, stack)


@pytest.fixture(scope="session")
def llama_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaWorker]:
    """A worker with the packaged SmolLM2, shared by all tests: two requests at once, 2048 tokens each."""
    worker = _start(tmp_path_factory.mktemp("llama-worker"), _packaged_model())
    try:
        worker.wait_until_it_listens()
        yield worker
    finally:
        worker.stop()


@pytest.fixture
def start_llama_worker(tmp_path: Path) -> Iterator[Callable[..., LlamaWorker]]:
    """Starts a worker of this test's own; takes what differs from the usual `WorkerSpec` and environment."""
    workers: list[LlamaWorker] = []

    def start(env: dict[str, str] | None = None, **changes: Any) -> LlamaWorker:
        folder = tmp_path / f"llama-worker-{len(workers)}"
        folder.mkdir()
        workers.append(_start(folder, replace(_packaged_model(), **changes), env))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()


def _packaged_model() -> WorkerSpec:
    path = str(find_model(None).path)
    # One thread: two that wait for each other come to a crawl when something else uses a core.
    return WorkerSpec(path, alias=MODEL, context=2048, parallel=2, threads=1, port=0, token=TOKEN)


def _start(folder: Path, spec: WorkerSpec, env: dict[str, str] | None = None) -> LlamaWorker:
    write_spec(folder, spec)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "llmhost.engines.llama_cpp", str(folder)]
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | (env or {})
        )
    return LlamaWorker(folder, process, spec)
