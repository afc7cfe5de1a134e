"""Makes the built-in verifier again.

    python scripts/train_verifier.py --pairs qqp.jsonl.gz [--wordnet /usr/share/wordnet] [--out FOLDER]

`--pairs` holds labelled pairs of questions, `{a, b, same}`, one JSON object a line; Quora's were used. The
families in scripts/verifier/families and the pairs that scripts/verifier/near_misses.py makes out of the
questions join them. MiniLM's weights come from where `cache.embedder` finds them. The seed is fixed: the same
data on the same kind of processor makes the same model. About an hour on two cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

import torch

sys.path.insert(0, str(Path(__file__).parent))

from verifier.data import Pair, Parts, families, mixed, read_pairs, split_families, split_pairs
from verifier.model import CrossEncoder, Encoder
from verifier.near_misses import make_pairs
from verifier.training import train

from llmhost.cache.embedders import weights

SEED = 7
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
FAMILIES = Path(__file__).parent / "verifier" / "families"
OUT = Path(__file__).parents[1] / "llmhost" / "cache" / "verifiers" / "builtin"

#: pairs made by program, of which each epoch takes others
MADE, MADE_AN_EPOCH = 40_000, 14_000
EVERYTHING = 1_000_000
EPOCHS = 2


def main(arguments: list[str] | None = None) -> None:
    """Trains, then calibrates and writes what users get."""
    given = _arguments(arguments)
    torch.manual_seed(SEED)
    torch.set_num_threads(given.threads)
    rng = Random(SEED)
    folder = weights.fetch(weights.locate(MINILM))
    parts = split_pairs(read_pairs(given.pairs))
    by_hand, kept = split_families(families(sorted(FAMILIES.glob("*.jsonl"))), rng)
    made = _made(parts, given.wordnet)
    print(
        f"{len(parts.train):,} labelled, {len(by_hand):,} of families, {len(made):,} made by program",
        flush=True,
    )
    epochs = [
        mixed((parts.train, EVERYTHING), (by_hand, EVERYTHING), (made, MADE_AN_EPOCH), rng=rng)
        for _ in range(EPOCHS)
    ]
    model, encoder = CrossEncoder(folder), Encoder(folder)
    train(model, encoder, epochs, rng, lambda line: print(line, flush=True))
    given.out.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), given.checkpoint)
    _finish(model, encoder, parts, kept, given.out)


def _made(parts: Parts, wordnet: Path | None) -> list[Pair]:
    """Out of questions to train on, and no others."""
    rows = [{"a": pair.a, "b": pair.b, "same": int(pair.same)} for pair in parts.train]
    return [Pair(one.a, one.b, bool(one.same), one.kind) for one in make_pairs(rows, wordnet, SEED, MADE)]


def _finish(model: CrossEncoder, encoder: Encoder, parts: Parts, kept: list[Pair], out: Path) -> None:
    pass


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--checkpoint", type=Path, default=Path("verifier.pt"))
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
