"""What the verifier learns from: labelled pairs, families written by hand, pairs made by program.

Everything is split by what belongs together, so that no question of the held part was ever seen: pairs by the
connected component of their questions, families as a whole.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

__all__ = [
    "Pair",
    "Parts",
    "families",
    "mixed",
    "of_each_group",
    "read_pairs",
    "split_families",
    "split_open",
    "split_pairs",
]

#: percent of the material
_TEST, _VALIDATION = 10, 7
_FAMILY_VALIDATION = 12

#: negatives taken of one family in an epoch, beside its six positives or so
_NEGATIVES = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """Two wordings, and whether they ask the same. Those of one `group` are about one question, and are
    ranked among each other; "" is no group."""

    a: str
    b: str
    same: bool
    kind: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """`test` is for the final figures, `validation` for calibration, `train` for the rest."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]


def read_pairs(path: Path) -> list[Pair]:
    """Pairs `{a, b, same[, kind]}`, one JSON object a line, gzipped or not. Raises OSError, ValueError."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    return [Pair(row["a"], row["b"], bool(row["same"]), row.get("kind", "pair")) for row in rows]


def split_pairs(pairs: Sequence[Pair]) -> Parts:
    """By connected component: two pairs that share a question, even through others, go together."""
    parents: dict[str, str] = {}
    for pair in pairs:
        parents[_root(parents, pair.a)] = _root(parents, pair.b)
    parts = Parts([], [], [])
    for pair in pairs:
        share = _percent(_root(parents, pair.a))
        part = (
            parts.test if share < _TEST else parts.validation if share < _TEST + _VALIDATION else parts.train
        )
        part.append(pair)
    return parts


def _root(parents: dict[str, str], question: str) -> str:
    while (parent := parents.setdefault(question, question)) != question:
        parents[question] = parents[parent]
        question = parents[question]
    return question


def _percent(text: str) -> int:
    return int(hashlib.sha256(("s1" + text).encode()).hexdigest(), 16) % 100


def families(paths: Iterable[Path]) -> Iterator[dict[str, list]]:
    """`{q, same[], near[[kind, text]]}`, one JSON object a line."""
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def split_open(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Of openly licensed sets: those to train on, and those kept for validation. What templates made is kept
    by whole templates, which their kind names; else a model would know the template."""
    train: list[Pair] = []
    validation: list[Pair] = []
    for pair in pairs:
        key = pair.kind if ": " in pair.kind else pair.a
        (validation if _percent(key) < _FAMILY_VALIDATION else train).append(pair)
    return train, validation


def of_each_group(pairs: Sequence[Pair], positive: int, negative: int, rng: Random) -> list[Pair]:
    """Of each group, at most `positive` pairs that ask the same and `negative` that do not."""
    groups: dict[str, tuple[list[Pair], list[Pair]]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, ([], []))[not pair.same].append(pair)
    return [
        pair
        for same, near in groups.values()
        for kept, most in ((same, positive), (near, negative))
        for pair in rng.sample(kept, min(most, len(kept)))
    ]


def split_families(rows: Iterable[dict[str, list]], rng: Random) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on, and pairs of families that are kept for validation."""
    train: list[Pair] = []
    validation: list[Pair] = []
    for row in rows:
        part = validation if _percent(str(row["q"])) < _FAMILY_VALIDATION else train
        part += _pairs_of(row, rng)
    return train, validation


def _pairs_of(family: dict[str, list], rng: Random) -> list[Pair]:
    wordings = [family["q"], *family["same"]]
    group = str(family["q"])
    same = [Pair(a, b, True, "paraphrase", group) for a, b in itertools.combinations(wordings, 2)]
    direct = [Pair(family["q"], text, False, kind, group) for kind, text in family["near"]]
    reworded = [Pair(a, text, False, kind, group) for a in family["same"] for kind, text in family["near"]]
    fewer = rng.sample(reworded, min(len(reworded), max(0, _NEGATIVES - len(direct))))
    return same + direct + fewer


def mixed(*parts: tuple[Sequence[Pair], int], rng: Random) -> list[Pair]:
    """The number given with each part, drawn at random, in random order; half of the pairs turned round."""
    drawn = [pair for part, count in parts for pair in rng.sample(part, min(count, len(part)))]
    rng.shuffle(drawn)
    return [replace(pair, a=pair.b, b=pair.a) if rng.random() < 0.5 else pair for pair in drawn]
