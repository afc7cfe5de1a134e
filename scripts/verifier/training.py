"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from random import Random

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from verifier.data import Pair
from verifier.model import CrossEncoder, Encoder

__all__ = ["train"]

_BATCH = 32
_WARM_UP = 0.06  #: share of the steps
_WEIGHT_DECAY = 0.01
_SMOOTHING = 0.03  #: labels are wrong that often, and more
_SORTED = 50  #: batches among which pairs of one length are put together, so that little is padding
_TOLD = 200  #: steps between two lines


def train(
    model: CrossEncoder,
    encoder: Encoder,
    epochs: Sequence[Sequence[Pair]],
    rate: float,
    rng: Random,
    tell: Callable[[str], None],
) -> None:
    """One pass over each of the epochs; the learning rate rises to `rate`, then falls to nothing."""
    steps = sum(-(-len(pairs) // _BATCH) for pairs in epochs)
    optimizer = _optimizer(model, rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    model.train()
    begun, step, recent = time.monotonic(), 0, 0.0
    for pairs in epochs:
        for inputs, labels in _batches(encoder, pairs, rng):
            loss = binary_cross_entropy_with_logits(model(**inputs), labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step, recent = step + 1, 0.99 * recent + 0.01 * loss.item()
            if step % _TOLD == 0:
                tell(f"step {step:,} of {steps:,}, loss {recent:.4f}, {time.monotonic() - begun:.0f} s")


def _optimizer(model: CrossEncoder, rate: float) -> torch.optim.Optimizer:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in learned if one.ndim > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [one for one in learned if one.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate)


def _rate(step: int, steps: int) -> float:
    warm = _WARM_UP * steps
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / (steps - warm))


def _batches(
    encoder: Encoder, pairs: Sequence[Pair], rng: Random
) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    encoded = encoder.encode([pair.a for pair in pairs], [pair.b for pair in pairs])
    for begin in range(0, len(pairs), _BATCH * _SORTED):
        near = range(begin, min(begin + _BATCH * _SORTED, len(pairs)))
        by_length = sorted(near, key=lambda number: len(encoded[number]["input_ids"]))
        cut = [by_length[at : at + _BATCH] for at in range(0, len(by_length), _BATCH)]
        rng.shuffle(cut)
        for numbers in cut:
            labels = torch.tensor([float(pairs[number].same) for number in numbers])
            yield (
                encoder.batch([encoded[number] for number in numbers]),
                labels * (1 - 2 * _SMOOTHING) + _SMOOTHING,
            )
