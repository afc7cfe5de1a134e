"""Constructs a fleet from the configuration: its provider, records, lock, service and autoscaler."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from llmhost.config.hours import parse_window
from llmhost.config.models import Config
from llmhost.engines.redis_traffic import RedisTraffic
from llmhost.errors import ConfigError
from llmhost.fleet.budget import Limits
from llmhost.fleet.clock import SystemClock
from llmhost.fleet.health import Hooks
from llmhost.fleet.known_fleets import EMBEDDED
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Stay, Worker, WorkerState
from llmhost.fleet.offers import estimate_model_gb
from llmhost.fleet.pause import PauseMarks
from llmhost.fleet.provider import Provider
from llmhost.fleet.registry import FleetRegistry, Origin
from llmhost.fleet.service import FleetService
from llmhost.fleet.workers import Engines
from llmhost.ledger.ledger import Ledger
from llmhost.machine.files import Patience
from llmhost.machine.paths import owner_id, secret_key, state_dir
from llmhost.store.client import is_sharded, place_of
from llmhost.store.keys import FleetKeys
from llmhost.store.lease import Lease

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.autoscale.models import ScaleSpec
    from llmhost.autoscale.step import Scaler
    from llmhost.config.load import LoadedConfig
    from llmhost.fleet.providers.static import StaticServer
    from llmhost.fleet.providers.vast.accounts import KnownAccounts
    from llmhost.fleet.providers.vast.identity import WorkerBootConfig
    from llmhost.fleet.providers.vast.pacer import Pacer

__all__ = [
    "OtherConfig",
    "account_key",
    "account_names",
    "budget_limits",
    "config_of",
    "configured_workers",
    "fleet_spec",
    "is_account_known",
    "is_gone",
    "local_provider",
    "make_lock",
    "make_provider",
    "make_registry",
    "make_scaler",
    "make_service",
    "pause_marks",
    "payer_of",
    "read_other",
    "records_of",
    "scale_spec",
]

#: where vast.ai answers, unless VAST_URL says otherwise, as it does to vast.ai's own tools
_VAST = "https://console.vast.ai"
_BYTES_A_CHARACTER = 6  #: the longest that JSON makes one
_REST_OF_A_BODY = 64 * 1024  #: bytes; all of a request besides the prompt
_LATER = 10.0  #: seconds; the caller gives up first, and knows why
_ANY_FLEET = "any"  #: a name, where nothing that is read depends on it


def fleet_spec(config: Config) -> FleetSpec:
    """What the configuration wants."""
    fleet, engine = config.fleet, config.engine
    return FleetSpec(
        name=fleet.name,
        provider=fleet.provider,
        gpus=fleet.gpus,
        max_gpus=fleet.max_gpus,
        engine=engine.kind,
        model=engine.model,
        price_per_hour=fleet.price_per_hour,
        rents=fleet.rents,
        stay=_stay(config) if fleet.rents else Stay(),
        ban_for=config.vast.ban_for,
    )


def _stay(config: Config) -> Stay:
    vast, engine = config.vast, config.engine
    model_gb = vast.model_size or estimate_model_gb(engine.model)
    return Stay(vast.expected_stay, vast.image_size, model_gb, engine.slots)


def budget_limits(config: Config) -> Limits:
    """What `fleet.budget` allows."""
    return Limits(**config.fleet.budget.model_dump())


def config_of(config: Config, name: str, provider: str) -> Config:
    """The configuration with another fleet's name and provider; everything else is as in this one."""
    fleet = config.fleet.model_copy(update={"name": name, "provider": provider})
    return config.model_copy(update={"fleet": fleet})


def is_gone(source: str | None) -> bool:
    """Whether there is no file any more where a fleet's configuration was."""
    return source is not None and not os.path.lexists(source)


class OtherConfig(NamedTuple):
    """What is known of another fleet's configuration, and why where its records are, or which account pays,
    is not known. `is_read`: its file was, as far as there is one."""

    config: Config
    records_fault: ConfigError | None = None
    account_fault: ConfigError | None = None
    is_read: bool = True


