"""What nobody may read: in no output, file, log, command line or order, whatever a user does or meets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis.asyncio
from doubles.vast.containers import command_line
from doubles.vast.faults import Fault
from plugins.redis_servers import RedisServer
from plugins.rented_commands import RentedHouse, renting

pytestmark = pytest.mark.slow

PASSWORD = "correct-horse-battery-staple"

#: seconds between two looks at every command line of this machine
LOOK = 0.1

#: USD an hour; `scale` buys nothing without a limit
BUDGET = {"LLMHOST_FLEET__BUDGET__PER_HOUR": "5", "LLMHOST_SCALE__MIN_GPUS": "2"}

#: What was said, written or shown, by where.
Places = Mapping[str, str]


@dataclass(frozen=True)
class Secrets:
    """By name. Those of the account have no business on a worker; those of workers are for them alone."""

    account: Mapping[str, str]
    tokens: Mapping[str, str]
    keys: Mapping[str, str]

    def all_in(self, places: Places) -> list[tuple[str, str]]:
        return shown({**self.account, **self.tokens, **self.keys}, places)


def shown(secrets: Mapping[str, str], places: Places) -> list[tuple[str, str]]:
    """Which secret shows where."""
    return [(place, name) for place, text in places.items() for name, one in secrets.items() if one in text]


def secrets_of(house: RentedHouse) -> Secrets:
    instances = house.server.instances.values()
    return Secrets(
        {"account key": house.server.key, "password of Redis": PASSWORD},
        {f"token of {one.id}": one.order.env["LLMHOST_TOKEN"] for one in instances},
        {
            # As much of it as fits on one line of a file.
            **{f"TLS key of {one.id}": one.order.env["LLMHOST_KEY"][:64] for one in instances},
            **{f"vast.ai's key of {one.id}": one.key for one in instances},
        },
    )


@pytest.fixture
async def house(tmp_path: Path, redis_port_server: Callable[..., RedisServer]) -> AsyncIterator[RentedHouse]:
    """Its Redis wants a password, which comes from the environment."""
    server = redis_port_server()
    async with redis.asyncio.Redis(port=server.port) as client:  # as an option, it would be in an argv
        await client.config_set("requirepass", PASSWORD)
    section = {"host": "127.0.0.1", "port": server.port, "password": "${REDIS_PASSWORD}"}
    async with renting(tmp_path / "rented", section) as house:
        house.environ["REDIS_PASSWORD"] = PASSWORD
        house.new_interpreters = True  # their command lines are read
        yield house


@asynccontextmanager
async def watched() -> AsyncIterator[set[str]]:
    """Every command line that is on this machine meanwhile."""
    seen: set[str] = set()

    async def look() -> None:
        while True:
            seen.update(command_line(process) for process in psutil.process_iter())
            await asyncio.sleep(LOOK)

    looking = asyncio.create_task(look())
    yield seen
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def live(house: RentedHouse) -> None:
    """A day in the life of a fleet."""
    up = await house.run("up", "--gpus", "2", "--yes", "--verbose")
    assert up.code == 0, up.err
    worker = house.alive()[0]
    for args in (
        ("ask", "--verbose", "What is Redis?"),
        ("status", "--gpu", "--json", "--verbose"),
        ("logs", worker, "--verbose"),
        ("ssh", worker, "--json"),
        ("scale", "--verbose"),
        ("scale", "history", "--json", "--verbose"),
    ):
        assert (await house.run(*args, **BUDGET)).code == 0
    await house.run("doctor", "--verbose")


async def fail(house: RentedHouse) -> None:
    """Whatever may go wrong, told in full."""
    one, other = house.alive()
    for worker in (one, other):
        house.container(worker).engine(status=500)
    done = [await house.run("ask", "--no-cache", "--verbose", "What is TLS?")]
    token = house.container(one).environ["LLMHOST_TOKEN"]
    house.server.become(
        int(one[5:]), "created", f"OCI runtime create failed: docker run -e LLMHOST_TOKEN={token}"
    )
    done.append(await house.run("up", "--gpus", "2", "--verbose"))  # there is no terminal to ask at
    done.append(await house.run("stats", "--verbose", REDIS_PASSWORD=f"{PASSWORD}x"))
    house.server.arm(Fault.SERVER_ERROR, endpoint="list", times=None)
    done.append(await house.run("status", "--verbose"))
    done.append(await house.run("scale", "--verbose", **BUDGET))
    house.server.faults.armed.clear()
    done.append(await house.run("down", "--verbose", VAST_API_KEY=f"{house.server.key}x"))
    assert [one.code for one in done] == [5, 2, 5, 5, 5, 5]
    assert ["Traceback" in one.err for one in done] == [True] * 6
    assert "LLMHOST_TOKEN=***" in (await house.run("status")).out


def printed(house: RentedHouse) -> Places:
    both = [(f"{n}. command", done) for n, done in enumerate(house.said, 1)]
    return {name: done.out + done.err for name, done in both} | {
        f"log of {number}": container.printed() for number, container in house.machines.all.items()
    }


def ordered(house: RentedHouse) -> Places:
    """What vast.ai was told besides the environment."""
    orders = [(id, one.order, one.label) for id, one in house.server.instances.items()]
    return {
        f"order of {id}": f"{label} {order.label} {order.image} {order.args} {order.onstart}"
        for id, order, label in orders
    }


def on_machines(house: RentedHouse) -> Places:
    """What a worker has: its environment as ordered, and the files that it made of it."""
    environments = {f"environment of {id}": repr(one.order.env) for id, one in house.server.instances.items()}
    return environments | {
        path: text for one in house.machines.all.values() for path, text in files_in(one.root).items()
    }


def files_in(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path): path.read_bytes().decode(errors="replace") for path in paths}


def where(path: str) -> tuple[str, str]:
    """The name of its folder, and who may do what with it."""
    return Path(path).parent.name, oct(Path(path).stat().st_mode & 0o777)


async def test_no_secret_shows_where_it_does_not_belong(house: RentedHouse) -> None:
    async with watched() as command_lines:
        await live(house)
        await fail(house)
    secrets = secrets_of(house)
    assert len(secrets.tokens) == 2
    assert secrets.all_in(printed(house)) == []
    for word in ("llmhost ask", "nginx", "ollama serve"):
        assert any(word in line for line in command_lines)
    assert secrets.all_in({line: line for line in command_lines}) == []
    assert secrets.all_in(ordered(house)) == []
    assert {name for _, name in shown(secrets.tokens, on_machines(house))} == set(secrets.tokens)
    assert shown(secrets.account, on_machines(house)) == []


async def test_the_state_folder_keeps_tokens_for_its_owner_alone_and_no_other_secret(
    house: RentedHouse,
) -> None:
    await house.ok("up", "--yes")
    await house.ok("ask", "What is Redis?")
    secrets, kept = secrets_of(house), files_in(house.state)
    assert any(path.endswith("pace.json") for path in kept)
    found = secrets.all_in(kept)
    assert {name for _, name in found} == set(secrets.tokens)
    assert {where(path) for path, _ in found} == {("intents", "0o600")}
    await house.ok("down")
    assert secrets.all_in(files_in(house.state)) == []
