"""The service of one fleet, with its records in Redis where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmhost.fleet.apply import FleetService
from llmhost.fleet.clock import SystemClock
from llmhost.fleet.health import Hooks
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec
from llmhost.fleet.provider import Provider
from llmhost.fleet.registry import FleetRegistry
from llmhost.ledger.ledger import Ledger
from llmhost.machine.paths import owner_id, state_dir
from llmhost.wiring.engines import Engines

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["make_registry", "make_service"]


def make_registry(client: Redis, spec: FleetSpec) -> FleetRegistry:
    """The records of this fleet's workers, of this state folder and this provider alone."""
    return FleetRegistry(client, spec.name, f"{owner_id()}/{spec.provider}")


def make_service(
    provider: Provider,
    spec: FleetSpec,
    engines: Engines,
    client: Redis | None,
    ready_timeout: float,
    note: Callable[[str], None],
) -> FleetService:
    """The fleet's service; `client` None keeps workers without Redis. Raises StateError."""
    return FleetService(
        provider,
        spec,
        hooks=Hooks(prepare=engines.prepare, probe=engines.probe),
        lock=FleetLock(state_dir() / "fleets" / f"{spec.name}.lock"),
        clock=SystemClock(),
        ready_timeout=ready_timeout,
        registry=make_registry(client, spec) if client else None,
        rentals=Ledger(client, spec.name) if client else None,
        on_lock_wait=lambda: note("another llmhost is changing this fleet; waiting for it"),
    )
