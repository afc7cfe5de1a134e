"""The command line for tests: in this process, which is fast, or as a process of its own, which is real."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

#: seconds; a command that has not ended by then hangs.
LONGEST_COMMAND = 120.0


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout; fails where there is anything else."""
        return json.loads(self.stdout)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `llmhost ARGS...` in this process."""
    from llmhost.cli.app import execute

    def run(*args: str) -> Ran:
        capsys.readouterr()
        code = execute(args)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def cli_process() -> Callable[..., Ran]:
    """Runs `llmhost ARGS...` as a process with this test's folders; `stdin` is its input."""

    def run(*args: str, stdin: str | bytes = "") -> Ran:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [sys.executable, "-m", "llmhost", *args], input=data, capture_output=True, timeout=LONGEST_COMMAND
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
