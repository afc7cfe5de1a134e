"""What people and scripts see of wrong hits, and of what was learnt from them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import yaml

from llmhost.cache.calibration import LabelsReport, Tally
from llmhost.cache.models import Answer
from llmhost.cache.policy import VERIFIER_FLOOR
from llmhost.cache.stored import StoredEntry, pack_entry
from llmhost.cli.trust_view import served_error_lines

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
    answer = Answer("So.", "m", 1.0, 2, 3, "stop", 4.0, 5.0)
    store.set(f"cache:response:{name}", pack_entry(StoredEntry("q", "s", "", 0, answer)), ex=600)
    store.hset(f"cache:metadata:{name}", mapping={"hit_count": 1, **served})
    return name


def test_stats_without_audits_say_so(store: Any, cli: Cli) -> None:
    assert re.search(r"audited +- ", cli("stats", "--all").stdout)
    error = cli("stats", "--json").json["served_error"]
    nothing = dict.fromkeys(("estimate", "low", "high")) | {"samples": 0, "by_guard": {}, "by_confidence": {}}
    assert error == nothing | {"bar_raised": 0, "max_error": 0.02}


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


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (183, 0, "None of 183 audited semantic hits were wrong: 0.0 % (0.0 to 2.0 %, 95 % confidence)."),
        (1, 0, "None of 1 audited semantic hit was wrong: 0.0 % (0.0 to 97.5 %, 95 % confidence)."),
        (119, 1, "1 of 120 audited semantic hits was wrong: 0.8 % (0.0 to 4.6 %, 95 % confidence)."),
        (36, 4, "4 of 40 audited semantic hits were wrong: 10.0 % (2.8 to 23.7 %, 95 % confidence)."),
    ],
)
def test_the_error_is_a_sentence_and_a_raised_threshold_is_explained_below_it(
    right: int, wrong: int, words: str
) -> None:
    bands: Any = {"audit": {"0.95-0.97": Tally(right, wrong)}}
    assert served_error_lines(LabelsReport(bands), 0.02) == [words]
    first, raised, advice = served_error_lines(LabelsReport(bands, raised=2), 0.02)
    assert first == words
    assert raised.startswith(
        "The threshold is raised by 2 steps: fewer questions are answered from the cache"
    )
    assert raised.endswith("until audits prove that less than 2.0 % are wrong.")
    assert "llmhost cache tune show" in advice


def test_damaged_labels_are_said_with_what_to_do(store: Any, cli: Cli) -> None:
    store.hset(KEY, "raised", "high")
    ran = cli("stats")
    assert (ran.code, "damaged" in ran.stderr, "cache tune reset" in ran.stderr) == (5, True, True)


def test_an_entry_forgotten_as_a_wrong_match_is_a_label(store: Any, cli: Cli) -> None:
    name = entry(store, "ab", served_raw="0.93", served_doubts="order")
    ran = cli("cache", "forget", "--wrong-match", "-y", "ab", "--json")
    assert ran.json == {"forgotten": [name], "labelled": [name]}
    assert ran.stderr == "from now on 0.900 of the verifier counts as 0.898 here\n"
    assert store.hgetall(KEY) == {"forget:0.93-0.95:wrong": "1"}
    assert store.keys("cache:*") == []


def test_of_several_entries_those_that_taught_something_are_named_and_none_can_be_wrong_twice(
    store: Any, cli: Cli
) -> None:
    entry(store, "ab", served_raw="0.93", served_doubts="")
    entry(store, "cd")
    assert cli("cache", "forget", "--wrong-match", "-y", "ab", "cd").stdout.splitlines() == [
        "forgot ab0000000000 and learnt that it was a wrong match",
        "forgot cd0000000000",
    ]
    assert cli("cache", "forget", "--wrong-match", "-y", "ab").code == 2
    assert store.hgetall(KEY) == {"forget:0.93-0.95:wrong": "1"}


def test_an_entry_that_answered_no_other_wording_teaches_nothing(store: Any, cli: Cli) -> None:
    entry(store, "ab")
    ran = cli("cache", "forget", "--wrong-match", "-y", "ab")
    assert ran.stderr.endswith("nothing to learn: the cache gave their answers to no other wording\n")
    assert store.keys("*") == []


def test_forgetting_without_a_reason_teaches_nothing(store: Any, cli: Cli) -> None:
    name = entry(store, "ab", served_raw="0.93", served_doubts="")
    ran = cli("cache", "forget", "ab", "--json")
    assert (ran.json, ran.stderr) == ({"forgotten": [name], "labelled": []}, "")
    assert store.exists(KEY) == 0


def test_both_questions_of_a_wrong_match_are_shown(store: Any, cli: Cli) -> None:
    entry(store, "ab", served_raw="0.93", served_doubts="", served_question="what was asked")
    _, *shown = cli("cache", "forget", "--wrong-match", "-y", "ab").stderr.splitlines()
    assert (shown[0], shown[1].startswith("stored: ")) == ("asked:  what was asked", True)


def test_a_wrong_match_is_not_learnt_from_without_a_yes(store: Any, cli: Cli) -> None:
    entry(store, "ab", served_raw="0.93", served_doubts="", served_question="what was asked")
    ran = cli("cache", "forget", "--wrong-match", "ab")
    assert (ran.code, "--yes" in ran.stderr, store.exists(KEY)) == (2, True, 0)


def test_a_bad_answer_teaches_nothing_about_the_questions(store: Any, cli: Cli) -> None:
    name = entry(store, "ab", served_raw="0.93", served_doubts="")
    assert cli("cache", "forget", "--bad-answer", "ab", "--json").json == {
        "forgotten": [name],
        "labelled": [],
    }
    assert store.exists(KEY) == 0


def test_the_old_word_for_a_wrong_match_still_works_and_says_the_new_ones(store: Any, cli: Cli) -> None:
    name = entry(store, "ab", served_raw="0.93", served_doubts="")
    ran = cli("cache", "forget", "--wrong", "ab", "--json")
    assert ran.json == {"forgotten": [name], "labelled": [name]}
    assert "--wrong-match" in ran.stderr
    assert "--bad-answer" in ran.stderr
    assert "--wrong " not in cli("cache", "forget", "--help").stdout


@pytest.mark.parametrize(
    "arguments", [(), ("ab", "--worker", "vast-1"), ("ab", "--bad-answer", "--wrong-match")]
)
def test_what_is_to_be_forgotten_and_why_must_be_clear(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("cache", "forget", *arguments).code == 2


def test_without_labels_there_is_nothing_to_show(store: Any, redis_server: RedisServer, cli: Cli) -> None:
    lines = [
        "There are no labels yet: the verifier counts as it is.",
        "Served from 0.900 of the verifier on, or 0.937 where a guard doubts.",
        "No semantic hit was audited yet.",
    ]
    assert cli("cache", "tune", "show").stdout.splitlines() == lines
    configure(redis_server, policy="threshold")
    unused = "The policy is `threshold`: it uses none of this."
    assert cli("cache", "tune", "show").stdout.splitlines() == [unused, *lines]


@pytest.mark.parametrize("command", [("show",), ("reset", "--yes")])
def test_of_a_verifier_that_is_missing_here_nobody_says_that_there_are_no_labels(
    store: Any,
    redis_server: RedisServer,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    configure(redis_server, verifier="large")
    monkeypatch.setitem(sys.modules, "llmhost_verifier", None)
    ran = cli("cache", "tune", *command)
    assert (ran.code, ran.stdout, "`large` is not installed" in ran.stderr) == (1, "", True)


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


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_reset_wants_a_yes_and_goes_back_to_what_was_shipped(
    store: Any, cli: Cli, options: tuple[str, ...]
) -> None:
    learnt(store, **RAISED)
    refused = cli("cache", "tune", "reset")
    assert (refused.code, "this forgets what was learnt" in refused.stderr) == (2, True)
    assert store.exists(KEY) == 1
    out = cli("cache", "tune", "reset", "--yes", *options).stdout
    as_text = "forgot 130 labels: the verifier counts as it was shipped\n"
    assert json.loads(out) == {"forgotten": 130} if options else out == as_text
    assert store.exists(KEY) == 0
