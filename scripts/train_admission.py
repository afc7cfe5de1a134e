"""Makes admission's second look again: llmhost/answering/second_look.npz.

    python scripts/train_admission.py --pairs qqp.jsonl.gz --open open.jsonl.gz [--write]

It learns from the requests whose kind somebody wrote down (scripts/admission_requests.jsonl and
tests/answering/requests.txt), and from questions of public pairs that the rules call plain (`--pairs` and
`--open` as in train_verifier.py), which are taken for plain. First it says for each set of requests how well
a second look that has not seen it would know it, at the bar as it is; then, with `--write`, it learns from
all. Four minutes on one core; the same data makes the same weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parent))

from verifier.data import read_pairs, split_open, split_pairs
from verifier.mutations.rewordings import keywords
from verifier.near_misses import dress

from llmhost.answering.admission import admit
from llmhost.answering.second_look import FILE, KINDS, SecondLook, features
from llmhost.cache.contracts import Embedder
from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.guards.word_lists import read_sections
from llmhost.config.models import CacheConfig

ROOT = Path(__file__).parent.parent
SEED = 7
#: public questions that are taken for plain, and how much each counts beside a request
PUBLIC, PUBLIC_WEIGHT = 6000, 0.15
#: what may stand before a text
GIVEN = ("Summarize this text:", "Translate into French:", "Which of these is the hardest?", "Context:")
#: how strongly weights are held near 0
RIDGE = 0.3
STEPS = 200
KEPT = ("plain", "creative")


@dataclass(frozen=True)
class Row:
    """A request. `source` names where it is from; `weight` is how much it counts."""

    text: str
    kind: str
    source: str
    weight: float = 1.0

    @property
    def label(self) -> int:
        return 0 if self.kind in KEPT else KINDS.index(self.kind)


def requests() -> list[Row]:
    """The requests whose kind somebody wrote down."""
    lines = (ROOT / "scripts/admission_requests.jsonl").read_text().splitlines()
    written = map(json.loads, (line for line in lines if not line.startswith("#")))
    rows = [Row(row["text"], row["kind"], f"set {row['set']}") for row in written]
    sections = read_sections(ROOT / "tests/answering/requests.txt")
    return rows + [Row(text, kind, "tests") for kind, texts in sections.items() for text in texts]


def public(pairs: Path, open_pairs: Path) -> list[Row]:
    """Questions of the parts of public pairs that are trained on, as far as the rules call them plain; some
    as people type them, some as key words, and some as a text that something is to be done with."""
    train = [*split_pairs(read_pairs(pairs)).train, *split_open(read_pairs(open_pairs))[0]]
    rng = Random(SEED)
    questions = sorted({pair.a for pair in train})
    rng.shuffle(questions)
    texts = [typed(question, rng) for question in questions[:PUBLIC]]
    texts += [f"{rng.choice(GIVEN)} {' '.join(rng.sample(questions, 4))}" for _ in range(PUBLIC // 20)]
    return [Row(text, "plain", "public", PUBLIC_WEIGHT) for text in texts if admit(text).kind in KEPT]


def typed(question: str, rng: Random) -> str:
    """The question as it is, as people type it, or its key words where it has such a form."""
    way = rng.random()
    if way < 0.4:
        return question
    if way < 0.7:
        return dress(question, rng)
    return keywords(question, rng) or question.lower().rstrip("?")


def looked_at(rows: Sequence[Row], embedder: Embedder) -> NDArray[np.float32]:
    """Shape (rows, features)."""
    vectors = [embedder.embed(row.text) for row in rows]
    none = np.zeros(embedder.dimensions, np.float32)
    return np.stack(
        [
            features(row.text, none if vector is None else vector)
            for row, vector in zip(rows, vectors, strict=True)
        ]
    )


def learn(rows: Sequence[Row], seen: NDArray[np.float32], embedder: str) -> SecondLook:
    """The weights that make these rows' kinds likeliest."""
    columns, kinds = seen.shape[1], len(KINDS)
    labels = np.eye(kinds)[[row.label for row in rows]]
    weight = np.array([row.weight for row in rows])[:, None]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(columns + 1, kinds)
        logits = seen @ weights[:-1] + weights[-1]
        logits -= logits.max(axis=1, keepdims=True)
        likely = np.exp(logits)
        likely /= likely.sum(axis=1, keepdims=True)
        off = (likely - labels) * weight
        gradient = np.vstack([seen.T @ off + RIDGE * weights[:-1], off.sum(axis=0)])
        missed = -(weight * labels * np.log(likely + 1e-12)).sum()
        return missed + RIDGE / 2 * (weights[:-1] ** 2).sum(), gradient.ravel()

    found = minimize(
        loss, np.zeros((columns + 1) * kinds), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    )
    weights = found.x.reshape(columns + 1, kinds).astype(np.float32)
    return SecondLook(weights[:-1], weights[-1], embedder)


def refused(look: SecondLook, rows: Iterable[Row], embedder: Embedder) -> int:
    """How many of these rows it says do not keep."""
    vectors = ((row.text, embedder.embed(row.text)) for row in rows)
    return sum(vector is not None and look.admit(text, vector).kind != "plain" for text, vector in vectors)


def held_out(rows: Sequence[Row], seen: NDArray[np.float32], held: str, embedder: Embedder) -> str:
    """How well a look that has not seen a source would know it. The requests of the tests were in part
    written after the sets, so they are left out as well."""
    learnt = [place for place, row in enumerate(rows) if row.source not in (held, "tests")]
    look = learn([rows[place] for place in learnt], seen[learnt], embedder.id)
    theirs = [row for row in rows if row.source == held]
    wrong = [row for row in theirs if row.label]
    right = [row for row in theirs if not row.label]
    return (
        f"{held}: refuses {refused(look, wrong, embedder)} of {len(wrong)} that do not keep, "
        f"{refused(look, right, embedder)} of {len(right)} that do"
    )


def write(look: SecondLook) -> None:
    """Takes the place of what the package has; `load_second_look` reads it."""
    np.savez_compressed(
        FILE,
        weights=look.weights.astype(np.float16),
        bias=look.bias.astype(np.float32),
        embedder=np.array(look.embedder),
    )


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--open", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    embedder = load_embedder(CacheConfig().embedder, on_progress=say)
    rows = requests() + public(chosen.pairs, chosen.open)
    seen = looked_at(rows, embedder)
    for held in ("set 1", "set 2", "set 3", "set 4"):
        say(held_out(rows, seen, held, embedder))
    look = learn(rows, seen, embedder.id)
    others = [row for row in rows if row.source == "public"]
    say(
        f"of {len(others)} public questions that it learnt from, it refuses {refused(look, others, embedder)}"
    )
    if chosen.write:
        write(look)


if __name__ == "__main__":
    main()
