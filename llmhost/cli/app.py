"""The command line's wiring: which commands there are, and what happens around them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from llmhost.cli.frame import App, Globals, Lazy

__all__ = ["execute", "main"]

#: In the order in which they are needed.
COMMANDS = {
    "init": Lazy("llmhost.cli.commands.init:init", "Write a configuration file with every setting explained"),
    "offers": Lazy(
        "llmhost.cli.commands.offers:offers", "Show what is for rent and fits, and why the rest does not"
    ),
    "up": Lazy("llmhost.cli.commands.up:up", "Make the fleet be as many ready workers as wanted"),
    "status": Lazy(
        "llmhost.cli.commands.status:status", "Show the workers, whether they answer, what they cost"
    ),
    "scale": Lazy("llmhost.cli.commands.scale:scale", "Make the fleet fit the demand, from cron"),
    "logs": Lazy("llmhost.cli.commands.logs:logs", "Show the last lines that a worker printed"),
    "ssh": Lazy("llmhost.cli.commands.ssh:ssh", "Open a shell on a rented worker, or run a command there"),
    "ask": Lazy("llmhost.cli.commands.ask:ask", "Answer a question, from the cache or by a worker"),
    "stats": Lazy(
        "llmhost.cli.commands.stats:stats", "Show hits, latency, cost, savings, targets met or not"
    ),
    "cache": Lazy("llmhost.cli.commands.cache:app", "Look into the cache and correct it"),
    "doctor": Lazy("llmhost.cli.commands.doctor:doctor", "Check the set-up and say how to mend it"),
    "down": Lazy("llmhost.cli.commands.down:down", "Destroy workers and confirm that they are gone"),
}

HELP = """Your own LLM on GPUs, behind a cache that you can trust.

Without a configuration file it runs on this machine, and no account is needed.

Examples:
  llmhost up --gpus 2
  llmhost ask "What is artificial intelligence?"
  llmhost stats
  llmhost down --all
"""


def main(commands: Mapping[str, Lazy] = COMMANDS) -> None:
    """The console script."""
    from llmhost.cli.running import treat_sigterm_as_interrupt

    treat_sigterm_as_interrupt()
    _make_streams_safe()
    sys.exit(execute(sys.argv[1:], commands))


def execute(args: Sequence[str], commands: Mapping[str, Lazy] = COMMANDS) -> int:
    """Runs one command line, without the program's name, and returns its exit code. Raises nothing."""
    given = Globals()
    try:
        return _invoke(list(args) or ["--help"], given, commands)
    except typer.Exit as error:
        return error.exit_code
    except BaseException as error:  # noqa: BLE001 - whatever it is, the user gets one clear line
        return _failed(error, args, given)


def _invoke(args: list[str], given: Globals, commands: Mapping[str, Lazy]) -> int:
    root = App(HELP).with_commands(commands)
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
    given.json = given.json or "--json" in _before_double_dash(args)
    try:
        return report(error, given.output)
    except BrokenPipeError:
        _reader_left()
        return 1


def _before_double_dash(args: Sequence[str]) -> Sequence[str]:
    return args[: args.index("--")] if "--" in args else args


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
