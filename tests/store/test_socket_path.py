"""Where the embedded server's socket lies."""

from __future__ import annotations

import asyncio
import os
import socket as sockets
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.errors import StateError
from llmhost.store.embedded import EmbeddedRedis, is_private, make_private, socket_path

folder_names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=200)


@pytest.fixture
def deep(redis_folder: Path) -> Iterator[Path]:
    """A folder whose path is too long for a socket; what lies in the temporary folder for it goes."""
    folder = redis_folder / ("d" * 100)
    yield folder
    temporary = socket_path(folder.resolve()).parent
    if temporary.is_symlink():
        temporary.unlink()
    elif temporary.exists():
        (temporary / "redis.sock").unlink(missing_ok=True)
        temporary.rmdir()


@given(folder_names)
def test_a_socket_can_be_bound_to_every_path(name: str) -> None:
    assert len(os.fsencode(socket_path(Path("/state", name)))) < 104


@given(folder_names, folder_names)
def test_two_folders_never_share_a_socket(one: str, other: str) -> None:
    same = socket_path(Path("/state", one)) == socket_path(Path("/state", other))
    assert same == (Path("/state", one) == Path("/state", other))


def test_a_short_path_lies_in_the_folder() -> None:
    assert socket_path(Path("/state/redis")) == Path("/state/redis/redis.sock")


def test_a_long_path_does_not_depend_on_the_environment(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = socket_path(deep)
    monkeypatch.setenv("TMPDIR", str(deep.parent))
    assert socket_path(deep) == before


def test_a_server_with_a_long_path_works_and_leaves_nothing_in_the_temporary_folder(deep: Path) -> None:
    embedded = EmbeddedRedis(deep)
    socket = asyncio.run(embedded.ensure_running())
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert asyncio.run(EmbeddedRedis(deep).is_running())
    assert asyncio.run(embedded.stop())
    assert not socket.parent.exists()


def test_a_link_in_place_of_the_temporary_folder_is_not_followed(deep: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    socket_path(deep).parent.symlink_to(target)
    with pytest.raises(StateError, match="is not a folder of your own"):
        asyncio.run(EmbeddedRedis(deep).ensure_running())
    assert list(target.iterdir()) == []


def test_a_server_in_a_folder_that_others_can_enter_is_not_believed(deep: Path) -> None:
    folder = socket_path(deep).parent
    folder.mkdir()
    folder.chmod(0o755)
    with sockets.socket(sockets.AF_UNIX) as other:
        other.bind(str(socket_path(deep)))
        other.listen()
        assert not asyncio.run(EmbeddedRedis(deep).is_running())


def test_a_private_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    assert is_private(tmp_path / "a" / "b")


def test_an_open_folder_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    make_private(tmp_path / "open")
    assert is_private(tmp_path / "open")


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_private(tmp_path / "theirs")
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(StateError, match="is not a folder of your own"):
        make_private(tmp_path / "theirs")
