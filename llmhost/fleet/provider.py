"""The contract of a provider: where workers come from.

The provider's list is the truth about what exists and is paid for. A list that cannot be read in
full is an error, never "no workers".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from llmhost.fleet.models import FleetSpec, Offer, Worker

__all__ = ["Provider"]


class Provider(ABC):
    """Creates, lists and destroys workers of one fleet.

    Every method raises ProviderError (or StateError where the state folder is at fault, and `create`
    ModelError where the model file is) and nothing else; every third-party error is translated here.
    """

    name: str

    @abstractmethod
    async def offers(self, spec: FleetSpec) -> Sequence[Offer]:
        """What could be created now, best first. An empty answer means that nothing fits."""

    @abstractmethod
    async def create(self, spec: FleetSpec) -> Worker:
        """Makes one worker of `spec` and returns it as soon as it exists, ready or not.

        A crash between asking and returning leaves a worker that `list` shows.
        """

    @abstractmethod
    async def list(self) -> Sequence[Worker]:
        """Every worker of this fleet that exists, failed ones included, oldest first.

        State is STARTING, FAILED, or READY as far as the provider can tell without asking the engine.
        """

    @abstractmethod
    async def destroy(self, worker_id: str) -> None:
        """Gives the worker back and returns when the provider no longer lists it.

        A worker that does not exist is success: destroying twice is safe.
        """

    @abstractmethod
    async def logs(self, worker_id: str, lines: int = 100) -> str:
        """The last lines that the worker printed; empty where there are none."""
