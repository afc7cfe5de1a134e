"""llmhost's semantic cache beside those of three libraries: the same vectors, one machine, one run.

    python bench/beside_libraries.py [--entries 5000] [--venvs FOLDER] [--json FILE]

RedisVL's SemanticCache, khazad (vector sets) and GPTCache (faiss and SQLite) are installed from PyPI, each at
the version below and in a venv of its own under FOLDER (~/.cache/llmhost-bench), without their embedding
models: all are given the same synthetic vectors. Those that keep their entries in Redis use one server, Redis
8.2 with the module RediSearch; llmhost is there with each kind of its index. Every product is a process of
its own. They take turns, some hundred entries and questions at a time, so that what else the machine does
hits all alike.

A put is one entry with an answer of 1,000 characters, a hit one rewording that gets its answer; llmhost's
policy is `threshold`, as the others judge by similarity alone. `right`: the share of questions that got the
answer of the nearest entry; `processor`: what a hit used of it, of the process and of Redis together.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

REQUIREMENTS = {
    "redisvl": ["redisvl==0.28.0", "numpy"],
    "khazad": ["redis==8.1.0", "httpx", "numpy", "--no-deps", "khazad==0.1.3"],
    "gptcache": ["gptcache==0.1.44", "faiss-cpu==1.15.1", "sqlalchemy", "numpy"],
}
PRODUCTS = (
    "llmhost vector_set",
    "llmhost query_engine",
    "llmhost flat",
    "redisvl",
    "khazad",
    "gptcache",
)
#: entries and questions of one turn
TURN = 250
DIMENSIONS = 384
#: rewordings are at 0.8 to 0.95, other entries below 0.7
THRESHOLD = 0.75
WORDS = "the cache answers what was asked before in other words and keeps what an engine has said about it "

Step = Callable[[int], str | None]


def answer_of(number: int) -> str:
    """1,000 characters, not the same ones in any two."""
    words = np.random.default_rng(number).permutation(WORDS.split() * 14)
    return f"{number}: {' '.join(words)}"[:1000]


# The products: what puts an entry, and what finds the answer to a question.


def product(name: str, socket: str, folder: Path, entries: Any, questions: Any) -> tuple[Step, Step]:
    kind, _, index = name.partition(" ")
    makers = {"llmhost": _llmhost, "redisvl": _redisvl, "khazad": _khazad, "gptcache": _gptcache}
    return makers[kind](socket, folder, entries, questions, index)


def _llmhost(socket: str, _: Path, entries: Any, questions: Any, kind: str) -> tuple[Step, Step]:
    import asyncio

    from llmhost.cache.indexes.choose import make_index
    from llmhost.cache.keys import cache_key, scope_id
    from llmhost.cache.models import Answer
    from llmhost.cache.policy import ThresholdPolicy
    from llmhost.cache.service import SemanticCache
    from llmhost.config.models import RedisConfig
    from llmhost.store.client import connect
    from llmhost.store.keys import NamespaceKeys

    loop = asyncio.new_event_loop()
    client = connect(RedisConfig(), socket=Path(socket))
    keys = NamespaceKeys(f"llmhost-{kind}")

    class Given:
        id, dimensions = "given", DIMENSIONS

        def embed(self, text: str) -> Any:
            return questions[int(text.rpartition(" ")[2])]

    index = make_index(kind, client, keys, embedder="given", dimensions=DIMENSIONS, lifetime=3600)

    async def sources() -> Any:
        return Given(), index

    async def policy() -> Any:
        return ThresholdPolicy(THRESHOLD)

    cache = SemanticCache(
        client,
        keys,
        embedder_source=sources,
        policy_source=policy,
        candidates=1,
        response_ttl=3600,
        embedding_ttl=3600,
    )
    scope = scope_id({"bench": "beside"})

    def put(number: int) -> None:
        answer = Answer(answer_of(number), "m", time.time(), 10, 200, "stop", 3.0, 0.0004)
        key = cache_key(scope, f"entry {number}")
        loop.run_until_complete(cache.store(key, answer, entries[number]))

    def find(number: int) -> str | None:
        found = loop.run_until_complete(cache.semantic(cache_key(scope, f"question {number}")))
        return None if found.served is None else found.served.answer.text

    return put, find


def _redisvl(socket: str, _: Path, entries: Any, questions: Any, __: str) -> tuple[Step, Step]:
    from redisvl.extensions.cache.llm import SemanticCache
    from redisvl.utils.vectorize import CustomTextVectorizer

    given = CustomTextVectorizer(embed=lambda _: entries[0].tolist())
    cache = SemanticCache(
        name="redisvl",
        redis_url=f"unix://{socket}",
        vectorizer=given,
        distance_threshold=1 - THRESHOLD,
        ttl=3600,
    )

    def put(number: int) -> None:
        cache.store(f"entry {number}", answer_of(number), vector=entries[number].tolist())

    def find(number: int) -> str | None:
        found = cache.check(vector=questions[number].tolist(), num_results=1)
        return found[0]["response"] if found else None

    return put, find


def _khazad(socket: str, _: Path, entries: Any, questions: Any, __: str) -> tuple[Step, Step]:
    from khazad.adapters.redis.store import RedisVectorStore

    store = RedisVectorStore(redis_url=f"unix://{socket}", namespace="khazad")

    def put(number: int) -> None:
        said = answer_of(number).encode()
        store.store("scope", f"{number:032x}", entries[number].tolist(), said, ttl=3600)

    def find(number: int) -> str | None:
        found = store.search("scope", questions[number].tolist(), THRESHOLD)
        said = None if found is None else store.get_response(found[0])
        return None if said is None else said.decode()

    return put, find


def _gptcache(_: str, folder: Path, entries: Any, questions: Any, __: str) -> tuple[Step, Step]:
    from gptcache import Cache, Config
    from gptcache.adapter.api import get, put
    from gptcache.manager import CacheBase, VectorBase, get_data_manager
    from gptcache.processor.pre import get_prompt
    from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation

    def embed(text: str, **_: Any) -> Any:
        kind, _, number = text.partition(" ")
        return (entries if kind == "entry" else questions)[int(number)]

    faiss = VectorBase("faiss", dimension=DIMENSIONS, index_path=str(folder / "faiss.index"), top_k=1)
    sqlite = CacheBase("sqlite", sql_url=f"sqlite:///{folder / 'gptcache.db'}")
    cache = Cache()
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=embed,
        data_manager=get_data_manager(sqlite, faiss, max_size=1_000_000),
        similarity_evaluation=SearchDistanceEvaluation(),
        # Its score is 1 - d / 4, where d is 2 - 2 cos.
        config=Config(similarity_threshold=1 - (1 - THRESHOLD) / 2),
    )

    def put_one(number: int) -> None:
        put(f"entry {number}", answer_of(number), cache_obj=cache)

    def find(number: int) -> str | None:
        return get(f"question {number}", cache_obj=cache)  # type: ignore[no-any-return]

    return put_one, find


def worker(name: str, socket: str, folder: Path) -> None:
    """Works in turns: reads `put FROM TO` or `find FROM TO`, writes what each took, in seconds."""
    given = np.load(folder / "vectors.npz")
    steps = dict(
        zip(("put", "find"), product(name, socket, folder, given["entries"], given["questions"]), strict=True)
    )
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        action, start, end = line.split()
        took, said, processor = [], [], time.process_time()
        for number in range(int(start), int(end)):
            begun = time.perf_counter()
            found = steps[action](number)
            took.append(time.perf_counter() - begun)
            said.append(None if found is None else int(found.partition(":")[0]))
        print(json.dumps([took, said, time.process_time() - processor]), flush=True)


# The run.


class Turns:
    """One product in its process."""

    def __init__(self, name: str, socket: Path, folder: Path, venvs: Path) -> None:
        kind = name.partition(" ")[0]
        python = sys.executable if kind == "llmhost" else str(venv(venvs, kind) / "bin" / "python")
        command = [python, __file__, "--worker", name, "--socket", str(socket), "--folder", str(folder)]
        self.name = name
        self.log = (folder / f"{name.replace(' ', '-')}.log").open("w+")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.failed = self._read() != "ready"
        self.took: dict[str, list[float]] = {"put": [], "find": []}
        self.said: list[int | None] = []
        self.bytes = 0
        #: seconds, of the process, and of Redis meanwhile
        self.processor = {"put": 0.0, "find": 0.0}

    def turn(self, action: str, start: int, end: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{action} {start} {end}\n")
        self._process.stdin.flush()
        answer = self._read()
        if answer is None:
            self.failed = True
            return
        self.took[action] += answer[0]
        self.processor[action] += answer[2]
        self.said += answer[1] if action == "find" else []

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.log.close()

    def last_words(self) -> str:
        self.log.seek(0)
        return (self.log.read().strip() or "it ended").splitlines()[-1]

    def _read(self) -> Any:
        """None where the process has ended. Lines that a library prints are passed over."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                return json.loads(line)
            except ValueError:
                continue
        return None


