"""`llmhost cache replay`: what people see, what scripts may rely on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.embedders import WordEmbedder

from llmhost.cache.policy import Thresholds, VerifiedPolicy
from llmhost.errors import ModelError

Run = Callable[..., Any]

STREAM = [
    ("how tall is everest", "height"),
    ("how old is everest", "age"),
    ("how tall is mount everest", "height"),
    ("how tall is everest", "height"),
]


@pytest.fixture(autouse=True)
def bars_asked_for(monkeypatch: pytest.MonkeyPatch) -> list[Thresholds]:
    """Words for an embedder, and a verifier that is sure where both say the same word before `is`."""
    asked_for = []

    async def embedder(_: object) -> WordEmbedder:
        return WordEmbedder()

    def policy(_verifier: str, thresholds: Thresholds, _note: object) -> VerifiedPolicy:
        asked_for.append(thresholds)
        return VerifiedPolicy(lambda *_: (), verify, thresholds)

    def verify(question: str, stored: str) -> float:
        return 0.99 if question.split()[1] == stored.split()[1] else 0.01

    monkeypatch.setattr("llmhost.wiring.questions.CacheParts.embedder", embedder)
    monkeypatch.setattr("llmhost.wiring.questions.verified_policy", policy)
    return asked_for


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    path = tmp_path / "stream.jsonl"
    lines = [json.dumps({"question": question, "class": about}) for question, about in STREAM]
    path.write_text("\n".join(lines))
    return path


def configure(text: str) -> None:
    Path("llmhost.yaml").write_text(text)


def test_scripts_find_every_policy_and_how_it_filled(cli: Run, stream: Path) -> None:
    configure("cache: {threshold: 0.7}")
    found = cli("cache", "replay", str(stream), "--json").json
    assert (found["questions"], found["broken"], found["threshold"]) == (4, 0, 0.7)
    assert list(found["policies"]) == ["verified", "threshold"]
    assert found["policies"]["verified"] == {
        "questions": 4,
        "exact_hits": 1,
        "semantic_hits": 1,
        "wrong_exact_hits": 0,
        "wrong_semantic_hits": 0,
        "wrong_hits": 0,
        "hit_ratio": 0.5,
        "wrong_share_of_hits": 0.0,
        "explored": 0,
    }
    assert found["policies"]["threshold"]["wrong_hits"] == 1
    assert [point["questions"] for point in found["points"]] == [1, 2, 3, 4]
    assert found["points"][-1]["policies"]["verified"] == {"hit_ratio": 0.5, "wrong_hits": 0}


def test_replay_without_a_chart_needs_no_matplotlib(
    cli: Run, stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "llmhost.lab.plots", raising=False)
    assert cli("cache", "replay", str(stream), "--json").code == 0


def test_people_see_a_table_and_what_it_means(cli: Run, stream: Path) -> None:
    configure("cache: {threshold: 0.7}")
    shown = " ".join(cli("cache", "replay", str(stream)).stdout.split())
    assert "verified 50 % 1 1 0 0 %" in shown
    assert "verified: 2 of 4 served, none wrong. threshold: 3 of 4 served, 1 wrong, 1 hit in 3." in shown
    assert "verified: nothing was served." in cli("cache", "replay", str(stream), "--limit", "1").stdout


def test_the_option_of_the_learned_threshold_is_accepted_and_does_nothing(cli: Run, stream: Path) -> None:
    ran = cli("cache", "replay", str(stream), "--max-error", "0.1", "--json")
    assert (ran.code, list(ran.json["policies"])) == (0, ["verified", "threshold"])
    assert "--max-error does nothing" in ran.stderr


def test_no_judge_is_asked_even_where_one_is_configured(
    cli: Run, stream: Path, bars_asked_for: list[Thresholds]
) -> None:
    configure("cache: {policy: threshold, judge: true}")
    cli("cache", "replay", str(stream))
    assert [thresholds.judge for thresholds in bars_asked_for] == [None]


def test_a_chart_is_drawn(cli: Run, stream: Path) -> None:
    assert cli("cache", "replay", str(stream), "--plot", "out.svg").code == 0
    drawn = Path("out.svg").read_text()
    assert drawn.startswith("<?xml")
    assert drawn.rstrip().endswith("</svg>")


def test_a_chart_that_cannot_be_drawn_is_refused_before_anything_is_played(cli: Run, stream: Path) -> None:
    ran = cli("cache", "replay", str(stream), "--plot", "out.gif")
    assert (ran.code, ran.stdout) == (2, "")
    assert "name it .svg or .png" in ran.stderr


def test_broken_lines_are_named_counted_and_left_out(cli: Run, stream: Path) -> None:
    stream.write_text((stream.read_text() + "\n") * 10 + '{"question": "why?"}\n')
    ran = cli("cache", "replay", str(stream), "--json")
    assert (ran.code, ran.json["broken"], ran.json["questions"]) == (0, 1, 40)
    assert "stream.jsonl: 1 line makes no sense and is skipped: line 41: 'class' is missing" in ran.stderr


def test_a_file_of_something_else_is_refused(cli: Run, stream: Path) -> None:
    stream.write_text("a,b\n1,2\n")
    ran = cli("cache", "replay", str(stream))
    assert (ran.code, ran.stdout) == (2, "")
    assert "2 of 2 lines make no sense" in ran.stderr
    assert 'write {"question": "...", "class": "..."} on each line' in ran.stderr


def test_without_a_verifier_it_ends_with_what_is_wrong(
    cli: Run, stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise ModelError("the verifier is missing", hint="install llmhost again")

    monkeypatch.setattr("llmhost.wiring.questions.verified_policy", missing)
    ran = cli("cache", "replay", str(stream))
    assert (ran.code, "the verifier is missing" in ran.stderr) == (1, True)
