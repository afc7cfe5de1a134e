"""The guards' word lists are files that people edit: their form is checked."""

from __future__ import annotations

import re

import pytest

from llmhost.cache.guards.word_lists import FOLDER, related, sections

FILES = sorted(path.stem for path in FOLDER.glob("*.txt"))


def test_every_list_is_read_by_a_guard() -> None:
    assert FILES == ["case", "dates", "english", "forms", "languages", "names", "opposites", "units"]


@pytest.mark.parametrize("file", FILES)
def test_entries_are_sorted_in_lower_case_and_unique(file: str) -> None:
    for name, entries in sections(file).items():
        assert list(entries) == sorted(set(entries)) or name == "forms", (
            name
        )  # those are tried in their order
        assert [entry for entry in entries if entry != entry.lower()] == [], name


@pytest.mark.parametrize("file", FILES)
def test_a_line_is_a_section_a_comment_or_words_without_stray_spaces(file: str) -> None:
    lines = (FOLDER / f"{file}.txt").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if line.startswith("[")]
    assert len(names) == len(set(names)) == len(sections(file))
    assert [line for line in lines if line != " ".join(line.split())] == []
    assert [line for line in lines if "=" in line and not re.search(r"\S = \S", line)] == []


def test_a_relation_has_words_on_both_sides() -> None:
    pairs = [*related(sections("opposites")["opposites"]), *related(sections("english")["aspects"])]
    assert all(left and right for left, right in pairs)


def test_every_unit_has_a_size() -> None:
    assert all(float(size) > 0 for entries in sections("units").values() for size, _ in related(entries))
