"""A soak of the gateway: every answer is its own question's, whatever is killed meanwhile.

    python bench/soak.py [--requests 200000] [--processes 1] [--connections 64] [--kill-every 20] [--away 4]

Requests over real HTTP to a real `llmhost serve`, in the forms of OpenAI, Ollama and Anthropic, whole and
streamed: questions that were asked before, other wordings of them, new ones, and some that bypass the cache.
Each question carries a mark, in its wording and in its system prompt, and the engine's answer repeats both in
each piece, so that a piece is seen that is lost, doubled or another question's. One client in twenty leaves
in the middle. Every `--kill-every` seconds an engine is killed, and comes back, once all of them; Redis is
away twice, once after SIGTERM and once after SIGKILL.

What must hold, or the exit code is 1:

* each request ends: with the answer to its question, or with an error as docs/gateway.md promises it
* the gateway logs nothing that was not foreseen
* at the end no connection waits, and no slot of a worker is taken
* the gateway's memory after all requests is at most 1.1 of that after a tenth of them

Questions come from a set whose answers expire, so that there are misses to the end, while the index does not
grow: what grows is a leak. Gateway, engines and Redis are processes of their own in a folder of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import uvloop
import yaml
from gateway_parts import free_port, marked_text
from redis import Redis

from llmhost.store.embedded import find_program

LLMHOST = str(Path(sys.executable).with_name("llmhost"))
PARTS = str(Path(__file__).with_name("gateway_parts.py"))

#: engines, and the requests that each takes at once
ENGINES, SLOTS = 4, 16
#: system prompts, each of which is a scope of its own
SHOPS = 20
#: seconds; a request that has not ended by then hangs
PATIENCE = 60.0
#: seconds; Redis is used again some seconds after it has come back
SETTLING = 30.0
#: shares of requests: those whose client leaves, other wordings, bypasses of the cache, streams
LEAVE, REWORDED, BYPASS, STREAMED = 0.05, 0.08, 0.03, 0.5
#: different questions, and the seconds for which an answer is kept: one in 20 of 300 requests a second misses
MOST_QUESTIONS, ANSWERS_LIVE = 2000, 120
#: requests; in fewer, what is loaded when it is first needed is most of what memory grows by
ENOUGH = 20_000
#: how much memory may grow, and how many descriptors may be left over
MOST_GROWTH, MOST_DESCRIPTORS = 1.1, 20

SAMPLING = {"max_tokens": 200}
PATHS = {"openai": "/v1/chat/completions", "ollama": "/api/chat", "anthropic": "/v1/messages"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `leaves`: its client closes the connection before the answer is complete."""

    api: str
    shop: int
    compound: int
    reworded: bool
    bypass: bool
    stream: bool
    leaves: bool

    @property
    def expected(self) -> str:
        return marked_text(self.shop, self.compound)

    def request(self) -> bytes:
        path = PATHS[self.api]
        body = json.dumps(self._body()).encode()
        control = "Cache-Control: no-cache, no-store\r\n" if self.bypass else ""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{control}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _body(self) -> dict[str, Any]:
        asks = f"the melting point of compound {self.compound}"
        question = f"what is {asks}" if self.reworded else f"What is {asks}?"
        system = f"You are the assistant of shop {self.shop}."
        user = {"role": "user", "content": question}
        common: dict[str, Any] = {"model": "tiny", "stream": self.stream}
        if self.api == "anthropic":
            return {**common, **SAMPLING, "system": system, "messages": [user]}
        messages = [{"role": "system", "content": system}, user]
        if self.api == "ollama":
            return {**common, "options": {"num_predict": SAMPLING["max_tokens"]}, "messages": messages}
        return {**common, **SAMPLING, "messages": messages}


class Wrong(Exception):
    """An answer that must not be."""


class Answer:
    """What came of one answer until now: `text`, whether it is `complete`, and the error in its stream."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._rest = b""
        self.text = ""
        self.complete = False
        self.error: str | None = None

    def whole(self, body: bytes) -> None:
        value = json.loads(body)
        self.complete = True
        if self._asked.api == "openai":
            self.text = value["choices"][0]["message"]["content"]
        elif self._asked.api == "ollama":
            self.text = value["message"]["content"]
        else:
            self.text = "".join(block["text"] for block in value["content"])

    def piece(self, data: bytes) -> None:
        """Takes in a chunk of a stream. Raises Wrong where it goes on after its end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            payload = line.removeprefix(b"data: ").strip()
            if payload == b"[DONE]":
                self._ends()
            elif payload.startswith(b"{"):
                self._event(json.loads(payload))

    def _event(self, value: dict[str, Any]) -> None:
        if "error" in value:
            self.error = json.dumps(value["error"])
        elif self.complete or self.error is not None:
            raise Wrong(f"the stream goes on after its end: {value}")
        elif self._asked.api == "openai":
            self.text += "".join(choice["delta"].get("content") or "" for choice in value["choices"])
        elif self._asked.api == "ollama":
            self.text += value["message"]["content"]
            if value["done"]:
                self._ends()
        elif value["type"] == "content_block_delta":
            self.text += value["delta"]["text"]
        elif value["type"] == "message_stop":
            self._ends()

    def _ends(self) -> None:
        if self.complete:
            raise Wrong("the stream ended twice")
        self.complete = True


