"""How many cores this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["threads_per_worker", "usable_cores"]

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # "max 100000" or "<quota> <period>", microseconds


def threads_per_worker(cores: int, workers: int) -> int:
    """The cores shared among the workers, at least one each."""
    return max(1, cores // max(1, workers))


def usable_cores(limit_file: Path = _CGROUP_LIMIT) -> int:
    """The cores this process may run on, and no more than a container's CPU quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit_file.read_text(encoding="ascii").split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return allowed
