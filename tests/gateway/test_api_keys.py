"""How an API key is written and kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.gateway.api_keys import ApiKey, Limits, PresentedKey, fields_of, key_in, make_key, read_key

TEXT = "llmhost-0a1b2c3d4e5f-" + "0123456789abcdef" * 4
MADE = PresentedKey("0a1b2c3d4e5f", hashlib.sha256(TEXT.encode()).hexdigest())
KEY = ApiKey(
    MADE.id, "acme", Limits(60, 1000, 2.5, ("tiny",)), 1.5, MADE.digest, label="x", expires=9.0, last_used=3.0
)


def kept(key: ApiKey) -> dict[str, str]:
    return {name: str(value) for name, value in fields_of(key).items()}


@pytest.mark.parametrize("value", [TEXT, f"Bearer {TEXT}", f"bearer  {TEXT}", f"BEARER {TEXT}"])
def test_a_key_is_found_with_and_without_the_word_bearer(value: str) -> None:
    assert key_in(["none", value]) == MADE


@pytest.mark.parametrize(
    "value",
    [
        "",
        "none",
        "sk-proj-abc",
        f"Basic {TEXT}",
        TEXT.upper(),
        TEXT[:-1],
        f"{TEXT}0",
        f"{TEXT}\n",
        f" {TEXT}",
    ],
)
def test_what_is_not_wholly_a_key_is_none(value: str) -> None:
    assert key_in([value]) is None


@given(values=st.lists(st.text(max_size=120), max_size=3))
def test_any_header_is_a_key_or_none(values: list[str]) -> None:
    assert key_in(values) is None


@given(place=st.integers(len("llmhost-"), len(TEXT) - 1), digit=st.sampled_from("0123456789abcdef"))
def test_another_digit_is_another_key(place: int, digit: str) -> None:
    other = TEXT[:place] + digit + TEXT[place + 1 :]
    assert (key_in([other]) == MADE) == (other == TEXT)


def test_keys_differ_and_neither_key_nor_hash_is_in_a_repr() -> None:
    assert make_key()[0] != make_key()[0]
    secret = TEXT.rpartition("-")[2]
    for shown in (repr(MADE), repr(KEY), str(fields_of(KEY))):
        assert secret not in shown
    assert MADE.digest not in repr(MADE) + repr(KEY)


@pytest.mark.parametrize("key", [KEY, replace(KEY, limits=Limits(), label="", expires=None)])
def test_a_key_is_read_as_it_was_kept(key: ApiKey) -> None:
    fields = kept(key) | ({"last_used": "3.0"} if key.last_used else {})
    assert read_key(key.id, fields) == key


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("models", "{"),
        ("models", "[1]"),
        ("models", '"tiny"'),
        ("requests_per_minute", "many"),
        ("requests_per_minute", "0"),
        ("tokens_per_day", "-1"),
        ("usd_per_day", "0.0"),
        ("digest", ""),
        ("usd_per_day", "nan"),
        ("expires", "soon"),
        ("tenant", ""),
        ("models", "[" * 100_000),
    ],
)
def test_a_damaged_record_is_no_key(field: str, value: str) -> None:
    assert read_key(KEY.id, kept(KEY) | {field: value}) is None


def test_a_record_with_a_part_missing_is_no_key() -> None:
    for name in ("digest", "tenant", "created", "models"):
        fields = kept(KEY)
        del fields[name]
        assert read_key(KEY.id, fields) is None
