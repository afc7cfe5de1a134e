"""The provider that the configuration names, and what it is to provide."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.config.models import Config
from llmhost.fleet.models import FleetSpec
from llmhost.fleet.provider import Provider

if TYPE_CHECKING:
    from llmhost.fleet.providers.vast.onstart import Orders

__all__ = ["fleet_spec", "local_provider", "make_provider", "with_local_workers"]

#: where vast.ai answers, unless VAST_URL says otherwise, as it does to vast.ai's own tools
_VAST = "https://console.vast.ai"
_BYTES_A_CHARACTER = 6  #: the longest that JSON makes one
_REST_OF_A_BODY = 64 * 1024  #: bytes; all of a request besides the prompt
_LATER = 10.0  #: seconds; whoever asked gives up first, and knows why
_SETTLING = 60.0  #: seconds, at vast.ai's own pace
_ENDING = 90.0  #: seconds, at vast.ai's own pace; what lives longer does not hear


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
    )


def make_provider(config: Config, folder: Path) -> Provider:
    """The fleet's provider; `folder` is where it keeps its records. Raises StateError."""
    makers: dict[str, Callable[[Config, Path], Provider]]
    makers = {"static": _static, "vast": _vast, "local": local_provider}
    return makers[config.fleet.provider](config, folder)


def with_local_workers(fleets: Path) -> Sequence[Path]:
    """The folders of those fleets under `fleets` that have workers on this machine."""
    return sorted({workers.parent.parent for workers in fleets.glob("*/workers/local-*")})


def local_provider(config: Config, folder: Path) -> Provider:
    """Workers on this machine, recorded in `folder`."""
    from llmhost.fleet.providers.local import LocalProvider, LocalSettings

    engine = config.engine
    settings = LocalSettings(engine.context, engine.parallel, engine.threads, config.fleet.first_port)
    return LocalProvider(folder, settings, lambda: _verified_model(engine.model_path))


def _verified_model(path: str | None) -> Path:
    from llmhost.engines.model_file import find_model, verify_model

    model = find_model(path)
    verify_model(model)
    return model.path


def _static(config: Config, folder: Path) -> Provider:
    from llmhost.fleet.providers.static import StaticProvider, StaticServer

    servers = [
        StaticServer(worker.url, worker.token.get_secret_value() if worker.token else None)
        for worker in config.fleet.workers
    ]
    return StaticProvider(folder, servers)


def _vast(config: Config, folder: Path) -> Provider:
    from llmhost.fleet.clock import SystemClock
    from llmhost.fleet.providers.vast.client import VastAccount
    from llmhost.fleet.providers.vast.pacer import Pacer
    from llmhost.fleet.providers.vast.provider import VastProvider
    from llmhost.fleet.providers.vast.settings import VastSettings
    from llmhost.machine.paths import state_dir

    vast, clock, address = config.vast, SystemClock(), os.environ.get("VAST_URL") or _VAST
    settings = VastSettings(
        image=vast.image,
        disk=vast.disk,
        filter=vast.offers,
        max_price=vast.max_price,
        interruptible=vast.interruptible,
        max_bid=vast.max_bid,
        orders=_orders(config, address),
        settling=_SETTLING * vast.pace,
        ending=_ENDING * vast.pace,
    )
    key = vast.api_key.get_secret_value() if vast.api_key else None
    pacer = Pacer(state_dir() / "vast" / "pace.json", clock, vast.pace)
    account = VastAccount(key, clock=clock, pacer=pacer, server_url=address)
    return VastProvider(account, settings, config.fleet.name, folder, clock)


def _orders(config: Config, address: str) -> Orders:
    """What a rented worker is told to serve, and how."""
    from llmhost.fleet.providers.vast.onstart import Orders

    engine = config.engine
    return Orders(
        model=engine.model,
        parallel=engine.parallel,
        keep_alive=engine.keep_alive,
        orphan_after=config.fleet.orphan_after,
        max_body=config.limits.max_prompt_chars * _BYTES_A_CHARACTER + _REST_OF_A_BODY,
        read_timeout=max(engine.first_token_timeout, engine.token_timeout) + _LATER,
        api_url=address,
    )
