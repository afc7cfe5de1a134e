"""Who exists: the provider's list, and whoever is on record and missing there."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from llmhost.fleet.models import Worker
from llmhost.fleet.provider import Provider

__all__ = ["roll_call"]


async def roll_call(provider: Provider, known: Collection[str]) -> Sequence[Worker]:
    """Every worker that exists. `known` are ids on record, read before this: one that the list lacks is
    made sure of, for what is taken for gone is bought again, and its bill forgotten.

    Raises:
        ProviderError: the list cannot be read, or not be believed.
    """
    listed = await provider.list()
    missing = set(known) - {worker.id for worker in listed}
    return [*listed, *await provider.unlisted(missing)] if missing else listed
