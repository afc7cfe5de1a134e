"""The one path of a question: admission, cache, single flight, pool, store, ledger.

Nothing is cached, counted or routed outside it. Where Redis fails, its steps give way and the question
still gets its answer from an engine.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from llmhost.answering.audits import AuditSampler
from llmhost.answering.cache_session import CacheSession, Memory, WarnOnce
from llmhost.answering.question import Latency, Question, Reply, Source, Text, admit
from llmhost.cache.models import Answer, SemanticLookup
from llmhost.engines.engine import ChatRequest, Delta, Done, Message
from llmhost.engines.pool import Assigned, Pool
from llmhost.errors import StoreError
from llmhost.ledger.cost import answer_cost
from llmhost.ledger.events import Outcome, QuestionEvent
from llmhost.ledger.ledger import Ledger

__all__ = ["Answerer", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """`parallel` is how many requests a worker serves at once: they share its price."""

    max_prompt_chars: int
    parallel: int


@dataclass(slots=True)
class _Asked:
    """One question on its way. `memory` None: the cache is switched off, for it or altogether."""

    question: Question
    memory: CacheSession | None
    begun: float
    exact_ms: float = 0.0
    waited: bool = False
    lookup: SemanticLookup = field(default_factory=SemanticLookup)
    reply: Reply | None = None

    def latency(self, engine_seconds: float = 0.0) -> Latency:
        return Latency(
            total=_ms_since(self.begun),
            load=self.lookup.load_ms,
            embed=self.lookup.embed_ms,
            lookup=self.exact_ms + self.lookup.lookup_ms,
            verify=self.lookup.verify_ms,
            engine=engine_seconds * 1000,
        )


class Answerer:
    """Answers questions. `memory` None switches the cache off; without a `ledger` nothing is counted, and
    without `audits` no hit is audited.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        settings: Settings,
        memory: Memory | None,
        ledger: Ledger | None,
        warn_once: WarnOnce,
        audits: AuditSampler | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._memory = memory
        self._ledger = ledger
        self._warn_once = warn_once
        self._audits = audits
        self._clock = clock

    async def answer(self, question: Question) -> AsyncGenerator[Text | Reply]:
        """Streams the answer's text; the last event is its `Reply`.

        Raises:
            UsageError: the question is empty or too long.
            NoWorkerError: the cache has no answer and there is no worker to ask.
            EngineUnavailable, EngineRefused, StreamBroken: no worker gave a whole answer.
        """
        key = admit(question, self._settings.max_prompt_chars)
        memory = self._memory.open(key) if self._memory and question.use_cache else None
        asked = _Asked(question, memory, time.perf_counter())
        try:
            async with aclosing(self._steps(asked)) as events:
                async for event in events:
                    yield event
        finally:
            await self._record(asked)

    async def _steps(self, asked: _Asked) -> AsyncGenerator[Text | Reply]:
        if asked.memory is None or asked.question.refresh:
            streamed = self._ask(asked)
        else:
            await self._look_up(asked, asked.memory)
            streamed = self._miss(asked, asked.memory)
        async with aclosing(streamed) as texts:
            async for text in texts:
                yield text
        if asked.reply is None:
            raise AssertionError("a question ended without a reply")
        if asked.reply.source != "engine":
            yield Text(asked.reply.answer)
        yield replace(asked.reply, reason=asked.lookup.reason, verdicts=asked.lookup.verdicts)

    async def _look_up(self, asked: _Asked, memory: CacheSession) -> None:
        """Sets the reply where the cache has one."""
        if await self._serve_exact(asked, memory):
            return
        asked.lookup = await memory.semantic(asked.question.threshold)
        served = asked.lookup.served
        if served is not None:
            asked.reply = replace(
                _hit(served.answer, served.entry, "semantic", asked),
                similarity=served.similarity,
                confidence=asked.lookup.confidence,
                matched_question=served.question,
            )

    async def _serve_exact(self, asked: _Asked, memory: CacheSession) -> bool:
        begun = time.perf_counter()
        answer = await memory.exact()
        asked.exact_ms += _ms_since(begun)
        if answer is not None:
            asked.reply = replace(_hit(answer, memory.key.entry, "exact", asked), confidence=1.0)
        return answer is not None

    async def _miss(self, asked: _Asked, memory: CacheSession) -> AsyncGenerator[Text]:
        """Asks an engine, unless another process is asking it the same: then its answer is taken."""
        if asked.reply is not None:
            return
        async with memory.lead() as leads:
            if leads:
                if not await self._serve_exact(asked, memory):
                    async with aclosing(self._ask(asked)) as texts:
                        async for text in texts:
                            yield text
                return
        await memory.wait()
        asked.waited = True
        # Where the one that led has failed, the next does not queue up behind others: it asks.
        if not await self._serve_exact(asked, memory):
            async with aclosing(self._ask(asked)) as texts:
                async for text in texts:
                    yield text

    async def _ask(self, asked: _Asked) -> AsyncGenerator[Text]:
        """Streams an engine's answer, and stores it when it is complete."""
        parts: list[str] = []
        assigned, done, begun = None, None, time.perf_counter()
        async with aclosing(self._pool.stream(_request(asked.question))) as events:
            async for event in events:
                if isinstance(event, Assigned):
                    assigned, begun = event, time.perf_counter()
                elif isinstance(event, Delta):
                    parts.append(event.text)
                    shown = time.perf_counter()
                    yield Text(event.text)
                    begun += time.perf_counter() - shown  # a slow reader is not the engine's time
                else:
                    done = event
        if assigned is None or done is None:
            raise AssertionError("the pool ended without an end mark")
        seconds = time.perf_counter() - begun
        answer = self._finished("".join(parts), asked.question.model, done, assigned, seconds)
        reply = _from_engine(answer, assigned.worker_id, asked.latency(seconds))
        stored = await self._store(asked, answer)
        asked.reply = replace(reply, entry=asked.memory.key.entry if asked.memory and stored else None)

    def _finished(self, text: str, model: str, done: Done, assigned: Assigned, seconds: float) -> Answer:
        return Answer(
            text=text,
            model=model,
            timestamp=self._clock(),
            prompt_tokens=done.prompt_tokens,
            completion_tokens=done.completion_tokens,
            finish_reason=done.finish_reason,
            engine_seconds=seconds,
            cost_usd=answer_cost(seconds, assigned.price_per_hour, self._settings.parallel),
        )

    async def _store(self, asked: _Asked, answer: Answer) -> bool:
        complete = answer.finish_reason == "stop" and bool(answer.text.strip())
        return complete and asked.memory is not None and await asked.memory.store(answer, asked.lookup.vector)

    async def _record(self, asked: _Asked) -> None:
        """Counts the question, and the hit on its entry. A ledger that is away cannot take back an answer."""
        if self._ledger is not None and (asked.memory is None or asked.memory.available):
            try:
                await self._ledger.record(_event(asked, self._clock()))
            except StoreError as error:
                self._warn_once.warn("this question is not counted", error)
        if asked.memory and asked.reply and asked.reply.source != "engine" and asked.reply.entry:
            verdict = asked.lookup.verdict if asked.reply.source == "semantic" else None
            await asked.memory.touch(asked.reply.entry, self._clock(), verdict)
            if self._audits and asked.reply.source == "semantic" and asked.memory.available:
                await self._audits.served(asked.question, asked.lookup, self._clock())


