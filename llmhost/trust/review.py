"""Recent semantic hits, and an operator's verdicts on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmhost.cache.calibration import Label
from llmhost.cache.catalog import Catalog
from llmhost.cache.models import Asker, ServedHit
from llmhost.trust.labels import Labels

__all__ = ["Review", "Reviewed"]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a verdict did. `learnt`: it was counted as a label; not where no verifier was asked. `forgotten`:
    the entry was removed."""

    learnt: bool
    forgotten: bool


@dataclass(frozen=True, slots=True)
class Review:
    """Both wordings of a hit are those that the cache keeps of an entry anyway: the question that it answers,
    and the last one that it was served to. Every method raises StoreError.
    """

    catalog: Catalog
    labels: Labels

    async def recent(self, asker: Asker, count: int) -> Sequence[ServedHit]:
        """The newest of this asker's, newest first; one for each entry."""
        return await self.catalog.served_hits(asker, count)

    async def label(self, asker: Asker, entry: str, at: float, *, same: bool, now: float) -> Reviewed | None:
        """Says of the hit on the entry at `at`, Unix seconds, whether both wordings ask the same. None, and
        nothing is changed, where it is not the last one of this asker, or has its verdict.

        A label of the operator teaches less than one of an audit, and is not part of the served error: what
        an operator looks at is no fair sample. If they ask something else, the entry is removed as `llmhost
        cache forget --wrong-match` does, so that the pair is not served again.
        """
        hit = await self.catalog.served_hit(asker, entry)
        if hit is None or hit.at != at:
            return None
        # First: what is wrong must go, even if the rest fails then.
        removed = None if same else await self.catalog.forget(hit.entry)
        if not await self.catalog.drop_served_hit(asker, entry) and same:
            return None
        label = removed
        if same and hit.raw is not None:
            label = Label("forget", True, hit.raw, hit.doubts)
        if label is not None:
            await self.labels.record(label, now)
        return Reviewed(learnt=label is not None, forgotten=not same)
