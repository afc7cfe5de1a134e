"""How long the cache takes inside a running process, each figure beside its yardstick from the same run.

    python bench/cache_path.py [--entries 1000 10000] [--rounds 300] [--index vector_set]

* question to exact hit, over one Redis GET on the same connection: at most 3
* question to semantic hit, over one embedding: at most 2.5 with the policy `verified`, guards and verifier
  included, and 1.2 with `threshold`, which judges nothing
* exact hits a second, 64 different questions at once in this process, over `redis-benchmark` with 64
  connections on the same values, where that program is installed: at least 0.5 of the cache's look-up; the
  whole path counts each question, too
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmhost.answering.answerer import Answerer
from llmhost.answering.cache_session import CacheSessions, WarnOnce
from llmhost.answering.question import Question, Reply
from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.indexes.choose import IndexKind, make_index
from llmhost.cache.keys import cache_key
from llmhost.cache.models import Answer
from llmhost.cache.policy import CachePolicy, ThresholdPolicy, Thresholds
from llmhost.cache.service import SemanticCache
from llmhost.cache.single_flight import SingleFlight
from llmhost.config.models import CacheConfig, RedisConfig
from llmhost.engines.load import LocalLoad
from llmhost.engines.pool import Pool
from llmhost.ledger.ledger import Ledger
from llmhost.store.client import connect
from llmhost.store.embedded import EmbeddedRedis
from llmhost.store.keys import NamespaceKeys
from llmhost.trust.labels import Labels
from llmhost.wiring.questions import verified_policy

STORED = Question(prompt="What is machine learning in simple terms?", model="m", tenant="t")
REWORDED = Question(prompt="Explain machine learning briefly", model="m", tenant="t")
ANSWER = Answer("It learns from data. " * 40, "m", time.time(), 10, 200, "stop", 3.0, 0.0004)

#: What is measured is the time that a hit takes: the threshold lies where this pair passes it with any
#: verifier.
EASY = Thresholds(serve=0.01, doubted=0.01, judge=None, floor=0.0)

#: rounds that warm up
WARMING = 20

TARGETS = {"verified": 2.5, "threshold": 1.2}

#: questions at once, how many different ones, how many hits are timed, and how often in turns
AT_ONCE, DIFFERENT, HITS, TURNS = 64, 640, 10_000, 7


@dataclass
class Timed:
    """Seconds of each round; `verify_ms` is what a reply says of the guards and the verifier."""

    spent: list[float] = field(default_factory=list)
    verify_ms: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.spent)

    def note(self, spent: float, reply: Reply | None) -> None:
        self.spent.append(spent)
        if reply is not None:
            self.verify_ms.append(reply.latency.verify)


async def main(sizes: list[int], rounds: int, kind: IndexKind) -> None:
    """Sets up a Redis of its own, measures, prints."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedRedis(Path(folder) / "redis")
        socket = await server.ensure_running()
        client = connect(RedisConfig(), socket=socket)
        try:
            for entries in sizes:
                await client.flushall()
                report(await measure(client, entries, rounds, kind), entries)
            await client.flushall()
            report_rates(await rates(client, socket, kind))
        finally:
            await client.aclose()
            await server.stop()


async def measure(client: Any, entries: int, rounds: int, kind: IndexKind) -> dict[str, Timed]:
    """Interleaves what is compared, so that noise falls on all alike."""
    keys = NamespaceKeys("bench")
    embedder = load_embedder(CacheConfig().embedder, on_progress=print)
    policies = {
        "verified": verified_policy("builtin", EASY, print),
        "threshold": ThresholdPolicy(CacheConfig().threshold),
    }
    learnt = {
        "verified": {"calibration": Labels(client, "bench", max_error=CacheConfig().max_error).calibration}
    }
    caches = {
        name: build(client, keys, kind, embedder, policy, **learnt.get(name, {}))
        for name, policy in policies.items()
    }
    answerers = {name: answerer_over(client, keys, cache) for name, cache in caches.items()}
    await fill(caches["threshold"], entries, embedder.dimensions)

    stored, text = keys.response(STORED.key().entry), REWORDED.prompt
    steps: dict[str, Callable[[], Awaitable[Any]]] = {
        "one Redis GET": lambda: client.get(stored),
        "question to exact hit": lambda: answered(answerers["verified"], STORED, "exact"),
        "one embedding": lambda: asyncio.sleep(0, embedder.embed(text)),
        **{
            f"question to semantic hit, {name}": lambda answerer=answerer: answered(
                answerer, REWORDED, "semantic"
            )
            for name, answerer in answerers.items()
        },
    }
    times = {name: Timed() for name in steps}
    for number in range(rounds + WARMING):
        for name, step in steps.items():
            begun = time.perf_counter()
            told = await step()
            spent = time.perf_counter() - begun
            if number >= WARMING:
                times[name].note(*(told if isinstance(told, tuple) else (spent, None)))
    return times


