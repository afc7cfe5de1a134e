"""The autoscaler of the fleet that the configuration describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmhost.autoscale.checkup import Patience
from llmhost.autoscale.state import ScaleMemory
from llmhost.autoscale.step import Scaler
from llmhost.config.models import Config
from llmhost.engines.redis_traffic import RedisTraffic
from llmhost.errors import ConfigError
from llmhost.fleet.budget import Limits
from llmhost.fleet.clock import SystemClock
from llmhost.fleet.health import Hooks
from llmhost.fleet.provider import Provider
from llmhost.fleet.workers import Engines
from llmhost.ledger.ledger import Ledger
from llmhost.wiring.fleets import make_lock, make_registry, ready_timeout, scale_spec
from llmhost.wiring.providers import fleet_spec

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["make_scaler"]


def _is_limited(config: Config) -> bool:
    """Whether there is a most that a fleet of `fleet.max_gpus` workers may cost an hour."""
    return Limits(**config.fleet.budget.model_dump()).any or config.vast.max_price is not None


def make_scaler(provider: Provider, engines: Engines, client: Redis, config: Config) -> Scaler:
    """Follows the demand that is counted in this Redis.

    Raises:
        ConfigError: it would buy without being asked, and nothing limits what that costs.
    """
    if provider.rents and not _is_limited(config):
        raise ConfigError(
            "`llmhost scale` buys without asking, and nothing limits what it may pay",
            hint="set `fleet.budget.per_hour`, or at least `vast.max_price`, in the configuration",
        )
    spec, ledger = fleet_spec(config), Ledger(client, config.fleet.name)
    return Scaler(
        provider,
        spec,
        scale_spec(config),
        hooks=Hooks(prepare=engines.prepare, probe=engines.probe),
        lock=make_lock(spec, client),
        clock=SystemClock(),
        patience=Patience(
            booting=ready_timeout(config, rents=provider.rents),
            silent=config.scale.wedged_after,
            busy=config.engine.answer_timeout,
        ),
        limits=Limits(**config.fleet.budget.model_dump()),
        traffic=RedisTraffic(client, spec.name, config.engine.parallel),
        memory=ScaleMemory(client, spec.name),
        boots=ledger,
        registry=make_registry(client, spec),
        rentals=ledger,
    )
