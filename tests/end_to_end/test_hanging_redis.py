"""The Redis of many fleets accepts connections and never answers: all are waited for at once, and once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from plugins.rented_commands import RentedHouse

pytestmark = [pytest.mark.slow]

COMMANDS = [["fleets"], ["down", "--all", "--yes"]]


class Silence:
    """Servers that never answer: how many connections each got, and the most that were open at once."""

    def __init__(self) -> None:
        self.servers: list[asyncio.Server] = []
        self.calls: dict[int, int] = {}
        self.open = self.most = 0

    async def serve(self) -> str:
        """The URL of one more."""
        server = await asyncio.start_server(self._ignore, "127.0.0.1", 0)
        self.servers.append(server)
        return f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _ignore(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        self.calls[port] = self.calls.get(port, 0) + 1
        self.open += 1
        self.most = max(self.most, self.open)
        while await reader.read(4096):
            pass
        self.open -= 1
        writer.close()

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture
async def silence() -> AsyncIterator[Silence]:
    silence = Silence()
    yield silence
    silence.close()


def know(house: RentedHouse, name: str, redis: str, folder: Path) -> None:
    """A fleet that this machine knows, of a configuration that names this Redis."""
    usual = house.configure()
    text = usual.read_text()
    house.configure(fleet={"name": name}, redis={"url": redis, "timeout": "5s"})
    path = usual.rename(folder / f"{name}.yaml")
    usual.write_text(text)
    known = house.state / "fleets" / name / "fleet-vast.json"
    known.parent.mkdir(parents=True, mode=0o700)
    known.write_text(json.dumps({"uses": [{"config": str(path)}]}))


@pytest.mark.parametrize("command", COMMANDS)
async def test_one_that_hangs_is_asked_once_by_a_command_however_many_fleets_it_has(
    rented_house: RentedHouse, silence: Silence, tmp_path: Path, command: list[str]
) -> None:
    url = await silence.serve()
    for n in range(4):
        know(rented_house, f"fleet-{n}", url, tmp_path)
    done = await rented_house.run(*command)
    assert (done.code != 0, sum(silence.calls.values())) == (True, 1), done.err
    assert "Redis does not answer in time" in done.err


@pytest.mark.parametrize("command", COMMANDS)
async def test_many_that_hang_are_waited_for_at_the_same_time(
    rented_house: RentedHouse, silence: Silence, tmp_path: Path, command: list[str]
) -> None:
    for n in range(4):
        know(rented_house, f"fleet-{n}", await silence.serve(), tmp_path)
    done = await rented_house.run(*command)
    assert (done.code != 0, list(silence.calls.values())) == (True, [1] * 4), done.err
    assert silence.most == 4
