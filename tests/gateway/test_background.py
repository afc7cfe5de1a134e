"""The place of a fleet's gateway: one at a time, and commands that look there stand in no gateway's way."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from llmhost.gateway.background import GatewayHome, GatewayRecord

RECORD = GatewayRecord(os.getpid(), "http://127.0.0.1:1", "1.0", 5.0, fleet="blue", warnings=["old key"])


@pytest.fixture
def home(tmp_path: Path) -> GatewayHome:
    return GatewayHome(tmp_path / "gateway")


async def test_what_a_gateway_writes_is_known_as_long_as_it_has_the_place(home: GatewayHome) -> None:
    assert home.running() is None
    async with home.taken() as ours:
        home.write(RECORD)
        assert (ours, home.running()) == (True, RECORD)
        async with home.taken() as other:
            assert other is False
    assert home.running() is None


async def test_a_record_that_a_killed_gateway_left_is_not_that_of_the_next(
    home: GatewayHome, tmp_path: Path
) -> None:
    record = tmp_path / "gateway" / "gateway.json"
    async with home.taken():
        home.write(RECORD)
        left = record.read_text()
    record.write_text(left)
    assert home.running() is None
    async with home.taken():
        assert home.running() is None


async def test_a_command_that_looks_at_that_moment_does_not_keep_a_gateway_from_its_place(
    home: GatewayHome, tmp_path: Path
) -> None:
    async with home.taken():
        pass
    looking = os.open(tmp_path / "gateway" / "lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    asyncio.get_running_loop().call_later(0.05, os.close, looking)
    async with home.taken() as ours:
        assert ours
