"""What is kept of a purchase from before it is made until its instance is gone."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.errors import StateError
from llmhost.fleet.models import Intent
from llmhost.fleet.providers.vast.create import Order, PendingPurchases

ORDER = Order(
    id="1700000000-0a1b2c3d",
    label="llmhost/test/1700000000-0a1b2c3d",
    offer="7000001",
    machine="20001",
    written=1_700_000_000.5,
    model="tiny",
    engine="ollama",
    token="the-token-itself",
    certificate="PEM",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fleet" / "intents"


@pytest.fixture
def book(folder: Path) -> PendingPurchases:
    return PendingPurchases(folder)


def test_an_order_is_there_as_soon_as_it_is_written(book: PendingPurchases, folder: Path) -> None:
    book.write(ORDER)
    assert list(PendingPurchases(folder).all()) == [ORDER]
    assert ORDER.intent == Intent(
        "1700000000-0a1b2c3d",
        "7000001",
        "20001",
        1_700_000_000.5,
        model="tiny",
        price_per_hour=ORDER.price or 0.0,
    )


def test_only_its_owner_reads_it(book: PendingPurchases, folder: Path) -> None:
    assert list(book.all()) == []
    book.write(ORDER)
    (file,) = folder.iterdir()
    assert "the-token-itself" not in repr(ORDER)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_the_worker_was_given_is_remembered(book: PendingPurchases) -> None:
    book.write(ORDER)
    facts = book.kept(ORDER.id)
    assert facts is not None
    assert (facts.model, facts.token, facts.certificate) == ("tiny", "the-token-itself", "PEM")
    assert book.kept("1700000000-ffffffff") is None


def test_orders_are_oldest_first(book: PendingPurchases) -> None:
    ids = ["1700000002-00000000", "1700000000-00000000", "1700000001-00000000"]
    for name in ids:
        book.write(replace(ORDER, id=name))
    assert [order.id for order in book.all()] == sorted(ids)


def test_a_dropped_order_is_gone_and_dropping_twice_is_fine(book: PendingPurchases) -> None:
    book.write(ORDER)
    for _ in range(2):
        book.drop(ORDER.id)
    assert list(book.all()) == []


@pytest.mark.parametrize("name", ["", "..", "../fleet", "by hand", "1700000000-0a1b2c3d.json", "/etc/passwd"])
def test_what_is_no_order_is_neither_read_nor_removed(
    book: PendingPurchases, folder: Path, name: str
) -> None:
    book.write(ORDER)
    (folder / "by hand.json").write_text("{}")
    book.drop(name)
    assert book.find(name) is None
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_said(book: PendingPurchases, folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("not a folder")
    with pytest.raises(StateError):
        book.write(ORDER)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"id": 1}', json.dumps({"id": ORDER.id, "label": None})],
)
def test_a_damaged_file_is_still_a_purchase_that_was_begun(
    book: PendingPurchases, folder: Path, content: str
) -> None:
    book.write(ORDER)
    (folder / f"{ORDER.id}.json").write_text(content)
    (order,) = book.all()
    assert order.intent == Intent(ORDER.id, "", "", 1_700_000_000.0)


BOUGHT = replace(ORDER, instance=7, owner=42, fingerprint="f" * 8)


@pytest.mark.parametrize("changes", [{"model": None}, {"price": "dear"}, {"offer": 5, "token": []}])
def test_a_field_that_cannot_be_read_hides_no_other(
    book: PendingPurchases, folder: Path, changes: dict[str, Any]
) -> None:
    book.write(BOUGHT)
    file = folder / f"{ORDER.id}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    (order,) = book.all()
    assert (order.damaged, order.instance, order.payer) == (True, 7, BOUGHT.payer)
    assert (order.label, order.written) == (ORDER.label, ORDER.written)


def test_of_a_file_that_was_cut_off_all_is_known_that_is_there(book: PendingPurchases, folder: Path) -> None:
    book.write(replace(BOUGHT, token='"instance": 5, \\'))
    file = folder / f"{ORDER.id}.json"
    whole = file.read_text()
    for length in range(len(whole)):
        file.write_text(whole[:length])
        (order,) = book.all()
        assert order.damaged
        assert order.instance == (7 if '"instance": 7,' in whole[:length] else None)
        assert order.owner == (42 if '"owner": 42,' in whole[:length] else None)
        assert order.label == (ORDER.label if f'"{ORDER.label}",' in whole[:length] else "")


@pytest.mark.parametrize("instead", ["a file", "a link that leads nowhere"])
def test_purchases_that_cannot_be_read_are_not_none(
    book: PendingPurchases, folder: Path, instead: str
) -> None:
    folder.parent.mkdir()
    if instead == "a file":
        folder.write_text("not a folder")
    else:
        folder.symlink_to(folder / "away")
    with pytest.raises(StateError, match=str(folder)):
        book.all()


FIELDS = ["id", "label", "offer", "machine", "written", "model", "engine", "token", "certificate", "instance"]


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(FIELDS),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.none()),
    )
)
def test_no_damage_whatever_hides_a_purchase(tmp_path: Path, changes: dict[str, Any]) -> None:
    book = PendingPurchases(tmp_path)
    book.write(ORDER)
    file = tmp_path / f"{ORDER.id}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    (order,) = book.all()
    assert order.id == ORDER.id
    assert isinstance(order.intent.written, float | int)
    assert order.token is None or isinstance(order.token, str)
