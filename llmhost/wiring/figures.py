"""What the gateway's page shows of a fleet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from llmhost.autoscale.state import ScaleStateStore
from llmhost.gateway.figures import FleetFigures
from llmhost.ledger.ledger import Ledger
from llmhost.trust.review import Review
from llmhost.wiring.fleets import fleet_spec, make_registry

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.config.models import Config
    from llmhost.fleet.models import Worker
    from llmhost.ledger.report import Targets
    from llmhost.wiring.questions import CacheParts

__all__ = ["make_figures"]


def make_figures(
    config: Config,
    client: Redis,
    caches: CacheParts,
    reachable: Callable[[], Awaitable[Sequence[Worker]]],
    targets: Targets,
) -> FleetFigures:
    """The figures of the configured fleet; `reachable` as in `FleetFigures`."""
    name = config.fleet.name
    return FleetFigures(
        config=config,
        ledger=Ledger(client, name),
        registry=lambda: make_registry(client, fleet_spec(config), config),
        reachable=reachable,
        scale=ScaleStateStore(client, name),
        review=Review(caches.catalog(client), caches.labels(client)),
        targets=targets,
    )
