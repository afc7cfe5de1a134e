"""State and cache folder: closed to other users, also where they existed before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmhost.errors import StateError
from llmhost.machine.files import read_json
from llmhost.machine.paths import cache_dir, state_dir

FOLDERS = pytest.mark.parametrize(
    ("folder_of", "variable"), [(state_dir, "LLMHOST_STATE_DIR"), (cache_dir, "LLMHOST_CACHE_DIR")]
)


def existing(variable: str, mode: int) -> Path:
    folder = Path(os.environ[variable])
    folder.mkdir()
    folder.chmod(mode)
    return folder


@FOLDERS
def test_a_folder_that_others_could_write_is_closed_and_said_once(
    folder_of: object, variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = existing(variable, 0o777)
    assert callable(folder_of)
    for _ in range(2):
        assert folder_of() == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert capsys.readouterr().err == (
        f"warning: other users could write in {folder} (mode 0777); it is closed now\n"
    )


def test_a_folder_that_others_could_read_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    folder = existing("LLMHOST_STATE_DIR", 0o755)
    state_dir()
    assert (folder.stat().st_mode & 0o777, capsys.readouterr().err) == (0o700, "")


@FOLDERS
def test_a_folder_that_all_users_share_is_refused(folder_of: object, variable: str) -> None:
    folder = existing(variable, 0o1777)
    assert callable(folder_of)
    with pytest.raises(StateError, match="is shared by all users") as caught:
        folder_of()
    assert caught.value.hint == f"set {variable} to a folder that you can write"
    assert folder.stat().st_mode & 0o7777 == 0o1777


def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    existing("LLMHOST_STATE_DIR", 0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StateError, match="belongs to another user"):
        state_dir()


def test_a_file_that_another_user_has_put_there_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "record.json").write_text("{}")
    assert read_json(tmp_path / "record.json") == {}
    real = os.fstat

    def of_another(descriptor: int) -> os.stat_result:
        values = list(real(descriptor))
        values[4] = os.getuid() + 1  # st_uid
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", of_another)
    with pytest.raises(StateError, match="belongs to another user"):
        read_json(tmp_path / "record.json")
