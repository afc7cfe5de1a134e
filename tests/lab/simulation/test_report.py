"""The rows of a report, its chart, and how both are shown."""

from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from doubles.simulated import SPEC, make_trace, poisson_trace, world
from rich.console import Console

from llmhost.cli.commands.scale_simulate import show_simulation, simulation_json
from llmhost.cli.output import Output
from llmhost.errors import UsageError
from llmhost.lab.plots import plot_simulation
from llmhost.lab.simulation.baselines import Fixed
from llmhost.lab.simulation.report import (
    CLAIRVOYANT,
    POLICY,
    REQUEST_RATE,
    Scenario,
    SimulationReport,
    simulate,
)

NAMES = [POLICY, CLAIRVOYANT, REQUEST_RATE, "fixed at peak", "fixed at mean"]


@pytest.fixture(scope="module")
def report() -> SimulationReport:
    return simulate(poisson_trace(2.0, 4000), world(hit_ratio=0.25), SPEC)


def drawn(report: SimulationReport, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    with console.capture() as captured:
        show_simulation(report, console)
    return captured.get().splitlines()


def test_there_is_a_row_for_everybody(report: SimulationReport) -> None:
    assert [row.name for row in report.rows] == NAMES
    assert report.row(CLAIRVOYANT).versus_clairvoyant == 1


def test_a_fixed_fleet_is_billed_to_the_cent() -> None:
    trace = make_trace([0.0, 1000.0, 3000.0, 3600.0])
    scenario = Scenario(trace, world(price=0.5), SPEC)
    row = scenario.row("three", Fixed(3, 60.0))
    assert row.cost_usd == pytest.approx(3 * trace.span / 3600 * 0.5)
    assert row.cost_per_1000 == pytest.approx(row.cost_usd / 4 * 1000)
    assert row.utilisation == pytest.approx(4 / (3 * trace.span))
    assert (row.mean_size, row.peak_size, row.purchases) == (3, 3, 0)


def test_the_figures_of_every_row_agree_and_the_work_is_the_least_cost(
    report: SimulationReport,
) -> None:
    answers = len(report.load) + report.load.hits  # hits are answers that cost nothing
    assert report.row(POLICY).cost_per_1000 == pytest.approx(report.row(POLICY).cost_usd / answers * 1000)
    for row in report.rows:
        assert row.cost_usd >= report.floor_usd
        assert 0 <= row.wait_p50 <= row.wait_p95 <= row.wait_p99
        assert 0 <= row.in_time <= 1
        assert 0 < row.utilisation <= 1


def test_a_trace_that_gets_no_worker_has_a_report_all_the_same() -> None:
    trace = make_trace([0.0, 1.0, 2.0])
    scenario = Scenario(trace, world(), replace(SPEC, min_gpus=0))
    row = scenario.row("none", Fixed(0, 60.0))
    assert (row.in_time, row.cost_usd, row.cost_per_1000, row.utilisation) == (0, 0, 0, 0)
    assert math.isinf(row.wait_p50)


def test_all_begin_with_the_same_workers_but_the_fixed_fleets(report: SimulationReport) -> None:
    begun = [row.played.sizes[0] for row in report.rows[:3]]
    assert begun[0] == begun[2]  # the clairvoyant fleet may end some at once, or buy


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.0], [0.0, 90_000.0]])
def test_the_smallest_traces_have_a_report(times: list[float]) -> None:
    made = simulate(make_trace(times), world(price=0, boot_seconds=0), SPEC)
    assert [row.in_time for row in made.rows] == [1] * len(NAMES)
    assert all(row.cost_usd == 0 < row.versus_clairvoyant for row in made.rows)


def test_progress_names_each_row() -> None:
    told: list[str] = []
    simulate(poisson_trace(0.5, 500), world(), SPEC, lambda row, _: told.append(row))
    assert list(dict.fromkeys(told)) == NAMES


def test_the_tables_fit_in_80_columns(report: SimulationReport) -> None:
    lines = drawn(report, 80)
    assert max(map(len, lines)) <= 80
    for name in NAMES:
        assert sum(line.startswith(f"{name}  ") for line in lines) == 2


def test_who_waits_for_ever_is_said_so() -> None:
    scenario = Scenario(make_trace([0.0, 1.0]), world(), replace(SPEC, min_gpus=0))
    row = scenario.row("none", Fixed(0, 60.0))
    text = "\n".join(drawn(SimulationReport((row,), 0.0, scenario.load), 100))
    assert "never" in text
    assert "0.0 %" in text


def test_json_has_the_rows_and_not_what_was_played(
    report: SimulationReport, capsys: pytest.CaptureFixture[str]
) -> None:
    Output(json=True).document(simulation_json(report))
    told = json.loads(capsys.readouterr().out)
    assert told["questions"] == len(report.load) + report.load.hits
    assert [row["name"] for row in told["rows"]] == NAMES
    assert "played" not in told["rows"][0]


@pytest.mark.parametrize(
    ("name", "head"), [("a.svg", b"<?xml"), ("b.png", b"\x89PNG"), ("C.PNG", b"\x89PNG")]
)
def test_a_chart_is_written_whole(report: SimulationReport, tmp_path: Path, name: str, head: bytes) -> None:
    (tmp_path / name).write_bytes(b"older")
    plot_simulation(report, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(head)
    assert (tmp_path / name).stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


def test_the_same_report_is_the_same_chart(report: SimulationReport, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot_simulation(report, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_without_matplotlib_the_extra_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "llmhost.lab.plots")
    with pytest.raises(UsageError) as caught:
        import_module("llmhost.lab.plots")
    assert caught.value.message == "a chart needs matplotlib"
    assert caught.value.hint == "run `pip install 'llmhost[plots]'`"
