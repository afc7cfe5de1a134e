"""Workers that run already: a list of URLs in the configuration.

To create one is to adopt the next URL, to destroy one is to forget it. The server itself is never
touched: it may serve others.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, FiniteFloat, Strict, TypeAdapter

from llmhost.errors import ProviderError, StateError
from llmhost.fleet.models import FleetSpec, Market, Offer, Payer, Worker, WorkerState
from llmhost.fleet.provider import Confirm, Provider, agree
from llmhost.machine.files import make_folder, read_json, write_json

__all__ = ["StaticProvider", "StaticServer"]


@dataclass(frozen=True, slots=True)
class StaticServer:
    """One server of the configuration; without a `name`, `id` is the same for the same URL, always."""

    url: str
    token: str | None = field(default=None, repr=False)
    name: str | None = None

    @property
    def id(self) -> str:
        return self.name or "static-" + hashlib.sha256(self.url.encode()).hexdigest()[:6]


@dataclass(frozen=True, slots=True)
class _Adoption:
    """`started` is Unix seconds, `price_per_hour` USD."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    url: str
    started: Annotated[FiniteFloat, Strict()]
    price_per_hour: Annotated[FiniteFloat, Strict()]
    model: str
    engine: str


_ADOPTIONS = TypeAdapter(list[_Adoption])


class StaticProvider(Provider):
    """Keeps which servers are in use in ``static.json`` under `folder`, which is this fleet's own."""

    name = "static"

    def __init__(
        self, folder: Path, servers: Sequence[StaticServer], *, now: Callable[[], float] = time.time
    ) -> None:
        self._file = folder / "static.json"
        self._servers = {server.id: server for server in servers}
        self._now = now

    async def offers(self, spec: FleetSpec) -> Market:
        return Market(
            tuple(
                Offer(
                    id=server.id,
                    gpu="",
                    price_per_hour=spec.price_per_hour,
                    reliability=1.0,
                    region=server.url,
                )
                for server in self._free()
            )
        )

    async def create(self, spec: FleetSpec, offer: Offer | None = None, confirm: Confirm = agree) -> Worker:  # noqa: ARG002
        free = [server for server in self._free() if offer is None or server.id == offer.id]
        if not free:
            raise ProviderError(
                f"all {len(self._servers)} servers under fleet.workers are in use already",
                hint="add another one there, or ask for fewer workers",
            )
        server = free[0]
        adoption = _Adoption(
            id=server.id,
            url=server.url,
            started=self._now(),
            price_per_hour=spec.price_per_hour,
            model=spec.model,
            engine=spec.engine,
        )
        self._write([*self._read(), adoption])
        return self._view(adoption)

    async def list(self) -> Sequence[Worker]:
        return [self._view(adoption) for adoption in self._read()]

    async def destroy(self, worker_id: str, payer: Payer | None = None) -> None:  # noqa: ARG002
        adoptions = self._read()
        remaining = [adoption for adoption in adoptions if adoption.id != worker_id]
        if len(remaining) < len(adoptions):
            self._write(remaining)

    async def logs(self, worker_id: str, lines: int = 100) -> str:  # noqa: ARG002
        """Always empty: the server's logs are with its operator."""
        return ""

    def _free(self) -> Sequence[StaticServer]:
        used = {adoption.id for adoption in self._read()}
        return [server for server in self._servers.values() if server.id not in used]

    def _view(self, adoption: _Adoption) -> Worker:
        server = self._servers.get(adoption.id)
        return Worker(
            id=adoption.id,
            provider=self.name,
            state=WorkerState.READY if server else WorkerState.FAILED,
            url=adoption.url,
            price_per_hour=adoption.price_per_hour,
            started=adoption.started,
            model=adoption.model,
            engine=adoption.engine,
            detail="" if server else f"{adoption.url} is no longer in the configuration",
            token=server.token if server else None,
        )

    def _read(self) -> Sequence[_Adoption]:
        try:
            raw = read_json(self._file)
            adoptions = _ADOPTIONS.validate_python(raw["adopted"]) if raw is not None else []
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"{self._file} is damaged",
                hint="remove it, then run `llmhost up`: the servers are not touched",
            ) from error
        return sorted(adoptions, key=lambda adoption: (adoption.started, adoption.id))

    def _write(self, adoptions: Sequence[_Adoption]) -> None:
        make_folder(self._file.parent)
        write_json(self._file, {"adopted": [asdict(adoption) for adoption in adoptions]})
