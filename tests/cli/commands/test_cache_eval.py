"""`llmhost cache eval` and `cache tune`: figures from pairs, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.scripted_verifier import DOUBT, REFUSAL, ScriptedGuards, ScriptedVerifier
from doubles.word_embedder import WordEmbedder
from plugins.cli import Ran

from llmhost.cache.policy import CachePolicy, ThresholdPolicy, VerifiedPolicy
from llmhost.wiring.questions import CacheParts, thresholds

Cli = Callable[..., Ran]

#: asked, stored, the same?, kind; what the verifier says of the stored one, and what guards object
ROWS = [
    ("red fish one", "red fish two", 1, "paraphrase", 0.95, []),
    ("red fish one", "red fish three", 1, "paraphrase", 0.7, []),
    ("red fish one", "red fish 5", 0, "number", 0.99, [REFUSAL]),
    ("red fish one", "red fish four", 0, "role", 0.93, [DOUBT]),
    ("red fish one", "red fish six", 0, "role", 0.92, []),
    ("red fish", "red  fish", 1, None, 0.0, []),
    ("red fish one", "green tea", 0, "unrelated", 0.0, []),
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"a": a, "b": b, "same": same, "kind": kind} for a, b, same, kind, _, _ in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that say what stands in ROWS, in place of the real ones, which take seconds to load; and a
    threshold that stays where it is when the default moves.
    """
    monkeypatch.setenv("LLMHOST_CACHE__CONFIDENCE", "0.9")
    verifier = ScriptedVerifier({row[1]: row[4] for row in ROWS})
    guards = ScriptedGuards({row[1]: row[5] for row in ROWS})

    async def embedder(_: CacheParts) -> WordEmbedder:
        return WordEmbedder()

    async def policy(parts: CacheParts) -> CachePolicy:
        config = parts._config.cache
        if config.policy == "threshold":
            return ThresholdPolicy(config.threshold)
        return VerifiedPolicy(guards, verifier.probability, thresholds(config))

    monkeypatch.setattr(CacheParts, "embedder", embedder)
    monkeypatch.setattr(CacheParts, "policy", policy)


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
        ("best", "there is no such policy"),
        ("verified:1", "the threshold must be a number, at least 0.5 and below 1"),
        ("verified:nan", "the threshold must be a number"),
        ("verified:", "the threshold must be a number"),
        ("threshold:1.1", "the threshold must be a number, at least -1 and at most 1"),
    ],
)
def test_eval_refuses_a_policy_that_there_is_not(cli: Cli, pairs: Path, policy: str, words: str) -> None:
    ran = cli("cache", "eval", str(pairs), "--policy", policy)
    assert ran.code == 2
    assert words in ran.stderr


def test_eval_shows_people_figures_kinds_guards_and_mistakes(cli: Cli, pairs: Path) -> None:
    shown = cli("cache", "eval", str(pairs), "--show", "1").stdout
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


def test_a_limit_takes_so_many_pairs(cli: Cli, pairs: Path) -> None:
    made = [cli("cache", "eval", str(pairs), "--limit", "3", "--json").json for _ in range(2)]
    assert [one["pairs"] for one in made] == [3, 3]
    assert made[0]["by_kind"] == made[1]["by_kind"]


def test_what_labels_have_taught_goes_with_the_verified_policy_only(cli: Cli, pairs: Path) -> None:
    ran = cli("cache", "eval", str(pairs), "--learned", "--policy", "threshold")
    assert (ran.code, "--learned goes with the policy verified" in ran.stderr) == (2, True)


