"""`llmhost up`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from plugins.cli import Ran

from llmhost.fleet.health import WorkerProgress
from llmhost.fleet.service import FleetService


def test_what_was_bought_is_named_where_an_unexpected_error_ends_it(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buys_and_breaks(_service: FleetService, _gpus: int, **options: Any) -> None:
        options["on_progress"](WorkerProgress("local-1", "rented"))
        raise ZeroDivisionError

    monkeypatch.setenv("LLMHOST_REDIS__URL", "redis://127.0.0.1:1")
    monkeypatch.setattr(FleetService, "up", buys_and_breaks)
    ran = cli("up", "--yes")
    assert (ran.code, "unexpected ZeroDivisionError" in ran.stderr) == (1, True)
    assert "no workers are running" in ran.stderr
