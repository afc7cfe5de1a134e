"""What every test gets: its own state, cache, configuration and home folder, and no inherited settings."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# A shell that runs the tests in the background has them ignore SIGINT, and so would every command they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "plugins.cache",
    "plugins.cli",
    "plugins.commands",
    "plugins.embedder",
    "plugins.engines",
    "plugins.fleet",
    "plugins.redis_servers",
    "plugins.rented_commands",
    "plugins.vast",
]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("LLMHOST_", "REDIS_", "VAST_", "OLLAMA_")) and not name.startswith(
            "LLMHOST_TEST_"
        ):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("LLMHOST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LLMHOST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LLMHOST_NO_BACKGROUND", "1")
    # What pytest-xdist sets for its own lines is not the width of what is under test.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(home)


@pytest.fixture
def state_folder() -> Path:
    """The state folder of this test, not made yet."""
    return Path(os.environ["LLMHOST_STATE_DIR"])
