"""The cache's policies, from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmhost.config.models import CacheConfig

if TYPE_CHECKING:
    from llmhost.cache.policy import Bars, Policy

__all__ = ["bars", "make_policy", "verified_policy"]


def make_policy(config: CacheConfig, note: Callable[[str], None]) -> Policy:
    """The configured policy; loads the verifier where it is wanted. Blocks. Raises ModelError."""
    from llmhost.cache.policy import ThresholdPolicy

    if config.policy == "threshold":
        return ThresholdPolicy(config.threshold)
    return verified_policy(config.verifier, bars(config), note)


def verified_policy(verifier: str, bars: Bars, note: Callable[[str], None]) -> Policy:
    """Guards, then this verifier (see `cache.verifier`), then these bars. Blocks. Raises ModelError."""
    from llmhost.cache.guards import objections
    from llmhost.cache.policy import VerifiedPolicy
    from llmhost.cache.verifiers.load import load_verifier

    return VerifiedPolicy(objections, load_verifier(verifier, on_progress=note).probability, bars)


def bars(config: CacheConfig) -> Bars:
    """The bars that the configuration asks for."""
    from llmhost.cache.policy import BARS_FLOOR, Bars, doubted_bar

    return Bars(
        serve=config.confidence,
        doubted=doubted_bar(config.confidence),
        judge=config.judge_from if config.judge else None,
        floor=min(BARS_FLOOR, config.confidence),
    )
