"""The soak, in small: it takes its time with 200,000 requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"


def test_no_answer_is_lost_doubled_or_another_question_s_whatever_is_killed() -> None:
    command = [sys.executable, str(SOAK), "--requests", "400", "--connections", "16", "--kill-every", "2"]
    command += ["--away", "0.5", "--processes", "2"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert b"\nfaults: 0\n" in done.stdout
    assert b"'Redis restarted': 2" in done.stdout
