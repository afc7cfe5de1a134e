"""What every test gets: its own state, cache, configuration and home folder, and no inherited settings."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine fails no test, and a fixture that all examples share is meant to be shared.
settings.register_profile(
    "llmhost",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("llmhost")

# A shell that runs the tests in the background has them ignore SIGINT, and so would every command they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where it is set, every command that a test runs compiles all of llmhost again: half of its time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = [
    "plugins.browser",
    "plugins.cache",
    "plugins.cli",
    "plugins.commands",
    "plugins.engines",
    "plugins.fleet",
    "plugins.redis_servers",
    "plugins.redis_clusters",  # after the servers that it starts
    "plugins.rented_commands",
    "plugins.vast",
]

_TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `pure` what the fast lane runs: tests that start no server and no process, and try no
    hundred examples. Nothing has to be kept up by hand: a fixture of ours that has something to tear down
    is a server or a process, or stands on one.
    """
    for item in items:
        if isinstance(item, pytest.Function) and _is_pure(item):
            item.add_marker("pure")


def _is_pure(item: pytest.Function) -> bool:
    if item.get_closest_marker("slow") or hasattr(item.obj, "hypothesis"):
        return False
    if hasattr(item.module, "subprocess"):
        return False
    definitions = item._fixtureinfo.name2fixturedefs.values()
    return all(_is_pure_fixture(definition.func) for named in definitions for definition in named)


@cache
def _is_pure_fixture(fixture: Callable[..., object]) -> bool:
    if not Path(inspect.getfile(fixture)).is_relative_to(_TESTS):
        return True
    tears_down = inspect.isgeneratorfunction(fixture) or inspect.isasyncgenfunction(fixture)
    # With `request` it can choose others at run time.
    return not tears_down and "request" not in inspect.signature(fixture).parameters


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
    monkeypatch.setenv("LLMHOST_GATEWAY__AUTOSTART", "false")  # of those that test it, each asks for it
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
