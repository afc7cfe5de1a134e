"""What a command prints: JSON, colour, and the progress of workers."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest
from doubles.terminal import shown_on_terminal

from llmhost.cli.output import LiveProgress, Output, PlainProgress, plain

PROGRESS = """
from llmhost.cli.output import Output
out = Output()
with out.progress() as progress:
    progress.update("local-1", "loading the model", 0.4)
    out.note("a note between")
    progress.done("local-1")
"""


class State(StrEnum):
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Inner:
    from_: int
    where: Path


@dataclass(frozen=True, slots=True)
class Outer:
    z: tuple[Inner, ...]
    a: dict[str, State]
    token: str = field(repr=False)


def test_plain_keeps_the_order_of_fields_and_leaves_out_secrets() -> None:
    value = plain(Outer((Inner(1, Path("/x")),), {"s": State.READY}, "secret"))
    assert list(value.items()) == [("z", [{"from": 1, "where": "/x"}]), ("a", {"s": "ready"})]


def test_plain_makes_null_of_a_number_that_json_does_not_know() -> None:
    assert plain([float("nan"), float("inf"), float("-inf"), 1.0]) == [None, None, None, 1.0]


def test_json_escapes_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).document({"text": "\x1b[31m\x9b31m\x7f é"})
    assert capsys.readouterr().out == '{\n  "text": "\\u001b[31m\\u009b31m\\u007f é"\n}\n'


def test_json_is_ascii_where_stdout_knows_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    Output(json=True).document(["漢"])
    assert stream.buffer.getvalue() == b'[\n  "\\u6f22"\n]\n'  # type: ignore[attr-defined]


def test_an_answer_is_streamed_without_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    for piece in ("red \x1b", "[31malert", "\x1b"):
        out.stream(piece)
    out.end_stream()
    assert capsys.readouterr().out == "red alert\n"


@pytest.mark.parametrize(
    ("settings", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colour_in_a_pipe_is_used_when_it_is_forced(
    settings: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("NO_COLOR")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    Output().error("no")
    assert ("\x1b[" in capsys.readouterr().err) is coloured


def on_terminal(code: str, **environment: str) -> str:
    """What `code` prints to a terminal of 80 columns."""
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    if "NO_COLOR" not in environment:
        del env["NO_COLOR"]
    return shown_on_terminal([sys.executable, "-c", code], env)


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_on_a_terminal_is_used_unless_it_is_unwanted(
    environment: dict[str, str], coloured: bool
) -> None:
    shown = on_terminal("from llmhost.cli.output import Output; Output().error('no')", **environment)
    assert ("\x1b[" in shown, "error:" in shown) == (coloured, True)


MESSAGES = """
from llmhost.cli.output import Output
out = Output()
long = "what is said here has no room in a line of eighty columns of a terminal, `llmhost up --yes` included"
out.note(long), out.warn(long), out.error(long, long)
"""


def test_messages_on_a_terminal_are_broken_between_words() -> None:
    lines = on_terminal(MESSAGES, NO_COLOR="1").split("\r\n")
    assert max(map(len, lines)) <= 80
    assert lines[:2] == [
        "what is said here has no room in a line of eighty columns of a terminal,",
        "`llmhost up --yes` included",
    ]
    assert lines[2].startswith("warning: what is said")


def test_a_question_on_a_terminal_is_broken_between_words() -> None:
    code = """
import asyncio
from llmhost.cli.running import confirm
print(asyncio.run(confirm("Destroy all that is rented, which is more than one thinks, and whatever is left")))
"""
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "40"}
    lines = shown_on_terminal([sys.executable, "-c", code], env, typed="y\n").split("\r\n")
    assert "Destroy all that is rented, which is" in lines
    assert "more than one thinks, and whatever is" in lines
    assert "True" in lines[-2]


def test_messages_in_a_pipe_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    Output().error("long " * 100, "longer " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_status_longer_than_the_line_is_cut() -> None:
    shown = on_terminal("from llmhost.cli.output import Output; Output().status('long ' * 50)", NO_COLOR="1")
    assert len(shown.removeprefix("\r\x1b[K")) == 79


def test_progress_on_a_terminal_is_live_and_leaves_the_cursor_visible() -> None:
    shown = on_terminal(PROGRESS)
    assert "loading the model" in shown or "ready" in shown
    assert "a note between" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_progress_on_a_dumb_terminal_is_plain_lines() -> None:
    lines = on_terminal(PROGRESS, TERM="dumb").split("\r\n")
    assert lines[:2] == ["local-1: loading the model", "a note between"]


def test_plain_progress_has_a_line_for_each_change_of_stage_and_for_what_failed() -> None:
    said: list[str] = []
    times = [10.0]
    progress = PlainProgress(said.append, clock=lambda: times[-1])
    for fraction in (None, 0.1, 0.2):
        progress.update("w1", "loading", fraction)
    progress.update("w2", "loading")
    times.append(13.25)
    progress.done("w1")
    progress.fail("w2", "\x1b[31mno memory")
    assert said == ["w1: loading", "w2: loading", "w1: ready (3.2 s)", "w2: failed (3.2 s): no memory"]


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(quiet=True).progress() as progress:
        progress.update("w1", "loading")
        progress.done("w1")
        progress.fail("w2", "no")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda live: live.update("w1", "loading [bold]it[/bold]", 0.42), "42%.*loading \\[bold]it\\[/bold]"),
        (lambda live: live.fail("w1", "no memory"), "failed: no memory"),
        (lambda live: live.done("w1", "answers"), "100%.*answers"),
        (lambda live: (live.fail("w1", "no memory"), live.done("w1", "gone")), "gone: no memory"),
    ],
    ids=["under way", "failed", "done", "gone after it failed"],
)
def test_live_progress_shows_name_share_and_stage(act: Callable[[LiveProgress], None], words: str) -> None:
    from rich.console import Console

    stream = io.StringIO()
    with LiveProgress(Console(file=stream, width=80)) as live:
        act(live)
    assert re.search(f"w1.*{words}", stream.getvalue())


@pytest.mark.parametrize(("columns", "width"), [("0", 160), ("1", 160), ("x", 160), ("", 160), ("40", 40)])
def test_a_width_that_is_none_is_the_default(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert Output().console_of_errors().width == width


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--help"], "cannot write: No space left on device"),
        (["--help", "--json"], "cannot write: No space left on device"),
        (["no-such-command", "--json"], "no such command"),
    ],
)
def test_an_output_without_room_is_an_error_of_ours(args: list[str], words: str) -> None:
    code = f"from llmhost.cli.app import execute; import sys; sys.exit(execute({args!r}))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert f"error: {words}" in done.stderr
    assert "unexpected" not in done.stderr
    assert "Traceback" not in done.stderr
