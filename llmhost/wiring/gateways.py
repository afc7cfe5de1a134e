"""The gateway over the fleets of one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmhost.gateway.app import Gateway
    from llmhost.gateway.observe import Observation
    from llmhost.wiring.parts import Wiring

__all__ = ["make_gateway"]


async def make_gateway(fleets: Sequence[Wiring], observation: Observation | None = None) -> Gateway:
    """Serves the fleets with these parts; the first one's configuration says how. `observation` is told of
    each request.

    Raises ConfigError where two of them serve one model.
    """
    from llmhost.gateway.app import Gateway
    from llmhost.gateway.fleets import ServedFleets

    served = [await fleet.served_fleet() for fleet in fleets]
    aliases = {
        alias: model for fleet in reversed(served) for alias, model in fleet.config.gateway.aliases.items()
    }
    max_body = served[0].config.gateway.max_body
    return Gateway(ServedFleets(served, aliases), max_body=max_body, observation=observation)
