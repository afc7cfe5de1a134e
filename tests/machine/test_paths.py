"""State and cache folder: closed to other users, also where they existed before. Users without a home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmhost.errors import StateError
from llmhost.machine.files import read_json
from llmhost.machine.paths import cache_dir, expand, may_hold_state, secret_key, state_dir

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


def test_a_key_that_is_no_regular_file_is_not_read(state_folder: Path) -> None:
    state_folder.mkdir(mode=0o700)
    (state_folder / "key").symlink_to("/dev/null")
    with pytest.raises(StateError, match="key: it is not a file"):
        secret_key()


@pytest.mark.parametrize("left", ["", "0123", "no hexadecimal digits"])
def test_a_key_of_which_a_crash_has_left_a_part_is_not_used(state_folder: Path, left: str) -> None:
    secret_key()
    (state_folder / "key").write_text(left)
    with pytest.raises(StateError, match="key: it is damaged"):
        secret_key()


#: makes the rest of a program one of a user that the system does not know
NO_HOME = (
    "import os, pwd; os.environ.pop('HOME'); pwd.getpwuid = lambda _: (_ for _ in ()).throw(KeyError()); "
)


def without_a_home(code: str, **environ: str) -> str:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("LLMHOST", "XDG"))}
    done = subprocess.run(
        [sys.executable, "-c", NO_HOME + code],
        env=known | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


def test_a_user_without_a_home_works_in_the_folders_that_are_set(tmp_path: Path) -> None:
    code = (
        "from llmhost.machine.paths import state_dir; from llmhost.config.load import load_config; "
        "state_dir(); load_config(None, environ={})"
    )
    assert without_a_home(code, LLMHOST_STATE_DIR=str(tmp_path / "state")) == ""


def test_a_user_without_a_home_is_told_what_to_set() -> None:
    said = without_a_home("from llmhost.machine.paths import state_dir; state_dir()")
    assert said.splitlines()[-1] == "llmhost.errors.StateError: this user has no home folder"


def test_a_home_that_is_not_known_is_an_error_that_names_the_path() -> None:
    with pytest.raises(StateError, match="~no-such-user/model"):
        expand("~no-such-user/model")


def test_the_state_folder_is_the_one_that_is_set(state_folder: Path) -> None:
    assert state_dir() == state_folder


def test_a_state_folder_behind_a_link_that_leads_nowhere_may_hold_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMHOST_STATE_DIR", str(tmp_path / "link" / "state"))
    assert not may_hold_state()
    (tmp_path / "link").symlink_to(tmp_path / "away")
    assert may_hold_state()
