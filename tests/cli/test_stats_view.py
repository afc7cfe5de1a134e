"""What `llmhost stats` shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from doubles.stats import STATS, TARGETS
from rich.console import Console, RenderableType

from llmhost.cache.calibration import LabelsReport, Tally
from llmhost.cli.stats_view import Stats, goals, picture, show_reconciled, show_rows, sparkline
from llmhost.fleet.spending import Reconciled
from llmhost.ledger.report import Percentiles, make_report
from llmhost.ledger.totals import Totals


def drawn(shown: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(shown)
    return captured.get().splitlines()


def audited(right: int, wrong: int) -> Stats:
    """The same, of which so many semantic hits were audited."""
    return replace(STATS, labels=LabelsReport({"audit": {"0.9": Tally(right, wrong)}}))


def raised(made: Stats) -> Stats:
    """The same, of which audits raised the threshold."""
    return replace(made, labels=LabelsReport({"audit": {"0.9": Tally(90, 10)}}, raised=2))


def on_trial(made: Stats) -> Stats:
    """The same, of a cache that is in shadow."""
    shadow = replace(made.report.shadow, exact_hits=90, semantic_hits=9, hit_ratio=0.5)
    return replace(made, report=replace(made.report, shadow=shadow))


def error_goal(made: Stats) -> bool | None:
    (goal,) = (goal for goal in goals(made) if goal.name == "served_error")
    return goal.met


@pytest.mark.parametrize(("width", "everything", "most"), [(80, True, 40), (120, True, 31), (120, False, 11)])
def test_the_screen_fits_and_no_line_of_it_wraps(width: int, everything: bool, most: int) -> None:
    lines = drawn(picture(STATS, width=width, everything=everything), width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= most
    starts = [line.split()[0] for line in lines if line.strip()]
    assert starts[:3] == ["The", "questions", "exact,"]
    assert starts.count("hit") >= 2
    assert starts.count("elsewhere") == everything


def test_the_screen_fits_into_a_terminal_of_24_lines_beside_the_prompts() -> None:
    assert len(drawn(picture(STATS, width=80), 80)) <= 19


@pytest.mark.parametrize("made", [raised(STATS), on_trial(STATS)], ids=["raised", "on trial"])
def test_what_is_unusual_fits_too(made: Stats) -> None:
    assert len(drawn(picture(made, width=80), 80)) <= 23


def test_the_screen_has_what_an_operator_acts_on() -> None:
    text = " ".join(" ".join(drawn(picture(STATS, width=80), 80)).split())
    for figure in (
        "questions 51,003",
        "hit ratio 75 %",
        "exact, semantic 24,000, 12,000",
        "hit p50, p95 15, 15 ms",
        "miss p50, p95 3,052, 3,052 ms",
        "spent ~$25.20",
        "a question ~$0.00049",
        "saved by hits $7.20",
        "Redis 88.7 MiB, 0 evicted",
        "wrong hits < 2 % 0.1 to 1.7 % yes",
    ):
        assert figure in text


def test_hits_that_only_the_start_of_a_command_makes_late_are_told_apart() -> None:
    words = "in process; the rest is a command that starts"

    def shown(user: float, process: float) -> str:
        late = Percentiles(user, user, user), Percentiles(process, process, process)
        targets = [
            replace(target, met=user < target.target) if target.name == "hit_p95_ms" else target
            for target in STATS.report.targets
        ]
        report = replace(STATS.report, hit_user_ms=late[0], hit_ms=late[1], targets=targets)
        return "\n".join(drawn(picture(replace(STATS, report=report), width=80), 80))

    assert f"hit p95 is 31 ms {words}" in shown(310, 31)
    assert words not in shown(31, 2)
    assert words not in shown(900, 800)


def test_the_wide_screen_is_shorter() -> None:
    assert len(drawn(picture(STATS, width=120), 120)) < len(drawn(picture(STATS, width=80), 80))


def test_the_chart_is_not_dim() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", no_color=False)
    with console.capture() as captured:
        console.print(picture(STATS))
    assert "\x1b[32m.▇" in captured.get()


def test_before_the_first_question_nothing_is_drawn_and_no_goal_is_met_or_missed() -> None:
    nothing = make_report(Totals(), [], TARGETS, 0.0, 3600.0)
    made = replace(audited(0, 0), report=nothing, workers=[], tenants=[], versus=[], top=[])
    assert not any("a mark for" in line for line in drawn(picture(made), 80))
    assert {goal.met for goal in goals(made)} == {None}


def test_a_chart_has_a_mark_for_each_part_and_a_dot_where_nothing_was_asked() -> None:
    assert sparkline([0.0, None, 0.5, 0.99, 1.0]) == "▁.▅██"
    assert sparkline([0.0, None, 0.5, 1.0], unicode=False) == "0.47"


@pytest.mark.parametrize(
    ("right", "wrong", "met"), [(0, 0, None), (10, 0, None), (500, 0, True), (100, 20, False), (98, 2, None)]
)
def test_the_goal_for_wrong_hits_is_met_once_the_whole_interval_is(
    right: int, wrong: int, met: bool | None
) -> None:
    assert error_goal(audited(right, wrong)) is met


@pytest.mark.parametrize("by", ["day", "worker", "tenant", "model"])
def test_rows_fit_in_80_columns(by: str) -> None:
    assert max(len(line) for line in drawn(show_rows(STATS, by), 80)) <= 80


def test_a_difference_from_the_bill_is_shown_with_its_parts() -> None:
    rows: Sequence[Reconciled] = [
        Reconciled(
            "vast-1", 2.3, 1.72, -0.58, {"time and price": 0.02, "traffic": -0.1, "not billed yet": -0.5}
        ),
        Reconciled("vast-2", 0.1, None, None, {}),
    ]
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as captured:
        show_reconciled(rows, console)
    text = captured.get()
    assert "time and price $0.020, traffic -$0.10, not billed yet -$0.50" in text
    assert "not yet" in text
    narrow = Console(file=io.StringIO(), width=80)
    with narrow.capture() as captured:
        show_reconciled(rows, narrow)
    ends = [line.rstrip()[-len("not billed yet -$0.50") :].strip() for line in captured.get().splitlines()]
    assert ends[2:5] == ["time and price $0.020", "traffic -$0.10", "not billed yet -$0.50"]


@pytest.mark.parametrize("by", ["model", "tenant"])
def test_a_usual_name_stands_in_one_line_of_a_narrow_terminal_beside_large_figures(by: str) -> None:
    one = replace(STATS.models[0], requests=48_001, prompt_tokens=10_800_000, completion_tokens=98_400_000)
    names = ["qwen2:7b-instruct-q6_K", "toy"]
    rows = [replace(one, name=name) for name in names]
    lines = drawn(show_rows(replace(STATS, models=rows, tenants=rows), by), 80)
    assert [line.split()[0] for line in lines[-2:]] == names
    assert "10.8M" in lines[-1]
