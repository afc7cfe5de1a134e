"""Embedded servers that do not outlive their test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from doubles.waiting import wait_until

from llmhost.machine.process import is_alive
from llmhost.store.embedded import EmbeddedRedis, find_program


@pytest.fixture
def redis_folder(state_folder: Path) -> Iterator[Path]:
    """Where embedded servers of this test live; those still alive at its end are killed."""
    yield state_folder / "redis"
    left = [process for process in psutil.process_iter() if _works_below(process, state_folder)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(lambda: not any(is_alive(process) for process in left))


@pytest.fixture
def embedded(redis_folder: Path) -> EmbeddedRedis:
    return EmbeddedRedis(redis_folder, os.environ.get("LLMHOST_TEST_REDIS_SERVER"))


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Writes a shell script that can be configured as `redis.server`; `{real}` in it is the real one."""

    real = find_program(os.environ.get("LLMHOST_TEST_REDIS_SERVER"))

    def write(script: str) -> str:
        path = tmp_path / "my-redis-server"
        path.write_text(f"#!/bin/sh\n{script}\n".replace("{real}", str(real)), encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return write


def _works_below(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False
