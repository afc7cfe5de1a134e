"""The doctor's judgement: what it makes of what it finds."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doubles.ollama_server import OllamaServer, Running
from plugins_engines import Side

from llmhost.doctor.checks import (
    Check,
    Look,
    check_machine,
    check_redis,
    check_server,
    check_state,
    examine,
    fine,
)
from llmhost.errors import ConfigError, EngineUnavailable, StoreUnavailable


async def test_checks_come_in_the_order_of_the_looks() -> None:
    slow_started = asyncio.Event()

    async def slow() -> Sequence[Check]:
        slow_started.set()
        await asyncio.sleep(0.05)
        return [fine("slow", ""), fine("slow too", "")]

    async def quick() -> Sequence[Check]:
        await slow_started.wait()
        return [fine("quick", "")]

    checks = await examine([Look("a", slow), Look("b", quick)])
    assert [check.name for check in checks] == ["slow", "slow too", "quick"]


async def test_an_error_is_a_failed_check_and_does_not_hide_the_others() -> None:
    async def broken() -> Sequence[Check]:
        raise StoreUnavailable("Redis is away", hint="start it")

    async def sound() -> Sequence[Check]:
        return [fine("sound", "good")]

    checks = await examine([Look("redis", broken), Look("sound", sound)])
    assert checks == [
        Check("redis", ok=False, detail="Redis is away", fix="start it"),
        Check("sound", ok=True, detail="good", fix=None),
    ]


async def test_one_error_that_several_looks_meet_is_told_once() -> None:
    async def keyless() -> Sequence[Check]:
        raise ConfigError("a key is wanted")

    async def away() -> Sequence[Check]:
        raise StoreUnavailable("Redis is away")

    checks = await examine([Look("account", keyless), Look("redis", away), Look("offers", keyless)])
    assert [check.name for check in checks] == ["account", "redis"]


async def test_a_look_that_hangs_is_a_failed_check() -> None:
    async def hang() -> Sequence[Check]:
        await asyncio.Event().wait()
        return []

    (check,) = await examine([Look("worker", hang)], patience=0.01)
    assert (check.ok, check.detail) == (False, "no answer within 0.01 s")


@pytest.mark.parametrize(
    ("info", "name", "ok", "words"),
    [
        ({"redis_version": "6.2.14"}, "redis", True, "version 6.2.14"),
        ({"redis_version": "8.0.2"}, "redis", True, "version 8.0.2"),
        ({"redis_version": "6.0.16"}, "redis", False, "version 6.0.16"),
        ({}, "redis", True, "unknown"),
        (
            {"maxmemory_policy": "volatile-lru", "maxmemory": 1 << 30},
            "redis eviction",
            True,
            "at most 1,024 MiB",
        ),
        ({"maxmemory_policy": "noeviction", "maxmemory": 0}, "redis eviction", True, "no limit"),
        (
            {"maxmemory_policy": "noeviction", "maxmemory": 1 << 30},
            "redis eviction",
            False,
            "when it is full",
        ),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 1 << 30}, "redis eviction", False, "the ledger"),
        ({"aof_enabled": 1}, "redis persistence", True, "append-only"),
        ({"aof_enabled": 0}, "redis persistence", True, "snapshots"),
        (
            {"aof_enabled": 1, "aof_last_write_status": "err"},
            "redis persistence",
            False,
            "aof_last_write_status",
        ),
        ({"rdb_last_bgsave_status": "err"}, "redis persistence", False, "rdb_last_bgsave_status"),
    ],
)
def test_a_redis_is_judged_by_what_it_says_of_itself(
    info: dict[str, Any], name: str, ok: bool, words: str
) -> None:
    check = next(check for check in check_redis(info) if check.name == name)
    assert (check.ok, words in check.detail, check.fix is None) == (ok, True, ok)


async def test_a_server_that_has_the_model_is_fine(ollama_side: Side) -> None:
    check = await check_server("worker", ollama_side.engine(), "tiny")
    assert (check.ok, check.detail.split(";")[0]) == (True, "answers (version 0.12.3)")


async def test_a_server_without_the_model_is_not(ollama_side: Side) -> None:
    check = await check_server("worker", ollama_side.engine(), "huge")
    assert (check.ok, "has no model huge" in check.detail, check.fix is None) == (False, True, False)


async def test_a_server_whose_model_spilled_to_the_cpu_is_not(
    ollama_side: Side, ollama_server: OllamaServer
) -> None:
    ollama_server.running["tiny:latest"] = Running(size=100, size_vram=40)
    check = await check_server("worker", ollama_side.engine(), "tiny")
    assert (check.ok, "spilled to the CPU" in check.detail, check.fix is None) == (False, True, False)


async def test_a_server_that_is_away_is_an_error(ollama_side: Side, refusing_port: int) -> None:
    engine = ollama_side.engine(url=f"http://127.0.0.1:{refusing_port}")
    with pytest.raises(EngineUnavailable):
        await check_server("worker", engine, "tiny")


def test_a_state_folder_with_room_is_fine(tmp_path: Path) -> None:
    assert check_state(tmp_path) == fine("state", check_state(tmp_path).detail)


def test_a_state_folder_on_a_full_disk_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1024**3))
    assert (check_state(tmp_path).ok, "1.0 GiB free" in check_state(tmp_path).detail) == (False, True)


def test_the_machine_is_described() -> None:
    assert "of memory free" in check_machine().detail
