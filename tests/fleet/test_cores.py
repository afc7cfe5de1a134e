from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.fleet.providers.local_worker import threads_per_worker, usable_cores


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(8, 2, 4), (2, 2, 1), (2, 3, 1), (1, 8, 1), (7, 2, 3), (4, 0, 4)]
)
def test_the_cores_are_shared(cores: int, workers: int, threads: int) -> None:
    assert threads_per_worker(cores, workers) == threads


@given(st.integers(1, 512), st.integers(1, 512))
def test_workers_never_get_more_threads_than_cores_nor_none(cores: int, workers: int) -> None:
    threads = threads_per_worker(cores, workers)
    assert threads >= 1
    assert threads == 1 or threads * workers <= cores


def test_a_container_s_quota_counts(tmp_path: Path) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text("100000 100000\n")
    assert usable_cores(limit) == 1
    limit.write_text("50000 100000\n")
    assert usable_cores(limit) == 1


@pytest.mark.parametrize("content", ["max 100000\n", "", "1 0", "nonsense", "999999999 1"])
def test_without_a_quota_the_cores_of_this_process_count(tmp_path: Path, content: str) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(content)
    assert usable_cores(limit) == usable_cores(tmp_path / "none") == len(os.sched_getaffinity(0))
