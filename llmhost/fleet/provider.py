"""The contract of a provider: where workers come from.

The provider's list is the truth about what exists and is paid for. A list that cannot be read in
full is an error, never "no workers".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from llmhost.errors import ProviderError
from llmhost.fleet.models import (
    Account,
    FleetSpec,
    Intent,
    Market,
    Offer,
    Payer,
    Registered,
    SshTarget,
    Worker,
    WorkerState,
)
from llmhost.ledger.rentals import Charge

__all__ = [
    "ANSWERED_AFTER",
    "UNREADABLE",
    "Confirm",
    "Provider",
    "agree",
    "list_all_workers",
    "list_to_buy",
    "resolve_pending",
]

#: seconds; a purchase of which the provider shows nothing for so long has bought nothing
ANSWERED_AFTER = 900.0

#: the stage of a worker that the provider lists and of which something cannot be read
UNREADABLE = "unreadable"


#: Is given the purchase that is about to be made; raises where a worker is not wanted any more.
Confirm = Callable[[Intent], Awaitable[None]]


async def agree(_intent: Intent) -> None:
    """Nothing speaks against it."""


class Provider(ABC):
    """Creates, lists and destroys workers of one fleet.

    Every method raises ProviderError (or StateError where the state folder is at fault, ConfigError where
    an account's key is missing, and `create` ModelError where the model file is) and nothing else; every
    third-party error is translated here.
    """

    name: str

    #: Whether its workers cost real money: then a purchase is asked for first, and a worker that fails is
    #: replaced by another machine.
    rents: ClassVar[bool] = False
    #: URL where its customer sees and ends what it rents, without llmhost; empty where there is none.
    console: ClassVar[str] = ""

    @abstractmethod
    async def offers(self, spec: FleetSpec) -> Market:
        """What could be created now. No offers means that nothing fits."""

    @abstractmethod
    async def create(self, spec: FleetSpec, offer: Offer | None = None, confirm: Confirm = agree) -> Worker:
        """Makes one worker of `spec` from `offer`, or from the best one, and returns it as soon as it
        exists, ready or not. Where a purchase can be in doubt, `confirm` is awaited directly before it is
        asked for, and what it raises stops it.

        A crash between asking and returning leaves a worker that `list` shows.

        Raises:
            OfferGone: the offer was taken by another customer. Nothing was bought; another may be tried.
            PurchaseUnclear: it cannot be found out whether something was bought. `list` will show it.
        """

    @abstractmethod
    async def list(self) -> Sequence[Worker]:
        """Every worker of this fleet that exists, failed ones included, oldest first.

        State is STARTING, FAILED, or READY as far as the provider can tell without asking the engine.
        """

    async def unlisted(self, payers: Mapping[str, Payer]) -> Sequence[Worker]:  # noqa: ARG002
        """Those of the workers named that exist although `list` has just not shown them. Each comes with what
        its record says of who pays for it.

        Raises:
            ProviderError: also where that shows that the list was not complete, and where it is not proven
                that this account pays for one, as it cannot see those of others.
        """
        return ()

    async def fleets(self) -> Mapping[str, Sequence[Worker]]:
        """The workers of every fleet, this one or others, that the provider lists, by the fleet's name. They
        are those of the last `list`, where there was one, and cannot be asked.
        """
        return {}

    @abstractmethod
    async def destroy(self, worker_id: str, payer: Payer | None = None) -> None:
        """Gives the worker back and returns when the provider no longer lists it.

        A worker that does not exist is success: destroying twice is safe. `payer` is who pays for it, None
        where it is not on record. One that was never listed, and for which this account is not proven to pay,
        is an error: it cannot be seen whether it exists.
        """

    @abstractmethod
    async def logs(self, worker_id: str, lines: int = 100) -> str:
        """The last lines that the worker printed; empty where there are none."""

    async def charges(self, since: float) -> Sequence[Charge]:  # noqa: ARG002
        """What the provider says that it billed for this fleet's workers, gone ones included, from `since`
        on; empty where it keeps no bill."""
        return ()

    async def account(self) -> Account | None:
        """What is left to pay with; None where nothing is paid."""
        return None

    async def ssh(self, worker_id: str) -> SshTarget | None:  # noqa: ARG002
        """Where a shell of the worker can be had; None where there is none (yet)."""
        return None

    def learn(self, begun: Iterable[Intent]) -> None:  # noqa: B027
        """Purchases that were begun on any machine: from now on they count as those of this one do."""

    async def intents(self) -> Sequence[Intent]:
        """Purchases that were begun, as far as is known here, and of which the last `list` had no worker,
        even if the next one would. Where it has said which worker it sold, `list` has that one, too."""
        return ()

    async def forget_intent(self, intent_id: str) -> None:  # noqa: B027
        """Drops the record of a purchase that bought nothing. One that is not there is fine."""

    def on_record(self) -> Sequence[str]:
        """Workers that were created on this machine and are not known to be gone; the provider is not asked.
        Raises StateError."""
        return ()

    async def resolve_pending(self) -> None:  # noqa: B027
        """Returns when `list` shows whatever a command that crashed a moment ago has bought."""


# Which workers exist: the provider's list, and those on record that are missing there.


async def list_all_workers(provider: Provider, known: Registered) -> Sequence[Worker]:
    """Every worker that exists. `known` was read before this: one that the list lacks is made sure of, for
    what is taken for gone is bought again, and its bill forgotten. Where the list does not say how a worker
    is reached, or since when it is paid for, its record does. One that was sold a moment ago and is not
    listed yet is among them.

    Raises:
        ProviderError: the list cannot be read, or not be believed.
    """
    provider.learn(known.begun)
    listed = await provider.list()
    missing = sorted(known.ids - {worker.id for worker in listed})
    if missing:
        payers = {worker: known.payers.get(worker, Payer()) for worker in missing}
        listed = [*listed, *await provider.unlisted(payers)]
    recorded = {worker.id: worker for worker in known.workers}
    return [_completed(worker, recorded.get(worker.id, worker)) for worker in listed]


def _completed(worker: Worker, recorded: Worker) -> Worker:
    """With what is on record. It is paid for since the earlier time: one that seems to have started later,
    as its label was changed, would be counted twice. One that is listed without its address may answer there
    all the same; one that boots, which pays for its disk alone, has another address when it has one."""
    worker = replace(worker, started=min(worker.started, recorded.started))
    if worker.url is not None:
        return worker
    boots = worker.state is WorkerState.STARTING and worker.billing is not None
    return replace(
        worker,
        url=None if boots else recorded.url,
        token=worker.token or recorded.token,
        certificate=worker.certificate or recorded.certificate,
    )


async def resolve_pending(provider: Provider, known: Registered) -> None:
    """As `Provider.resolve_pending`, for what is known to have been begun on any machine."""
    provider.learn(known.begun)
    await provider.resolve_pending()


async def list_to_buy(provider: Provider, known: Registered) -> Sequence[Worker]:
    """As `list_all_workers`, for what may buy or replace: of every worker all must be known.

    Raises:
        ProviderError: also where something of a worker cannot be read. It is shown and can be destroyed; but
            were it replaced, and the next one no more readable, purchases would have no end.
    """
    listed = await list_all_workers(provider, known)
    if unreadable := [worker for worker in listed if worker.stage == UNREADABLE]:
        names = ", ".join(worker.id for worker in unreadable)
        raise ProviderError(
            f"nothing is bought or replaced while {names} cannot be read: {unreadable[0].detail}",
            hint=f"`llmhost down {unreadable[0].id}` destroys it",
        )
    return listed
