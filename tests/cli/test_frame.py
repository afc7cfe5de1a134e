"""The frame of the command line: global options, help, errors, exit codes, signals and pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from doubles.waiting import wait_until
from plugins.cli import Ran

from llmhost.cli.app import COMMANDS, execute
from llmhost.cli.errors import _one_line
from llmhost.cli.frame import App

SAMPLE = "from llmhost.cli.app import main; from doubles.sample_commands import COMMANDS; main(COMMANDS)"
TESTS = Path(__file__).parent.parent

Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line against the sample commands in this process."""
    from doubles.sample_commands import COMMANDS as SAMPLES

    def call(*args: str) -> Ran:
        code = execute(args, SAMPLES)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


def start(*args: str, **settings: object) -> subprocess.Popen[bytes]:
    """Starts a command line against the sample commands as a process of its own."""
    settings.setdefault("env", {**os.environ, "PYTHONPATH": str(TESTS)})
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", SAMPLE, *args], **{**pipes, **settings})  # type: ignore[call-overload]


# Global options


@pytest.mark.parametrize("args", [("--json", "show"), ("show", "--json")])
def test_global_options_are_taken_before_and_after_the_name_of_the_command(
    run: Run, args: tuple[str]
) -> None:
    assert run(*args).json["number"] == 0
    assert run("--json", "--config", "a", "show", "--config", "b").json["config"] == "b"


def test_global_options_are_taken_at_each_level_of_a_group(run: Run) -> None:
    outputs = {run(*args).stdout for args in (("--json", "nest", "inner"), ("nest", "--json", "inner"))}
    assert outputs == {run("nest", "inner", "--json").stdout} == {'{\n  "from": 1\n}\n'}


@pytest.mark.parametrize(
    "args", [("--version",), ("show", "--version"), ("--version", "show"), ("nest", "--version")]
)
def test_version_is_printed_instead_of_running_a_command(run: Run, args: tuple[str]) -> None:
    ran = run(*args)
    assert (ran.code, ran.stdout.split()[0], len(ran.stdout.split())) == (0, "llmhost", 2)
    assert list(run("--json", *args).json) == ["version"]


@pytest.mark.parametrize("args", [("--version", "-v"), ("-v", "--version"), ("show", "--version", "-v")])
def test_version_with_details_says_what_a_report_of_a_fault_needs(run: Run, args: tuple[str, ...]) -> None:
    lines = dict(line.split(maxsplit=1) for line in run(*args).stdout.splitlines())
    assert list(lines) == ["llmhost", "python", "system", "folder", "packages"]
    assert (Path(lines["folder"]) / "cli" / "frame.py").is_file()
    assert f"redis {version('redis')}" in lines["packages"]
    assert set(run("--json", *args).json) == {"version", "python", "system", "folder", "packages"}


# What is printed


def test_a_result_is_drawn_without_reading_markup_in_it(run: Run) -> None:
    assert run("show", "--number", "3").stdout == "number [bold]3[/bold] :smile:\n"
    assert "[red]raw[/red]" in run("nest", "inner").stdout


@pytest.mark.parametrize(
    ("options", "stderr"),
    [
        ((), "a note\nwarning: a warning\n"),
        (("--quiet",), "warning: a warning\n"),
        (("--verbose",), "a note\na detail\nwarning: a warning\n"),
    ],
)
def test_messages_go_to_stderr_as_many_as_were_asked_for(
    run: Run, options: tuple[str, ...], stderr: str
) -> None:
    ran = run("show", *options)
    assert (ran.stderr, ran.stdout[:8]) == (stderr, "number [")


# Help


def test_llmhost_or_a_group_alone_shows_its_help(cli: Run, run: Run) -> None:
    assert cli().stdout == cli("--quiet").stdout == cli("--help").stdout != ""
    ran = run("nest")
    assert (ran.code, ran.stdout) == (0, run("nest", "--help").stdout)


def _command_paths() -> Iterator[tuple[str, ...]]:
    """Every command by the words that name it: `("cache", "ls")`."""
    for name, command in COMMANDS.items():
        module, _, attribute = command.target.partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, App):
            names = [str(inner.name) for inner in found.registered_commands]
            yield from ((name,) if inner == "(default)" else (name, inner) for inner in names)
        else:
            yield (name,)


