"""Machines that do not run: they only have ports, and nothing listens there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

#: Above the ports that a kernel hands out by itself, so that nothing else is found there.
FIRST_PORT, PORTS = 61_000, 4_500


class NoContainer:
    def __init__(self, ports: Mapping[int, int]) -> None:
        self.ports = ports
        self.text = ""

    def printed(self) -> str:
        return self.text

    async def stop(self) -> None:
        self.ports = {}


class NoContainers:
    """`started` are those of the last start, by instance."""

    def __init__(self) -> None:
        self.started: dict[int, NoContainer] = {}
        self._ports = itertools.cycle(range(FIRST_PORT, FIRST_PORT + PORTS))

    async def start(self, instance_id: int, onstart: str, env: Mapping[str, str], *_: str) -> NoContainer:
        container = NoContainer({inside: next(self._ports) for inside in declared_ports(env)})
        self.started[instance_id] = container
        return container


def declared_ports(env: Mapping[str, str]) -> list[int]:
    """The container's ports of Docker's `-p outside:inside`, which travel as names in the environment."""
    flags = [name.split() for name in env]
    return [int(flag[1].split(":")[-1]) for flag in flags if flag[0] == "-p"]
