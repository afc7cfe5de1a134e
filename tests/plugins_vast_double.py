"""An account at the double of vast.ai, on a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from doubles.clock import ManualClock
from doubles.vast.sdk import Tenant
from doubles.vast.server import VastServer


@pytest.fixture
async def tenant() -> AsyncIterator[Tenant]:
    """Without rate limits; a test of those sets `tenant.server.limits.pace`."""
    clock = ManualClock()
    async with VastServer(clock, pace=0) as server:
        yield Tenant(server, clock)