def _event(asked: _Asked, now: float) -> QuestionEvent:
    reply = asked.reply
    if reply is None:
        return QuestionEvent(now, Outcome.ERROR, _warm(asked.latency()))
    if reply.source != "engine":
        return QuestionEvent(
            at=now,
            outcome=Outcome(reply.source),
            latency_ms=_warm(reply.latency),
            saved_usd=reply.saved_usd,
            waited=asked.waited,
        )
    bypassed = asked.memory is None or asked.question.refresh
    return QuestionEvent(
        at=now,
        outcome=Outcome.BYPASS if bypassed else Outcome.MISS,
        latency_ms=_warm(reply.latency),
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        engine_seconds=reply.latency.engine / 1000,
        cost_usd=reply.cost_usd,
    )


def _request(question: Question) -> ChatRequest:
    system = (Message("system", question.system),) if question.system else ()
    messages = (*system, *question.history, Message("user", question.prompt))
    return ChatRequest(question.model, messages, question.sampling)


def _hit(answer: Answer, entry: str, source: Source, asked: _Asked) -> Reply:
    return Reply(
        answer=answer.text,
        source=source,
        model=answer.model,
        latency=asked.latency(),
        finish_reason=answer.finish_reason,
        entry=entry,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        saved_usd=answer.cost_usd,
    )


def _from_engine(answer: Answer, worker: str, latency: Latency) -> Reply:
    return Reply(
        answer=answer.text,
        source="engine",
        model=answer.model,
        latency=latency,
        finish_reason=answer.finish_reason,
        worker=worker,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost_usd=answer.cost_usd,
    )


def _warm(latency: Latency) -> float:
    """What the ledger counts: the time without that of a process's first start."""
    return latency.total - latency.load


def _ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
