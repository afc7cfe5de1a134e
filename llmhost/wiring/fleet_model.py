"""What the fleet's own model is asked for llmhost itself: the judge, and the condenser of conversations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from llmhost.answering.cache_session import WarnOnce
from llmhost.config.models import Config
from llmhost.engines.pool import Pool
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.trust.condense import CondenserEvaluationStore, FleetCondenser, LlmCondenser
    from llmhost.trust.judge import FleetJudge, JudgeEvaluationStore, LlmJudge

__all__ = ["FleetModelParts"]


@dataclass(frozen=True, slots=True)
class FleetModelParts:
    """`pool` makes a pool when one is needed; True: for the background, beside the users' own questions. What
    is to be measured is asked in the foreground."""

    config: Config
    client: Redis
    keys: NamespaceKeys
    warn_once: WarnOnce
    pool: Callable[[bool], Pool]

    def judge(self) -> LlmJudge:
        """To be measured."""
        return self._judge(background=False)

    def _judge(self, *, background: bool) -> LlmJudge:
        from llmhost.trust.judge import LlmJudge

        return LlmJudge(*self._asked(self.config.cache.judge_timeout, background))

    def fleet_judge(self) -> FleetJudge:
        """The judge that remembers, and is silent where it is not good enough."""
        from llmhost.trust.judge import FleetJudge, Judgements

        memory = Judgements(self.client, self.keys, self.config.cache.embedding_ttl)
        return FleetJudge(self._judge(background=True), memory, self.judge_evaluations())

    def judge_evaluations(self) -> JudgeEvaluationStore:
        """What was measured of the judge."""
        from llmhost.trust.judge import JudgeEvaluationStore

        return JudgeEvaluationStore(self.client, self.config.fleet.name)

    def condenser(self) -> LlmCondenser:
        """To be measured."""
        return self._condenser(background=False)

    def _condenser(self, *, background: bool) -> LlmCondenser:
        from llmhost.trust.condense import LlmCondenser

        return LlmCondenser(*self._asked(self.config.cache.condense_timeout, background))

    def fleet_condenser(self) -> FleetCondenser:
        """The condenser that remembers, and is silent where it is not good enough."""
        from llmhost.answering.question import standing_alone
        from llmhost.trust.condense import Condensations, FleetCondenser

        memory = Condensations(self.client, self.keys, self.config.cache.embedding_ttl)
        engine, make = self._condenser(background=True), partial(standing_alone, self.config)
        return FleetCondenser(engine, memory, self.condenser_evaluations(), make)

    def condenser_evaluations(self) -> CondenserEvaluationStore:
        """What was measured of the condenser."""
        from llmhost.trust.condense import CondenserEvaluationStore

        return CondenserEvaluationStore(self.client, self.config.fleet.name)

    def _asked(self, timeout: float, background: bool) -> tuple[Any, ...]:
        from llmhost.ledger.ledger import Ledger

        engine, ledger = self.config.engine, Ledger(self.client, self.config.fleet.name)
        return self.pool(background), engine.model, timeout, engine.slots, ledger, self.warn_once
