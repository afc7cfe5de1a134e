"""The command line for tests, in this process: fast, and without what only a process of its own shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest


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
