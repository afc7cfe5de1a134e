"""Was the cache right? Semantic hits are answered by an engine as well, and the two answers are compared.

No user waits for this: the answer was served before. An engine that contradicts the answer that was served is
asked a second time. Only where it says the same again was the hit wrong; else the engine does not agree with
itself, and that says nothing about the cache.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Self

from llmhost.answering.audits import Audit, AuditQueue
from llmhost.answering.cache_session import WarnOnce
from llmhost.answering.question import Event, Question, Reply
from llmhost.cache.calibration import Label
from llmhost.cache.contracts import Embedder
from llmhost.cache.service import SemanticCache
from llmhost.errors import EngineRefused, EngineUnavailable, NoWorkerError, StreamBroken
from llmhost.ledger.events import Outcome, engine_event
from llmhost.ledger.ledger import Ledger
from llmhost.trust.agreement import Said, agree, answer_similarity, truncate_to_shorter
from llmhost.trust.labels import Labels

__all__ = ["Audited", "Auditor", "BackgroundAudits", "Finding", "compare_answers"]

#: audits in one go
_BATCH = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one audit; `right` None: unclear. `engine_answer` is None where no engine gave
    one. `change` says in words how the threshold was moved by it.
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


@dataclass(slots=True, kw_only=True)
class Auditor:
    """Works off the queue. `ask` answers a question by an engine, with neither cache nor ledger, and
    `embedder` gives the model that compares answers.
    """

    queue: AuditQueue
    ask: Callable[[Question], AsyncGenerator[Event]]
    cache: SemanticCache
    embedder: Callable[[], Awaitable[Embedder]]
    labels: Labels
    ledger: Ledger
    clock: Callable[[], float] = time.time

    async def run(self, limit: int) -> Audited:
        """Audits at most `limit` of those that wait, one by one.

        Raises:
            NoWorkerError, EngineUnavailable: no worker answers. What was being audited waits again.
            ModelError, StateError: the embedding model cannot be had. Nothing was audited.
            StoreError: Redis is away.
        """
        embedder = await self.embedder()
        findings: list[Finding] = []
        while len(findings) < limit and (audit := await self.queue.take(self.clock())):
            try:
                findings.append(await self._audit(audit, embedder))
            except (NoWorkerError, EngineUnavailable):
                await self.queue.add(audit)
                raise
        return Audited(findings, await self.queue.waiting())

    async def _audit(self, audit: Audit, embedder: Embedder) -> Finding:
        replies: list[Reply] = []
        try:
            right = await self._right(audit, embedder, replies)
        except (StreamBroken, EngineRefused):  # this question will not do better another time
            right = None
        finally:
            if replies:
                latency_ms = sum(reply.latency.total for reply in replies)
                answers = [reply.answer for reply in replies]
                await self.ledger.record(engine_event(self.clock(), Outcome.AUDIT, latency_ms, answers))
        change = None if right is None else await self._conclude(audit, right, replies[0])
        return Finding(audit, right, replies[0].answer.text if replies else None, change)

    async def _right(self, audit: Audit, embedder: Embedder, replies: list[Reply]) -> bool | None:
        """Whether the answer was right; `replies` gets what the engine said, once or twice."""
        served, whole = Said(audit.matched_question, audit.answer), audit.whole
        for _ in range(2):
            reply = await self._reply(audit.question)
            replies.append(reply)
            said = Said(audit.question.prompt, reply.answer.text)
            right = await compare_answers(
                embedder, served, said, complete=whole and reply.answer.finish_reason == "stop"
            )
            if right is not False:
                return right if len(replies) == 1 else None
        first, second = (Said(audit.question.prompt, reply.answer.text) for reply in replies)
        complete = all(reply.answer.finish_reason == "stop" for reply in replies)
        return False if await compare_answers(embedder, first, second, complete=complete) else None

    async def _reply(self, question: Question) -> Reply:
        async with aclosing(self.ask(question)) as events:
            async for event in events:
                if isinstance(event, Reply):
                    return event
        raise AssertionError("a question ended without a reply")

    async def _conclude(self, audit: Audit, right: bool, reply: Reply) -> str | None:
        """Records the label; says in words how the threshold was moved by it. A hit of a question that was
        condensed is no label: it may be wrong by what the condenser said, which is not the verifier's fault.
        Neither is one that another verifier judged.
        """
        await self.cache.count_audit(audit.entry, right=right)
        if not right:  # the same question gets the engine's own answer from now on
            key = None if reply.digest is None else audit.question.key(reply.digest)
            if key is not None and reply.answer.finish_reason == "stop" and reply.answer.text.strip():
                vector = None if audit.condensed else await self.cache.embed(key)
                await self.cache.store(key, reply.answer, vector)
        if audit.condensed or audit.judged_by != self.labels.policy:
            return None
        change = await self.labels.record(
            Label("audit", right=right, raw=audit.raw, doubts=audit.doubts), self.clock()
        )
        return None if change is None else change.words


@dataclass(slots=True)
class BackgroundAudits:
    """Works off the queue in a task of the running loop, within the block that it opens: for a process that
    goes on answering questions. `auditor` makes the auditor, when there is something to audit.
    """

    auditor: Callable[[], Awaitable[Auditor]]
    warn_once: WarnOnce
    woken: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    task: asyncio.Task[None] | None = field(default=None, init=False)

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])

    def wake(self) -> None:
        """Says that a hit waits to be audited."""
        self.woken.set()

    async def _run(self) -> None:
        while True:
            await self.woken.wait()
            self.woken.clear()
            try:
                audited = await (await self.auditor()).run(_BATCH)
            except Exception as error:  # noqa: BLE001 - foreseen or not, what waits is tried after the next hit
                self.warn_once.warn("hits wait to be audited", error)
            else:
                if audited.left:
                    self.woken.set()


async def compare_answers(embedder: Embedder, one: Said, other: Said, *, complete: bool) -> bool | None:
    """`agree` on two answers; `complete` False: one of them was cut off."""
    if not complete:
        cut = truncate_to_shorter(one.answer, other.answer)
        one, other = (replace(said, answer=text) for said, text in zip((one, other), cut, strict=True))
    similarity = await asyncio.to_thread(answer_similarity, embedder.embed, one.answer, other.answer)
    return agree(one, other, similarity)
