"""Running a command: its configuration, its parts, and what Ctrl-C and SIGTERM do."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from llmhost.cli.frame import Globals

if TYPE_CHECKING:
    import asyncio

    from llmhost.config.models import Config
    from llmhost.wiring import Wiring

__all__ = ["configured", "confirm", "run_async", "treat_sigterm_as_interrupt", "warn_of_others", "wired"]

_LONGEST_ANSWER = 4096  #: bytes; a terminal gives a line at a time, and none is longer

_Handler = Callable[[int, FrameType | None], Any]

Result = TypeVar("Result")


def treat_sigterm_as_interrupt() -> None:
    """From now on SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs `work` to its end.

    The first Ctrl-C or SIGTERM cancels it and lets it clean up; a second one aborts the cleanup too.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    import asyncio

    try:
        return asyncio.run(_interruptible(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        work.close()  # where the interruption came before it began


async def confirm(question: str) -> bool:
    """Whether the operator at the terminal says yes; no answer, and the end of input, are a no.

    All other work goes on meanwhile, and Ctrl-C and SIGTERM cancel it as anything else: a thread that waits
    in `input` could not be ended.
    """
    import asyncio

    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()
    while True:
        sys.stderr.write(f"{question} [y/N]: ")
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


async def _interruptible(work: Coroutine[Any, Any, Result]) -> Result:
    import asyncio

    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs has a task
    with _signals_cancel(task):
        result = await work
    if task.cancelling():  # a library underneath may have swallowed the cancellation
        raise asyncio.CancelledError
    return result


@contextmanager
def _signals_cancel(task: asyncio.Task[Any]) -> Iterator[None]:
    """Signals cancel `task`; the previous handlers are restored afterwards."""
    wake = task.get_loop().call_soon_threadsafe

    def handle(_number: int, _frame: FrameType | None) -> None:
        if task.cancelling():
            raise KeyboardInterrupt
        task.cancel()
        wake(_nothing)  # the loop may be asleep in select

    with _handled_by(handle):
        yield


@contextmanager
def _handled_by(handle: _Handler) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A job that was started with SIGINT ignored (`command &` in a script) keeps ignoring it.
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    _set_handlers(dict.fromkeys(heeded, handle))
    try:
        yield
    finally:
        _set_handlers({number: before[number] for number in heeded})


def _set_handlers(handlers: dict[signal.Signals, _Handler | int | None]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _nothing() -> None:
    pass


def configured(options: Globals, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration; a note says if there is no file. Raises ConfigError."""
    from llmhost.config.load import load_config

    loaded = load_config(options.config, environ=os.environ, overrides=overrides or {})
    for warning in loaded.warnings:
        options.output.warn(warning)
    if loaded.source is None:
        options.output.note("no configuration file: using the built-in local fleet (see `llmhost init`)")
    return loaded.config


async def warn_of_others(options: Globals, wiring: Wiring) -> None:
    """Warns of workers on this machine that belong to another fleet or provider than the configured one."""
    for fleet in await wiring.other_local_fleets():
        names = ", ".join(worker.id for worker in await fleet.list())
        options.output.warn(f"other workers run on this machine: {names}; `llmhost down --all` destroys them")


@asynccontextmanager
async def wired(options: Globals, config: Config) -> AsyncIterator[Wiring]:
    """The parts for one command; their warnings and notes go to stderr."""
    from llmhost.wiring import Wiring

    async with Wiring(config, warn=options.output.warn, note=options.output.note) as wiring:
        yield wiring
