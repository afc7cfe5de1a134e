"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, Protocol

import torch
from tokenizers import Encoding
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from verifier.data import Pair
from verifier.model import CrossEncoder, Encoder

__all__ = ["Settings", "train"]

_BATCH = 32
_WARM_UP = 0.06  #: share of the steps
_WEIGHT_DECAY = 0.01
_SMOOTHING = 0.03  #: labels are wrong that often, and more
_SORTED = 50  #: batches among which pairs of one length are put together, so that little is padding
_TOLD = 200  #: steps between two lines
_SAVED = 100  #: steps after which a run that is broken off can go on


class _Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


@dataclass(frozen=True)
class Settings:
    """`rate` is the highest of the body, the head's is `head` times that. `ranking` weighs how far the pairs
    of one group that ask the same are to lie over those that do not. `short`: bfloat16 where torch allows."""

    rate: float
    head: float = 1.0
    ranking: float = 0.0
    short: bool = False


def train(
    model: CrossEncoder,
    encoder: Encoder,
    epochs: Sequence[Sequence[Pair]],
    settings: Settings,
    rng: Random,
    tell: Callable[[str], None],
    saved: Path,
) -> None:
    """One pass over each of the epochs; the learning rate rises to its highest, then falls to nothing.
    `saved` is where a run that is broken off left what it had; it is removed at the end."""
    cut = [list(_batches(encoder, pairs, rng)) for pairs in epochs]
    steps = sum(map(len, cut))
    optimizer = _optimizer(model, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    model.train()
    begun, recent = time.monotonic(), 0.0
    done = _resumed(saved, model, optimizer, schedule)
    for step, batch in enumerate(chain.from_iterable(cut), 1):
        if step <= done:
            continue
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.short):
            given = model(**encoder.batch([encoded for encoded, _ in batch]))
        loss = _loss(given.float(), [pair for _, pair in batch], settings.ranking)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent = 0.99 * recent + 0.01 * loss.item()
        if step % _SAVED == 0:
            _save(saved, step, model, optimizer, schedule)
        if step % _TOLD == 0:
            tell(f"step {step:,} of {steps:,}, loss {recent:.4f}, {time.monotonic() - begun:.0f} s")
    saved.unlink(missing_ok=True)


def _resumed(saved: Path, *parts: _Stateful) -> int:
    """The steps that were done before; the parts are as they were after them."""
    if not saved.exists():
        return 0
    kept = torch.load(saved, weights_only=True)
    for part, state in zip(parts, kept["parts"], strict=True):
        part.load_state_dict(state)
    return int(kept["step"])


def _save(saved: Path, step: int, *parts: _Stateful) -> None:
    unfinished = saved.with_suffix(".part")
    torch.save({"step": step, "parts": [part.state_dict() for part in parts]}, unfinished)
    unfinished.replace(saved)


def _loss(given: torch.Tensor, pairs: Sequence[Pair], ranking: float) -> torch.Tensor:
    """Whether each is right, and with what is `ranking`, whether those that ask the same come first."""
    labels = torch.tensor([float(pair.same) for pair in pairs])
    loss = binary_cross_entropy_with_logits(given, labels * (1 - 2 * _SMOOTHING) + _SMOOTHING)
    if not ranking:
        return loss
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for number, pair in enumerate(pairs):
        if pair.group:
            groups.setdefault(pair.group, ([], []))[not pair.same].append(number)
    gaps = [
        (given[near][None, :] - given[same][:, None]).flatten()
        for same, near in groups.values()
        if same and near
    ]
    return loss + ranking * softplus(torch.cat(gaps)).mean() if gaps else loss


def _optimizer(model: CrossEncoder, settings: Settings) -> torch.optim.Optimizer:
    groups = []
    for head in (False, True):
        learned = [
            one
            for name, one in model.named_parameters()
            if one.requires_grad and head is not name.startswith("body.")
        ]
        rate = settings.rate * (settings.head if head else 1.0)
        for matrices, decay in ((True, _WEIGHT_DECAY), (False, 0.0)):
            kept = [one for one in learned if (one.ndim > 1) is matrices]
            groups.append({"params": kept, "weight_decay": decay, "lr": rate})
    return torch.optim.AdamW(groups)


def _rate(step: int, steps: int) -> float:
    warm = _WARM_UP * steps
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / (steps - warm))


def _batches(encoder: Encoder, pairs: Sequence[Pair], rng: Random) -> Iterator[list[tuple[Encoding, Pair]]]:
    """In random order; those of one group stay together, and near those of their length."""
    encoded = encoder.encode([pair.a for pair in pairs], [pair.b for pair in pairs])
    units: dict[str, list[int]] = {}
    for number, pair in enumerate(pairs):
        units.setdefault(pair.group or f"\n{number}", []).append(number)
    window, waiting = list[list[int]](), 0
    for unit in units.values():
        window.append(unit)
        waiting += len(unit)
        if waiting >= _BATCH * _SORTED:
            yield from _cut(encoded, pairs, window, rng)
            window, waiting = [], 0
    yield from _cut(encoded, pairs, window, rng)


def _cut(
    encoded: Sequence[Encoding], pairs: Sequence[Pair], window: list[list[int]], rng: Random
) -> Iterator[list[tuple[Encoding, Pair]]]:
    def length(unit: Sequence[int]) -> int:
        return max(len(encoded[number].ids) for number in unit)

    numbers = [number for unit in sorted(window, key=length) for number in unit]
    batches = [numbers[at : at + _BATCH] for at in range(0, len(numbers), _BATCH)]
    rng.shuffle(batches)
    for batch in batches:
        yield [(encoded[number], pairs[number]) for number in batch]
