"""Markdown on a terminal: what is styled, where lines end, and that pieces make no difference."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cli.markdown import MarkdownStream

#: everything that means something
TEXT = """\
# A heading with *one* word

A paragraph with **bold words**, `code` and a [link](https://example.com/), which is wrapped.

- an item that does not fit in one line of the terminal
  - another one that does not fit either, however long it is
12. and a number that is wrapped

> what somebody else has said

```python
def square(x):
    return x**2
```

| a | b |
|---|---|

***
"""


def shown(text: str, width: int = 40, *, styled: bool = True) -> str:
    stream = MarkdownStream(styled=styled)
    return stream.feed(text, width) + stream.close(width)


def plain(text: str, width: int = 40) -> str:
    """What is shown, without its colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", shown(text, width))


def test_an_answer_is_laid_out_in_the_width_of_the_terminal() -> None:
    assert (
        plain(TEXT)
        == """\
A heading with one word

A paragraph with bold words, code and a
[link](https://example.com/), which is
wrapped.

• an item that does not fit in one line
  of the terminal
  • another one that does not fit
    either, however long it is
12. and a number that is wrapped

│ what somebody else has said

def square(x):
    return x**2

| a | b |
|---|---|

────────────────────────────────────────
"""
    )


def test_without_colour_the_text_is_wrapped_and_nothing_else() -> None:
    wrapped = shown(TEXT, styled=False)
    assert "\x1b" not in wrapped
    assert wrapped.split() == TEXT.split()
    assert shown(TEXT, 1000, styled=False) == TEXT


@pytest.mark.parametrize("styled", [True, False])
@given(data=st.data())
def test_in_whatever_pieces_it_comes_the_same_is_shown(data: st.DataObject, styled: bool) -> None:
    text = data.draw(st.one_of(st.just(TEXT), st.text("ab*`-#> \n\\|1.語", max_size=60)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    stream = MarkdownStream(styled=styled)
    parts = [
        stream.feed(text[start:end], 30) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)
    ]
    assert "".join(parts) + stream.close(30) == shown(text, 30, styled=styled)


def test_a_word_is_shown_when_it_is_whole() -> None:
    stream = MarkdownStream(styled=True)
    assert [stream.feed(piece, 80) for piece in ("Hel", "lo", " wor", "ld", "!\n")] == [
        "",
        "",
        "Hello",
        "",
        " world!\n",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**two words**", "\x1b[1mtwo\x1b[0m \x1b[1mwords\x1b[0m"),
        ("*a* and ***b***", "\x1b[3ma\x1b[0m and \x1b[1;3mb\x1b[0m"),
        ("`a*b*` ``c`d``", "\x1b[36ma\x1b[0m\x1b[36m*\x1b[0m\x1b[36mb\x1b[0m\x1b[36m*\x1b[0m "),
        (r"\*a\*", "*a*"),
        ("## a", "\x1b[1ma\x1b[0m"),
        ("**a\nb", "\x1b[1ma\x1b[0m\nb"),  # a mark without an end holds for its line
    ],
)
def test_a_mark_becomes_a_style(text: str, expected: str) -> None:
    assert shown(text).startswith(expected)


@pytest.mark.parametrize(
    "text", ["2 * 3 * 4", "2*3*4", "2**10 and 3**10", "snake_case_name", "a # b", "C:\\d"]
)
def test_what_is_no_mark_stays(text: str) -> None:
    assert shown(text) == text


def test_a_line_of_code_is_never_wrapped() -> None:
    code = "word " * 30
    assert plain(f"```\n{code}\n```\n", 20) == f"{code}\n"


def test_code_ends_with_its_own_fence() -> None:
    assert plain("````\n```\n````\n**a**") == "```\na"


def test_wide_characters_take_two_columns_and_may_end_a_line() -> None:
    assert plain("語" * 12, 10) == "語語語語語\n語語語語語\n語語"
    assert plain("語語語語語。語", 10) == "語語語語\n語。語"  # no line begins with a full stop


def test_a_word_longer_than_the_line_is_left_to_the_terminal() -> None:
    assert plain("a " + "b" * 25 + " cc dddd", 10) == "a\n" + "b" * 25 + " cc\ndddd"


def test_a_deep_indentation_does_not_squeeze_the_words() -> None:
    assert plain(" " * 30 + "- one two three", 40).splitlines()[1:] == ["three"]
