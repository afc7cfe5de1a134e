"""`llmhost scale`: what people see, what scripts and cron may rely on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmhost.autoscale.models import Blocked, Observed, ScaleAction, ScaleDecision, StepResult
from llmhost.autoscale.state import History, StepRecord
from llmhost.errors import LimitError, LlmhostError, PartialError, UnreachableError

Run = Callable[..., Any]

SEEN = Observed(
    demand_tokens_per_s=420.0,
    demand_long_tokens_per_s=380.0,
    demand_peak_tokens_per_s=510.0,
    supply_tokens_per_s=900.0,
    watched_seconds=300.0,
    ready=3,
    ceiling=8,
    floor=1,
    boot_seconds=180.0,
)
QUIET = ScaleDecision("hold", 3, 3, "demand 420, capacity 900 tok/s", SEEN)
GROWS = ScaleDecision("up", 3, 5, "demand 1,420, capacity 900 tok/s: utilization 158%, over 85%", SEEN, buy=2)


@dataclass
class ScriptedScaler:
    """Comes to the result that a test wants, and remembers what it was asked for."""

    result: StepResult = field(default_factory=lambda: StepResult(QUIET))
    past: tuple[StepRecord, ...] = ()
    damaged: int = 0
    asked: dict[str, Any] = field(default_factory=dict)

    async def step(self, *, dry_run: bool, on_progress: object) -> StepResult:
        self.asked["dry_run"] = dry_run
        return self.result

    async def history(self, count: int) -> History:
        found = History(self.past[-count:])
        found.damaged = self.damaged
        return found


@pytest.fixture
def scaler(monkeypatch: pytest.MonkeyPatch) -> ScriptedScaler:
    scripted = ScriptedScaler()

    async def made(_: object) -> ScriptedScaler:
        return scripted

    monkeypatch.setattr("llmhost.wiring.parts.Wiring.scaler", made)
    return scripted


def record(number: int, **changes: Any) -> StepRecord:
    values: dict[str, Any] = {"decision": "hold", "before": 3, "after": 3, "reason": f"reason {number}"}
    return StepRecord(at=1_700_000_000.0 + number * 60, **{**values, **changes})


# One step


def test_a_step_that_does_nothing_is_one_line(cli: Run, scaler: ScriptedScaler) -> None:
    assert cli("scale").stdout == "hold: 3 workers; demand 420, capacity 900 tok/s\n"
    scaler.result = StepResult(ScaleDecision("hold", 0, 0, "another command changes this fleet", Observed()))
    assert cli("scale").stdout == "hold: another command changes this fleet\n"


def test_a_step_is_shown_before_anyone_is_notified(
    cli: Run, scaler: ScriptedScaler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []

    async def notify(_wiring: object, result: StepResult) -> list[str]:
        assert result is scaler.result
        shown.append(capsys.readouterr().out)
        return ["webhook got no notification: no answer within 10 s"]

    monkeypatch.setattr("llmhost.wiring.parts.Wiring.notify", notify)
    monkeypatch.setenv("LLMHOST_NOTIFY__COMMAND", "true")
    ran = cli("scale")
    assert shown == ["hold: 3 workers; demand 420, capacity 900 tok/s\n"]
    assert "warning: webhook got no notification" in ran.stderr
    assert "webhook" not in cli("scale", "--dry-run").stderr


def test_a_queue_is_shown_and_no_text_controls_the_terminal(cli: Run, scaler: ScriptedScaler) -> None:
    evil, seen = "\x1b[2Jw1", Observed(in_flight=6, waiting=4, queue_seconds=math.inf, ready=1, booting=2)
    bought = ScaleAction("buy", evil, evil, done=True)
    scaler.result = StepResult(ScaleDecision("up", 1, 2, evil, seen), (bought,), (evil,))
    ran = cli("scale", "--dry-run")
    assert "\x1b" not in ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[2:4] == [
        "capacity   0 tok/s; 1 worker ready, 2 booting",
        "in flight  6 questions, 4 waiting (no worker is ready)",
    ]


def test_what_was_done_is_listed_in_its_order(cli: Run, scaler: ScriptedScaler) -> None:
    scaler.result = StepResult(
        GROWS,
        (
            ScaleAction("repair", "w1", "its process ended", done=True),
            ScaleAction("finish", "w2", "last answer finished", done=True),
            ScaleAction("revive", "w3", "needed again", done=True),
            ScaleAction("buy", "w4", "RTX 4090, $0.310/h", done=True),
            ScaleAction("drain", "w5", "gets no more questions", done=True),
            ScaleAction("end", "w5", "last answer finished", done=True),
            ScaleAction("buy", None, "no offer fits", done=False),
        ),
    )
    assert cli("scale").stdout.splitlines() == [
        f"up: 3 → 5 workers; {GROWS.reason}",
        "  destroyed w1: its process ended",
        "  destroyed w2: last answer finished",
        "  kept w3: needed again",
        "  started w4: RTX 4090, $0.310/h",
        "  draining w5: gets no more questions",
        "  destroyed w5: last answer finished",
        "  could not start a worker: no offer fits",
    ]


def test_a_rehearsal_says_what_would_be_done_and_what_was_seen(cli: Run, scaler: ScriptedScaler) -> None:
    planned = ScaleAction("buy", None, "one more worker", done=False)
    scaler.result = StepResult(
        GROWS, (ScaleAction("repair", "w1", "it is lost", done=False), planned, planned)
    )
    lines = cli("scale", "--dry-run").stdout.splitlines()
    assert scaler.asked == {"dry_run": True}
    assert lines[1:3] == ["  would destroy w1: it is lost", "  would start 2 workers"]
    assert lines[3:] == [
        "demand    420 tok/s in the last minute; in 5 min: 380 on average, 510 at most",
        "capacity  900 tok/s; 3 workers ready",
        "limits    1 to 8 workers; a boot takes 3 min",
        "Dry run: nothing was changed.",
    ]


def test_scripts_get_the_fields_that_are_promised(cli: Run, scaler: ScriptedScaler) -> None:
    scaler.result = StepResult(
        ScaleDecision(
            "up", 3, 4, "why", Observed(queue_seconds=math.inf), blocked=Blocked("budget", "b", "h")
        ),
        (ScaleAction("buy", "w4", "cheap", done=True),),
    )
    told = cli("scale", "--json").json
    observed = told.pop("observed")
    assert told == {
        "decision": "up",
        "from": 3,
        "to": 4,
        "reason": "why",
        "actions": [{"kind": "buy", "worker": "w4", "detail": "cheap", "done": True}],
        "dry_run": False,
        "blocked": {"kind": "budget", "message": "b", "hint": "h"},
    }
    assert set(observed) == set(Observed.__dataclass_fields__)
    assert observed["queue_seconds"] is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PartialError("one failed", hint="look"), 3),
        (LimitError("$9 of $8", hint="look"), 4),
        (UnreachableError("no list", hint="look"), 5),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",), ("--quiet",), ("--dry-run",)])
def test_the_result_comes_first_and_then_what_stood_in_the_way(
    cli: Run, scaler: ScriptedScaler, error: LlmhostError, code: int, form: tuple[str, ...]
) -> None:
    scaler.result = StepResult(GROWS, error=error)
    ran = cli("scale", *form)
    assert ran.code == code
    assert ran.stdout.startswith("{" if form == ("--json",) else "up: 3 → 5 workers")
    assert ran.stderr.endswith(f"error: {error.message}\nhint:  look\n")


# Under cron


def test_cron_gets_what_was_done_with_warnings_and_errors_and_nothing_else(
    cli: Run, scaler: ScriptedScaler
) -> None:
    nothing = cli("scale", "--quiet")
    assert (nothing.code, nothing.stdout, nothing.stderr) == (0, "", "")
    scaler.result = StepResult(QUIET, (ScaleAction("finish", "w2", "last answer finished", done=True),))
    assert cli("scale", "--quiet").stdout.splitlines()[1:] == ["  destroyed w2: last answer finished"]
    scaler.result = StepResult(QUIET, (ScaleAction("finish", "static-1", "last answer finished", done=True),))
    assert cli("scale", "--quiet").stdout.splitlines()[1:] == ["  released static-1: last answer finished"]
    scaler.result = StepResult(QUIET, warnings=("a record is damaged",), error=UnreachableError("no list"))
    failed = cli("scale", "--quiet")
    assert (failed.code, failed.stdout) == (5, "")
    assert failed.stderr == "warning: a record is damaged\nerror: no list\n"


# History


def test_people_see_the_newest_steps_and_scripts_see_all(cli: Run, scaler: ScriptedScaler) -> None:
    assert cli("scale", "history").stdout == "No scaling steps yet. Run `llmhost scale`.\n"
    assert cli("scale", "history", "--json").json == {"decisions": []}
    scaler.past, scaler.damaged = tuple(record(n, decision="up", after=4) for n in range(30)), 2
    shown = cli("scale", "history")
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["time", "decision", "workers", "why"]
    assert [line.split()[-1] for line in lines[2:]] == [str(n) for n in range(10, 30)]
    assert shown.stderr.endswith("warning: 2 past steps cannot be read, and are left out\n")
    told = cli("scale", "history", "--json").json["decisions"]
    assert [step["reason"] for step in told] == [f"reason {n}" for n in range(30)]


def test_history_fits_in_80_columns(
    cli: Run, scaler: ScriptedScaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    scaler.past = (record(1, reason=GROWS.reason * 3, before=120, after=128, decision="down"),)
    lines = cli("scale", "history").stdout.splitlines()
    assert (max(map(len, lines)) <= 80, sum("120 → 128" in line for line in lines)) == (True, 1)


def test_the_last_steps_can_be_chosen_each_on_its_own(cli: Run, scaler: ScriptedScaler) -> None:
    scaler.past = tuple(record(n) for n in range(30))
    assert len(cli("scale", "history", "--last", "25").stdout.splitlines()) == 2 + 25
    assert len(cli("scale", "history", "--last", "2", "--json").json["decisions"]) == 2


def test_steps_that_changed_nothing_are_one_row(cli: Run, scaler: ScriptedScaler) -> None:
    broken = {"kind": "repair", "worker": "w1", "detail": "it is gone", "done": True}
    scaler.past = (
        *(record(n) for n in range(100)),
        record(100, decision="up", after=4),
        *(record(n, before=4, after=4) for n in range(101, 104)),
        record(104, before=4, after=4, actions=(broken,)),
        record(105, before=4, after=4),
        record(106, before=4, after=4, blocked="budget"),
        record(107, before=4, after=4, observed={"ceiling": 8}),
    )
    lines = cli("scale", "history").stdout.splitlines()[2:]
    assert [line.partition("reason ")[2] for line in lines if "reason" in line] == [
        "99 (last of 100 such steps)",
        "100",
        "103 (last of 3 such steps)",
        "104",
        "105",
        "106",
        "107",
    ]


def test_a_past_step_is_told_in_full(cli: Run, scaler: ScriptedScaler) -> None:
    action = {"kind": "buy", "worker": "w4", "detail": "cheap", "done": True}
    scaler.past = (record(1, after=4, observed={"ready": 3}, actions=(action,), blocked="budget"),)
    assert cli("scale", "history", "--json").json["decisions"] == [
        {
            "at": 1_700_000_060.0,
            "decision": "hold",
            "from": 3,
            "to": 4,
            "reason": "reason 1",
            "observed": {"ready": 3},
            "actions": [action],
            "blocked": "budget",
        }
    ]


def test_history_shows_what_broke_and_what_could_not_be_done(cli: Run, scaler: ScriptedScaler) -> None:
    actions = (
        {"kind": "repair", "worker": "w1", "detail": "its process ended", "done": True},
        {"kind": "drain", "worker": "w2", "detail": "gets no more questions", "done": True},
        {"kind": "buy", "worker": None, "detail": "no offer fits", "done": False},
        {"kind": "unheard of", "worker": "w1", "detail": "", "done": False},
    )
    scaler.past = (record(1, actions=actions),)
    *_, repaired, failed = cli("scale", "history").stdout.splitlines()
    assert repaired.strip() == "destroyed w1: its process ended"
    assert failed.strip() == "could not start a worker: no offer fits"


@pytest.mark.parametrize("before", [("-q", "-v"), ("-qv",), ("-vq", "--config", "llmhost.yaml")])
def test_global_options_may_stand_before_a_subcommand(
    cli: Run, scaler: ScriptedScaler, before: tuple[str, ...]
) -> None:
    Path("llmhost.yaml").write_text("")
    scaler.past = (record(1),)
    assert len(cli("scale", *before, "history", "--json").json["decisions"]) == 1


# The options that are subcommands now


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("--history", "--last", "2", "--json"), ("history", "--last", "2", "--json")),
        (("--json", "--install-cron", "--every", "5"), ("cron", "--json", "--every", "5")),
        (("--hit-ratio", "0", "--simulate", "no.csv"), ("simulate", "no.csv", "--hit-ratio", "0")),
        (("--simulate=no.csv",), ("simulate", "no.csv")),
    ],
)
def test_an_old_option_does_what_its_subcommand_does_and_warns(
    cli: Run, scaler: ScriptedScaler, old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    scaler.past = tuple(record(n) for n in range(3))
    before, after = cli("scale", *old), cli("scale", *new)
    assert (before.code, before.stdout) == (after.code, after.stdout)
    warning, rest = before.stderr.split("\n", 1)
    assert f"is deprecated: run `llmhost scale {new[0]}`" in warning
    assert rest == after.stderr


@pytest.mark.parametrize(
    "args", [("--dry-run", "history"), ("--last", "3"), ("history", "--last", "0"), ("cron", "--every", "61")]
)
def test_what_does_not_go_together_is_refused(
    cli: Run, scaler: ScriptedScaler, args: tuple[str, ...]
) -> None:
    ran = cli("scale", *args)
    assert (ran.code, ran.stdout, scaler.asked) == (2, "", {})


# A trace


@pytest.fixture
def trace() -> str:
    """An hour with a question every two seconds."""
    rows = "".join(f"{second},100,100\n" for second in range(0, 3600, 2))
    Path("trace.csv").write_text(f"time,prompt_tokens,generated_tokens\n{rows}")
    return "trace.csv"


def test_a_trace_is_played_with_what_was_given(cli: Run, trace: str) -> None:
    told = cli(
        *("scale", "simulate", trace, "--json"),
        *("--worker-tokens-per-s", "100", "--price", "2", "--hit-ratio", "0.5", "--repeat", "2"),
    ).json
    assert told["questions"] == 3600
    assert told["hits"] == pytest.approx(1800, rel=0.1)
    peak = next(row for row in told["rows"] if row["name"] == "fixed at peak")
    assert peak["cost_usd"] == pytest.approx(peak["mean_size"] * 2 * told["seconds"] / 3600)


def test_a_trace_is_played_with_the_configured_fleet_where_nothing_was_given(cli: Run, trace: str) -> None:
    Path("llmhost.yaml").write_text(
        "fleet: {name: test, max_gpus: 3, price_per_hour: 2.0}\nscale: {min_gpus: 3, tokens_per_s: 100}\n"
    )
    rows = cli("scale", "simulate", trace, "--json").json["rows"]
    (ours,) = (row for row in rows if row["name"] == "llmhost")
    assert (ours["mean_size"], ours["peak_size"]) == (pytest.approx(3.0, rel=0.01), 3)
    assert ours["cost_usd"] == pytest.approx(6.0, rel=0.01)


def test_people_see_the_fleets_side_by_side_and_in_a_chart_and_nothing_is_started(
    cli: Run, trace: str, state_folder: Path
) -> None:
    ran = cli("scale", "simulate", trace, "--plot", "chart.svg")
    assert ran.stdout.startswith("1,800 questions in ")
    assert "clairvoyant: played" in ran.stderr
    assert "<svg" in Path("chart.svg").read_text()
    assert not state_folder.exists()
    assert cli("scale", "simulate", trace, "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("trace.csv", "--plot", "chart.pdf"), "cannot draw chart.pdf"),
        (("trace.csv", "--plot", "no/chart.svg"), "cannot write no/chart.svg: there is no such folder"),
        (("trace.csv", "--hit-ratio", "2"), "hit ratio: 2 is not between 0 and 0.9999"),
        (("trace.csv", "--speed", "nan"), "speed: nan is not between"),
        (("none.csv",), "cannot read none.csv"),
    ],
)
def test_a_trace_that_cannot_be_played_is_refused_at_once(
    cli: Run, trace: str, args: tuple[str, ...], message: str
) -> None:
    ran = cli("scale", "simulate", *args)
    assert (ran.code, ran.stdout) == (2, "")
    assert f"error: {message}" in ran.stderr
    assert "playing" not in ran.stderr
