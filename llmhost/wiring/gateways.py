"""The gateway over the fleets of one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmhost.config.gateway import GatewayConfig
    from llmhost.gateway.access import Access
    from llmhost.gateway.app import Gateway
    from llmhost.gateway.key_store import KeyStore
    from llmhost.gateway.observe import Observation
    from llmhost.wiring.parts import Wiring

__all__ = ["make_access", "make_gateway", "make_key_store"]


async def make_gateway(fleets: Sequence[Wiring], observation: Observation) -> Gateway:
    """Serves the fleets with these parts; the first one's configuration says how. `observation` is told of
    each request.

    Raises ConfigError where two of them serve one model, and as `make_access`.
    """
    from llmhost.gateway.app import Gateway
    from llmhost.gateway.fleets import ServedFleets

    served = [await fleet.served_fleet() for fleet in fleets]
    aliases = {
        alias: model for fleet in reversed(served) for alias, model in fleet.config.gateway.aliases.items()
    }
    config = served[0].config.gateway
    access = await make_access(fleets[0], config)
    return Gateway(ServedFleets(served, aliases), access, max_body=config.max_body, observation=observation)


async def make_key_store(fleet: Wiring) -> KeyStore:
    """The API keys of gateways. Raises StoreError."""
    from llmhost.gateway.key_store import KeyStore

    return KeyStore(await fleet.redis())


async def make_access(fleet: Wiring, config: GatewayConfig) -> Access:
    """Who may ask a gateway with this configuration, which starts without Redis too. Raises UsageError where
    other machines reach it and there is no API key, and StoreError where that cannot be known."""
    from llmhost.gateway.access import Access, require_keys
    from llmhost.gateway.key_store import KeyStore

    store, embedded = KeyStore(fleet.redis_client()), fleet.embedded_redis
    await require_keys(config, store, fleet.now())
    restore = None if embedded is None else embedded.ensure_running
    access = Access(config, store, fleet.warn_once, restore=restore)
    fleet.push_async_callback(access.aclose)
    return access
