"""The service of one fleet, with its records in Redis where there is one."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from llmhost.autoscale.models import ScaleSpec
from llmhost.autoscale.state import scale_key
from llmhost.config.hours import parse_window
from llmhost.config.models import Config
from llmhost.fleet.budget import Limits
from llmhost.fleet.clock import SystemClock
from llmhost.fleet.health import Hooks
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec
from llmhost.fleet.provider import Provider
from llmhost.fleet.registry import FleetRegistry
from llmhost.fleet.service import FleetService
from llmhost.fleet.workers import Engines
from llmhost.ledger.ledger import Ledger
from llmhost.machine.paths import owner_id, state_dir
from llmhost.store.lease import Lease

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["make_lock", "make_registry", "make_service", "ready_timeout", "scale_spec"]


#: seconds without progress; a process on this machine, or a server that runs already
_READY_TIMEOUT = 180.0

#: seconds; a rented machine may fetch gigabytes of image without a word
_RENTED_READY_TIMEOUT = 1200.0

#: seconds until the first answer where nothing was learned yet; as `scale.boot_time` says
_BOOT, _RENTED_BOOT = 10.0, 180.0


def ready_timeout(config: Config, *, rents: bool) -> float:
    """Seconds without any progress after which a worker that does not answer counts as stuck."""
    return config.fleet.ready_timeout or (_RENTED_READY_TIMEOUT if rents else _READY_TIMEOUT)


def scale_spec(config: Config) -> ScaleSpec:
    """What the autoscaler is to keep to."""
    scale, rents = config.scale, config.fleet.provider == "vast"
    return ScaleSpec(
        min_gpus=scale.min_gpus,
        max_gpus=_most(config),
        windows=tuple(parse_window(window.when, window.min_gpus) for window in scale.schedule),
        zone=ZoneInfo(scale.timezone),
        queue_time=scale.queue_time,
        late=scale.late,
        catch_up=scale.catch_up,
        busy_above=scale.busy_above,
        busy_below=scale.busy_below,
        down_after=scale.down_after,
        idle_after=scale.idle_after,
        max_step=scale.max_step,
        max_failures=scale.max_failures,
        places=config.engine.parallel,
        tokens_per_s=scale.tokens_per_s,
        tokens_per_answer=scale.tokens_per_answer,
        boot_seconds=scale.boot_time or (_RENTED_BOOT if rents else _BOOT),
    )


def _most(config: Config) -> int:
    """Workers that there may be: servers that somebody runs already do not become more."""
    most, servers = config.fleet.max_gpus, len({server.url for server in config.fleet.workers})
    return min(most, servers) if config.fleet.provider == "static" else most


def make_registry(client: Redis, spec: FleetSpec) -> FleetRegistry:
    """The records of this fleet's workers. Rented machines are the same whoever looks; other workers are
    those of this state folder."""
    owner = spec.provider if spec.provider == "vast" else f"{owner_id()}/{spec.provider}"
    return FleetRegistry(client, spec.name, owner)


def make_lock(spec: FleetSpec, client: Redis | None) -> FleetLock:
    """The fleet's lock; without a `client` other machines are not kept out. Raises StateError.

    All commands of this machine are one holder: the file tells them apart, and what one of them held when it
    was killed is not waited for by the next. Its name counts too, as state folders are copied with machines.
    """
    holder = f"{owner_id()}@{platform.node()}"
    lease = Lease(client, scale_key(spec.name), holder=holder) if client else None
    return FleetLock(state_dir() / "fleets" / f"{spec.name}.lock", lease)


def make_service(
    provider: Provider,
    spec: FleetSpec,
    engines: Engines,
    client: Redis | None,
    config: Config,
    note: Callable[[str], None],
) -> FleetService:
    """The fleet's service; `client` None keeps workers without Redis. Raises StateError."""
    return FleetService(
        provider,
        spec,
        hooks=Hooks(prepare=engines.prepare, probe=engines.probe),
        lock=make_lock(spec, client),
        clock=SystemClock(),
        ready_timeout=ready_timeout(config, rents=provider.rents),
        limits=Limits(**config.fleet.budget.model_dump()),
        attempts=config.vast.max_attempts,
        registry=make_registry(client, spec) if client else None,
        rentals=Ledger(client, spec.name) if client else None,
        on_lock_wait=lambda: note("another llmhost is changing this fleet; waiting for it"),
    )
