"""The one path of a question on a real Redis, and what it stands on: only the engines play a part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from doubles.scripted_pool import ScriptedEngine, pool_of
from redis.asyncio import Redis

from llmhost.answering.answerer import Answerer
from llmhost.answering.cache_session import CacheSessions, WarnOnce
from llmhost.answering.question import Question, Reply, Text
from llmhost.cache.service import SemanticCache
from llmhost.cache.single_flight import SingleFlight
from llmhost.engines.engine import Done
from llmhost.ledger.ledger import Ledger
from llmhost.ledger.totals import Totals
from llmhost.store.keys import NamespaceKeys

NOW = 1_700_000_000.0
DONE = Done("stop", prompt_tokens=7, completion_tokens=3)
ASKED = Question(prompt="what is artificial intelligence in simple words", model="m", tenant="t")
#: 0.935 alike to the embedder that counts words
REWORDED = replace(ASKED, prompt="what is artificial intelligence in plain simple words")


class House:
    """An answerer and what it stands on."""

    def __init__(self, client: Redis, cache: SemanticCache, keys: NamespaceKeys) -> None:
        self.told: list[str] = []
        self.now = NOW
        self.stale_for = cache.stale_for
        self.max_tokens: int | None = None
        self.ledger = Ledger(client, "f")
        self.warn_once = WarnOnce(self.told.append)
        self.sessions = CacheSessions(cache, lambda: SingleFlight(client, keys), self.warn_once)

    def answerer(self, *engines: ScriptedEngine, cached: bool = True, shadow: Any = None) -> Answerer:
        return Answerer(
            pool=lambda: pool_of(*engines),
            slots=1,
            sessions=self.sessions if cached else None,
            ledger=self.ledger,
            warn_once=self.warn_once,
            shadow=shadow,
            stale_for=self.stale_for,
            max_tokens=self.max_tokens,
            clock=lambda: self.now,
        )

    async def ask(self, question: Question, *engines: ScriptedEngine, cached: bool = True) -> Reply:
        return (await self.events(question, *engines, cached=cached))[1]

    async def events(
        self, question: Question, *engines: ScriptedEngine, cached: bool = True
    ) -> tuple[list[str], Reply]:
        answerer = self.answerer(*engines, cached=cached)
        *texts, reply = [event async for event in answerer.answer(question)]
        assert isinstance(reply, Reply)
        return [text.text for text in texts if isinstance(text, Text)], reply

    async def totals(self) -> Totals:
        return await self.ledger.totals(NOW - 60, NOW)
