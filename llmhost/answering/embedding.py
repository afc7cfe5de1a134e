"""Vectors of texts by an engine. They are no answers: the cache is not asked, and no question is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from llmhost.answering.answerer import Answerer, engine_answer
from llmhost.answering.question import Latency, Reply
from llmhost.cache.models import Answer
from llmhost.engines.engine import Embedded, EmbedRequest
from llmhost.engines.pool import Collected
from llmhost.ledger.events import Outcome, engine_event

__all__ = ["embed_by_engine"]

#: texts that a worker is sent at once, so that a request with many takes turns with others; their vectors are
#: some hundred kB of JSON
_TOGETHER = 32


async def embed_by_engine(
    answerer: Answerer,
    request: EmbedRequest,
    tenant: str,
    charge: Callable[[int, float], None] | None = None,
) -> tuple[Sequence[Sequence[float]], Reply]:
    """The vectors, and a reply without text that says what they took. What was done is charged, in tokens and
    USD, and counted in the ledger, also where it does not come to its end.

    Raises as `Pool.embed`.
    """
    began = time.perf_counter()
    vectors: list[Sequence[float]] = []
    done: list[Answer] = []
    try:
        for start in range(0, len(request.texts), _TOGETHER):
            texts = request.texts[start : start + _TOGETHER]
            collected = Collected()
            pool = answerer.pool()
            async with aclosing(pool.embed(replace(request, texts=texts), tenant=tenant)) as events:
                async for event in events:
                    collected.add(event)
                    if isinstance(event, Embedded):
                        vectors += event.vectors
            answer = engine_answer(collected, request.model, answerer.clock(), answerer.slots)
            done.append(answer)
            if charge is not None:
                charge(answer.prompt_tokens, answer.cost_usd)
    finally:
        if done:
            await _count(answerer, done, _ms_since(began))
    answer = replace(
        done[-1],
        prompt_tokens=sum(one.prompt_tokens for one in done),
        engine_seconds=sum(one.engine_seconds for one in done),
        cost_usd=sum(one.cost_usd for one in done),
    )
    total = _ms_since(began)
    latency = Latency(total=total, engine=answer.engine_seconds * 1000, user=total)
    return vectors, Reply(answer, "engine", latency, worker=answer.worker)


async def _count(answerer: Answerer, done: Sequence[Answer], latency_ms: float) -> None:
    """Where Redis is away, this only warns."""
    if answerer.ledger is None:
        return
    try:
        await answerer.ledger.record(engine_event(answerer.clock(), Outcome.EMBEDDING, latency_ms, done))
    except Exception as error:  # noqa: BLE001 - foreseen or not, the texts were embedded
        answerer.warn_once.warn("these embeddings are not counted", error)


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
