"""The command line's wiring: which commands there are, and what happens around them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from llmhost.cli.frame import Group
from llmhost.cli.options import Globals

__all__ = ["execute", "main"]

#: What runs for each command; in the order in which they are needed.
COMMANDS = {
    "init": "llmhost.cli.commands.init:init",
    "up": "llmhost.cli.commands.up:up",
    "status": "llmhost.cli.commands.status:status",
    "ask": "llmhost.cli.commands.ask:ask",
    "stats": "llmhost.cli.commands.stats:stats",
    "cache": "llmhost.cli.commands.cache:app",
    "doctor": "llmhost.cli.commands.doctor:doctor",
    "down": "llmhost.cli.commands.down:down",
}

HELP = """Run your own LLM on GPUs, and answer repeated questions from a cache you can trust.

Without a configuration file, workers run on this machine: no account is needed.

Examples:
  llmhost up --gpus 2
  llmhost ask "What is artificial intelligence?"
  llmhost stats
  llmhost down --all
"""


def main(commands: Mapping[str, str] = COMMANDS) -> None:
    """The console script."""
    from llmhost.cli.running import treat_sigterm_as_interrupt

    treat_sigterm_as_interrupt()
    _make_streams_safe()
    sys.exit(execute(sys.argv[1:], commands))


def execute(args: Sequence[str], commands: Mapping[str, str] = COMMANDS) -> int:
    """Runs one command line, without the program's name, and returns its exit code. Raises nothing."""
    given = Globals()
    try:
        return _invoke(list(args) or ["--help"], given, commands)
    except typer.Exit as error:
        return error.exit_code
    except BaseException as error:  # noqa: BLE001 - whatever it is, the user gets one clear line
        return _failed(error, args, given)


def _invoke(args: list[str], given: Globals, commands: Mapping[str, str]) -> int:
    root = Group(
        name="llmhost",
        lazy=commands,
        help=HELP,
        invoke_without_command=True,
        subcommand_metavar="COMMAND ...",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    with root.make_context("llmhost", args, obj=given) as ctx:
        code = root.invoke(ctx)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0


def _failed(error: BaseException, args: Sequence[str], given: Globals) -> int:
    from llmhost.cli.errors import report

    if isinstance(error, BrokenPipeError) and _reader_left():
        return 0
    if isinstance(error, (typer.Abort, EOFError)):  # Ctrl-C or Ctrl-D at a question
        error = KeyboardInterrupt()
    # A line that could not be read to its end may have said --json further on.
    given.json = given.json or "--json" in args
    return report(error, given.output)


def _reader_left() -> bool:
    """Whether it is stdout that broke (``llmhost stats | head -1``). If so, nothing more goes there."""
    import select

    stdout = sys.stdout.fileno()
    watch = select.poll()
    watch.register(stdout, 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


def _make_streams_safe() -> None:
    """A stream that is closed leads nowhere; a character that its encoding lacks becomes a question mark."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
