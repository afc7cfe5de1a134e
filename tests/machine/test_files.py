from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.errors import StateError
from llmhost.machine.files import make_folder, names_in, read_json, write_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text(st.characters(codec="utf-8")), json_values))
def test_what_is_written_is_read(value: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"a": 1} x', b'{"a":' * 100_000 + b"1" + b"}" * 100_000],
)
def test_a_damaged_file_is_never_taken_for_a_missing_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own words
        read_json(path)


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "value.json").symlink_to("/dev/null")
    with pytest.raises(StateError, match="it is not a file"):
        read_json(tmp_path / "value.json")


def test_only_its_owner_can_read_a_file(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {})
    assert (tmp_path / "value.json").stat().st_mode & 0o777 == 0o600


def test_writing_leaves_nothing_else_behind(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    make_folder(folder)
    write_json(folder / "value.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(folder / "value.json", {"a": object()})
    assert [path.name for path in folder.iterdir()] == ["value.json"]
    assert read_json(folder / "value.json") == {"a": 1}


def test_a_folder_below_a_file_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot make the folder"):
        make_folder(tmp_path / "file" / "folder")
    with pytest.raises(StateError, match="cannot write"):
        write_json(tmp_path / "file" / "value.json", {})
    with pytest.raises(StateError, match="cannot read"):
        read_json(tmp_path / "file" / "value.json")


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert names_in(tmp_path / "none" / "none") == ()
    for name in ("b", "a"):
        make_folder(tmp_path / "folder" / name)
    assert names_in(tmp_path / "folder") == ["a", "b"]


@pytest.fixture(params=["a file", "a link that leads nowhere", "behind a link that leads nowhere"])
def no_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What is in the place of a folder."""
    place = tmp_path / "folder"
    if request.param == "a file":
        place.touch()
    else:
        place.symlink_to(tmp_path / "away")
    return place / "below" if request.param.startswith("behind") else place


def test_what_is_in_the_place_of_a_folder_is_never_taken_for_an_empty_one(no_folder: Path) -> None:
    with pytest.raises(StateError, match="cannot read the folder"):
        names_in(no_folder)


def test_a_file_behind_what_is_no_folder_is_not_missing(no_folder: Path) -> None:
    with pytest.raises(StateError, match="cannot read"):
        read_json(no_folder / "value.json")


def test_a_folder_behind_a_link_is_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert (names_in(tmp_path / "link"), names_in(tmp_path / "link" / "none")) == ([], ())
    assert read_json(tmp_path / "link" / "none.json") is None
