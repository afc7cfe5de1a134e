"""The pauses between calls, over several commands and over files that somebody damaged."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path

import pytest
from doubles.clock import ManualClock
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.fleet.providers.vast import pacer as pacer_module
from llmhost.fleet.providers.vast.pacer import INTERVALS, Pacer
from llmhost.machine.files import hold_lock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vast" / "pace.json"


@pytest.fixture
def pacer(file: Path, manual_clock: ManualClock) -> Pacer:
    return Pacer(file, manual_clock)


async def times(pacer: Pacer, clock: ManualClock, *endpoints: str) -> list[float]:
    """When each call was let through, seconds."""
    found = []
    for endpoint in endpoints:
        async with pacer.turn(endpoint):
            found.append(clock.monotonic())
    return found


@pytest.mark.parametrize("endpoint", sorted(INTERVALS))
async def test_calls_of_one_endpoint_keep_its_interval(
    pacer: Pacer, manual_clock: ManualClock, endpoint: str
) -> None:
    pause = INTERVALS[endpoint]
    assert await times(pacer, manual_clock, *[endpoint] * 3) == pytest.approx([0.0, pause, 2 * pause])


async def test_endpoints_do_not_wait_for_each_other(pacer: Pacer, manual_clock: ManualClock) -> None:
    assert await times(pacer, manual_clock, "create", "destroy", "list") == [0.0, 0.0, 0.0]


async def test_time_that_has_passed_anyway_counts(pacer: Pacer, manual_clock: ManualClock) -> None:
    await times(pacer, manual_clock, "list")
    await manual_clock.sleep(10)
    assert await times(pacer, manual_clock, "list") == [10.0]


async def test_another_command_waits_until_a_call_has_ended(file: Path, manual_clock: ManualClock) -> None:
    entered = []

    async def call() -> None:
        async with Pacer(file, manual_clock).turn("list"):
            entered.append(manual_clock.now())

    async with Pacer(file, manual_clock).turn("list"):
        other = asyncio.create_task(call())
        await manual_clock.sleep(60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(other), 0.05)
        ended = manual_clock.now()
    await other
    assert entered == [ended + INTERVALS["list"]]


async def test_a_long_wait_for_the_call_of_another_command_is_told(
    file: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacer_module, "_SLOW", 0.0)
    told = asyncio.Event()

    async def ask() -> None:
        async with Pacer(file, manual_clock).turn("list", told.set):
            pass

    async with Pacer(file, manual_clock).turn("list"):
        asking = asyncio.create_task(ask())
        await told.wait()
    await asking


async def test_those_who_ask_at_once_get_a_turn_each(pacer: Pacer, manual_clock: ManualClock) -> None:
    let_through: list[float] = []

    async def ask() -> None:
        async with pacer.turn("destroy"):
            let_through.append(manual_clock.monotonic())

    await asyncio.gather(*(ask() for _ in range(20)))
    gaps = [later - earlier for earlier, later in pairwise(let_through)]
    assert min(gaps) >= 3.0 - 1e-6


async def test_the_scale_stretches_every_pause(file: Path, manual_clock: ManualClock) -> None:
    assert await times(Pacer(file, manual_clock, 2.0), manual_clock, "list", "list") == pytest.approx([0, 2])


async def test_a_postponed_endpoint_waits_in_every_command(file: Path, manual_clock: ManualClock) -> None:
    await Pacer(file, manual_clock).postpone("list", 12.0)
    assert await times(Pacer(file, manual_clock), manual_clock, "list", "create") == pytest.approx([12, 12])


async def test_the_pause_begins_when_the_call_ends(pacer: Pacer, manual_clock: ManualClock) -> None:
    async with pacer.turn("list"):
        await manual_clock.sleep(7)
    assert await times(pacer, manual_clock, "list") == pytest.approx([8.0])


async def test_a_call_that_fails_is_counted_all_the_same(pacer: Pacer, manual_clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="no"):
        async with pacer.turn("list"):
            raise ValueError("no")
    assert await times(pacer, manual_clock, "list") == pytest.approx([1.0])


async def test_postponing_never_brings_a_call_forward(pacer: Pacer, manual_clock: ManualClock) -> None:
    await times(pacer, manual_clock, "create")
    await pacer.postpone("create", 1.0)
    assert await times(pacer, manual_clock, "create") == pytest.approx([4.5])


async def test_a_time_from_before_the_clock_was_put_back_is_ignored(file: Path) -> None:
    ahead, back = ManualClock(1_700_086_400.0), ManualClock(1_700_000_000.0)
    await times(Pacer(file, ahead), ahead, "list")
    assert await times(Pacer(file, back), back, "list") == [0.0]


@settings(max_examples=60)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["list"]), inner),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
async def test_whatever_the_file_holds_nobody_waits_absurdly_long(tmp_path: Path, content: bytes) -> None:
    clock, file = ManualClock(), tmp_path / "pace.json"
    file.write_bytes(content)
    (first, second) = await times(Pacer(file, clock), clock, "list", "list")
    assert first <= 100.0
    assert second - first >= 1.0 - 1e-6


async def test_without_a_file_it_keeps_its_pauses_by_itself(
    tmp_path: Path, manual_clock: ManualClock
) -> None:
    (tmp_path / "vast").write_text("not a folder")
    pacer = Pacer(tmp_path / "vast" / "pace.json", manual_clock)
    first, second = await times(pacer, manual_clock, "list", "list")
    assert second - first >= 1.0 - 1e-6


async def test_a_lock_that_a_suspended_command_never_frees_is_waited_for_once(
    file: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmhost.machine.files.PATIENCE", 0.5)
    file.parent.mkdir()
    async with hold_lock(file.with_suffix(".lock"), patience=0):
        async with asyncio.timeout(15):  # one wait for each call would take 40 s
            await times(Pacer(file, manual_clock), manual_clock, *["list"] * 40)