def venv(folder: Path, name: str) -> Path:
    """With the library in it, made where there is none."""
    at = folder / f"library-{name}"
    if not (at / "ready").exists():
        print(f"installing {name} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", at], check=True)
        wanted = REQUIREMENTS[name]
        cut = wanted.index("--no-deps") if "--no-deps" in wanted else len(wanted)
        for part in filter(None, (wanted[:cut], wanted[cut:])):
            subprocess.run([at / "bin" / "pip", "install", "-q", *part], check=True)
        (at / "ready").touch()
    return at


def run(entries: int, venvs: Path) -> list[dict[str, Any]]:
    import asyncio

    import cache_scale

    vectors = np.concatenate(
        [cache_scale.block(number) for number in range(-(-entries // cache_scale.BLOCK))]
    )
    questions, near = cache_scale.questions(entries, min(entries, 1000))
    nearest = near[:, 0].tolist()

    async def measure() -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory(prefix="llmhost-bench-") as folder:
            at = Path(folder)
            np.savez(at / "vectors.npz", entries=vectors[:entries], questions=questions)
            async with cache_scale.server("query_engine", at / "redis") as client:
                socket = Path(client.connection_pool.connection_kwargs["path"])
                products = [Turns(name, socket, at, venvs) for name in PRODUCTS]
                try:
                    for start in range(0, entries, TURN):
                        for one in products:
                            if one.failed:
                                continue
                            before = await used(client, one, at)
                            await turn(client, one, "put", start, min(start + TURN, entries))
                            one.bytes += await used(client, one, at) - before
                    for start in range(0, len(questions), TURN):
                        for one in products:
                            if not one.failed:
                                await turn(client, one, "find", start, min(start + TURN, len(questions)))
                    return [row(one, entries, nearest) for one in products]
                finally:
                    for one in products:
                        one.end()

    return asyncio.run(measure())


async def turn(client: Any, one: Turns, action: str, start: int, end: int) -> None:
    before = await of_redis(client)
    one.turn(action, start, end)
    one.processor[action] += await of_redis(client) - before


async def of_redis(client: Any) -> float:
    """Seconds of processor time."""
    times = await client.info("cpu")
    return float(times["used_cpu_user"]) + float(times["used_cpu_sys"])


async def used(client: Any, one: Turns, folder: Path) -> int:
    """Bytes in Redis; of what is not in Redis, those of its files."""
    if one.name == "gptcache":
        return file_bytes(folder)
    return int((await client.info("memory"))["used_memory"])


def file_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".db", ".index"))


def row(one: Turns, entries: int, nearest: Sequence[int]) -> dict[str, Any]:
    if one.failed:
        return {"product": one.name, "failed": one.last_words()}
    put, find = np.array(one.took["put"]), np.array(one.took["find"])
    return {
        "product": one.name,
        "puts_per_second": len(put) / put.sum(),
        "hits_per_second": len(find) / find.sum(),
        "hit_processor_ms": 1000 * one.processor["find"] / len(find),
        "p50_ms": 1000 * float(np.median(find)),
        "p99_ms": 1000 * float(np.quantile(find, 0.99)),
        "right": sum(said == near for said, near in zip(one.said, nearest, strict=True)) / len(find),
        "bytes": one.bytes / entries,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| cache | puts/s | hits/s | hit p50 | p99 | processor | right | bytes an entry |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in rows:
        if "failed" in one:
            lines.append(f"| {one['product']} | did not run: {one['failed']} |")
            continue
        lines.append(
            f"| {one['product']} | {one['puts_per_second']:,.0f} | {one['hits_per_second']:,.0f} | "
            f"{one['p50_ms']:.2f} ms | {one['p99_ms']:.1f} ms | {one['hit_processor_ms']:.2f} ms | "
            f"{one['right']:.3f} | {one['bytes']:,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=5000)
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "llmhost-bench")
    parser.add_argument("--json", type=Path)
    for hidden in ("--worker", "--socket", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.socket, Path(options.folder))
        return
    rows = run(options.entries, options.venvs)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
