"""How other programs are started: nothing of the current folder runs, and no secret goes along."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from llmhost.machine.child import bare_environment, python_command, safe_environment

LLMHOST = Path(__file__).parents[2] / "llmhost"


@pytest.mark.parametrize("relative", ["", ".", "here"])
def test_no_module_of_the_current_folder_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: str
) -> None:
    """A file named like a module that every command imports, in each folder that PYTHONPATH could mean."""
    for folder in (tmp_path, tmp_path / "here"):
        folder.mkdir(exist_ok=True)
        for name in ("typer.py", "platform.py", "llmhost.py", "sitecustomize.py"):
            (folder / name).write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([relative, str(LLMHOST.parent)]))
    for environ in (safe_environment(), bare_environment()):
        done = subprocess.run(
            python_command("llmhost", "init", "--help"), env=environ, capture_output=True, check=False
        )
        assert (done.returncode, (tmp_path / "ran").exists()) == (0, False), done.stderr


def test_a_program_that_needs_none_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("VAST_API_KEY", "REDIS_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "LLMHOST_VAST__API_KEY")
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    environ = bare_environment()
    assert "secret" not in environ.values()
    assert (environ["PATH"], environ["LC_ALL"]) == (os.environ["PATH"], "C.UTF-8")
    assert set(bare_environment("HF_")) == {*environ, "HF_TOKEN", "HF_HUB_OFFLINE"}


def test_python_is_started_in_one_place_alone() -> None:
    users = [
        str(path.relative_to(LLMHOST))
        for path in sorted(LLMHOST.rglob("*.py"))
        if "sys.executable" in path.read_text(encoding="utf-8")
    ]
    assert users == ["machine/child.py"]
