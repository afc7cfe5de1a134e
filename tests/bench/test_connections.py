"""Thousands of clients that say nothing: those who ask are answered, and in the end all are disconnected."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONNECTIONS = Path(__file__).parents[2] / "bench" / "connections.py"


def test_10_000_idle_connections_keep_nobody_from_an_answer_and_are_closed() -> None:
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if descriptors < 11_000:
        pytest.skip(f"this system allows {descriptors:,} descriptors")
    command = [sys.executable, str(CONNECTIONS), "--idle", "10000"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert b"all were disconnected" in done.stdout
