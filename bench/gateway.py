"""How fast the gateway is, each figure beside its yardstick from the same run on the same machine.

    python bench/gateway.py [--rounds 300] [--only exact,semantic,miss,ask]

* exact hit over HTTP, over a bare handler of the same server that does one Redis GET and returns the same
  bytes: at most 1.5, p50; at 64 connections at least 0.6 of its throughput
* semantic hit, over embedding, verifying and that handler: at most 1.3, p50; at 32 connections at least as
  many a second as one after the other
* what it adds to a miss, whose engine streams 50 tokens a second: at most 2 ms to the first token at p50 and
  10 ms at p99, and 0.2 ms a token with 32 streams
* `llmhost ask` on a hit through the gateway, over `import typer`: at most 2.2

Client, gateway, handler and engine are processes of their own; `bench/gateway_parts.py` has the latter two.
Exit code 1 where one misses its target. It works in a folder of its own and leaves nothing running.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import yaml
from gateway_parts import free_port

LLMHOST = str(Path(sys.executable).with_name("llmhost"))
PARTS = str(Path(__file__).with_name("gateway_parts.py"))
STORED, REWORDED = "What is machine learning in simple terms?", "Explain machine learning in simple terms"

#: rounds that warm up
WARMING = 20


@dataclass
class Report:
    missed: bool = field(default=False)

    def row(self, what: str, value: float, limit: float, *, unit: str = "x", least: bool = False) -> None:
        met = value >= limit if least else value <= limit
        self.missed = self.missed or not met
        sign = "≥" if least else "≤"
        print(f"{what:<58} {value:8.2f} {unit:<3} {sign} {limit:<5} {'yes' if met else 'NO'}", flush=True)


class Connection:
    """A kept connection that speaks as little HTTP as it takes: the client must not be what is measured."""

    def __init__(self, port: int, path: str, body: object) -> None:
        self._port = port
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self) -> tuple[bytes, bytes]:
        """Headers and body of an answer with a length. Raises OSError where it is none but an error."""
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(f"{head.split(maxsplit=2)[1].decode()}: {body[:200].decode(errors='replace')}")
        return head, body

    async def stream(self) -> list[float]:
        """When each piece of a chunked answer came."""
        self._writer.write(self._request)
        await self._reader.readuntil(b"\r\n\r\n")
        times = []
        while size := int(await self._reader.readline(), 16):
            piece = await self._reader.readexactly(size + 2)
            if b'"content":"t' in piece.replace(b" ", b""):
                times.append(time.perf_counter())
        await self._reader.readline()
        return times


def chat(prompt: str, **fields: object) -> dict[str, object]:
    return {"model": "tiny", "messages": [{"role": "user", "content": prompt}], **fields}


async def in_turn(connections: Sequence[Connection], rounds: int) -> list[list[float]]:
    """Seconds of each round on each connection, one after the other, so that all meet the same machine."""
    took: list[list[float]] = [[] for _ in connections]
    for number in range(rounds + WARMING):
        for kept, connection in zip(took, connections, strict=True):
            began = time.perf_counter()
            await connection.ask()
            if number >= WARMING:
                kept.append(time.perf_counter() - began)
    return took


async def throughput(port: int, path: str, body: object, connections: int, seconds: float) -> float:
    """Answers a second."""
    deadline, answered = time.perf_counter() + seconds, 0

    async def keep_asking() -> None:
        nonlocal answered
        async with Connection(port, path, body) as connection:
            while time.perf_counter() < deadline:
                await connection.ask()
                answered += 1

    await asyncio.gather(*(keep_asking() for _ in range(connections)))
    return answered / seconds


CHAT = "/v1/chat/completions"


async def exact(gateway: int, bare: int, rounds: int, report: Report) -> None:
    async with Connection(gateway, CHAT, chat(STORED)) as ours, Connection(bare, "/get", {}) as theirs:
        await ours.ask()
        head, _ = await ours.ask()
        assert b"x-llmhost-cache: exact" in head, head
        our_times, their_times = await in_turn([ours, theirs], rounds)
    ratio = statistics.median(our_times) / statistics.median(their_times)
    _show("exact hit", our_times, "bare GET", their_times)
    report.row("exact hit / bare handler, p50", ratio, 1.5)
    pairs = []
    for _ in range(3):
        theirs_a_second = await throughput(bare, "/get", {}, 64, 3)
        pairs.append(await throughput(gateway, CHAT, chat(STORED), 64, 3) / theirs_a_second)
    report.row(
        "throughput of exact hits / bare handler, 64 connections", statistics.median(pairs), 0.6, least=True
    )


def _show(ours: str, our_times: Sequence[float], theirs: str, their_times: Sequence[float]) -> None:
    mine, other = (statistics.median(times) * 1000 for times in (our_times, their_times))
    print(f"  {ours} {mine:.2f} ms, {theirs} {other:.2f} ms")


async def semantic(gateway: int, bare: int, rounds: int, report: Report) -> None:
    body = chat(REWORDED)
    async with Connection(gateway, CHAT, body) as ours, Connection(bare, "/judge", {}) as theirs:
        head, _ = await ours.ask()
        assert b"x-llmhost-cache: semantic" in head, head
        our_times, their_times = await in_turn([ours, theirs], rounds)
    ratio = statistics.median(our_times) / statistics.median(their_times)
    _show("semantic hit", our_times, "its parts", their_times)
    report.row("semantic hit / embedding + verifying + GET, p50", ratio, 1.3)
    pairs = []
    for _ in range(3):
        alone = await throughput(gateway, CHAT, body, 1, 3)
        pairs.append(await throughput(gateway, CHAT, body, 32, 3) / alone)
    report.row("semantic hits a second, 32 connections / 1", statistics.median(pairs), 1.0, least=True)


async def added_to_first(gateway: int, engine: int, rounds: int, *, earlier: bool) -> Sequence[float]:
    """Milliseconds, sorted. `earlier`: with a turn before it, so that its scope is its own."""
    added = []
    for number in range(rounds // 3 + 5):
        body = chat(f"Question number {number}?", stream=True, max_tokens=3)
        if earlier:
            turn = [{"role": "user", "content": f"Hello {number}"}, {"role": "assistant", "content": "Hi."}]
            body["messages"] = [*turn, {"role": "user", "content": "And what is that?"}]
        firsts = []
        for port in (engine, gateway):
            async with Connection(port, CHAT, body) as connection:
                began = time.perf_counter()
                firsts.append((await connection.stream())[0] - began)
        if number >= 5:
            added.append((firsts[1] - firsts[0]) * 1000)
    return sorted(added)


async def miss(gateway: int, engine: int, rounds: int, report: Report) -> None:
    """The engine alone and through the gateway, in turn; each question is another one."""
    for what, earlier in (("a miss", False), ("a conversation's next turn", True)):
        added = await added_to_first(gateway, engine, rounds, earlier=earlier)
        report.row(f"added to the first token of {what}, p50", statistics.median(added), 2, unit="ms")
        report.row(f"added to the first token of {what}, p99", added[int(len(added) * 0.99)], 10, unit="ms")

    async def pace(port: int, number: int) -> float:
        async with Connection(
            port, CHAT, chat(f"Stream {port} {number}?", stream=True, max_tokens=50)
        ) as one:
            times = await one.stream()
        return (times[-1] - times[0]) / (len(times) - 1) * 1000

    per_token = []
    for turn in range(3):
        alone, through = [
            statistics.median(await asyncio.gather(*(pace(port, turn * 32 + n) for n in range(32))))
            for port in (engine, gateway)
        ]
        per_token.append(through - alone)
    report.row("added to a token, 32 streams", statistics.median(per_token), 0.2, unit="ms")


def ask(environment: dict[str, str], report: Report) -> None:
    commands = ([LLMHOST, "-q", "ask", STORED], [sys.executable, "-c", "import typer"])
    took: list[list[float]] = [[], []]
    for number in range(25):
        for times, command in zip(took, commands, strict=True):
            began = time.perf_counter()
            subprocess.run(
                command, env=environment, check=True, stdin=subprocess.DEVNULL, capture_output=True
            )
            if number >= 3:
                times.append(time.perf_counter() - began)
    ratio = statistics.median(took[0]) / statistics.median(took[1])
    report.row("llmhost ask, hit through the gateway / import typer", ratio, 2.2)


@contextmanager
def parts() -> Iterator[tuple[dict[str, int], dict[str, str]]]:
    """Ports of the gateway, the bare handler and the engine; the environment in which commands find them."""
    with tempfile.TemporaryDirectory(prefix="llmhost-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        ports = {what: free_port() for what in ("engine", "bare", "gateway")}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LLMHOST_")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        config = folder / "llmhost.yaml"
        environment = kept | {
            "LLMHOST_STATE_DIR": f"{folder}/state",
            "LLMHOST_CACHE_DIR": f"{folder}/cache",
            "LLMHOST_CONFIG": str(config),
        }
        config.write_text(
            yaml.safe_dump(
                {
                    "fleet": {
                        "provider": "static",
                        "workers": [{"url": f"http://127.0.0.1:{ports['engine']}"}],
                    },
                    "engine": {"kind": "openai", "model": "tiny", "slots": 64},
                    "cache": {"confidence": 0.5, "audit_share": 0},
                    "gateway": {"port": ports["gateway"]},
                }
            )
        )
        stack.callback(_run, environment, "down", "--all", "--yes")
        _start(stack, environment, "engine", ports["engine"])
        _run(environment, "up")
        socket = next(folder.glob("state/redis/redis.sock"))
        _start(stack, environment, "bare", ports["bare"], str(socket))
        yield ports, environment


def _run(environment: dict[str, str], *words: str) -> None:
    command = [LLMHOST, "-q", *words]
    done = subprocess.run(
        command, env=environment, check=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode()}")


def _start(stack: ExitStack, environment: dict[str, str], what: str, port: int, *more: str) -> None:
    command = [sys.executable, PARTS, what, str(port), *more]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.send_signal, signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", what


async def measure(ports: dict[str, int], rounds: int, only: Sequence[str], report: Report) -> None:
    if "exact" in only or "semantic" in only or "ask" in only:
        async with Connection(ports["gateway"], CHAT, chat(STORED)) as connection:
            await connection.ask()
    if "exact" in only:
        await exact(ports["gateway"], ports["bare"], rounds, report)
    if "semantic" in only:
        await semantic(ports["gateway"], ports["bare"], rounds, report)
    if "miss" in only:
        await miss(ports["gateway"], ports["engine"], rounds, report)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--only", default="exact,semantic,miss,ask")
    options = parser.parse_args()
    report, only = Report(), options.only.split(",")
    with parts() as (ports, environment):
        asyncio.run(measure(ports, options.rounds, only, report))
        if "ask" in only:
            ask(environment, report)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