@pytest.mark.parametrize("path", list(_command_paths()), ids=" ".join)
def test_the_help_of_a_command_shows_examples_that_begin_with_its_name_and_fit(
    cli: Run, path: tuple[str, ...]
) -> None:
    ran = cli(*path, "--help")
    _, _, examples = ran.stdout.partition("\nExamples:\n")
    lines = [line for line in examples.splitlines() if line.strip()]
    assert ran.code == 0
    assert lines
    assert [line for line in lines if f"llmhost {' '.join(path)}" not in line or len(line) > 80] == []


def test_each_command_has_one_line_in_the_help(cli: Run) -> None:
    listed = cli("--help").stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line[: line.index("  ", 2)].strip() for line in listed] == list(COMMANDS)


def test_examples_keep_their_lines_and_other_text_is_wrapped(run: Run) -> None:
    text = run("show", "--help").stdout
    assert "Examples:\n  llmhost show --number 3\n  llmhost show --json | jq .number\n" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(("alias", "command"), [("ps", "status"), ("ls", "fleets"), ("rm", "down")])
def test_a_command_answers_to_the_name_that_other_tools_have_for_it(
    cli: Run, alias: str, command: str
) -> None:
    assert cli(alias, "--help") == cli(command, "--help")
    assert cli("-q", alias, "--help").code == 0
    assert alias not in cli("--help").stdout.split()


