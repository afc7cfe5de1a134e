"""Running a command: its configuration, its parts, and what Ctrl-C and SIGTERM do."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from llmhost.cli.frame import Globals
from llmhost.cli.output import fitted
from llmhost.cli.text import clean, counted, money
from llmhost.errors import ConfigError, StoreUnavailable, UsageError

if TYPE_CHECKING:
    import asyncio

    from llmhost.config.load import LoadedConfig
    from llmhost.config.models import Config
    from llmhost.fleet.known_fleets import KnownFleet
    from llmhost.wiring import Wiring
    from llmhost.wiring.other_fleets import OtherFleet

__all__ = [
    "NO_FILE",
    "Terminated",
    "asynchronous",
    "configuration_arguments",
    "configured",
    "configured_if_readable",
    "confirm",
    "confirm_removal",
    "described",
    "inputs",
    "load",
    "parse_period",
    "process_age",
    "run_async",
    "say_what_a_toy_is",
    "show_fleet",
    "treat_sigterm_as_interrupt",
    "warn_of_others",
    "wired",
]

_IMPORTED = time.monotonic()
#: in /proc/PID/stat, behind the name: when the process started, in clock ticks since the boot
_START_TIME = 19
#: begins the name of a folder that stands in for the state folder; the id of its process follows
_STAND_IN = "llmhost-for-"
#: seconds; the ledger counts by the minute, and keeps days for as long
_SHORTEST_PERIOD, _LONGEST_PERIOD = 60.0, 400 * 86_400.0
_LONGEST_ANSWER = 4096  #: bytes; a terminal gives a line at a time, and none is longer

NO_FILE = "no configuration file: using the built-in local fleet (see `llmhost init`)"

Params = ParamSpec("Params")
Result = TypeVar("Result")


class Terminated(KeyboardInterrupt):
    """SIGTERM: an interruption that is none by Ctrl-C."""


def treat_sigterm_as_interrupt() -> None:
    """From now on SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def process_age() -> float:
    """Seconds since the system started this process: the interpreter and the imports are part of what a user
    waits for. Where the system does not tell, since the imports."""
    known = time.monotonic() - _IMPORTED
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started = int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
        return max(known, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return known


def run_async(work: Coroutine[Any, Any, Result], *, serves: bool = False) -> Result:
    """Runs `work` to its end; one that `serves` has a loop that is quicker, and takes longer to import.

    The first Ctrl-C or SIGTERM cancels it and lets it clean up; a second one aborts the cleanup too.

    Raises:
        KeyboardInterrupt: it was interrupted; Terminated by SIGTERM.
    """
    import asyncio

    if serves:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    else:
        runner = asyncio.Runner()
    received: list[int] = []
    try:
        return runner.run(_interruptible(work, received))
    except asyncio.CancelledError:
        raise (Terminated if signal.SIGTERM in received else KeyboardInterrupt) from None
    finally:
        with suppress(RuntimeError):  # a second interruption may have come while it cleaned up
            work.close()  # where the interruption came before it began
        with suppress(RuntimeError):  # it starts a thread, which a small limit of processes may not allow
            runner.close()


def asynchronous(command: Callable[Params, Coroutine[Any, Any, None]]) -> Callable[Params, None]:
    """Makes a coroutine function a command, which Typer calls as any other."""

    @wraps(command)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> None:
        run_async(command(*args, **kwargs))

    return run


async def confirm(question: str) -> bool:
    """Whether the operator at the terminal says yes; no answer, and the end of input, are a no.

    All other work goes on meanwhile, and Ctrl-C and SIGTERM cancel it as anything else: a thread that waits
    in `input` could not be ended.
    """
    import asyncio

    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()
    while True:
        sys.stderr.write(fitted(f"{question} [y/N]:", sys.stderr) + " ")
        sys.stderr.flush()
        answered = asyncio.Event()
        loop.add_reader(terminal, answered.set)
        try:
            await answered.wait()
        finally:
            loop.remove_reader(terminal)
        answer = os.read(terminal, _LONGEST_ANSWER).decode("utf-8", "replace").strip().casefold()
        if answer in {"y", "yes"}:
            return True
        if answer in {"", "n", "no"}:
            return False


def confirm_removal(effect: str, question: str) -> None:
    """Asks the operator at the terminal, before an event loop runs.

    Raises:
        UsageError: there is no terminal to ask at.
        typer.Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"this {effect}", hint="confirm it with --yes")
    typer.confirm(question, abort=True, err=True)


async def _interruptible(work: Coroutine[Any, Any, Result], received: list[int]) -> Result:
    """`received` gets the numbers of the signals that cancel it."""
    import asyncio

    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs has a task
    with _signals_cancel(task, received):
        result = await work
    if task.cancelling():  # a library underneath may have swallowed the cancellation
        raise asyncio.CancelledError
    return result


@contextmanager
def _signals_cancel(task: asyncio.Task[Any], received: list[int]) -> Iterator[None]:
    """Signals cancel `task`; the previous handlers are restored afterwards."""
    wake = task.get_loop().call_soon_threadsafe

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if task.cancelling():
            # What is thrown out of half of its clean-up has nothing to say to a user who is in a hurry.
            task.get_loop().set_exception_handler(lambda _loop, _context: None)
            sys.unraisablehook = lambda _: None
            cut_short = "what it began may be half done"
            raise (Terminated if signal.SIGTERM in received else KeyboardInterrupt)(cut_short)
        task.cancel()
        wake(int)  # a call that does nothing: the loop may be asleep in select

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A job that was started with SIGINT ignored (`command &` in a script) keeps ignoring it.
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


def configured(
    options: Globals,
    overrides: Mapping[str, Any] | None = None,
    *,
    lenient: bool = False,
    header: bool = False,
) -> Config:
    """As `load`, and its warnings are shown. With a `header`, a line above them names the fleet and its file;
    without, a note says if there is no file.
    """
    loaded = load(options, overrides, lenient=lenient)
    if header:
        show_fleet(options, loaded)
    elif loaded.source is None:
        options.output.note(NO_FILE)
    for warning in loaded.warnings:
        options.output.warn(warning)
    return loaded.config


def configured_if_readable(options: Globals, *, warned: bool = True) -> Config:
    """As `configured`, for what is about every fleet: as much as is valid. A file that cannot be read as a
    whole is left out. `warned`: what is left out is told."""
    try:
        return configured(options, lenient=True) if warned else load(options, lenient=True).config
    except ConfigError as error:
        if warned:
            options.output.warn(f"{error.message}; the configuration is left out")
        from llmhost.config.models import Config

        return Config()


def load(
    options: Globals,
    overrides: Mapping[str, Any] | None = None,
    *,
    lenient: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> LoadedConfig:
    """The configuration. `lenient` is for commands that stop, look or list.

    With ``--fleet`` it is the one that this fleet was last made from, as far as that is known. If `lenient`,
    an unknown fleet is looked for among what the account rents.

    Raises:
        ConfigError: as `load_config`.
    """
    from llmhost.config.load import load_config

    options.lenient = lenient  # also where the file cannot be read, and the command goes on without
    if lenient:
        _ensure_state_folder(options)
    path, flags, known = options.config, dict(overrides or {}), None
    if options.fleet is not None:
        known = _known_fleet(options.fleet)
        flags |= {"fleet.name": options.fleet, "fleet.provider": known.provider if known else None}
        if known and known.config and path is None and os.path.lexists(known.config):
            path = Path(known.config)
    loaded = load_config(path, environ=environ, overrides=flags, lenient=lenient)
    options.source, options.warnings, options.dropped = loaded.source, loaded.warnings, loaded.dropped
    if lenient and options.fleet is not None and known is None:
        return replace(loaded, config=_rented_elsewhere(loaded.config, options.fleet))
    return loaded


def parse_period(since: str) -> float:
    """Seconds of the period that ``--since`` names."""
    from llmhost.config.fields import parse_duration

    try:
        seconds = parse_duration(since)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST_PERIOD <= seconds <= _LONGEST_PERIOD:
        raise UsageError(f"--since {since} is not a valid period", hint="use 30m, 24h or 7d; 1m to 400d")
    return seconds


def inputs(options: Globals) -> str:
    """Names what the configuration comes from; empty where that cannot be told."""
    from llmhost.config.inputs import inputs_digest
    from llmhost.errors import StateError
    from llmhost.machine.paths import secret_key

    try:
        return inputs_digest(options.config, options.fleet, os.environ, secret_key())
    except (OSError, StateError):
        return ""


def configuration_arguments(options: Globals) -> list[str]:
    """By which another process of llmhost has this one's configuration. One that was found and not named must
    be found again: a named one may do more."""
    config = [] if options.config is None else ["--config", str(options.config.absolute())]
    return config if options.fleet is None else [*config, "--fleet", options.fleet]


def show_fleet(options: Globals, loaded: LoadedConfig) -> None:
    """The line above what a command shows: ``fleet blue (from ./llmhost.yaml)``. Nothing with ``--json``."""
    if options.json:
        return
    where = "built in; `llmhost init` writes a configuration"
    if loaded.source is not None:
        here = "./" if loaded.source.parent == Path() else ""
        where = f"from {here}{loaded.source}"
    options.output.note(f"fleet {loaded.config.fleet.name} ({where})")


def _rented_elsewhere(config: Config, fleet: str) -> Config:
    """A fleet that has left no trace on this machine can only have workers that were rented from another."""
    from llmhost.wiring.fleets import account_key, config_of

    return config_of(config, fleet, "vast") if account_key(config) else config


def _ensure_state_folder(options: Globals) -> None:
    """Where there is no state folder, an empty one stands in for it: workers are found without. An embedded
    Redis is not started there: nothing is known in it, and nothing would stop it."""
    from llmhost.errors import StateError
    from llmhost.machine.paths import do_without_unreadable, may_hold_state, state_dir

    try:
        state_dir()
    except StateError as error:
        from tempfile import TemporaryDirectory

        options.output.warn(f"{error.message}; what was written down there is not known")
        options.unread = error if may_hold_state() else None
        before = os.environ.get("LLMHOST_STATE_DIR")
        _remove_leftovers()
        folder = options.at_end.enter_context(TemporaryDirectory(prefix=f"{_STAND_IN}{os.getpid()}-"))
        options.at_end.callback(_set_state_folder, before)
        _set_state_folder(folder)
        options.stateless = True
    for failure in do_without_unreadable():
        options.output.warn(f"{failure.message}; this command does without")


def _remove_leftovers() -> None:
    """Of commands that were killed, and so could not remove the folder that stood in."""
    import shutil
    import tempfile

    for folder in Path(tempfile.gettempdir()).glob(f"{_STAND_IN}*-*"):
        pid = folder.name.removeprefix(_STAND_IN).partition("-")[0]
        with suppress(OSError):
            if pid.isdecimal() and folder.lstat().st_uid == os.geteuid() and not _runs(int(pid)):
                shutil.rmtree(folder)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _set_state_folder(path: str | None) -> None:
    if path is None:
        os.environ.pop("LLMHOST_STATE_DIR", None)
    else:
        os.environ["LLMHOST_STATE_DIR"] = path


def _known_fleet(name: str) -> KnownFleet | None:
    """Of two providers, the one that rents: its workers cost money."""
    from llmhost.fleet.known_fleets import known_fleets
    from llmhost.machine.paths import state_dir

    found = [fleet for fleet in known_fleets(state_dir() / "fleets") if fleet.name == name]
    return max(found, key=lambda fleet: fleet.provider == "vast", default=None)


async def warn_of_others(options: Globals, wiring: Wiring) -> None:
    """Warns of workers that belong to another fleet or provider than the configured one."""
    for fleet in await wiring.others.found():
        options.output.warn(f"{described(fleet)}; `llmhost down --fleet {fleet.name}` destroys them")


def described(fleet: OtherFleet) -> str:
    """One line: ``fleet blue (vast): 3 workers, $0.88/h, from ~/blue/llmhost.yaml``."""
    cost = money(sum(worker.rate for worker in fleet.workers))
    what = f"{counted(len(fleet.workers), 'worker')}, {cost}/h"
    if fleet.unlisted and not fleet.workers:
        what = f"{counted(len(fleet.unlisted), 'worker')} on record, which cannot be listed"
    source = f", from {clean(fleet.config)}" if fleet.config else ""
    return f"fleet {fleet.name} ({fleet.provider}): {what}{source}"


@asynccontextmanager
async def wired(options: Globals, config: Config) -> AsyncIterator[Wiring]:
    """The parts for one command; their warnings and notes go to stderr."""
    from llmhost.wiring import Wiring

    async with Wiring(config, warn=options.output.warn, note=options.output.note) as wiring:
        if "redis" in options.dropped:
            wiring.no_redis = StoreUnavailable("the configuration of Redis is not valid")
        elif options.stateless and wiring.embedded_redis is not None:
            wiring.no_redis = StoreUnavailable("the embedded Redis needs a state folder")
        wiring.lenient, wiring.inputs = options.lenient, options.inputs
        wiring.stateless, wiring.unread = options.stateless, options.unread
        yield wiring


def say_what_a_toy_is(options: Globals, config: Config) -> None:
    """Where the packaged model is served: what it is good for, and how to have another."""
    if config.serves_toy:
        options.output.note(
            "the packaged model is a toy that answers in one sentence, often wrongly; for another one set "
            "`engine.model_path` to a GGUF file, or use a running Ollama: `llmhost init --help`"
        )
