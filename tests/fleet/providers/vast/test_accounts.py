"""Which account each API key is of, as this machine remembers it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmhost.fleet.providers.vast.accounts import KnownAccounts


@pytest.fixture
def known(tmp_path: Path) -> KnownAccounts:
    return KnownAccounts(tmp_path / "vast" / "accounts.json")


def test_the_keys_of_an_account_share_its_number_and_those_of_another_nothing(known: KnownAccounts) -> None:
    for key, account in (("a", 1), ("b", 1), ("c", 2)):
        known.learn(key, account)
    assert known.names("a") == ("a", "1", "b")
    assert set(known.names("a")) & set(known.names("b")) == {"a", "b", "1"}
    assert set(known.names("a")) & set(known.names("c")) == set()


def test_a_key_of_which_nothing_is_known_has_no_name_but_its_own(known: KnownAccounts) -> None:
    known.learn("a", 1)
    assert (known.names("b"), known.knows("b")) == (("b",), False)


def test_of_many_keys_the_newest_are_remembered(known: KnownAccounts) -> None:
    for number in range(50):
        known.learn(f"key {number}", 1)
    assert (len(known.names("key 49")), known.knows("key 0")) == (21, False)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": true}', '{"a": "1"}', '{"a": null}', '{"a": -1}'])
def test_a_damaged_file_says_nothing_and_is_written_again(known: KnownAccounts, text: str) -> None:
    known._file.parent.mkdir()
    known._file.write_text(text)
    assert known.names("a") == ("a",)
    known.learn("a", 1)
    assert known.names("a") == ("a", "1")


def test_where_nothing_can_be_written_the_key_is_the_only_name() -> None:
    known = KnownAccounts(Path("/dev/null/accounts.json"))
    known.learn("a", 1)
    assert known.names("a") == ("a",)
