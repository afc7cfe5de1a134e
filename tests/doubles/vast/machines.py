"""The containers of the instances: one for each that runs, started anew at each boot."""

from __future__ import annotations

import asyncio
from typing import Any

from doubles.vast.instances import Instance
from doubles.vast.no_containers import NoContainers
from doubles.vast.world import World


class Machines:
    """`containers` starts and stops them: NoContainers unless real ones are given."""

    def __init__(self, world: World, containers: Any = None) -> None:
        self.containers = NoContainers() if containers is None else containers
        self.api_url = ""
        self._world = world
        self._running: dict[int, tuple[int, Any]] = {}  # instance -> which boot, container
        self._printed: dict[int, str] = {}
        self._lock = asyncio.Lock()
        self._closed = False

    def printed(self, id: int) -> str:
        """What its container has printed; of one that was stopped, the last that it did."""
        if id in self._running:
            self._keep(id)
        return self._printed.get(id, "")

    async def settle(self) -> None:
        """Starts and stops what has to be by now."""
        async with self._lock:
            for id, (boot, _) in list(self._running.items()):
                instance = self._world.instances[id]
                if not instance.running or instance.boots != boot:
                    await self._stop(instance)
            for instance in self._world.alive:
                if instance.running and instance.id not in self._running and not self._closed:
                    await self._start(instance)

    async def close(self) -> None:
        """Stops them all and starts no more."""
        async with self._lock:
            self._closed = True
            for id in list(self._running):
                await self._stop(self._world.instances[id])

    async def _start(self, instance: Instance) -> None:
        order = instance.order
        container = await self.containers.start(
            instance.id, order.onstart, order.env, self.api_url, instance.key
        )
        self._running[instance.id] = (instance.boots, container)
        instance.ports = container.ports

    async def _stop(self, instance: Instance) -> None:
        self._keep(instance.id)
        _, container = self._running.pop(instance.id)
        instance.ports = {}
        await container.stop()

    def _keep(self, id: int) -> None:
        """A container need not remember what it printed: then there are no logs."""
        _, container = self._running[id]
        self._printed[id] = container.printed() if hasattr(container, "printed") else ""