@dataclass(slots=True)
class Client:
    """Asks over one connection that is kept, as clients do. `ends` counts how requests ended."""

    port: int
    ends: Counter[str]
    sources: Counter[str]
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, asked: Asked) -> None:
        """Raises Wrong where the request does not end as it is promised."""
        answer = Answer(asked)
        try:
            async with asyncio.timeout(PATIENCE):
                end = await self._ask(asked, answer)
        except TimeoutError:
            self.close()
            raise Wrong(f"no end within {PATIENCE:.0f} s after {answer.text!r}") from None
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Wrong(f"{type(error).__name__} after {answer.text!r}") from error
        if answer.complete and answer.text != asked.expected:
            raise Wrong(f"answered {answer.text!r}")
        if not asked.expected.startswith(answer.text):
            raise Wrong(f"began with {answer.text!r}")
        self.ends[end] += 1

    async def _ask(self, asked: Asked, answer: Answer) -> str:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(asked.request())
        if asked.leaves and not asked.stream:
            await writer.drain()
            self.close()
            return "client left"
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head[9:12])
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
            if status != 200:
                return _refused(status, headers, body)
            answer.whole(body)
        else:
            await self._read_stream(reader, answer, leaves=asked.leaves)
        self.sources[headers["x-llmhost-cache"]] += 1
        if asked.leaves:
            self.close()
            return "client left"
        if answer.error is not None:
            return f"broke in mid-stream: {_cause(answer.error)}"
        if not answer.complete:
            raise Wrong(f"the stream ended without its end mark after {answer.text!r}")
        return "answered"

    async def _read_stream(self, reader: asyncio.StreamReader, answer: Answer, *, leaves: bool) -> None:
        while size := int(await reader.readline(), 16):
            answer.piece((await reader.readexactly(size + 2))[:-2])
            if leaves:
                return
        await reader.readline()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


def _refused(status: int, headers: dict[str, str], body: bytes) -> str:
    """How a request ended that has no answer. Raises Wrong where it is not one of the promised ways."""
    if status not in (429, 502, 503) or "retry-after" not in headers or b"error" not in body:
        raise Wrong(f"status {status}: {body[:300]!r}")
    return f"status {status}: {_cause(body.decode())}"


def _cause(error: str) -> str:
    """The message of an error without what differs from one to the next."""
    found = re.search(r'"(?:message|error)": ?"([^"]*)', error)
    return re.sub(r"http://\S+|\d+", "…", found[1] if found else error)[:90]


