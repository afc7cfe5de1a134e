"""Autoscalers on a cloud in memory, and at the double of vast.ai."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.memory_provider import MemoryCloud
from doubles.memory_traffic import MemoryTraffic
from doubles.rented_fleet import RentedFleet, rented_fleet
from doubles.scale_bench import ScaleBench


@pytest.fixture
def bench(
    memory_cloud: MemoryCloud, manual_clock: ManualClock, tmp_path: Path, redis_client: Any
) -> ScaleBench:
    """An autoscaler whose workers boot in memory; Redis is real."""
    return ScaleBench(memory_cloud, manual_clock, tmp_path, redis_client, MemoryTraffic(manual_clock))


@pytest.fixture
async def fleet(memory_folder: Path, redis_server: Any, vast_settings: Any) -> AsyncIterator[RentedFleet]:
    """For rent are machines from 0.31 USD an hour on, each a cent dearer than the one before."""
    async with rented_fleet(memory_folder / "here", redis_server.socket, vast_settings) as here:
        here.server.market.clear()
        for number in range(20):
            here.server.market.add(dph_base=0.30 + number / 100)
        yield here
