"""The guards' word lists: text files in `words/`, each read once, when a guard that needs it is imported.

A file has sections, `[name]`, of one entry a line in alphabetical order; lines with `#` are comments. Most
entries are a word; `a = b c` relates the left side to each word of the right one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

__all__ = ["FOLDER", "english", "lowered", "read_sections", "related", "sections"]

FOLDER = Path(__file__).parent / "words"


@cache
def sections(file: str) -> Mapping[str, tuple[str, ...]]:
    """The entries of `words/{file}.txt` by section."""
    return read_sections(FOLDER / f"{file}.txt")


def read_sections(path: Path) -> Mapping[str, tuple[str, ...]]:
    """The entries of a file of this form by section."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            entries = found[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            entries.append(line)
    return {name: tuple(entries) for name, entries in found.items()}


def english(section: str) -> frozenset[str]:
    """The words of one section of `english.txt`."""
    return frozenset(sections("english")[section])


def lowered(text: str) -> str:
    """In lower case, as the lists are, with each letter in its place: of İ, `str.lower` would make two."""
    return text.replace("\u0130", "i").lower()


def related(entries: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Each entry's left side as it stands, and the words of its right side."""
    for entry in entries:
        left, _, right = entry.partition(" = ")
        yield left, right.split()
