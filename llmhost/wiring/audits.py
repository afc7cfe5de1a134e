"""The parts of the audit, from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmhost.config.models import Config

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.answering.audits import AuditQueue, AuditSampler
    from llmhost.answering.notices import Notices
    from llmhost.engines.pool import Pool
    from llmhost.trust.audit import Auditor
    from llmhost.wiring.questions import CacheParts

__all__ = ["audit_queue", "audit_sampler", "drop_audits", "make_auditor"]


def audit_queue(config: Config, client: Redis) -> AuditQueue:
    """Where the hits of the configured policy wait."""
    from llmhost.answering.audits import AuditQueue

    return AuditQueue(client, config.fleet.name, config.cache.policy)


async def drop_audits(config: Config, client: Redis) -> None:
    """Drops what waits of every policy's hits: it holds questions and answers. Raises StoreError."""
    from llmhost.answering.audits import AuditQueue

    for policy in ("verified", "threshold"):
        await AuditQueue(client, config.fleet.name, policy).clear()


def audit_sampler(config: Config, client: Redis, notices: Notices) -> AuditSampler | None:
    """What puts a share of the semantic hits into the queue; None where none is wanted."""
    from llmhost.answering.audits import AuditSampler

    if not config.cache.audit_share:
        return None
    return AuditSampler(audit_queue(config, client), config.cache.audit_share, notices)


def make_auditor(config: Config, client: Redis, pool: Pool, caches: CacheParts, notices: Notices) -> Auditor:
    """What works off the queue."""
    from llmhost.answering.answerer import Answerer, Settings
    from llmhost.answering.audits import AuditedEntries
    from llmhost.ledger.ledger import Ledger
    from llmhost.trust.audit import Auditor

    settings = Settings(config.limits.max_prompt_chars, config.engine.parallel)
    engines = Answerer(pool=pool, settings=settings, memory=None, ledger=None, notices=notices)
    return Auditor(
        queue=audit_queue(config, client),
        ask=engines.answer,
        cache=caches.cache(client),
        entries=AuditedEntries(client, caches.keys),
        embedder=caches.embedder,
        labels=caches.labels(client),
        ledger=Ledger(client, config.fleet.name),
        max_prompt_chars=config.limits.max_prompt_chars,
    )
