"""How a gateway reads its configuration again, and keeps its processes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.waiting import LONGEST, until
from plugins.cli import Ran

from llmhost.cli.frame import Globals
from llmhost.cli.output import Output
from llmhost.cli.running import inputs
from llmhost.cli.serving import Serving, reloading
from llmhost.config.models import Config


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Puts back what a gateway's process does with SIGHUP."""
    handler, mask = signal.getsignal(signal.SIGHUP), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGHUP, handler)


def hang_up() -> None:
    """Sends SIGHUP to this thread: tests may have others."""
    signal.pthread_kill(threading.get_ident(), signal.SIGHUP)


@pytest.mark.usefixtures("own_signals")
def test_a_signal_that_comes_while_a_gateway_starts_does_not_end_it(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_: Serving) -> None:
        hang_up()

    monkeypatch.setattr(Serving, "run", run)
    assert cli("serve").code == 0
    assert signal.sigtimedwait({signal.SIGHUP}, 0) is not None  # it waits to be read


@pytest.mark.usefixtures("own_signals")
async def test_a_signal_that_came_while_the_gateway_started_makes_it_read_its_configuration_again() -> None:
    calls: list[None] = []

    async def reload() -> None:
        calls.append(None)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    hang_up()
    async with reloading(Output(quiet=True), reload):
        await until(lambda: calls)
    hang_up()  # while it ends
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_file_that_changes_while_it_is_read_does_not_count_as_the_one_that_is_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "llmhost.yaml"
    file.write_text("fleet: {name: old}\n")
    read = inputs(Globals(config=file))

    def configured(_options: Globals, _overrides: object) -> Config:
        file.write_text("fleet: {name: new}\n")
        return Config()

    monkeypatch.setattr("llmhost.cli.serving.configured", configured)
    ((options, _),) = Serving(Globals(config=file), (), {}, None, managed=False)._fleets()
    assert options.inputs == read != inputs(options)


async def test_signals_while_the_configuration_is_read_make_it_read_once_more_each_in_turn() -> None:
    events: list[str] = []
    go_on = asyncio.Event()

    async def reload() -> None:
        events.append("begins")
        await go_on.wait()
        events.append("ends")

    async with reloading(Output(quiet=True), reload):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: events)
        os.kill(os.getpid(), signal.SIGHUP)
        go_on.set()
        await until(lambda: len(events) == 4)
    assert events == ["begins", "ends"] * 2


async def test_whatever_goes_wrong_is_said_and_the_next_signal_is_heard(
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[None] = []

    async def reload() -> None:
        calls.append(None)
        raise OSError("the disk is away")

    async with reloading(Output(), reload):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(calls) == 1)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(calls) == 2)
    assert capsys.readouterr().err.count("was not read again: the disk is away") == 2


async def test_a_reading_that_is_under_way_ends_with_the_gateway() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def reload() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with reloading(Output(quiet=True), reload):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(begun.wait(), LONGEST)
    assert ended.is_set()


async def test_a_process_that_the_system_refuses_to_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = asyncio.create_subprocess_exec
    refusals = [OSError(number, os.strerror(number)) for number in (errno.EAGAIN, errno.ENOMEM)]

    async def refuse_at_first(*command: str, **options: Any) -> asyncio.subprocess.Process:
        if refusals:
            raise refusals.pop(0)
        return await start(*command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse_at_first)
    monkeypatch.setattr("llmhost.cli.serving._FIRST_PAUSE", 0.0)
    monkeypatch.setattr(Serving, "_command", lambda *_: ["sleep", "600"])
    running: set[asyncio.subprocess.Process] = set()
    keeping = asyncio.create_task(Serving(Globals(), (), {}, None, managed=False)._keep([], running))
    await until(lambda: running or keeping.done())
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    warned = capsys.readouterr().err
    assert "cannot be started: Resource temporarily unavailable; it is started again in 0 s" in warned
    assert "cannot be started: Cannot allocate memory" in warned
