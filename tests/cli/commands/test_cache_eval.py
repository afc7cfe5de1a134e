"""`llmhost cache eval`: figures from pairs, for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.cli import Ran

Cli = Callable[..., Ran]

pytestmark = pytest.mark.usefixtures("scripted")


def test_eval_says_as_json_how_good_the_configured_policy_is(cli: Cli, pairs: Path) -> None:
    ran = cli("cache", "eval", str(pairs), "--json")
    made = ran.json
    assert ran.code == 0
    assert list(made)[:9] == [
        *("policy", "pairs", "accepted_same", "accepted_different", "same", "different"),
        *("precision", "precision_interval", "recall"),
    ]
    figures = ("policy", "pairs", "accepted_same", "accepted_different", "same", "different", "precision")
    assert [made[name] for name in figures] == ["verified:0.9", 7, 2, 1, 3, 4, pytest.approx(2 / 3)]
    assert (made["recall"], made["false_accept_rate"]) == (pytest.approx(2 / 3), 0.25)
    assert made["by_kind"]["role"] == {
        "pairs": 2,
        "accepted": 1,
        "same": 0,
        "different": 2,
        "accepted_same": 0,
        "accepted_different": 1,
    }
    assert made["by_guard"]["numbers"]["refused_different"] == 1
    assert (made["exact"], made["skipped_lines"], made["disagreements"]) == (1, 0, [])
    assert set(made["latency_ms"]) == {"p50", "p99"}
    assert list(made["best_recall_at_precision"]) == ["0.80", "0.85", "0.90", "0.95"]
    assert [point["bar"] for point in made["frontier"]][-1] == 0.95


def test_eval_without_a_chart_needs_no_matplotlib(
    cli: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "llmhost.lab.plots", raising=False)
    assert cli("cache", "eval", str(pairs), "--json").code == 0


@pytest.mark.parametrize(
    ("policy", "name", "accepted"),
    [
        ("verified:0.94", "verified:0.94", (2, 0)),
        ("verified", "verified:0.9", (2, 1)),
        ("threshold", "threshold:0.8", (1, 0)),
        ("threshold:0.6", "threshold:0.6", (3, 3)),
        ("threshold:-1", "threshold:-1", (3, 4)),
    ],
)
def test_eval_measures_another_policy(
    cli: Cli, pairs: Path, policy: str, name: str, accepted: tuple[int, int]
) -> None:
    made = cli("cache", "eval", str(pairs), "--policy", policy, "--json").json
    assert made["policy"] == name
    assert (made["accepted_same"], made["accepted_different"]) == accepted


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("best", "`cache.policy` cannot be `best`"),
        ("verified:1", "`cache.confidence` cannot be `1`"),
        ("verified:nan", "`cache.confidence` cannot be `nan`"),
        ("threshold:1.1", "`cache.threshold` cannot be `1.1`"),
    ],
)
def test_eval_refuses_a_policy_that_there_is_not(cli: Cli, pairs: Path, policy: str, words: str) -> None:
    ran = cli("cache", "eval", str(pairs), "--policy", policy)
    assert ran.code == 2
    assert words in ran.stderr


def test_eval_shows_people_figures_kinds_guards_mistakes_and_a_chart(
    cli: Cli, pairs: Path, tmp_path: Path
) -> None:
    chart = tmp_path / "frontier.svg"
    shown = cli("cache", "eval", str(pairs), "--show", "1", "--plot", str(chart)).stdout
    assert chart.read_text().startswith("<?xml")
    assert "verified:0.9 on 7 pairs" in shown
    assert "Precision 66.7 %" in shown
    assert "1 pair with the same wording" in shown
    assert all(word in shown for word in ("paraphrase", "numbers", "0.90 to 0.95", "with the best threshold"))
    assert "accepted, but labelled different (role); similarity 0.667\n  asked   red fish one" in shown
    assert "confidence 0.920 ≥ 0.900" in shown
    assert "labelled the same" not in shown


def test_eval_does_not_let_a_file_write_to_the_terminal(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = {"a": "\x1b[31mred\nfish", "b": "\x1b[31mred  fish two", "same": 1, "kind": "\x1b[2Jk"}
    path.write_text(json.dumps(row))
    shown = cli("cache", "eval", str(path), "--show", "1").stdout
    assert "\x1b" not in shown
    assert "asked   red fish\n" in shown


def test_eval_names_broken_lines_counts_and_skips_them(cli: Cli, pairs: Path) -> None:
    pairs.write_text(pairs.read_text() * 5 + '{"a": 1}\n')
    ran = cli("cache", "eval", str(pairs), "--json")
    assert (ran.code, ran.json["pairs"], ran.json["skipped_lines"]) == (0, 35, 1)
    assert "line 36: 'a' is not a text" in ran.stderr


@pytest.mark.parametrize("command", ["eval", "tune"])
def test_a_file_that_makes_no_sense_is_one_line_and_exit_code_2(
    cli: Cli, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("not json\n" * 3)
    ran = cli("cache", command, str(path))
    assert (ran.code, ran.stdout) == (2, "")
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: pairs.jsonl: 3 of 3 lines make no sense: line 1: it is not JSON")


def test_a_limit_takes_the_same_pairs_each_time(cli: Cli, pairs: Path) -> None:
    made = [cli("cache", "eval", str(pairs), "--limit", "3", "--json").json for _ in range(2)]
    assert [one["pairs"] for one in made] == [3, 3]
    assert made[0]["by_kind"] == made[1]["by_kind"]
    assert "verified:0.9 on 1 pair\n" in cli("cache", "eval", str(pairs), "--limit", "1").stdout


def test_what_labels_have_taught_goes_with_the_verified_policy_only(cli: Cli, pairs: Path) -> None:
    ran = cli("cache", "eval", str(pairs), "--learned", "--policy", "threshold")
    assert (ran.code, "--learned goes with the policy verified" in ran.stderr) == (2, True)


@pytest.mark.parametrize(
    ("plot", "words"),
    [
        ("frontier.pdf", "cannot draw frontier.pdf"),
        ("folder.svg", "folder.svg: it is a folder"),
        ("read-only/frontier.svg", "frontier.svg: its folder may not be written to"),
    ],
)
def test_eval_refuses_a_chart_that_it_cannot_draw_before_it_begins(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, plot: str, words: str
) -> None:
    Path("folder.svg").mkdir()
    Path("read-only").mkdir()
    if "read-only" in plot:
        monkeypatch.setattr("os.access", lambda *_: False)  # who runs the tests may write anywhere
    ran = cli("cache", "eval", "none.jsonl", "--plot", plot)
    assert (ran.code, words in ran.stderr) == (2, True)
