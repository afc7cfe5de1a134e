"""Whether two configurations come from the same file and variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmhost.config.inputs import inputs_digest

FILE = "engine: {model: tiny}\nredis: {password: '${SECRET}'}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(FILE)
    return path


def digest(file: Path, *, fleet: str | None = None, secret: str = "s", **environ: str) -> str:  # noqa: S107
    return inputs_digest(file, fleet, {"SECRET": "x", **environ}, secret)


def test_the_same_file_and_variables_are_the_same(file: Path) -> None:
    assert digest(file) == digest(file, HOME="/elsewhere", LLMHOST_STATE_DIR="/elsewhere")


@pytest.mark.parametrize(
    "changes",
    [
        {"SECRET": "y"},
        {"LLMHOST_ENGINE__MAX_TOKENS": "7"},
        {"fleet": "blue"},
        {"secret": "of another state folder"},
    ],
    ids=["variable of the file", "variable that sets a key", "fleet", "state folder"],
)
def test_what_changes_the_configuration_makes_it_another(file: Path, changes: dict[str, str]) -> None:
    assert digest(file, **changes) != digest(file)


def test_an_edited_file_is_another(file: Path) -> None:
    before = digest(file)
    file.write_text(FILE.replace("tiny", "large"))
    assert digest(file) != before


def test_a_copy_in_another_folder_is_another(file: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    copy = tmp_path / "b" / "a.yaml"
    copy.write_text(FILE)
    assert digest(copy) != digest(file)


def test_a_file_that_was_found_is_not_the_same_as_when_it_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.rename(file.with_name("llmhost.yaml"))
    monkeypatch.chdir(file.parent)
    found = inputs_digest(None, None, {"SECRET": "x"}, "s")
    assert found != digest(file.with_name("llmhost.yaml"))


def test_a_file_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        digest(tmp_path / "missing.yaml")
