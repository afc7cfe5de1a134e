"""The judge of the grey zone, from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmhost.config.models import Config

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.answering.notices import Notices
    from llmhost.cache.judgements import FitnessBook
    from llmhost.cache.keys import Keys
    from llmhost.engines.pool import Pool
    from llmhost.trust.judge import EngineJudge, FleetJudge

__all__ = ["engine_judge", "fitness_book", "fleet_judge"]


def engine_judge(config: Config, pool: Pool, client: Redis, notices: Notices) -> EngineJudge:
    """The fleet's model as a judge, measured or not."""
    from llmhost.ledger.ledger import Ledger
    from llmhost.trust.judge import EngineJudge

    return EngineJudge(
        pool,
        config.engine.model,
        config.cache.judge_timeout,
        config.engine.parallel,
        Ledger(client, config.fleet.name),
        notices,
    )


def fleet_judge(config: Config, pool: Pool, client: Redis, keys: Keys, notices: Notices) -> FleetJudge | None:
    """The judge that remembers, and is silent where it is not good enough; None where none is wanted."""
    from llmhost.cache.judgements import Judgements
    from llmhost.trust.judge import FleetJudge

    if not config.cache.judge:
        return None
    return FleetJudge(
        engine_judge(config, pool, client, notices),
        Judgements(client, keys, config.cache.embedding_ttl),
        fitness_book(config, client),
        model=config.engine.model,
        timeout=config.cache.judge_timeout,
        notices=notices,
    )


def fitness_book(config: Config, client: Redis) -> FitnessBook:
    """What was measured of this fleet's judge."""
    from llmhost.cache.judgements import FitnessBook

    return FitnessBook(client, config.fleet.name)
