"""Would the cache have been right? Hits that are not served are compared with the answer of the engine.

The engine is not asked a second time, as for an audit: every hit is compared here. How often it contradicts
itself is seen from the hits of the exact tier, whose question is the same.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from llmhost.answering.question import Question, Reply
from llmhost.cache.contracts import Embedder
from llmhost.ledger.ledger import Ledger
from llmhost.trust.agreement import Said
from llmhost.trust.audit import compare_answers

__all__ = ["ShadowComparison"]


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """`embedder` gives the model that compares answers."""

    embedder: Callable[[], Awaitable[Embedder]]
    ledger: Ledger
    clock: Callable[[], float] = time.time

    async def __call__(self, question: Question, hit: Reply, reply: Reply) -> None:
        """Counts whether the hit's answer says the same as the engine's.

        Raises:
            ModelError, StateError: the embedding model cannot be had.
            StoreError: Redis is away.
        """
        matched = hit.lookup.served if hit.source == "semantic" else None
        served = Said(question.prompt if matched is None else matched.question, hit.answer.text)
        said = Said(question.prompt, reply.answer.text)
        complete = reply.answer.finish_reason == "stop"
        right = await compare_answers(await self.embedder(), served, said, complete=complete)
        await self.ledger.record_comparison(self.clock(), hit.source, right)
