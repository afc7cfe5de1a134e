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

#: in the order in which a new user needs them
COMMANDS = {
    "init": Lazy("llmhost.cli.commands.init:init", "Write a configuration file"),
    "offers": Lazy(
        "llmhost.cli.commands.offers:offers", "Show the offers that fit, and why the others do not"
    ),
    "up": Lazy("llmhost.cli.commands.up:up", "Create or update the fleet"),
    "status": Lazy("llmhost.cli.commands.status:status", "Show workers, health and cost"),
    "fleets": Lazy("llmhost.cli.commands.fleets:fleets", "Show every fleet that has workers"),
    "scale": Lazy("llmhost.cli.commands.scale:app", "Autoscale once (run it from cron)"),
    "notify": Lazy("llmhost.cli.commands.notify:app", "Try the notifications"),
    "logs": Lazy("llmhost.cli.commands.logs:logs", "Show the end of a worker's log"),
    "ssh": Lazy("llmhost.cli.commands.ssh:ssh", "Open a shell on a rented worker, or run a command there"),
    "ask": Lazy("llmhost.cli.commands.ask:ask", "Answer a question, from the cache or by a worker"),
    "chat": Lazy("llmhost.cli.commands.chat:chat", "Have a conversation with the model"),
    "serve": Lazy(
        "llmhost.cli.commands.serve:serve", "Answer clients of OpenAI's, Ollama's and Anthropic's APIs"
    ),
    "keys": Lazy("llmhost.cli.commands.keys:app", "Make, list and revoke API keys of the gateway"),
    "stats": Lazy("llmhost.cli.commands.stats:stats", "Show hits, latency, cost, savings and goals"),
    "bench": Lazy("llmhost.cli.commands.bench:bench", "Measure hits, misses and workers of this set-up"),
    "cost": Lazy("llmhost.cli.commands.cost:cost", "Calculate a month's cost, and compare it"),
    "cache": Lazy("llmhost.cli.commands.cache:app", "Inspect and correct the cache"),
    "config": Lazy("llmhost.cli.commands.config:app", "Show and check the configuration"),
    "doctor": Lazy("llmhost.cli.commands.doctor:doctor", "Diagnose the setup"),
    "down": Lazy("llmhost.cli.commands.down:down", "Destroy workers and confirm it"),
}

HELP = """Host your own LLM on GPUs, behind a semantic cache.

Without a configuration file, it runs on this machine; no account is needed.
`ps`, `ls` and `rm` are `status`, `fleets` and `down`.

Examples:
  llmhost up --gpus 2
  llmhost ask "What is artificial intelligence?"
  llmhost stats
  llmhost down --all
"""


def main(commands: Mapping[str, Lazy] = COMMANDS) -> None:
    """The console script."""
    from llmhost.cli.running import treat_sigterm_as_interrupt

    # numpy's threads gain nothing here, and where none may be started, importing it raises SIGINT.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    treat_sigterm_as_interrupt()
    _make_streams_safe()
    sys.exit(execute(sys.argv[1:], commands))


def execute(args: Sequence[str], commands: Mapping[str, Lazy] = COMMANDS) -> int:
    """Runs one command line, without the program's name, and returns its exit code. Raises nothing."""
    options = Globals()
    with options.at_end:
        try:
            return _invoke(list(args) or ["--help"], options, commands)
        except typer.Exit as error:
            return error.exit_code
        except SystemExit as error:  # of the shell's completion
            return error.code if isinstance(error.code, int) else 1
        except BaseException as error:  # noqa: BLE001 - every failure becomes one clear line
            return _failed(error, args, options)


def _invoke(args: list[str], options: Globals, commands: Mapping[str, Lazy]) -> int:
    root = App(HELP).with_commands(commands)
    root.complete(options)
    with root.make_context("llmhost", args, obj=options) as ctx:
        code = root.invoke(ctx)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0


def _failed(error: BaseException, args: Sequence[str], options: Globals) -> int:
    from llmhost.cli.errors import report

    if isinstance(error, BrokenPipeError) and _reader_left():
        return 0
    if isinstance(error, (typer.Abort, EOFError)):  # Ctrl-C or Ctrl-D at a question
        error = KeyboardInterrupt()
    # Parsing may have stopped before it reached --json.
    options.json = options.json or "--json" in _before_double_dash(args)
    try:
        return report(error, options.output)
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
    """Closed streams become /dev/null; characters that the encoding lacks become question marks."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
