"""Purchases that were begun and of which it is not known whether they bought a worker."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmhost.errors import LlmhostError
from llmhost.fleet.clock import Clock, waited_since
from llmhost.fleet.models import Intent
from llmhost.fleet.provider import ANSWERED_AFTER, Provider
from llmhost.fleet.results import Failure

__all__ = ["doubt_about", "find_doubts"]


async def find_doubts(provider: Provider, clock: Clock) -> Sequence[Failure]:
    """A failure for each; one where the provider cannot be asked."""
    try:
        intents = await provider.intents()
    except LlmhostError as error:
        return [Failure(None, f"what was being bought is not known: {error.message}", error.hint)]
    return [failure for intent in intents if (failure := doubt_about(intent, clock))]


def doubt_about(intent: Intent, clock: Clock) -> Failure | None:
    """Why it is not known whether a purchase bought something; None where it bought nothing."""
    bought = f"whether the purchase {intent.id} bought a worker"
    if intent.hidden:
        return Failure(None, f"{bought} cannot be seen {intent.hidden}", intent.hint)
    if waited_since(clock, intent.written, intent.uptime) < ANSWERED_AFTER:
        minutes = math.ceil(ANSWERED_AFTER / 60)
        return Failure(None, f"it is not known yet {bought}", f"run this again in {minutes} minutes")
    return None
