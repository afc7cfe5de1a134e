"""How long ago something was written down."""

from __future__ import annotations

import pytest
from doubles.clock import ManualClock

from llmhost.fleet.clock import waited_since

NOW, UP = 1_700_000_000.0, 5000.0


@pytest.mark.parametrize(
    ("written", "uptime", "seconds"),
    [
        (NOW - 60, UP - 60, 60),
        (NOW - 3600, UP - 60, 60),
        (NOW + 3600, UP - 60, 60),
        (NOW - 60, UP - 3600, 60),
        (NOW - 86400, 900_000.0, UP),
        (NOW - 60, 900_000.0, 60),
        (NOW - 60, 0.0, 60),
    ],
    ids=[
        "clock right",
        "put ahead",
        "put back",
        "other machine",
        "before the machine was started",
        "started, and put back",
        "not known",
    ],
)
async def test_nothing_is_called_older_than_it_is(written: float, uptime: float, seconds: float) -> None:
    clock = ManualClock(NOW - UP)
    await clock.sleep(UP)
    assert waited_since(clock, written, uptime) == seconds
