"""Which offers to buy first: those where a token costs least over the expected stay. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from llmhost.fleet.models import Offer, Stay

__all__ = [
    "TokenCost",
    "choose",
    "estimate_model_gb",
    "price_of_performance",
    "rank",
    "token_costs",
    "traffic_usd",
]

_HOUR = 3600.0
_MBIT_PER_GB = 8000.0

#: Mbit/s, where an offer does not say: the slowest line that anybody should rent
_UNKNOWN_LINE = 100.0

#: USD per GB, where an offer does not say: unknown is not free
_UNKNOWN_TRAFFIC = 0.05

#: tokens a second of a model of 1 GB, for each GB/s of memory bandwidth: each token reads the whole model
#: once, and engines reach about this part of the bandwidth
_EFFICIENCY = 0.6

#: GB of a model whose name does not tell: 8 billion parameters at 4 bits
_UNKNOWN_MODEL = 5.0

#: bits of a parameter unless the name tells: Ollama's default quantization; and what its tables add
_BITS, _EXTRA_BITS = 4.0, 0.8

_PARAMETERS = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE | re.ASCII)
_QUANTIZATION = re.compile(r"(?<![a-z0-9])(?:i?q(\d)|b?f(?:p)?(16|32))", re.IGNORECASE | re.ASCII)


def estimate_model_gb(name: str) -> float:
    """GB of a model's file by the parameters and the quantization in its name, such as ``qwen2:7b-q6_K``."""
    parameters = _PARAMETERS.search(name)
    if parameters is None:
        return _UNKNOWN_MODEL
    experts, count, unit = parameters.groups()
    billions = float(experts or 1) * float(count) * (1.0 if unit in "bB" else 0.001)
    quantization = _QUANTIZATION.search(name, parameters.end())
    bits = float(quantization[1] or quantization[2]) if quantization else _BITS
    return billions * (bits + _EXTRA_BITS) / 8


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What an offer costs over the expected stay, and what it generates meanwhile.

    `boot_seconds` is the download of image and model. While the model is downloaded, the GPU is billed and
    generates nothing: `idle_usd` is the part of `rent_usd` for that time. `tokens_per_s` is None where
    neither a measurement nor the memory bandwidth is known, `usd_per_million` also where the stay ends before
    the model is there.
    """

    rent_usd: float
    traffic_usd: float
    boot_seconds: float
    idle_usd: float
    tokens_per_s: float | None
    measured: bool
    usd_per_million: float | None


def token_costs(
    offers: Sequence[Offer], stay: Stay, speeds: Mapping[str, float]
) -> Sequence[tuple[Offer, TokenCost]]:
    """Each offer with its cost, in the order of `rank`. `speeds` are measured tokens per second by the GPU.

    For other GPUs they are proportional to the memory bandwidth: by the ratio of the measured GPUs among the
    offers, or where there is none, by the size of the model. Ollama uses several GPUs one after the other, so
    their number changes nothing.
    """
    ratios = [
        speed / offer.bandwidth for offer in offers if (speed := speeds.get(offer.gpu)) and offer.bandwidth
    ]
    ratio = median(ratios) if ratios else _EFFICIENCY / max(stay.model_gb, 0.001)
    return sorted(
        ((offer, _token_cost(offer, stay, speeds, ratio)) for offer in offers), key=lambda pair: _key(*pair)
    )


def rank(offers: Iterable[Offer], stay: Stay, speeds: Mapping[str, float]) -> tuple[Offer, ...]:
    """The offers, best first: by what a token costs, then those of unknown speed by what they cost an hour.

    Of two that are alike the more reliable one comes first, then the one with the lower id.
    """
    return tuple(offer for offer, _ in token_costs(list(offers), stay, speeds))


def choose(
    offers: Iterable[Offer], count: int, avoid: Collection[str], stay: Stay, speeds: Mapping[str, float]
) -> tuple[Offer, ...]:
    """The best offers, `count` at most, each once. `avoid` names machines, and offers, to leave alone."""
    fitting = [
        offer for offer in rank(offers, stay, speeds) if offer.machine not in avoid and offer.id not in avoid
    ]
    once: dict[str, Offer] = {}
    for offer in fitting:
        once.setdefault(offer.id, offer)
    return tuple(once.values())[: max(0, count)]


def traffic_usd(offer: Offer, stay: Stay) -> float:
    """What the download of image and model is expected to cost, once, when the worker is bought."""
    per_gb = _UNKNOWN_TRAFFIC if offer.download_price is None else offer.download_price
    return max(0.0, per_gb) * (stay.image_gb + stay.model_gb)


def price_of_performance(offer: Offer) -> float | None:
    """USD an hour for one unit of the provider's measure; None where its performance is not known."""
    known = math.isfinite(offer.performance) and offer.performance > 0
    return offer.price_per_hour / offer.performance if known else None


def _token_cost(offer: Offer, stay: Stay, speeds: Mapping[str, float], ratio: float) -> TokenCost:
    line = offer.download if offer.download > 0 else _UNKNOWN_LINE
    downloads = stay.image_gb + stay.model_gb
    idle = min(stay.model_gb * _MBIT_PER_GB / line, stay.seconds)
    measured = speeds.get(offer.gpu)
    speed = measured or offer.bandwidth * ratio or None
    rent, traffic = offer.price_per_hour * stay.seconds / _HOUR, traffic_usd(offer, stay)
    tokens = (stay.seconds - idle) * (speed or 0.0)
    return TokenCost(
        rent_usd=rent,
        traffic_usd=traffic,
        boot_seconds=downloads * _MBIT_PER_GB / line,
        idle_usd=offer.price_per_hour * idle / _HOUR,
        tokens_per_s=speed,
        measured=bool(measured),
        usd_per_million=(rent + traffic) / tokens * 1e6 if tokens > 0 else None,
    )


def _key(offer: Offer, cost: TokenCost) -> tuple[bool, float, float, str]:
    unknown = cost.usd_per_million is None
    price = cost.rent_usd + cost.traffic_usd if cost.usd_per_million is None else cost.usd_per_million
    return (unknown, price, -offer.reliability, offer.id)