@dataclass(slots=True)
class Soak:
    """One run. `done` requests have ended; `faults` are what must not be."""

    requests: int
    port: int
    begun: int = 0
    done: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    async def run(self, connections: int) -> None:
        questions = Questions(max(20, min(MOST_QUESTIONS, self.requests // 10)))

        async def keep_asking() -> None:
            client = Client(self.port, self.ends, self.sources)
            while self.begun < self.requests:
                self.begun += 1
                asked = questions.draw()
                try:
                    await client.ask(asked)
                except Wrong as wrong:
                    self.faults.append(f"{asked}: {wrong}")
                    print(f"  {self.faults[-1]}", flush=True)
                self.done += 1
            client.close()

        await asyncio.gather(*(keep_asking() for _ in range(connections)))

    async def reached(self, requests: int) -> None:
        while self.done < requests:  # noqa: ASYNC110 - the clients are not to spend time on it
            await asyncio.sleep(0.05)


class Questions:
    """Draws requests, the same ones each time."""

    def __init__(self, distinct: int) -> None:
        self._random = random.Random(13)
        self._compounds = self._random.sample(range(10_000, 100_000), distinct)

    def draw(self) -> Asked:
        roll = self._random.random
        number = self._random.randrange(len(self._compounds))
        return Asked(
            api=self._random.choice(["openai", "openai", "ollama", "anthropic"]),
            shop=number % SHOPS + 1,
            compound=self._compounds[number],
            reworded=roll() < REWORDED,
            bypass=roll() < BYPASS,
            stream=roll() < STREAMED,
            leaves=roll() < LEAVE,
        )


class House:
    """Redis, engines and the gateway, as processes; the last may have so many `descriptors`."""

    def __init__(self, folder: Path, processes: int, descriptors: int | None = None) -> None:
        self._folder = folder
        limit = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}:{descriptors}"]
        self._serve = [*limit, LLMHOST, "serve"]
        self.socket = folder / "redis.sock"
        self.port = free_port()
        self._engine_ports = [free_port() for _ in range(ENGINES)]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LLMHOST_")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        config = folder / "llmhost.yaml"
        self._environment = kept | {
            "LLMHOST_STATE_DIR": f"{folder}/state",
            "LLMHOST_CACHE_DIR": f"{folder}/cache",
            "LLMHOST_CONFIG": str(config),
        }
        workers = [{"url": f"http://127.0.0.1:{port}"} for port in self._engine_ports]
        config.write_text(
            yaml.safe_dump(
                {
                    "fleet": {"name": "soak", "provider": "static", "gpus": ENGINES, "workers": workers},
                    "engine": {"kind": "openai", "model": "tiny", "slots": SLOTS},
                    "redis": {"url": f"unix://{self.socket}"},
                    "cache": {"response_ttl": f"{ANSWERS_LIVE}s"},
                    "gateway": {"port": self.port, "autostart": False, "processes": processes},
                }
            )
        )
        self._log = folder / "gateway.log"
        self._redis: subprocess.Popen[bytes]
        self._engines: list[subprocess.Popen[bytes]] = []
        #: all that were started
        self._every_engine: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def up(self) -> Iterator[None]:
        with ExitStack() as stack:
            self.start_redis()
            stack.callback(lambda: _end(self._redis, signal.SIGKILL))
            stack.callback(lambda: [_end(engine, signal.SIGKILL) for engine in self._every_engine])
            self._engines = [self._start_engine(port) for port in self._engine_ports]
            self._run("up")
            with self._log.open("wb") as log:
                self._gateway = subprocess.Popen(
                    self._serve, env=self._environment, stdin=subprocess.DEVNULL, stderr=log
                )
            stack.callback(_end, self._gateway, signal.SIGTERM)
            while b"/v1" not in self._log.read_bytes():
                if self._gateway.poll() is not None:
                    sys.exit(f"the gateway did not start: {self.log()}")
                time.sleep(0.05)
            yield

    def _run(self, *words: str) -> bytes:
        command = [LLMHOST, "-q", *words]
        return subprocess.run(
            command, env=self._environment, check=True, stdin=subprocess.DEVNULL, capture_output=True
        ).stdout

    def counted(self) -> int:
        """Questions in the ledger."""
        requests: int = json.loads(self._run("stats", "--json"))["requests"]
        return requests

    def log(self) -> str:
        """What the gateway has said."""
        return self._log.read_text(errors="replace")

    def gateway(self) -> Sequence[psutil.Process]:
        parent = psutil.Process(self._gateway.pid)
        return [parent, *parent.children(recursive=True)]

    def memory(self) -> float:
        """MB of all processes of the gateway."""
        return sum(one.memory_info().rss for one in self.gateway()) / 1e6

    def descriptors(self) -> int:
        return sum(one.num_fds() for one in self.gateway())

    def start_redis(self) -> None:
        command = [find_program(None), "--port", "0", "--unixsocket", self.socket, "--dir", self._folder]
        command += ["--appendonly", "yes", "--save", ""]
        with (self._folder / "redis.log").open("ab") as log:
            self._redis = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    async def restart_redis(self, how: signal.Signals, away: float) -> None:
        await asyncio.to_thread(_end, self._redis, how)
        await asyncio.sleep(away)
        self.start_redis()

    async def kill_engine(self, number: int, away: float) -> None:
        _end(self._engines[number], signal.SIGKILL)
        await asyncio.sleep(away)
        self._engines[number] = await asyncio.to_thread(self._start_engine, self._engine_ports[number])

    def _start_engine(self, port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, PARTS, "marked", str(port)]
        process = subprocess.Popen(
            command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        self._every_engine.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def slots_taken(self) -> int:
        """Requests that workers have by what Redis knows."""
        with Redis(unix_socket_path=str(self.socket)) as client:
            now = client.time()[0]
            return sum(client.zcount(key, now, "+inf") for key in client.keys("llmhost:soak:load:*"))


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(how)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


async def kill_engines(house: House, soak: Soak, every: float, away: float, kills: Counter[str]) -> None:
    """One after the other, and all of them when half of the requests have ended."""
    await soak.reached(soak.requests // 20)
    while True:
        if soak.done >= soak.requests / 2 and not kills["all engines killed"]:
            kills["all engines killed"] += 1
            await asyncio.gather(*(house.kill_engine(number, away) for number in range(ENGINES)))
        else:
            kills["engines killed"] += 1
            await house.kill_engine(kills["engines killed"] % ENGINES, away)
        await asyncio.sleep(max(0.0, every - away))


async def restart_redis(house: House, soak: Soak, away: float, kills: Counter[str]) -> None:
    for how, share in ((signal.SIGTERM, 1 / 3), (signal.SIGKILL, 2 / 3)):
        await soak.reached(int(soak.requests * share))
        await house.restart_redis(how, away)
        kills["Redis restarted"] += 1


async def settled(house: House, soak: Soak) -> int:
    """Slots that stay taken although nothing is under way. Those that could not be given back while Redis was
    away are given back with the next request that goes to a worker once it is used again.
    """
    client, deadline = Client(house.port, soak.ends, soak.sources), time.monotonic() + SETTLING
    while (taken := house.slots_taken()) and time.monotonic() < deadline:
        await client.ask(Asked("openai", 1, 1, reworded=False, bypass=True, stream=False, leaves=False))
        soak.done += 1
        client.close()  # the next one may go to another process
        await asyncio.sleep(0.2)
    return taken


async def soaked(house: House, options: argparse.Namespace) -> int:
    soak, kills, early = Soak(options.requests, house.port), Counter[str](), [0.0, 0.0]

    async def look_early() -> None:
        await soak.reached(options.requests // 10)
        early[:] = house.memory(), house.descriptors()

    async def progress() -> None:
        while True:
            await asyncio.sleep(30)
            print(f"  {soak.done:,} requests, {house.memory():.0f} MB, {len(soak.faults)} faults", flush=True)

    began = time.perf_counter()
    redis = asyncio.create_task(restart_redis(house, soak, options.away, kills))
    looking = asyncio.create_task(look_early())
    others = [
        asyncio.create_task(kill_engines(house, soak, options.kill_every, options.away, kills)),
        asyncio.create_task(progress()),
    ]
    await soak.run(options.connections)
    took = time.perf_counter() - began
    await asyncio.gather(redis, looking)
    for task in others:
        task.cancel()
    await asyncio.wait(others)
    slots = await settled(house, soak)
    return report(house, soak, kills, took, early, slots)


def report(
    house: House, soak: Soak, kills: Counter[str], took: float, early: Sequence[float], slots: int
) -> int:
    faults = list(soak.faults)
    print(f"{soak.done:,} requests in {took:.0f} s, {soak.done / took:.0f} a second; {dict(kills)}")
    print(f"answers that began: {dict(soak.sources)}")
    for end, count in soak.ends.most_common():
        print(f"{count:>9,} {end}")
    counted = house.counted()
    print(f"{counted:>9,} are in the ledger, which misses those that ended while Redis was away")
    memory, descriptors = house.memory(), house.descriptors()
    print(f"memory: {early[0]:.0f} MB after a tenth, {memory:.0f} MB at the end: {memory / early[0]:.3f}")
    print(f"descriptors: {early[1]:.0f} after a tenth, {descriptors} at the end")
    if soak.requests >= ENOUGH and memory > early[0] * MOST_GROWTH:
        faults.append("memory has grown")
    if descriptors > early[1] + MOST_DESCRIPTORS:
        faults.append("descriptors are left over")
    if counted > soak.done:
        faults.append("some requests are counted twice")
    if slots:
        faults.append(f"{slots} slots of workers are taken, and nothing is under way")
    if "Traceback" in house.log():
        faults.append("the gateway has logged what was not foreseen")
    print(f"faults: {len(faults)}")
    for fault in faults[len(soak.faults) :]:
        print(f"  {fault}")
    if faults:
        print(house.log()[-3000:], file=sys.stderr)
    return 1 if faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds")
    parser.add_argument("--away", type=float, default=4.0, help="seconds for which what was killed is away")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended
    with tempfile.TemporaryDirectory(prefix="llmhost-soak-") as name:
        house = House(Path(name), options.processes)
        with house.up():
            return uvloop.run(soaked(house, options))


if __name__ == "__main__":
    sys.exit(main())
