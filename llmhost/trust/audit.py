"""Was the cache right? Semantic hits are answered by an engine as well, and the two answers are compared.

Nobody waits for this: the user was served before. An engine that contradicts the answer that was served is
asked a second time. Only where it says the same again was the hit wrong; else the engine does not agree with
itself, and that says nothing about the cache.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from llmhost.answering.audits import Audit, AuditedEntries, AuditQueue
from llmhost.answering.question import Question, Reply, Text, admit
from llmhost.cache.calibration import Label
from llmhost.cache.contracts import Embedder
from llmhost.cache.models import Answer
from llmhost.cache.service import SemanticCache
from llmhost.errors import (
    EngineRefused,
    EngineUnavailable,
    NoWorkerError,
    StreamBroken,
    UsageError,
)
from llmhost.ledger.events import Outcome, QuestionEvent
from llmhost.ledger.ledger import Ledger
from llmhost.trust.agreement import Said, agree, answer_similarity, truncate_to_shorter
from llmhost.trust.labels import Labels

__all__ = ["Audited", "Auditor", "Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one audit; `right` None: it cannot be told. `engine_answer` is None where no engine gave
    one. `change` says in words how the bar was moved by it.
    """

    audit: Audit
    right: bool | None
    engine_answer: str | None = None
    change: str | None = None


@dataclass(frozen=True, slots=True)
class Audited:
    """What came of a run; `left` are still waiting."""

    findings: Sequence[Finding]
    left: int


class Auditor:
    """Works off the queue. `ask` answers a question by an engine, with neither cache nor ledger, and
    `embedder` gives the model that compares answers.
    """

    def __init__(
        self,
        *,
        queue: AuditQueue,
        ask: Callable[[Question], AsyncGenerator[Text | Reply]],
        cache: SemanticCache,
        entries: AuditedEntries,
        embedder: Callable[[], Awaitable[Embedder]],
        labels: Labels,
        ledger: Ledger,
        max_prompt_chars: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._ask = ask
        self._cache = cache
        self._entries = entries
        self._embedder = embedder
        self._labels = labels
        self._ledger = ledger
        self._max_prompt_chars = max_prompt_chars
        self._clock = clock

    async def run(self, limit: int) -> Audited:
        """Audits at most `limit` of those that wait, one by one.

        Raises:
            NoWorkerError, EngineUnavailable: no worker answers. What was being audited waits again.
            ModelError, StateError: the embedding model cannot be had. Nothing was audited.
            StoreError: Redis is away.
        """
        embedder = await self._embedder()
        findings: list[Finding] = []
        while len(findings) < limit and (audit := await self._queue.take(self._clock())):
            try:
                findings.append(await self._audit(audit, embedder))
            except (NoWorkerError, EngineUnavailable):
                await self._queue.add(audit)
                raise
        return Audited(findings, await self._queue.waiting())

    async def _audit(self, audit: Audit, embedder: Embedder) -> Finding:
        replies: list[Reply] = []
        try:
            right = await self._right(audit, embedder, replies)
        except (StreamBroken, EngineRefused, UsageError):  # this question will not do better another time
            right = None
        finally:
            await self._count(replies)
        change = None if right is None else await self._conclude(audit, right, replies[0])
        return Finding(audit, right, replies[0].answer if replies else None, change)

    async def _right(self, audit: Audit, embedder: Embedder, replies: list[Reply]) -> bool | None:
        """Whether the answer was right; `replies` gets what the engine said, once or twice."""
        served, whole = Said(audit.matched_question, audit.answer), audit.whole
        for _ in range(2):
            reply = await self._reply(audit.question)
            replies.append(reply)
            said = Said(audit.question.prompt, reply.answer)
            right = await _compared(embedder, served, said, whole and reply.finish_reason == "stop")
            if right is not False:
                return right if len(replies) == 1 else None
        first, second = (Said(audit.question.prompt, reply.answer) for reply in replies)
        complete = all(reply.finish_reason == "stop" for reply in replies)
        return False if await _compared(embedder, first, second, complete) else None

    async def _reply(self, question: Question) -> Reply:
        async with aclosing(self._ask(question)) as events:
            async for event in events:
                if isinstance(event, Reply):
                    return event
        raise AssertionError("a question ended without a reply")

    async def _count(self, replies: Sequence[Reply]) -> None:
        if replies:
            await self._ledger.record(
                QuestionEvent(
                    at=self._clock(),
                    outcome=Outcome.AUDIT,
                    latency_ms=sum(reply.latency.total for reply in replies),
                    prompt_tokens=sum(reply.prompt_tokens for reply in replies),
                    completion_tokens=sum(reply.completion_tokens for reply in replies),
                    engine_seconds=sum(reply.latency.engine for reply in replies) / 1000,
                    cost_usd=sum(reply.cost_usd for reply in replies),
                )
            )

    async def _conclude(self, audit: Audit, right: bool, reply: Reply) -> str | None:
        """Records the label; says in words how the bar was moved by it."""
        await self._entries.count(audit.entry, right=right)
        if not right:
            await self._store(audit.question, reply)
        change = await self._labels.record(
            Label("audit", right=right, raw=audit.raw, doubts=audit.doubts), self._clock()
        )
        return None if change is None else change.words

    async def _store(self, question: Question, reply: Reply) -> None:
        """The next one who asks this gets the engine's own answer."""
        if reply.finish_reason != "stop" or not reply.answer.strip():
            return
        key = admit(question, self._max_prompt_chars)
        await self._cache.store(key, _answer(reply, self._clock()), await self._cache.embed(key))


async def _compared(embedder: Embedder, one: Said, other: Said, complete: bool) -> bool | None:
    """`agree` on two answers; `complete` False: one of them was cut off."""
    if not complete:
        cut = truncate_to_shorter(one.answer, other.answer)
        one, other = (replace(said, answer=text) for said, text in zip((one, other), cut, strict=True))
    similarity = await asyncio.to_thread(answer_similarity, embedder.embed, one.answer, other.answer)
    return agree(one, other, similarity)


def _answer(reply: Reply, now: float) -> Answer:
    return Answer(
        text=reply.answer,
        model=reply.model,
        timestamp=now,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        finish_reason=reply.finish_reason,
        engine_seconds=reply.latency.engine / 1000,
        cost_usd=reply.cost_usd,
    )
