"""How long the cache takes inside a running process, each figure beside its yardstick from the same run.

    python bench/cache_path.py [--entries 10000] [--rounds 300]

* question to exact hit, over one Redis GET on the same connection: at most 3
* question to semantic hit among 10,000 entries, over one embedding: at most 1.2
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from llmhost.answering.admission import admit
from llmhost.answering.answerer import Answerer, Settings
from llmhost.answering.memory import Memory
from llmhost.answering.notices import Notices
from llmhost.answering.question import Question, Reply
from llmhost.cache.decision import candidate_floor, threshold_policy
from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.keys import Keys, cache_key
from llmhost.cache.models import Answer
from llmhost.cache.service import SemanticCache
from llmhost.cache.single_flight import SingleFlight
from llmhost.config.models import CacheConfig, RedisConfig
from llmhost.engines.load import LocalLoad
from llmhost.engines.pool import Pool
from llmhost.ledger.ledger import Ledger
from llmhost.redis.connect import connect
from llmhost.redis.embedded import EmbeddedRedis

STORED = Question(prompt="What is machine learning in simple terms?", model="m", tenant="t")
REWORDED = Question(prompt="Explain machine learning briefly", model="m", tenant="t")
ANSWER = Answer("It learns from data. " * 40, "m", time.time(), 10, 200, "stop", 3.0, 0.0004)


async def main(entries: int, rounds: int) -> None:
    """Sets up a Redis of its own, measures, prints."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedRedis(Path(folder) / "redis")
        client = connect(RedisConfig(), socket=await server.ensure_running())
        try:
            await measure(client, entries, rounds)
        finally:
            await client.aclose()
            await server.stop()


async def measure(client: Any, entries: int, rounds: int) -> None:
    """Interleaves what is compared, so that noise falls on both alike."""
    keys = Keys("bench")
    embedder = load_embedder(CacheConfig().embedder, on_progress=print)
    index = FlatIndex(client, keys, embedder=embedder.id, dimensions=embedder.dimensions, lifetime=3600)
    answerer, cache = build(client, keys, embedder, index)
    await fill(cache, entries, embedder.dimensions)

    stored, text = keys.response(admit(STORED, 32_000).entry), REWORDED.prompt
    steps: dict[str, Callable[[], Awaitable[Any]]] = {
        "one Redis GET": lambda: client.get(stored),
        "question to exact hit": lambda: answered(answerer, STORED, "exact"),
        "one embedding": lambda: asyncio.sleep(0, embedder.embed(text)),
        "question to semantic hit": lambda: answered(answerer, REWORDED, "semantic"),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 20):
        for name, step in steps.items():
            begun = time.perf_counter()
            told = await step()
            spent = time.perf_counter() - begun
            if number >= 20:  # the first ones warm up
                times[name].append(told if isinstance(told, float) else spent)
    report(times, entries)


def build(client: Any, keys: Keys, embedder: Any, index: FlatIndex) -> tuple[Answerer, SemanticCache]:
    """The real path; no worker, as every question is to hit."""

    async def source() -> Any:
        return embedder, index

    async def nobody(_model: str) -> list[Any]:
        return []

    cache = SemanticCache(
        client,
        keys,
        embedder_source=source,
        policy=threshold_policy(0.8),
        floor=candidate_floor(0.8),
        candidates=CacheConfig().candidates,
        response_ttl=3600,
        embedding_ttl=3600,
    )
    answerer = Answerer(
        pool=Pool(nobody, LocalLoad(), 1),
        settings=Settings(max_prompt_chars=32_000, parallel=1),
        memory=Memory(cache, SingleFlight(client, keys), Notices(print)),
        notices=Notices(print),
        ledger=Ledger(client, "bench"),
    )
    return answerer, cache


async def fill(cache: SemanticCache, entries: int, dimensions: int) -> None:
    """Random directions are far from every question, as unrelated questions are; all have answers."""
    key = admit(STORED, 32_000)
    await cache.store(key, ANSWER, await cache.embed(key))
    random = np.random.default_rng(1)
    vectors = random.standard_normal((entries - 1, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number, vector in enumerate(vectors):
        await cache.store(cache_key(key.scope, f"filler {number}"), ANSWER, vector)


async def answered(answerer: Answerer, question: Question, source: str) -> float:
    """Seconds until the answer is there; what is counted afterwards holds nobody up."""
    begun = time.perf_counter()
    spent = 0.0
    async for event in answerer.answer(question):
        spent = spent or time.perf_counter() - begun
        if isinstance(event, Reply) and event.source != source:
            raise SystemExit(f"expected a {source} hit, got {event.source}")
    return spent


def report(times: dict[str, list[float]], entries: int) -> None:
    medians = {name: statistics.median(spent) for name, spent in times.items()}
    for name, median in medians.items():
        print(f"{name:28} {median * 1000:9.3f} ms")
    exact = medians["question to exact hit"] / medians["one Redis GET"]
    semantic = medians["question to semantic hit"] / medians["one embedding"]
    print(f"\nexact hit / GET                          {exact:6.2f}   target 3")
    print(f"semantic hit / embedding, {entries:6,} entries {semantic:6.2f}   target 1.2")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=300)
    given = parser.parse_args()
    asyncio.run(main(given.entries, given.rounds))
