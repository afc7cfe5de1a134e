"""What every command that needs a configuration begins with."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from llmhost.cli.options import Globals

if TYPE_CHECKING:
    from llmhost.config.models import Config
    from llmhost.wiring import Wiring

__all__ = ["configured", "warn_of_others", "wired"]


def configured(options: Globals, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration; where no file gives one, the user is told so. Raises ConfigError."""
    from llmhost.config.load import load_config

    loaded = load_config(options.config, environ=os.environ, overrides=overrides or {})
    if loaded.source is None:
        options.output.note("no configuration file: using the built-in local fleet (see `llmhost init`)")
    return loaded.config


async def warn_of_others(options: Globals, wiring: Wiring) -> None:
    """Workers of another fleet or provider run on here, and this configuration says nothing of them."""
    for fleet in await wiring.other_local_fleets():
        names = ", ".join(worker.id for worker in await fleet.list())
        options.output.warn(f"other workers run on this machine: {names}; `llmhost down --all` ends them")


@asynccontextmanager
async def wired(options: Globals, config: Config) -> AsyncIterator[Wiring]:
    """The parts for one command; what they have to say goes to stderr."""
    from llmhost.wiring import Wiring

    async with Wiring(config, warn=options.output.warn, note=options.output.note) as wiring:
        yield wiring
