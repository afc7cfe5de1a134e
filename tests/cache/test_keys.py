"""What makes two questions the same one."""

from __future__ import annotations

import unicodedata

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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is AI?", "  What is AI?\n"),
        ("What is AI?", "What  is\tAI?"),
        ("caf\u00e9", "cafe\u0301"),
        ("a\r\nb", "a\nb"),
    ],
)
def test_layout_that_carries_no_meaning_does_not_make_another_question(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is it US law?", "Is it us law?"),
        ("What is 10²?", "What is 102?"),
        ("Count the spaces in 'a  b'", "Count the spaces in 'a b'"),
        ("def f():\n    return 1", "def f():\n  return 1"),
        ("Dogs eat?", "Dogs eat"),
    ],
)
def test_differences_that_can_carry_meaning_stay(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@given(TEXT)
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(TEXT)
def test_the_unicode_form_of_a_question_does_not_matter(text: str) -> None:
    decomposed = unicodedata.normalize("NFD", text)
    assert normalise(decomposed) == normalise(unicodedata.normalize("NFC", text))


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
