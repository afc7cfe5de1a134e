"""Which fleets this machine knows, and from which files they come."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from llmhost.errors import StateError
from llmhost.fleet.known_fleets import (
    SOMEWHERE,
    KnownFleet,
    forget_fleet,
    known_file,
    known_fleets,
    remember_fleet,
)
from llmhost.machine.files import hold_lock


async def remember(fleets: Path, *configs: str | None) -> None:
    for config in configs:
        await remember_fleet(fleets, KnownFleet("blue", "vast", config))


async def test_a_fleet_comes_from_each_file_that_it_was_made_from_the_newest_first(tmp_path: Path) -> None:
    await remember(tmp_path, "/a.yaml", "/b.yaml", "/b.yaml", "/c.yaml", "/a.yaml")
    assert [fleet.config for fleet in known_fleets(tmp_path)] == ["/a.yaml", "/c.yaml", "/b.yaml"]
    await forget_fleet(tmp_path, "blue", "vast")
    assert known_fleets(tmp_path) == []


async def test_of_a_fleet_that_is_down_it_is_known_for_a_month_where_records_are_that_others_may_use(
    tmp_path: Path,
) -> None:
    await remember_fleet(tmp_path, KnownFleet("blue", "vast", "/a.yaml", redis="0123"))
    for _ in range(2):
        await forget_fleet(tmp_path, "blue", "vast")
        assert [(fleet.config, fleet.down) for fleet in known_fleets(tmp_path)] == [("/a.yaml", True)]
    month_ago = time.time() - 31 * 86_400
    os.utime(known_file(tmp_path, "blue", "vast"), (month_ago, month_ago))
    await forget_fleet(tmp_path, "blue", "vast")
    assert known_fleets(tmp_path) == []


async def test_a_fleet_that_is_made_again_is_not_down(tmp_path: Path) -> None:
    for _ in range(2):
        await remember_fleet(tmp_path, KnownFleet("blue", "vast", "/a.yaml", redis="0123"))
        assert [fleet.down for fleet in known_fleets(tmp_path)] == [False]
        await forget_fleet(tmp_path, "blue", "vast")


async def test_a_fleet_that_is_made_without_a_file_keeps_those_that_it_came_from_before(
    tmp_path: Path,
) -> None:
    await remember(tmp_path, "/a.yaml", None)
    assert [fleet.config for fleet in known_fleets(tmp_path)] == ["/a.yaml"]


async def test_of_many_files_the_oldest_are_forgotten(tmp_path: Path) -> None:
    await remember(tmp_path, *(f"/{n}.yaml" for n in range(100)))
    assert len(known_fleets(tmp_path)) < 20


async def test_however_many_files_there_are_no_account_and_no_place_of_records_is_forgotten(
    tmp_path: Path,
) -> None:
    for payer, redis in (("key", "one"), ("other", "one"), ("key", "two")):
        for n in range(12):
            await remember_fleet(
                tmp_path, KnownFleet("blue", "vast", f"/{payer}{redis}{n}.yaml", payer, redis)
            )
    uses = known_fleets(tmp_path)
    assert {(use.payer, use.redis) for use in uses} == {("key", "one"), ("other", "one"), ("key", "two")}


async def test_another_place_of_records_is_known_beside_the_one_before_until_the_operator_settles_it(
    tmp_path: Path,
) -> None:
    await remember_fleet(tmp_path, KnownFleet("blue", "vast", "/a.yaml", redis="old"))
    await remember_fleet(tmp_path, KnownFleet("blue", "vast", "/b.yaml", redis="older"))
    await remember_fleet(tmp_path, KnownFleet("blue", "vast", "/a.yaml", redis="new"))
    places = {(use.config, use.redis) for use in known_fleets(tmp_path)}
    assert places == {("/a.yaml", "new"), ("/a.yaml", "old"), ("/b.yaml", "older")}
    await remember_fleet(tmp_path, KnownFleet("blue", "vast", "/a.yaml", redis="new"), settled=True)
    places = {(use.config, use.redis) for use in known_fleets(tmp_path)}
    assert places == {("/a.yaml", "new"), ("/b.yaml", "")}


async def test_a_fleet_that_was_down_and_is_used_elsewhere_is_down_where_it_was(tmp_path: Path) -> None:
    await remember_fleet(tmp_path, KnownFleet("blue", "vast", "/a.yaml", redis="old"))
    await forget_fleet(tmp_path, "blue", "vast")
    await remember_fleet(tmp_path, KnownFleet("blue", "vast", "/a.yaml", redis="new"))
    assert {(use.redis, use.down) for use in known_fleets(tmp_path)} == {("new", False), ("old", True)}


async def test_a_fleet_that_an_older_llmhost_made_and_this_one_took_down_is_not_forgotten(
    tmp_path: Path,
) -> None:
    (tmp_path / "blue").mkdir()
    older = {"config": "/a.yaml", "before": [], "payer": "me", "redis": "0123"}
    known_file(tmp_path, "blue", "vast").write_text(json.dumps(older))
    await remember_fleet(tmp_path, KnownFleet("blue", "vast", "/a.yaml", "me", "4567"))
    await forget_fleet(tmp_path, "blue", "vast")
    assert [(use.redis, use.down) for use in known_fleets(tmp_path)] == [("4567", True), (SOMEWHERE, True)]


async def test_of_two_uses_that_are_written_down_at_once_none_is_lost(tmp_path: Path) -> None:
    await remember(tmp_path, "/a.yaml")
    async with hold_lock(tmp_path / "blue" / "known.lock", patience=0):
        second = asyncio.create_task(remember(tmp_path, "/b.yaml"))
        await asyncio.sleep(0)
        known_file(tmp_path, "blue", "vast").write_text(json.dumps({"uses": [{"config": "/c.yaml"}]}))
    await second
    assert {fleet.config for fleet in known_fleets(tmp_path)} == {"/b.yaml", "/c.yaml"}


async def test_a_use_that_is_known_needs_no_room_on_the_disk_and_another_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remember(tmp_path, "/a.yaml")

    def full(*_: object) -> None:
        raise StateError("cannot write it: No space left on device")

    monkeypatch.setattr("llmhost.fleet.known_fleets.write_json", full)
    await remember(tmp_path, "/a.yaml")
    with pytest.raises(StateError, match="No space left"):
        await remember(tmp_path, "/b.yaml")


@pytest.mark.parametrize(
    ("content", "config"),
    [
        (json.dumps({"config": "/a.yaml"}), "/a.yaml"),
        (json.dumps({"config": None}), None),
        (json.dumps({"config": 1, "before": [None, "/a.yaml", 2]}), "/a.yaml"),
        (json.dumps({"config": "/a.yaml", "before": "b"}), "/a.yaml"),
        (json.dumps({"uses": [1, {"config": "/a.yaml", "payer": None, "down": 1}]}), "/a.yaml"),
        (json.dumps({"uses": "b"}), None),
        ("{", None),
    ],
    ids=["older", "no file", "odd", "odd list", "odd use", "odd uses", "damaged"],
)
async def test_a_fleet_whose_file_says_little_is_known_all_the_same(
    tmp_path: Path, content: str, config: str | None
) -> None:
    (tmp_path / "blue").mkdir()
    (tmp_path / "blue" / "fleet-vast.json").write_text(content)
    assert known_fleets(tmp_path) == [KnownFleet("blue", "vast", config)]
