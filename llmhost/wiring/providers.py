"""The provider that the configuration names, and what it is to provide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmhost.config.models import Config
from llmhost.fleet.models import FleetSpec
from llmhost.fleet.provider import Provider

__all__ = ["fleet_spec", "local_provider", "make_provider", "with_local_workers"]


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
    """The fleet's provider; `folder` is where it keeps its records."""
    return _static(config, folder) if config.fleet.provider == "static" else local_provider(config, folder)


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
