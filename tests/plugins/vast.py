"""A double of vast.ai, and providers that rent there through the real SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.vast.rented import orders
from doubles.vast.sdk import Tenant
from doubles.vast.server import VastServer

from llmhost.config.fleet import VastConfig
from llmhost.fleet.providers.vast.client import VastAccount
from llmhost.fleet.providers.vast.pacer import Pacer
from llmhost.fleet.providers.vast.provider import VastProvider

#: seconds of real time; a double that keeps silent is given up after that
PATIENCE = 0.4


@pytest.fixture
async def vast_server(manual_clock: ManualClock) -> AsyncIterator[VastServer]:
    """The marketplace and an account, by the test's own clock; its machines have ports and nothing else."""
    async with VastServer(manual_clock) as server:
        yield server


@pytest.fixture
def vast_account(
    vast_server: VastServer, manual_clock: ManualClock, state_folder: Path
) -> Callable[..., VastAccount]:
    """Makes accounts as one command after the other has them."""

    def make(api_key: str | None = vast_server.key, **changes: Any) -> VastAccount:
        values = {
            "clock": manual_clock,
            "pacer": Pacer(state_folder / "vast" / "pace.json", manual_clock, 1.0),
            "server_url": vast_server.url,
            "timeout": PATIENCE,
        }
        return VastAccount(api_key, **{**values, **changes})

    return make


@pytest.fixture
def vast_settings() -> VastConfig:
    """A whole RTX 4090 that can be relied on."""
    wanted = "gpu_name=RTX_4090 num_gpus=1 reliability>0.95 verified=true direct_port_count>=3"
    return VastConfig(offers=wanted)


@pytest.fixture
def vast_provider(
    vast_account: Callable[..., VastAccount],
    vast_settings: VastConfig,
    fleet_folder: Path,
    manual_clock: ManualClock,
) -> Callable[..., VastProvider]:
    """Makes providers of a fleet named test, as one command after the other has them."""

    def make(**changes: Any) -> VastProvider:
        fleet = changes.get("fleet", "test")
        values = {
            "account": vast_account(),
            "settings": vast_settings,
            "boot": orders(),
            "fleet": fleet,
            "folder": fleet_folder if fleet == "test" else fleet_folder.with_name(fleet),
            "clock": manual_clock,
        }
        return VastProvider(**{**values, **changes})

    return make


@pytest.fixture
async def tenant() -> AsyncIterator[Tenant]:
    """An account on a clock that stands still, without rate limits: a test of those sets
    `tenant.server.limits.pace`.
    """
    clock = ManualClock()
    async with VastServer(clock, pace=0) as server:
        yield Tenant(server, clock)