def build(
    client: Any, keys: NamespaceKeys, kind: IndexKind, embedder: Any, policy: CachePolicy, **others: Any
) -> SemanticCache:
    """The cache as it is wired; what labels have taught is read with the verified policy alone."""
    dimensions = embedder.dimensions
    index = make_index(kind, client, keys, embedder=embedder.id, dimensions=dimensions, lifetime=3600)

    async def embedder_source() -> Any:
        return embedder, index

    async def policy_source() -> CachePolicy:
        return policy

    return SemanticCache(
        client,
        keys,
        embedder_source=embedder_source,
        policy_source=policy_source,
        candidates=CacheConfig().candidates,
        response_ttl=3600,
        embedding_ttl=3600,
        **others,
    )


def answerer_over(client: Any, keys: NamespaceKeys, cache: SemanticCache) -> Answerer:
    """The real path; no worker, as every question is to hit."""

    async def no_workers(_model: str) -> list[Any]:
        return []

    return Answerer(
        pool=lambda: Pool(no_workers, LocalLoad(), 1),
        slots=1,
        sessions=CacheSessions(cache, lambda: SingleFlight(client, keys), WarnOnce(print)),
        warn_once=WarnOnce(print),
        ledger=Ledger(client, "bench"),
    )


async def fill(cache: SemanticCache, entries: int, dimensions: int) -> None:
    """Random directions are far from every question, as unrelated questions are; all have answers."""
    key = STORED.key()
    await cache.store(key, ANSWER, await cache.embed(key))
    random = np.random.default_rng(1)
    vectors = random.standard_normal((entries - 1, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number, vector in enumerate(vectors):
        await cache.store(cache_key(key.scope, f"filler {number}"), ANSWER, vector)


async def rates(client: Any, socket: Path, kind: IndexKind) -> dict[str, list[float]]:
    """Values and exact hits a second, in turns."""
    keys = NamespaceKeys("bench")
    embedder = load_embedder(CacheConfig().embedder, on_progress=print)
    cache = build(client, keys, kind, embedder, ThresholdPolicy(CacheConfig().threshold))
    answerer = answerer_over(client, keys, cache)
    answerer.counts_later = True  # as in a gateway
    questions = [replace(STORED, prompt=f"{STORED.prompt} {number}") for number in range(DIFFERENT)]
    for question in questions:
        await cache.store(question.key(), ANSWER, None)
    endless = itertools.cycle(questions)
    steps: dict[str, Callable[[], Awaitable[Any]]] = {
        "exact hits, the cache's look-up": lambda: cache.exact(next(endless).key()),
        "exact hits, the whole path": lambda: answered(answerer, next(endless), "exact"),
    }
    found: dict[str, list[float]] = {"redis-benchmark -c 64, GET": []} | {name: [] for name in steps}
    for _ in range(TURNS):
        found["redis-benchmark -c 64, GET"].append(
            await asyncio.to_thread(yardstick, socket, keys.response(questions[0].key().entry))
        )
        for name, step in steps.items():
            found[name].append(await rate(step))
    await answerer.aclose()
    return found


def yardstick(socket: Path, key: str) -> float:
    """What the server gives to a client that does nothing else; NaN without the program."""
    if (program := shutil.which("redis-benchmark")) is None:
        return float("nan")
    command = [program, "-s", str(socket), "-c", str(AT_ONCE), "-n", str(10 * HITS), "-q", "GET", key]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.findall(r"([0-9.]+) requests per second", said)[-1])


async def rate(step: Callable[[], Awaitable[Any]]) -> float:
    """How often a second, `AT_ONCE` at a time."""
    left = HITS

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await step()

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return HITS / (time.perf_counter() - begun)


async def answered(answerer: Answerer, question: Question, source: str) -> tuple[float, Reply]:
    """Seconds until the answer is there; what is counted afterwards delays no answer."""
    begun = time.perf_counter()
    spent, reply = 0.0, None
    async for event in answerer.answer(question):
        spent = spent or time.perf_counter() - begun
        reply = event if isinstance(event, Reply) else reply
    if reply is None or reply.source != source:
        raise SystemExit(f"expected a {source} hit, got {reply and reply.source}")
    return spent, reply


def report(times: dict[str, Timed], entries: int) -> None:
    """Medians, and the ratios that have targets."""
    print(f"\n{entries:,} entries")
    for name, timed in times.items():
        print(f"  {name:37} {timed.median * 1000:9.3f} ms")
    exact = times["question to exact hit"].median / times["one Redis GET"].median
    print(f"  {'exact hit / GET':37} {exact:9.2f}      target 3")
    for name, target in TARGETS.items():
        timed = times[f"question to semantic hit, {name}"]
        ratio = timed.median / times["one embedding"].median
        share = statistics.median(timed.verify_ms) / 1000 / timed.median
        print(
            f"  {f'semantic hit / embedding, {name}':37} {ratio:9.2f}      target {target:g}"
            f" (guards and verifier: {share:.0%} of the hit)"
        )


def report_rates(found: dict[str, list[float]]) -> None:
    """Medians, and the median of the ratios of each turn."""
    print(f"\n{AT_ONCE} at once")
    yardsticks = found["redis-benchmark -c 64, GET"]
    for name, each in found.items():
        ratio = statistics.median(one / other for one, other in zip(each, yardsticks, strict=True))
        print(f"  {name:37} {statistics.median(each):9,.0f} /s  {ratio:5.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--index", choices=("vector_set", "query_engine", "flat"), default="vector_set")
    given = parser.parse_args()
    asyncio.run(main(given.entries, given.rounds, given.index))
