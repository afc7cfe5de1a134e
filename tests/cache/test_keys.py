"""What makes two questions the same one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.keys import ENTRY_PATTERN, cache_key, normalise, scope_id

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("text", ["  What is AI?\n", "\tWhat is AI?", "\n \nWhat is AI? \r\n"])
def test_blanks_around_a_question_do_not_make_another_one(text: str) -> None:
    assert normalise(text) == "What is AI?"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is it US law?", "Is it us law?"),
        ("Dogs eat?", "Dogs eat"),
        ("What is 10²?", "What is 102?"),
        ("caf\u00e9", "cafe\u0301"),
        ("How many \u2126?", "How many \u03a9?"),
        ("Is \u212b a letter?", "Is \u00c5 a letter?"),
        ("What is AI?", "What  is AI?"),
        ("What does [a  b] match?", "What does [a b] match?"),
        ("What is\u00a0AI?", "What is AI?"),
        ("What is AI?", "\u3000What is AI?"),
        ("a\r\nb", "a\nb"),
        ("Count the spaces in 'a  b'", "Count the spaces in 'a b'"),
        ("def f():\n    return 1", "def f():\n  return 1"),
        ("  a:\n  b:", "a:\n  b:"),
    ],
)
def test_any_other_difference_makes_another_question(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@given(TEXT, st.text(" \t\n"), st.text(" \t\r\n"))
def test_of_a_question_nothing_but_the_blanks_around_it_is_taken(text: str, before: str, after: str) -> None:
    assert normalise(text) in text
    assert normalise(text).strip(" \t\r\n") == normalise(before + text + after).strip(" \t\r\n")
    assert text.strip(" \t\r\n") == normalise(text).strip(" \t\r\n")


@given(TEXT)
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), TEXT)
def test_a_key_is_one_of_ours_and_depends_on_nothing_but_its_input(
    parts: dict[str, object], text: str
) -> None:
    key = cache_key(scope_id(parts), text)
    assert ENTRY_PATTERN.fullmatch(key.entry)
    assert ENTRY_PATTERN.fullmatch(key.scope)
    assert key == cache_key(scope_id(dict(reversed(parts.items()))), text)


@given(
    st.dictionaries(st.text(max_size=5), JSON, max_size=4),
    st.dictionaries(st.text(max_size=5), JSON, max_size=4),
)
def test_different_scopes_have_different_names(one: dict[str, object], other: dict[str, object]) -> None:
    same = repr(sorted(one.items())) == repr(sorted(other.items()))
    assert (scope_id(one) == scope_id(other)) == (one == other and same)
