"""Any field of any row may be odd: every instance of ours is shown, and ends by its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import make_spec
from doubles.vast.schema import ABSENT, INSTANCE, ODD_VALUES
from doubles.vast.server import VastServer

from llmhost.config.fields import UNNAMED_FLEET
from llmhost.fleet.models import WorkerState
from llmhost.fleet.providers.vast.provider import VastProvider
from llmhost.fleet.providers.vast.rows import number_in

pytestmark = pytest.mark.usefixtures("fast_lists")

SPEC = make_spec(provider="vast", engine="ollama", model="tiny")
FIELDS = sorted({*INSTANCE} - {"id"})
ODD_PAIRS = [value for value in ODD_VALUES.values() if value is not ABSENT]


@pytest.fixture
def fast_lists(vast_server: VastServer) -> None:
    """Nothing here is about pauses."""
    vast_server.limits.pace = 0


@pytest.fixture
async def ours(vast_provider: Callable[..., VastProvider], manual_clock: ManualClock) -> int:
    """The number of a worker of this fleet that runs."""
    number = number_in((await vast_provider().create(SPEC)).id)
    await manual_clock.sleep(120)
    assert number is not None
    return number


@pytest.fixture
def stranger(vast_server: VastServer, ours: int) -> int:
    """The number of an instance of another program in the same account."""
    order = replace(vast_server.instances[ours].order, label="training")
    return vast_server.world.buy(vast_server.market.add(), order).id


@pytest.mark.parametrize("kind", ODD_VALUES)
async def test_an_odd_field_of_ours_or_of_a_stranger_hides_no_worker(
    vast_server: VastServer, vast_provider: Callable[..., VastProvider], ours: int, stranger: int, kind: str
) -> None:
    provider, hidden = vast_provider(), []
    for field in FIELDS:
        for number in (ours, stranger):
            vast_server.instances[number].odd = {field: ODD_VALUES[kind]}
        shown = [worker.id for worker in await provider.list()]
        if f"vast-{ours}" not in shown or shown.count(f"vast-{ours}") > 1:
            hidden.append((field, shown))
    assert hidden == []


@pytest.mark.parametrize("kind", ODD_VALUES)
async def test_where_every_field_is_odd_a_worker_is_shown_as_failed_and_ends_by_its_number(
    vast_server: VastServer, vast_provider: Callable[..., VastProvider], ours: int, stranger: int, kind: str
) -> None:
    for number in (ours, stranger):
        vast_server.instances[number].odd = dict.fromkeys(FIELDS, ODD_VALUES[kind])
    provider = vast_provider()
    shown = {worker.id: worker for worker in await provider.list()}
    assert shown[f"vast-{ours}"].state is WorkerState.FAILED
    await provider.destroy(f"vast-{ours}")
    assert vast_server.alive() == [stranger]


@pytest.mark.parametrize("kind", [kind for kind in ODD_VALUES if kind != "a number"])
async def test_a_row_without_its_number_is_found_by_the_number_on_record(
    vast_server: VastServer, vast_provider: Callable[..., VastProvider], ours: int, kind: str
) -> None:
    vast_server.instances[ours].odd = {"id": ODD_VALUES[kind]}
    provider = vast_provider()
    assert f"vast-{ours}" in [worker.id for worker in await provider.list()]
    await provider.destroy(f"vast-{ours}")
    assert vast_server.alive() == []


def odd_pairs(name: str, value: str) -> list[Any]:
    """What may stand in the place of a variable."""
    return [*ODD_PAIRS, [], [name], *([name, odd] for odd in ODD_PAIRS), [value, name]]


async def test_one_odd_variable_hides_no_worker_whose_label_was_changed_from_another_machine(
    vast_server: VastServer, vast_provider: Callable[..., VastProvider], ours: int, stranger: int
) -> None:
    vast_server.instances[stranger].order = replace(vast_server.instances[stranger].order, env={})
    vast_server.instances[ours].label = "my gpu"
    pairs = [[name, value] for name, value in vast_server.instances[ours].order.env.items()]
    provider, hidden = vast_provider(fleet="elsewhere"), []
    for at in (0, 1, len(pairs) - 1):  # the port, the token, a part of the script
        for odd in odd_pairs(*pairs[at]):
            vast_server.instances[ours].odd = {"extra_env": [*pairs[:at], odd, *pairs[at + 1 :]]}
            await provider.list()
            found = {name: [worker.id for worker in them] for name, them in (await provider.fleets()).items()}
            if found != {UNNAMED_FLEET: [f"vast-{ours}"]}:
                hidden.append((odd, found))
    assert hidden == []