def read_other(config: Config, name: str, provider: str, source: str | None) -> OtherConfig:
    """The configuration for another fleet: with what its file `source` says of where its records are, what
    signs them, and the account's key. Without a file, all is as in this one."""
    config = config_of(config, name, provider)
    if source is None or is_gone(source):
        return OtherConfig(config)
    loaded = _loaded(source, provider, _written(source), frozenset(os.environ.items()))
    if isinstance(loaded, ConfigError):
        return OtherConfig(config, loaded, loaded, is_read=False)
    there = loaded.config
    faults = {
        section: ConfigError(f"the section `{section}` of {source} is not valid")
        for section in loaded.dropped
    }
    sections: dict[str, object] = {
        "fleet": config.fleet.model_copy(update={"signing_key": there.fleet.signing_key}),
        "redis": there.redis,
    }
    if account_key(there) is not None:
        sections["vast"] = config.vast.model_copy(update={"api_key": there.vast.api_key})
    return OtherConfig(
        config.model_copy(update=sections),
        records_fault=faults.get("redis"),
        account_fault=faults.get("vast") if there.vast.api_key is None else None,
    )


@lru_cache(maxsize=64)
def _loaded(
    source: str,
    provider: str,
    written: tuple[int, int] | None,  # noqa: ARG001 - one that is written again is read again
    environ: frozenset[tuple[str, str]],
) -> LoadedConfig | ConfigError:
    """What a file says of a fleet, whichever its name: a command asks for it again and again, for as many
    fleets as a Redis may know."""
    from llmhost.config.load import load_config

    flags = {"fleet.name": _ANY_FLEET, "fleet.provider": provider}
    try:
        return load_config(Path(source), environ=dict(environ), overrides=flags, lenient=True, is_found=True)
    except ConfigError as error:
        return error


def _written(source: str) -> tuple[int, int] | None:
    try:
        found = Path(source).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def make_provider(config: Config, folder: Path, note: Callable[[str], None]) -> Provider:
    """The fleet's provider; `folder` is where it keeps its records, `note` is told what takes long. Raises
    StateError."""
    if config.fleet.provider == "vast":
        return _vast(config, folder, note)
    return (_static if config.fleet.provider == "static" else local_provider)(config, folder)


def local_provider(config: Config, folder: Path) -> Provider:
    """Workers on this machine, recorded in `folder`."""
    from llmhost.fleet.providers.local import LocalProvider, LocalSettings

    engine = config.engine
    settings = LocalSettings(engine.context, engine.slots, engine.threads, config.fleet.first_port)
    return LocalProvider(folder, settings, lambda: _verified_model(engine.model_path))


def _verified_model(path: str | None) -> Path:
    from llmhost.engines.model_file import find_model, verify_model

    model = find_model(path)
    verify_model(model)
    return model.path


def _static(config: Config, folder: Path) -> Provider:
    from llmhost.fleet.providers.static import StaticProvider

    return StaticProvider(folder, _static_servers(config))


def _static_servers(config: Config) -> Sequence[StaticServer]:
    from llmhost.fleet.providers.static import StaticServer

    return [
        StaticServer(worker.url, worker.token.get_secret_value() if worker.token else None, worker.name)
        for worker in config.fleet.workers
    ]


def configured_workers(config: Config) -> Sequence[Worker]:
    """The servers of a static fleet, whether `llmhost up` uses them or not."""
    return [
        Worker(
            id=server.id,
            provider="static",
            state=WorkerState.READY,
            url=server.url,
            price_per_hour=config.fleet.price_per_hour,
            started=0.0,
            model=config.engine.model,
            engine=config.engine.kind,
            token=server.token,
        )
        for server in _static_servers(config)
    ]


