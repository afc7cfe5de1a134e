"""The picture of a terminal in README.md, and how a terminal's output becomes lines."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.text import Text

REPOSITORY = Path(__file__).parents[2]
PICTURE = (REPOSITORY / "docs/terminal.svg").read_text(encoding="utf-8")
#: The width of a character, in the picture's units.
CELL = 12.2
MAKE = runpy.run_path(str(REPOSITORY / "scripts/make_picture.py"))


def lines_of(svg: str) -> list[str]:
    """The lines of the terminal. The pieces of a line have its clip path; blanks may have no piece."""
    lines: dict[str, str] = {}
    for piece in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):  # noqa: S314 - made here
        if path := piece.get("clip-path"):
            column = round(float(piece.attrib["x"]) / CELL)
            lines[path] = lines.get(path, "").ljust(column) + (piece.text or "")
    return [line.replace("\xa0", " ").rstrip() for line in lines.values()]


def addresses(svg: str) -> set[str]:
    """What a browser would fetch, or could lead to."""
    found = re.findall(r"(?:\b[a-z]+:)?//[\w.-]+|url\((?!#)[^)]*\)|@import.*|href=.*", svg)
    return {address for address in found if address not in {"http://www.w3.org", "http://127.0.0.1"}}


def test_the_picture_is_small_and_of_one_screen() -> None:
    lines = lines_of(PICTURE)
    assert 30 <= len(lines) <= 40
    assert max(map(len, lines)) <= 90
    assert len(PICTURE.encode()) < 80_000


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    assert addresses(PICTURE) == set()


def test_the_picture_shows_a_hit_of_each_kind_and_one_that_was_refused() -> None:
    text = "\n".join(lines_of(PICTURE))
    asked = dict(re.findall(r'^\$ llmhost ask (?:--explain )?"(.*)"\n((?:[^$].*\n)*)', text, re.MULTILINE))
    assert "· exact hit ·" in asked["What is artificial intelligence?"]
    assert "· semantic hit · similarity" in asked["Explain AI in simple terms"]
    refused = asked["How do I disable dark mode?"]
    assert re.search(r"confidence 0\.\d+ < 0\.\d+ +How do I turn on dark mode\?", refused)
    assert "· answered by" in refused


def test_a_drawn_terminal_is_well_formed_and_has_no_address_of_a_font() -> None:
    svg = MAKE["draw"]([Text.from_ansi("\x1b[1ma < b\x1b[0m & c"), Text("second")])
    assert lines_of(svg) == ["a < b & c", "second"]
    assert addresses(svg) == set()


def test_a_line_that_was_written_again_stands_there_once() -> None:
    written = "\x1b[?25l\r\x1b[2K\x1b[32m1 of 2\x1b[0m\r\x1b[2K2 of 2\r\n\x1b[?25hdone\r\n\r\n"
    assert [line.plain for line in MAKE["on_screen"](written)] == ["2 of 2", "done"]


def test_a_style_lasts_until_it_ends_on_the_next_line_too() -> None:
    first, second = MAKE["on_screen"]("\x1b[2mone\ntwo\x1b[0m three")
    assert [[str(span.style) for span in line.spans] for line in (first, second)] == [["dim"], ["dim"]]


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [(1, 1, ["one …", "four"]), (2, 0, ["one", "two …"]), (2, 2, ["one", "two", "three", "four"])],
)
def test_lines_that_are_left_out_are_marked(first: int, last: int, shown: list[str]) -> None:
    lines = [Text(word) for word in ("one", "two", "three", "four")]
    assert [line.plain for line in MAKE["cut"](lines, first, last)] == shown
