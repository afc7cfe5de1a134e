"""Purchases that were begun and of which it is not known whether they bought a worker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmhost.errors import LlmhostError
from llmhost.fleet.clock import Clock, waited_since
from llmhost.fleet.models import Intent
from llmhost.fleet.provider import ANSWERED_AFTER, Provider
from llmhost.fleet.results import Failure

if TYPE_CHECKING:
    from llmhost.fleet.registry import FleetRecords

__all__ = ["doubt_about", "find_doubts", "settle"]


async def find_doubts(provider: Provider, clock: Clock, records: FleetRecords) -> Sequence[Failure]:
    """A failure for each; one where the provider cannot be asked."""
    try:
        intents = await settle(provider, records)
    except LlmhostError as error:
        return [Failure(None, f"what was being bought is not known: {error.message}", error.hint)]
    return [failure for intent in intents if (failure := doubt_about(intent, clock))]


async def settle(provider: Provider, records: FleetRecords) -> Sequence[Intent]:
    """The purchases that were begun on any machine, and of which the provider lists no worker: every machine
    is to know them, and of the others none need know any more. Raises as `Provider.intents`."""
    begun = await records.begun()
    provider.learn(begun)
    intents = await provider.intents()
    known = {intent.id for intent in begun}
    await records.answered(known - {intent.id for intent in intents})
    await records.tell(intent for intent in intents if intent.id not in known)
    return intents


def doubt_about(intent: Intent, clock: Clock) -> Failure | None:
    """Why it is not known whether a purchase bought something; None where it bought nothing."""
    bought = f"whether the purchase {intent.id} bought a worker"
    if intent.hidden:
        return Failure(None, f"{bought} cannot be seen {intent.hidden}", intent.hint)
    if intent.refused:
        until = datetime.fromtimestamp(math.ceil(clock.now() + intent.counts_for), UTC)
        refused = (
            f"the purchase {intent.id} was refused a moment ago, and may be listed all the same"
            f" until {until:%H:%M:%S} UTC"
        )
        return Failure(None, refused, "run `llmhost fleets` then")
    if waited_since(clock, intent.written, intent.uptime) < ANSWERED_AFTER:
        minutes = math.ceil(ANSWERED_AFTER / 60)
        hint = f"run this again in {minutes} minutes"
        return Failure(intent.worker or None, f"it is not known yet {bought}", hint)
    return None