def _vast(config: Config, folder: Path, note: Callable[[str], None]) -> Provider:
    from llmhost.fleet.providers.vast.client import VastAccount
    from llmhost.fleet.providers.vast.provider import VastProvider

    vast, clock, address = config.vast, SystemClock(), os.environ.get("VAST_URL") or _VAST
    pacer = _pacer(state_dir() / "vast" / "pace.json", vast.pace)
    account = VastAccount(
        _account_key(config),
        clock=clock,
        pacer=pacer,
        server_url=address,
        note=note,
        learn=_known_accounts().learn,
    )
    orders, sharded = _orders(config, address), config.redis.has_shards
    return VastProvider(account, vast, orders, config.fleet.name, folder, clock, sharded=sharded)


@cache
def _pacer(file: Path, scale: float) -> Pacer:
    """One for all fleets of this process."""
    from llmhost.fleet.providers.vast.pacer import Pacer

    return Pacer(file, SystemClock(), scale, _patience(state_dir()))


@cache
def _patience(_state: Path) -> Patience:
    """One for all fleets of this process and state folder: it waits once in vain for a lock that is never
    freed."""
    return Patience()


def _account_key(config: Config) -> str | None:
    return config.vast.api_key.get_secret_value() if config.vast.api_key else None


def account_key(config: Config) -> str | None:
    """The key of the account on vast.ai, wherever it is kept; None where there is none."""
    from llmhost.fleet.providers.vast.client import find_key

    return find_key(_account_key(config))


def payer_of(config: Config) -> str:
    """The fingerprint of that key; empty where there is none."""
    from llmhost.fleet.providers.vast.client import fingerprint_of

    return fingerprint_of(account_key(config) or "")


def account_names(config: Config) -> Sequence[str]:
    """The names of the account whose key that is, as far as this machine knows it; none without a key."""
    return _known_accounts().names(payer) if (payer := payer_of(config)) else ()


def is_account_known(config: Config) -> bool:
    """Whether vast.ai has said whose key it is; True where there is none."""
    return not (payer := payer_of(config)) or _known_accounts().knows(payer)


def _known_accounts() -> KnownAccounts:
    from llmhost.fleet.providers.vast.accounts import KnownAccounts

    return KnownAccounts(state_dir() / "vast" / "accounts.json")


def records_of(config: Config) -> str:
    """A fingerprint of where the fleet's records are: the same for the same place with another password.
    Empty for a URL that names no place."""
    if not config.redis.is_own:
        return EMBEDDED
    try:
        place = place_of(config.redis)
    except ConfigError:  # nothing is there
        return ""
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _orders(config: Config, address: str) -> WorkerBootConfig:
    """What a rented worker serves, and how."""
    from llmhost.fleet.providers.vast.identity import WorkerBootConfig
    from llmhost.wiring.worker_gateway import worker_gateway

    engine = config.engine
    return WorkerBootConfig(
        model=engine.model,
        parallel=engine.slots,
        context=engine.context,
        keep_alive=engine.keep_alive,
        orphan_after=config.fleet.orphan_after,
        max_body=config.limits.max_prompt_chars * _BYTES_A_CHARACTER + _REST_OF_A_BODY,
        read_timeout=max(engine.first_token_timeout, engine.token_timeout) + _LATER,
        api_url=address,
        gateway=worker_gateway(config) if config.fleet.gateway_on_worker else None,
    )


# What keeps the fleet: its records and its lock in Redis, and the service over all.


def pause_marks(spec: FleetSpec, config: Config) -> PauseMarks:
    """Where this machine keeps that the fleet is to stay down. Raises StateError."""
    accounts = partial(account_names, config) if spec.rents else tuple[str, ...]
    return PauseMarks(state_dir() / "fleets" / spec.name, spec.provider, accounts)