# Mistakes on the command line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("up --gpus two", "'--gpus': give a whole number"),
        ("up --gpus 1.5", "'--gpus': give a whole number"),
        ("up --timeout soon", "'--timeout': give a number"),
        ("up --timeout -1", "'--timeout': give 0 or more"),
        ("offers --gpus 0", "'--gpus': give 1 or more"),
        ("ask hi --threshold 5", "'--threshold': give 1 or less"),
    ],
)
def test_what_is_wrong_with_a_number_is_said_in_plain_words(cli: Run, line: str, says: str) -> None:
    ran = cli(*line.split())
    assert (ran.code, ran.stderr.splitlines()[0]) == (2, f"error: invalid value for {says}")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("llmhost sta", ["status", "stats"]),
        ("llmhost ask --thr", ["--threshold"]),
        ("llmhost --qui", ["--quiet"]),
        ("llmhost cache for", ["forget"]),
        ("llmhost scale h", ["history"]),
        ("llmhost scale --dry", ["--dry-run"]),
        ("llmhost nonsense x", []),
    ],
)
def test_a_shell_completes_names_and_options(
    cli: Run, monkeypatch: pytest.MonkeyPatch, line: str, found: list[str]
) -> None:
    for name, value in {
        "_LLMHOST_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }.items():
        monkeypatch.setenv(name, value)
    ran = cli()
    assert (ran.code, ran.stdout.split(), ran.stderr) == (0, found, "")


def test_the_script_for_a_shell_is_shown_and_installed(
    cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert "_LLMHOST_COMPLETE=complete_bash" in cli("--show-completion", "bash").stdout
    assert cli("--install-completion", "bash").code == 0
    assert "llmhost" in "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", "--nmber", "1"), "no such option --nmber; did you mean --number?"),
        (("--jsn", "show"), "no such option --jsn; did you mean --json?"),
        (("show", "--zzz"), "no such option --zzz"),
        (("show", "-z"), "no such option -z"),
        (("shw",), "no such command 'shw'; did you mean show?"),
        (("zzz",), "no such command 'zzz'"),
        (("show", "one", "two"), "got unexpected extra argument(s) (one two)"),
        (("--config",), "option '--config' requires an argument"),
        (("fail",), "missing argument 'HOW'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_clear_line(run: Run, args: tuple[str], message: str) -> None:
    ran = run(*args)
    lines = ran.stderr.splitlines()
    assert (ran.code, ran.stdout, lines[0]) == (2, "", f"error: {message}")
    assert [line.split()[0] for line in lines[1:]] == ["hint:"]


def test_a_value_of_the_wrong_type_is_named_with_its_option(run: Run) -> None:
    ran = run("show", "--number", "many")
    assert (ran.code, ran.stderr.count("\n"), "'--number'" in ran.stderr) == (2, 2, True)


@pytest.mark.parametrize(
    "args", [("show", "--zzz", "--json"), ("--json", "show", "--zzz"), ("zzz", "--json")]
)
def test_a_mistake_on_the_command_line_is_json_where_json_was_asked_for(run: Run, args: tuple[str]) -> None:
    ran = run(*args)
    assert (ran.code, list(ran.json["error"])) == (2, ["code", "message", "hint"])
    assert ran.json["error"]["code"] == "usage"


# Errors


@pytest.mark.parametrize(
    ("args", "code", "stdout", "stderr"),
    [
        (("code",), 3, "", ""),
        (("fail", "limit"), 4, "", "error: too many workers: 9\nhint:  ask for fewer\n"),
        (("fail", "after", "--json"), 4, '{\n  "done": 1\n}\n', "error: half done\n"),
        (("fail", "group"), 5, "", "error: gone\n"),
        (("fail", "abort"), 130, "", "error: interrupted\n"),
        (("fail", "interrupt"), 130, "", "error: interrupted\n"),
    ],
    ids=[
        "a command may return its exit code",
        "an error is one line with a hint below",
        "an error after the result adds no second object",
        "of several errors at once our own is reported",
        "Ctrl-C at a question",
        "an interruption",
    ],
)
def test_a_command_ends_with_its_exit_code_and_says_why(
    run: Run, args: tuple[str, ...], code: int, stdout: str, stderr: str
) -> None:
    assert run(*args) == Ran(code, stdout, stderr)


def test_an_error_is_json_on_stdout_where_json_was_asked_for(run: Run) -> None:
    error = {"code": "limit", "message": "too many workers: 9", "hint": "ask for fewer"}
    assert run("fail", "limit", "--json").json == {"error": error}
    assert run("fail", "interrupt", "--json").json["error"]["code"] == "interrupted"
    assert run("show", "--", "--json").stdout == ""


def test_an_unexpected_exception_is_one_line_and_with_verbose_a_traceback_both_without_secrets(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run("fail", "unexpected")
    assert (ran.code, ran.stderr.count("\n")) == (1, 2)
    assert "ValueError: redis://***@host said no" in ran.stderr
    assert "--verbose" in ran.stderr
    monkeypatch.setenv("SOME_TOKEN", "said no")
    verbose = run("fail", "unexpected", "--verbose")
    assert ("Traceback" in verbose.stderr, "said no" in verbose.stderr) == (True, False)
    for secret in ("hunter2", "abc.def", "Traceback"):
        assert secret not in ran.stderr
    for secret in ("hunter2", "abc.def"):
        assert secret not in verbose.stderr


def test_a_secret_that_begins_with_another_is_hidden_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdef")
    monkeypatch.setenv("B_TOKEN", "abcdefghij")
    assert _one_line("abcdefghij at redis://user:p@ssword@host") == "*** at redis://***@host"


def test_a_broken_pipe_that_is_not_stdout_is_an_error() -> None:
    _, stderr = (process := start("fail", "pipe")).communicate(timeout=30)
    assert (process.returncode, b"BrokenPipeError: a socket" in stderr) == (1, True)


def test_a_command_whose_module_is_broken_leaves_the_others_alone(run: Run) -> None:
    assert (run("gone").code, run("code").code) == (1, 3)


# Processes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_command_clean_up_and_is_exit_130(tmp_path: Path, number: signal.Signals) -> None:
    marker = tmp_path / "marker"
    process = start("wait", str(marker))
    try:
        wait_until(marker.exists)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, marker.read_text(), stderr) == (130, "cleaned up", b"error: interrupted\n")


def test_sigterm_works_where_sigint_is_ignored_as_in_a_background_job(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    process = start("wait", str(marker), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    try:
        wait_until(marker.exists)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, marker.read_text()) == (130, "cleaned up")


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    process = start("pour")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=30), stderr) == (0, b"")


def test_a_reader_that_leaves_before_an_error_makes_no_noise() -> None:
    process = start("fail", "limit", "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    stderr = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=30), b"Traceback" in stderr) == (1, False)


def test_work_goes_on_when_stderr_is_closed_by_its_reader() -> None:
    process = start("show", "--verbose")
    assert process.stderr is not None
    process.stderr.close()
    assert process.stdout is not None
    stdout = process.stdout.read()
    process.stdout.close()
    assert (process.wait(timeout=30), stdout[:8]) == (0, b"number [")


def test_a_character_that_the_terminal_does_not_know_is_replaced() -> None:
    env = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONIOENCODING": "ascii"}
    stdout, stderr = start("pour", "--letter", "é", env=env).communicate(timeout=30)
    assert (stdout[:4], stderr) == (b"?\n?\n", b"")


def test_a_closed_stdout_is_no_crash() -> None:
    process = start("show", preexec_fn=lambda: os.close(1), stdout=None)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in stderr) == (0, False)


def test_python_dash_m_llmhost_is_the_same_command() -> None:
    command = [sys.executable, "-m", "llmhost", "--version", "--json"]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout) == {"version": "0.1.0"}
