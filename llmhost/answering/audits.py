"""Which semantic hits are to be audited, and where they wait for it: one list for each policy.

Some of what waits may be lost: each audit is evidence, and none is required. What was asked and served is
kept for at most a day, with the system prompt and the earlier turns that an engine needs to answer it.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from llmhost.answering.cache_session import WarnOnce
from llmhost.answering.question import Question
from llmhost.cache.models import SemanticLookup
from llmhost.store.client import is_sharded, translate_errors
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from redis.asyncio import Redis

__all__ = ["Audit", "AuditQueue", "AuditSampler"]

#: audits; where they are not processed, the oldest are dropped
_LONGEST_QUEUE = 1_000
#: seconds; what was served a day ago says little about what would be served now
_LIFETIME = 86_400
#: characters; more than is compared of an answer, and little enough for a thousand of them
_ANSWER_KEPT = 8_000


@dataclass(frozen=True, slots=True)
class Audit:
    """One semantic hit: `question` got at `at` (Unix seconds) the `answer` of `entry`, which was given to
    `matched_question`. The answer is kept here, as the entry's may expire or be replaced meanwhile; of a
    long one, the beginning (`whole` False).

    `raw` is the verifier's probability, 0..1, before labels corrected it; where the policy looks at nothing
    but similarity, that, clipped to 0..1. `doubts` names the guards that doubted. `condensed`: the policy was
    not asked about `question`, but about what its last turn asks by itself. `judged_by` names whose labels
    it belongs to: a policy's, or a verifier's.
    """

    question: Question
    entry: str
    matched_question: str
    answer: str
    whole: bool
    raw: float
    doubts: tuple[str, ...]
    at: float
    condensed: bool = False
    judged_by: str = "verified"


class AuditQueue:
    """The audits that wait of one fleet's hits by one policy, oldest first. Every method raises StoreError
    where Redis is away or will not write.
    """

    def __init__(self, client: Redis, fleet: str, policy: str = "verified") -> None:
        self._client = client
        self._key = FleetKeys(fleet, is_sharded(client)).audits(policy)

    async def add(self, audit: Audit) -> None:
        """Puts it behind all others."""
        with translate_errors():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.rpush(self._key, json.dumps(asdict(audit), allow_nan=False))
            pipeline.ltrim(self._key, -_LONGEST_QUEUE, -1)
            pipeline.expire(self._key, _LIFETIME)
            await pipeline.execute()

    async def take(self, now: float) -> Audit | None:
        """The oldest one that is still worth it at `now`, Unix seconds; it is removed from the queue."""
        while True:
            with translate_errors():
                raw = await self._client.lpop(self._key)
            if not isinstance(raw, bytes | str):
                return None
            audit = _decoded(raw)
            if audit is not None and abs(now - audit.at) < _LIFETIME:
                return audit

    async def clear(self) -> None:
        """Drops them all."""
        with translate_errors():
            await self._client.delete(self._key)

    async def waiting(self) -> int:
        """How many there are, those that are too old included."""
        with translate_errors():
            return int(await self._client.llen(self._key))


@dataclass(slots=True)
class AuditSampler:
    """Puts a `share`, 0..1, of the semantic hits into the queue; `queued` counts them. Where Redis fails, the
    user is warned, and nothing is raised. `judged_by` as in `Audit`; `chance` gives numbers from 0 up to 1.
    """

    queue: AuditQueue
    share: float
    warn_once: WarnOnce
    chance: Callable[[], float] = random.random
    judged_by: str = "verified"
    queued: int = field(default=0, init=False)
    #: called after each hit that was queued
    on_queued: Callable[[], None] = field(default=lambda: None, init=False)

    async def served(
        self, question: Question, lookup: SemanticLookup, now: float, *, condensed: bool = False
    ) -> None:
        """To be called for each semantic hit, after it was served.

        One that the question's own threshold allowed says nothing about the policy, and neither does one
        whose answer has changed when it is audited: they are left out.
        """
        served, verdict = lookup.served, lookup.verdict
        if served is None or question.threshold is not None or question.lifetime is not None:
            return
        if self.chance() >= self.share:
            return
        raw = verdict.raw if verdict is not None and verdict.raw is not None else served.similarity
        audit = Audit(
            question=question,
            entry=served.entry,
            matched_question=served.question,
            answer=served.answer.text[:_ANSWER_KEPT],
            whole=len(served.answer.text) <= _ANSWER_KEPT,
            raw=min(1.0, max(0.0, raw)),
            doubts=verdict.doubts if verdict is not None else (),
            at=now,
            condensed=condensed,
            judged_by=self.judged_by,
        )
        try:
            await self.queue.add(audit)
        except Exception as error:  # noqa: BLE001 - foreseen or not, the question was answered
            self.warn_once.warn("a hit that was to be audited is not", error)
        else:
            self.queued += 1
            self.on_queued()


def _decoded(raw: bytes | str) -> Audit | None:
    """None where something else lies there: others can write to Redis too."""
    try:
        audit = _adapter().validate_json(raw, strict=True)
    except ValueError:
        return None
    return audit if 0 <= audit.raw <= 1 and math.isfinite(audit.at) else None


@cache
def _adapter() -> TypeAdapter[Audit]:
    from pydantic import TypeAdapter

    return TypeAdapter(Audit)