def make_registry(client: Redis, spec: FleetSpec, config: Config) -> FleetRegistry:
    """The records of this fleet's workers. Raises StateError.

    Rented machines are the same from everywhere, so what signs their records is shared by the operator's
    machines and not by the Redis: `fleet.signing_key`, else the account's key. Other workers are those of
    this state folder, and signed by a key in it.
    """
    if not spec.rents:
        owner = f"{owner_id()}/{spec.provider}"
        origin = Origin(owner, spec.provider, key=secret_key().encode())
        return FleetRegistry(client, spec.name, origin, pause_marks(spec, config))
    configured = config.fleet.signing_key
    secret = configured.get_secret_value() if configured else account_key(config)
    key = secret.encode() if secret else None
    origin = Origin(spec.provider, spec.provider, rents=True, key=key)
    return FleetRegistry(client, spec.name, origin, pause_marks(spec, config))


def make_lock(spec: FleetSpec, client: Redis | None) -> FleetLock:
    """The fleet's lock; without a `client` other machines are not kept out. Raises StateError.

    All commands of this machine are one holder: the file tells them apart, and what one of them held when it
    was killed is not waited for by the next. Its name counts too, as state folders are copied with machines.
    """
    holder = f"{owner_id()}@{platform.node()}"
    lease = Lease(client, FleetKeys(spec.name, is_sharded(client)).scale, holder=holder) if client else None
    return FleetLock(state_dir() / "fleets" / f"{spec.name}.lock", lease)


def make_service(
    provider: Provider,
    spec: FleetSpec,
    engines: Engines,
    client: Redis | None,
    config: Config,
    note: Callable[[str], None],
    *,
    marks: PauseMarks,
    shared: bool,
) -> FleetService:
    """The fleet's service; `client` None keeps workers without Redis. `marks` and `shared` are as in
    FleetService. Raises StateError."""
    return FleetService(
        provider,
        spec,
        hooks=Hooks(prepare=engines.prepare, probe=engines.probe),
        lock=make_lock(spec, client),
        clock=SystemClock(),
        ready_timeout=config.ready_timeout,
        limits=budget_limits(config),
        attempts=config.vast.max_attempts,
        drain_for=config.engine.answer_timeout,
        registry=make_registry(client, spec, config) if client else None,
        rentals=Ledger(client, spec.name) if client else None,
        marks=marks,
        shared=shared,
        patience=_patience(state_dir()),
        on_lock_wait=lambda: note("another llmhost is changing this fleet; waiting for it"),
    )


# The autoscaler of the fleet that the configuration describes, loaded by the commands that scale alone.


def scale_spec(config: Config) -> ScaleSpec:
    """What the autoscaler is to keep to."""
    from llmhost.autoscale.models import ScaleSpec

    scale = config.scale
    elsewhere = {"schedule", "timezone", "unresponsive_after", "boot_time"}
    return ScaleSpec(
        **scale.model_dump(exclude=elsewhere),
        max_gpus=_most(config),
        windows=tuple(parse_window(window.when, window.min_gpus) for window in scale.schedule),
        zone=ZoneInfo(scale.timezone),
        slots=config.engine.slots,
        boot_seconds=config.boot_time,
    )


def _most(config: Config) -> int:
    """The most workers there may be: servers that run already do not become more."""
    most, servers = config.fleet.max_gpus, len({server.url for server in config.fleet.workers})
    return min(most, servers) if config.fleet.provider == "static" else most


def make_scaler(provider: Provider, engines: Engines, client: Redis, config: Config) -> Scaler:
    """Follows the demand that is counted in this Redis.

    Raises:
        ConfigError: it would buy without being asked, and nothing limits what that costs.
    """
    from llmhost.autoscale.checkup import SilenceLimits
    from llmhost.autoscale.state import ScaleStateStore
    from llmhost.autoscale.step import Scaler

    if provider.rents and not config.has_price_limit:
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
        silence=SilenceLimits(
            booting=config.ready_timeout,
            silent=config.scale.unresponsive_after,
            busy=config.engine.answer_timeout,
        ),
        limits=budget_limits(config),
        traffic=RedisTraffic(client, spec.name, config.engine.slots),
        store=ScaleStateStore(client, spec.name),
        boots=ledger,
        registry=make_registry(client, spec, config),
        rentals=ledger,
    )