def test_eval_draws_the_frontier(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    path = tmp_path / "frontier.svg"
    assert cli("cache", "eval", str(pairs), "--plot", str(path)).code == 0
    assert path.read_text().startswith("<?xml")


def test_eval_refuses_a_chart_that_it_cannot_draw_before_it_begins(cli: Cli, tmp_path: Path) -> None:
    ran = cli("cache", "eval", str(tmp_path / "none.jsonl"), "--plot", "frontier.pdf")
    assert (ran.code, "cannot draw frontier.pdf" in ran.stderr) == (2, True)


def test_eval_refuses_to_draw_over_a_folder_before_it_begins(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "frontier.svg").mkdir()
    ran = cli("cache", "eval", str(tmp_path / "none.jsonl"), "--plot", str(tmp_path / "frontier.svg"))
    assert (ran.code, "frontier.svg: it is a folder" in ran.stderr) == (2, True)


def test_eval_refuses_to_draw_into_a_read_only_folder_before_it_begins(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # who runs the tests may write anywhere
    ran = cli("cache", "eval", str(tmp_path / "none.jsonl"), "--plot", str(tmp_path / "frontier.svg"))
    assert (ran.code, "frontier.svg: its folder may not be written to" in ran.stderr) == (2, True)


def test_eval_of_one_pair_speaks_of_one_pair(cli: Cli, pairs: Path) -> None:
    assert "verified:0.9 on 1 pair\n" in cli("cache", "eval", str(pairs), "--limit", "1").stdout


def test_tune_suggests_the_lowest_threshold_and_says_what_to_write(cli: Cli, pairs: Path) -> None:
    ran = cli("cache", "tune", str(pairs), "--max-error", "0.01")
    assert ran.code == 0
    assert "at most 1 % of what is served wrong" in ran.stdout
    assert ran.stdout.endswith("cache:\n  confidence: 0.921\n")
    assert "warning: too few pairs to be sure" in ran.stderr


def test_tune_says_so_as_json(cli: Cli, pairs: Path) -> None:
    made = cli("cache", "tune", str(pairs), "--max-error", "0.4", "--max-false-accept", "0.3", "--json").json
    suggested = made["suggested"]
    assert (suggested["confidence"], suggested["hits"], suggested["wrong"]) == (0.89, 2, 1)
    assert (suggested["precision"], suggested["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert suggested["false_accept_rate"] == 0.25
    assert made["wanted"] == {"error": 0.4, "false_accept": 0.3}
    assert (made["present"], made["supported"], len(made["warnings"])) == (0.9, False, 1)
    assert 0.9 in [row["confidence"] for row in made["rows"]]


def test_tune_says_where_no_threshold_achieves_it(cli: Cli, pairs: Path) -> None:
    pairs.write_text(json.dumps({"a": "red fish one", "b": "red fish six", "same": 0}))
    ran = cli("cache", "tune", str(pairs), "--max-error", "0.01")
    assert "No threshold achieves this: at most 1 % of what is served wrong" in ran.stdout
    assert (ran.code, "no pair of the file is labelled the same" in ran.stderr) == (0, True)


def test_tune_suggests_the_verified_policy_where_another_is_configured(
    cli: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMHOST_CACHE__POLICY", "threshold")
    shown = cli("cache", "tune", str(pairs), "--max-error", "0.01").stdout
    assert "cache:\n  policy: verified\n  confidence: 0.921" in shown
    assert "present" not in shown


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "no pairs to tune with"),
        (("--judge",), "no pairs to tune with"),
        (("--show", "--reset"), "--judge, --show and --reset exclude each other"),
        (("pairs.jsonl", "--judge", "--limit", "1"), "the judge needs two pairs at least"),
        (("judge", "pairs.jsonl", "--max-error", "0.1"), "no such option --max-error"),
        (("show", "--yes"), "no such option --yes"),
    ],
)
def test_tune_refuses_options_that_do_not_go_together(cli: Cli, args: tuple[str, ...], words: str) -> None:
    ran = cli("cache", "tune", *args)
    assert ran.code == 2
    assert words in ran.stderr


@pytest.mark.parametrize("command", ["eval", "tune"])
def test_help_has_examples(cli: Cli, command: str) -> None:
    assert f"llmhost cache {command} pairs.jsonl" in cli("cache", command, "--help").stdout
