"""What people and scripts see of wrong hits, and of what was learnt from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import yaml

from llmhost.cache.policy import VERIFIER_FLOOR

if TYPE_CHECKING:
    from plugins.cli import Ran
    from plugins.redis_servers import RedisServer

Cli = Callable[..., "Ran"]

KEY = "llmhost:test:trust"

#: 1 of 120 audits wrong, and words of the judge and the operator
LEARNT: dict[str, float] = {
    "audit:0.95-0.97:right": 119,
    "audit:0.95-0.97:wrong": 1,
    "judge:0.7-0.8:right": 8,
    "forget:0.99-1:wrong": 2,
    "guard:none:right": 110,
    "guard:none:wrong": 1,
    "guard:order:right": 9,
    "since:right": 119,
    "since:wrong": 1,
}

#: what step 2 was reached by
RAISED = LEARNT | {"raised": 2, "changed": 1_800_000_000.0}


@pytest.fixture
def store(redis_server: RedisServer) -> Any:
    """The Redis that the configuration names."""
    configure(redis_server)
    with redis.Redis(unix_socket_path=str(redis_server.socket), decode_responses=True) as client:
        yield client


def configure(server: RedisServer, **cache: Any) -> None:
    sections = {
        "fleet": {"name": "test"},
        "redis": {"url": f"unix://{server.socket}"},
        "cache": {"confidence": 0.9, **cache},
    }
    Path("llmhost.yaml").write_text(yaml.safe_dump(sections))


def learnt(store: Any, **fields: float) -> None:
    store.hset(KEY, mapping=fields)


def entry(store: Any, name: str, **served: str) -> str:
    """An entry that is found by its wording alone; returns its name."""
    name = name.ljust(32, "0")
    store.hset(
        f"cache:embedding:{name}", mapping={"question": "q", "scope": "s", "embedder": "", "vector": ""}
    )
    store.hset(f"cache:metadata:{name}", mapping={"hit_count": 1, **served})
    return name


def test_stats_without_audits_say_so(store: Any, cli: Cli) -> None:
    assert "No semantic hit was audited yet." in cli("stats").stdout.splitlines()
    assert cli("stats", "--json").json["served_error"] == {
        "estimate": None,
        "low": None,
        "high": None,
        "samples": 0,
        "by_guard": {},
        "by_confidence": {},
        "bar_raised": 0,
        "max_error": 0.02,
    }


def test_stats_give_the_error_with_its_interval_by_guard_and_by_confidence(store: Any, cli: Cli) -> None:
    learnt(store, **RAISED)
    error = cli("stats", "--json").json["served_error"]
    assert (error["samples"], error["bar_raised"]) == (120, 2)
    interval = {"estimate": 1 / 120, "low": 0.0002110, "high": 0.0455555}
    assert {name: error[name] for name in interval} == pytest.approx(interval, abs=1e-6)
    assert {guard: one["samples"] for guard, one in error["by_guard"].items()} == {"none": 111, "order": 9}
    assert error["by_guard"]["order"]["estimate"] == 0
    assert error["by_confidence"] == {
        "0.95-0.97": {n: error[n] for n in ("estimate", "low", "high", "samples")}
    }


def test_stats_say_the_error_in_words_and_are_quiet_about_a_threshold_that_stands_where_it_was(
    store: Any, cli: Cli
) -> None:
    learnt(store, **LEARNT)
    lines = cli("stats").stdout.splitlines()
    rate = "1 of 120 audited semantic hits was wrong: 0.8 % (0.0 to 4.6 %, 95 % confidence)."
    place = lines.index(rate)
    assert lines[place + 1] == ""


def test_stats_say_what_a_raised_threshold_means_and_what_to_do(store: Any, cli: Cli) -> None:
    learnt(store, **RAISED)
    out = cli("stats").stdout
    assert "The threshold is raised by 2 steps: fewer questions are answered from the cache" in out
    assert "until audits prove that less than 2.0 % are wrong." in out
    assert "llmhost cache tune show" in out


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (183, 0, "None of 183 audited semantic hits were wrong: 0.0 % (0.0 to 2.0 %, 95 % confidence)."),
        (1, 0, "None of 1 audited semantic hit was wrong: 0.0 % (0.0 to 97.5 %, 95 % confidence)."),
        (36, 4, "4 of 40 audited semantic hits were wrong: 10.0 % (2.8 to 23.7 %, 95 % confidence)."),
    ],
)
def test_any_count_reads_well(store: Any, cli: Cli, right: int, wrong: int, words: str) -> None:
    store.hset(KEY, mapping={"audit:0.95-0.97:right": right, "audit:0.95-0.97:wrong": wrong})
    assert words in cli("stats").stdout.splitlines()


def test_damaged_labels_are_said_with_what_to_do(store: Any, cli: Cli) -> None:
    store.hset(KEY, "raised", "high")
    ran = cli("stats")
    assert (ran.code, "damaged" in ran.stderr, "cache tune reset" in ran.stderr) == (5, True, True)


def test_an_entry_forgotten_as_wrong_is_a_label(store: Any, cli: Cli) -> None:
    name = entry(store, "ab", served_raw="0.93", served_doubts="order")
    ran = cli("cache", "forget", "--wrong", "ab", "--json")
    assert ran.json == {"forgotten": [name], "labelled": [name]}
    assert ran.stderr == "from now on 0.900 of the verifier counts as 0.898 here\n"
    assert store.hgetall(KEY) == {"forget:0.93-0.95:wrong": "1"}
    assert store.keys("cache:*") == []


def test_an_entry_can_be_wrong_only_once(store: Any, cli: Cli) -> None:
    entry(store, "ab", served_raw="0.93", served_doubts="")
    cli("cache", "forget", "--wrong", "ab")
    assert cli("cache", "forget", "--wrong", "ab").code == 2
    assert store.hgetall(KEY) == {"forget:0.93-0.95:wrong": "1"}


def test_an_entry_that_answered_no_other_wording_is_forgotten_all_the_same(store: Any, cli: Cli) -> None:
    name = entry(store, "ab")
    ran = cli("cache", "forget", "--wrong", "ab")
    assert ran.stdout == f"forgot {name[:12]}\n"
    assert ran.stderr == "nothing to learn: the cache gave their answers to no other wording\n"
    assert store.keys("*") == []


def test_of_several_entries_those_that_taught_something_are_named(store: Any, cli: Cli) -> None:
    entry(store, "ab", served_raw="0.93", served_doubts="")
    entry(store, "cd")
    assert cli("cache", "forget", "--wrong", "ab", "cd").stdout.splitlines() == [
        "forgot ab0000000000 and counted its answer as wrong",
        "forgot cd0000000000",
    ]


def test_forgetting_without_a_reason_teaches_nothing(store: Any, cli: Cli) -> None:
    name = entry(store, "ab", served_raw="0.93", served_doubts="")
    ran = cli("cache", "forget", "ab", "--json")
    assert (ran.json, ran.stderr) == ({"forgotten": [name], "labelled": []}, "")
    assert store.exists(KEY) == 0


def test_without_labels_there_is_nothing_to_show(store: Any, cli: Cli) -> None:
    assert cli("cache", "tune", "show").stdout.splitlines() == [
        "There are no labels yet: the verifier counts as it is.",
        "Served from 0.900 of the verifier on, or 0.937 where a guard doubts.",
        "No semantic hit was audited yet.",
    ]


def test_what_was_learnt_is_shown_in_words(store: Any, cli: Cli) -> None:
    learnt(store, **RAISED)
    lines = cli("cache", "tune", "show").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[2:5]] == ["0.7-0.8", "0.95-0.97", "0.99-1"]
    assert lines[3].split() == ["0.95-0.97", "120", "(1", "wrong)", "-", "-"]
    assert lines[6:8] == [
        "0.900 of the verifier counts as 0.923 here.",
        "Served from 0.949 of the verifier on, or 0.968 where a guard doubts.",
    ]
    assert lines[9].startswith("The threshold is raised by 2 steps")


def test_what_was_learnt_is_shown_to_scripts(store: Any, cli: Cli) -> None:
    learnt(store, **RAISED)
    out = cli("cache", "tune", "show", "--json").json
    assert out["shift"] == pytest.approx(0.284, abs=0.001)
    assert (out["confidence"], out["raised"], out["changed"]) == (0.9, 2, 1_800_000_000.0)
    assert out["counts_as"] == pytest.approx(0.9228, abs=0.0005)
    assert out["bars"] == pytest.approx({"serve": 0.9607, "doubted": 0.9758}, abs=1e-4)
    assert out["wanted"]["serve"] < out["bars"]["serve"]
    assert out["labels"] == {
        "audit": {"right": 119, "wrong": 1},
        "judge": {"right": 8, "wrong": 0},
        "forget": {"right": 0, "wrong": 2},
    }
    assert out["bands"][0] == {"band": "0.7-0.8", "labels": {"judge": {"right": 8, "wrong": 0}}}
    assert out["served_error"]["samples"] == 120


def test_labels_never_bring_what_the_verifier_must_give_below_the_floor(
    store: Any, redis_server: RedisServer, cli: Cli
) -> None:
    configure(redis_server, confidence=0.82)
    learnt(store, **{"audit:0.9-0.93:right": 100_000})
    assert cli("cache", "tune", "show", "--json").json["wanted"]["serve"] == VERIFIER_FLOOR


def test_a_policy_that_heeds_none_of_it_is_said_so(store: Any, redis_server: RedisServer, cli: Cli) -> None:
    configure(redis_server, policy="threshold")
    assert cli("cache", "tune", "show").stdout.startswith("The policy is `threshold`: it uses none of this.")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_reset_goes_back_to_what_was_shipped(store: Any, cli: Cli, options: tuple[str, ...]) -> None:
    learnt(store, **RAISED)
    out = cli("cache", "tune", "reset", "--yes", *options).stdout
    as_text = "forgot 130 labels: the verifier counts as it was shipped\n"
    assert json.loads(out) == {"forgotten": 130} if options else out == as_text
    assert store.exists(KEY) == 0


def test_reset_without_a_terminal_wants_a_yes(store: Any, cli: Cli) -> None:
    learnt(store, **RAISED)
    ran = cli("cache", "tune", "reset")
    assert (ran.code, "this forgets what was learnt" in ran.stderr) == (2, True)
    assert store.exists(KEY) == 1
