from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.config.document import substitute
from llmhost.errors import ConfigError


def substituted(text: str, limit: int = 1000, **environ: str) -> str:
    return substitute(text, environ, where="file:1: `key`", limit=limit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "one"),
        ("<${A}-${EMPTY}-${A}>", "<one--one>"),
        ("${A:-two}", "one"),
        ("${EMPTY:-two}", "two"),
        ("${UNSET:-two}", "two"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a: b, {c # d}", "a: b, {c # d"),
        ("$A and $ and {A}", "$A and $ and {A}"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("${NESTED}", "${A}"),
    ],
)
def test_references_are_replaced_once(text: str, expected: str) -> None:
    assert substituted(text, A="one", EMPTY="", NESTED="${A}") == expected


def test_a_missing_variable_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        substituted("x${NOT_THERE}")
    assert caught.value.message == "file:1: `key`: the environment variable NOT_THERE is not set"
    assert caught.value.hint == "set it, or write ${NOT_THERE:-default}"


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A:x}", "${A-x}", "${ A }", "${A:-${B}}"])
def test_a_reference_that_is_not_well_formed_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a `\\$\\{` without a variable") as caught:
        substituted(text, A="secret", B="secret")
    assert "secret" not in caught.value.message


def test_a_result_that_is_too_long_is_refused_before_it_is_built() -> None:
    with pytest.raises(ConfigError, match="values are too long"):
        substituted("${A}" * 100_000, limit=1_000_000, A="x" * 100_000)


@given(st.text())
def test_text_without_a_reference_stays_as_it_is(text: str) -> None:
    if "${" not in text:
        assert substituted(text) == text


@given(st.text())
def test_the_escape_writes_any_text_literally(text: str) -> None:
    assert substituted(text.replace("${", "$${")) == text


@given(st.text(max_size=200))
def test_a_value_is_put_in_as_it_is(value: str) -> None:
    assert substituted("<${A}>", A=value) == f"<{value}>"
