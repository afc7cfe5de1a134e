"""The fleets besides the configured one: those that this machine knows, and those that the account rents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from llmhost.answering.cache_session import WarnOnce
from llmhost.config.models import Config, RedisConfig
from llmhost.errors import ConfigError, LlmhostError, StateError, StoreError, StoreUnavailable
from llmhost.fleet.clock import SystemClock
from llmhost.fleet.doubts import find_doubts
from llmhost.fleet.known_fleets import (
    EMBEDDED,
    SOMEWHERE,
    KnownFleet,
    forget_fleet,
    known_file,
    known_fleets,
    remember_fleet,
    take_down,
)
from llmhost.fleet.models import Registered, Worker
from llmhost.fleet.provider import Provider, list_all_workers
from llmhost.fleet.providers.vast.faults import CONSOLE
from llmhost.fleet.registry import FleetRecords
from llmhost.fleet.results import Failure
from llmhost.machine.paths import state_dir
from llmhost.wiring.fleets import (
    account_key,
    account_names,
    config_of,
    is_account_known,
    is_gone,
    make_provider,
    payer_of,
    read_other,
    records_of,
)

__all__ = ["OtherFleet", "OtherFleets"]

#: seconds; without the number of an account, what belongs to it is found by the key alone
_WHOSE_KEY = 10.0
_NOT_WRITTEN = "the fleet is not written down"


@dataclass(frozen=True, slots=True)
class OtherFleet:
    """A fleet that is not the configured one, and its workers. `config` is where it came from, if known, or
    the file that names the account which lists it, where that is not the one in use.
    `unlisted` are ids on record, where the provider's list cannot be read. `was_down`: it was taken down
    here.
    """

    name: str
    provider: str
    config: str | None
    workers: tuple[Worker, ...]
    unlisted: tuple[str, ...] = ()
    was_down: bool = False


@dataclass(frozen=True, slots=True)
class _Listed:
    """What one account rents, by fleet; `source` is the file that names its key, where another is in use."""

    fleets: Mapping[str, Sequence[Worker]]
    source: str | None = None


class _Recorded(NamedTuple):
    """The records of a fleet, and what they know of its workers."""

    records: FleetRecords
    known: Registered


class OtherFleets:
    """`provider` gives the configured fleet's own, `records` those of another, and `is_known` says whether
    there are any; `warn` gets what cannot be looked at or written down, `note` what takes long."""

    def __init__(
        self,
        config: Config,
        provider: Callable[[], Provider],
        records: Callable[[OtherFleet], Awaitable[FleetRecords]],
        is_known: Callable[[OtherFleet], Awaitable[bool]],
        warn: WarnOnce,
        note: Callable[[str], None],
    ) -> None:
        self._records = records
        self._is_known = is_known
        self._note = note
        self._config = config
        self._provider = provider
        self._warn = warn
        #: keys with which no account could be listed, and the file that names each; None: the one in use
        self.unseen_accounts: dict[str | None, str | None] = {}
        self._is_listed = True  #: whether the account in use could be, as far as it was tried
        #: why what this machine wrote down of its fleets is not known
        self.unread: StateError | ConfigError | StoreError | None = None
        #: purchases of which it is not known whether they bought a worker
        self.doubts: list[Failure] = []
        #: whether fleets that were taken down here count, and those that Redis alone knows
        self._everywhere = False
        self._in_redis: Sequence[KnownFleet] = ()

    async def found(self, *, everywhere: bool = False) -> Sequence[OtherFleet]:
        """Every other fleet that has workers, on this machine or rented, whatever the configuration says now.

        An account is looked at where a fleet of this machine is or was rented; `everywhere`: also where there
        is nothing but its key, and where a fleet was taken down that another machine may have made again.
        What cannot be looked at is warned of. Raises StateError where there is no state folder.
        """
        if everywhere:
            self._everywhere = True
            with suppress(LlmhostError, OSError):
                await self._learn_accounts()
            try:
                self._in_redis = await self._known_to_redis()
            except (LlmhostError, OSError) as error:  # nothing may stand before an ending
                self._unknown(StateError(f"what is on record of other fleets cannot be read: {error}"))
        fleets, own = state_dir() / "fleets", (self._config.fleet.name, self._config.fleet.provider)
        known = self._sources()
        found: list[OtherFleet] = []
        for name, provider in known:
            if provider == "local" and (name, provider) != own:
                config = config_of(self._config, name, provider)
                try:
                    workers = await make_provider(config, fleets / name, self._note).list()
                except StateError as error:
                    self._unknown(error)
                except LlmhostError as error:  # it hides no other fleet, and costs nothing
                    self._warn.warn(f"the workers of fleet {name} cannot be listed", error)
                else:
                    found.append(OtherFleet(name, provider, known[name, provider], tuple(workers)))
        rents = own[1] == "vast" or any(provider == "vast" for _, provider in known)
        if rents or (everywhere and account_key(self._config)):
            found += await self._rented(known)
        return [fleet for fleet in found if fleet.workers or fleet.unlisted]

    async def _rented(self, known: Mapping[tuple[str, str], str | None]) -> Sequence[OtherFleet]:
        """By their labels, their records, and the purchases that were begun here, which are known without the
        list too."""
        own, key = self._config.fleet, account_key(self._config)
        is_own = own.provider == "vast"
        listed = _Listed({})
        try:
            provider = self._provider() if is_own else self._vast_of(own.name, None)[0]
            listed = _Listed(await provider.fleets())
        except LlmhostError as error:
            self._is_listed = False
            self._unseen(error, key)
        named = {worker.id for worker in listed.fleets.get(own.name, ())} if is_own else set()  # shown once
        accounts = {key: listed}
        found = list[OtherFleet]()
        rented = self._rented_fleets([(own.name, key, self._config.redis)] if is_own else [])
        for fleet, record in zip(rented, await asyncio.gather(*map(self._recorded, rented)), strict=True):
            there = self._rented_again if fleet.down else self._rented_there
            found.append(await there(fleet, record, accounts, named))
            named |= {worker.id for worker in found[-1].workers}
        names = [name for name, provider in known if provider == "vast"]
        for name in dict.fromkeys([own.name, *names] if is_own else names):
            self.unread = self.unread or self.moved_redis(name)
        for name in sorted({name for account in accounts.values() for name in account.fleets}):
            self.unread = self.unread or self._unreached_redis(name)
        return [
            *found,
            *(
                OtherFleet(name, "vast", account.source or known.get((name, "vast")), rest)
                for account in accounts.values()
                for name, workers in account.fleets.items()
                if (rest := tuple(worker for worker in workers if worker.id not in named))
            ),
        ]

    def _rented_fleets(self, known: list[tuple[str, str | None, RedisConfig]]) -> Sequence[KnownFleet]:
        """The rented fleets that this machine made, but for those `known`: one for each account and each
        Redis that a fleet's configurations name."""
        found = list[KnownFleet]()
        for fleet in sorted(self._known(), key=lambda fleet: fleet.down):
            if fleet.provider != "vast":
                continue
            config = read_other(self._config, fleet.name, "vast", fleet.config).config
            which = (fleet.name, account_key(config), config.redis)
            if which not in known:
                known.append(which)
                found.append(fleet)
        return found

    async def _recorded(self, fleet: KnownFleet) -> _Recorded:
        records = await self._records(OtherFleet(fleet.name, "vast", fleet.config, ()))
        return _Recorded(records, await records.known())

    async def _rented_again(
        self,
        fleet: KnownFleet,
        record: _Recorded,
        accounts: dict[str | None, _Listed],
        named: Collection[str],
    ) -> OtherFleet:
        """As `_rented_there`, of a fleet that was taken down here: what cannot be read is no failure."""
        unread, unseen = self.unread, dict(self.unseen_accounts)
        found = await self._rented_there(fleet, record, accounts, named)
        self.unread, self.unseen_accounts = unread, unseen
        return found

    async def _learn_accounts(self) -> None:
        """Asks whose each key is of which this machine does not know it, once and for a moment."""
        known = {fleet.config: fleet.name for fleet in self._known() if fleet.provider == "vast"}
        unknown = dict[str | None, Provider]()
        for source, name in {None: self._config.fleet.name, **known}.items():
            config = read_other(self._config, name, "vast", source).config
            if not is_account_known(config):
                folder = state_dir() / "fleets" / name
                unknown.setdefault(account_key(config), make_provider(config, folder, self._note))
        with suppress(TimeoutError):
            async with asyncio.timeout(_WHOSE_KEY):
                await asyncio.gather(
                    *(provider.account() for provider in unknown.values()), return_exceptions=True
                )

    async def _known_to_redis(self) -> Sequence[KnownFleet]:
        """The fleets of which a Redis has something, from any machine: the one in use, and that of each fleet
        that this machine knows, for the account that the same configuration names."""
        known = {fleet.config: fleet.name for fleet in self._known() if fleet.provider == "vast"}
        places = dict[tuple[str | None, str], tuple[str, str | None]]()
        for source, name in {None: self._config.fleet.name, **known}.items():
            other = read_other(self._config, name, "vast", source)
            if account_key(other.config) and other.records_fault is None:  # else it is said elsewhere
                places.setdefault((account_key(other.config), records_of(other.config)), (name, source))
        found = await asyncio.gather(*(self._known_there(name, source) for name, source in places.values()))
        return [fleet for fleets in found for fleet in fleets]

    async def _known_there(self, name: str, source: str | None) -> Sequence[KnownFleet]:
        """Those in the Redis of one fleet, which comes from `source`."""
        config = read_other(self._config, name, "vast", source).config
        records = await self._records(OtherFleet(name, "vast", source, ()))
        return [
            KnownFleet(one, "vast", source, payer_of(config), records_of(config))
            for one in sorted(await records.fleets())
            if await self._is_known(OtherFleet(one, "vast", source, ()))
        ]

    async def _rented_there(
        self,
        fleet: KnownFleet,
        record: _Recorded,
        accounts: dict[str | None, _Listed],
        named: Collection[str],
    ) -> OtherFleet:
        """One fleet with its workers, but for those `named`. `accounts` are what each key shows; that of this
        fleet is added."""
        name, unlisted, workers = fleet.name, tuple[str, ...](), list[Worker]()
        provider, key = self._vast_of(name, fleet.config)
        records, known = record
        for warning in records.warnings:
            self._warn.warn(f"fleet {name} may not be shown in full", StoreError(warning))
        if records.away:
            self.unread = StoreUnavailable(f"what is on record of fleet {name} could not be read")
        if (fault := read_other(self._config, name, "vast", fleet.config).records_fault) is not None:
            self.unread = StoreUnavailable(
                f"the Redis of fleet {name} is not known: {fault.message}", hint=fault.hint
            )
        usual = account_key(self._config)
        if key != usual:  # one account may have the other's fleet by its label
            workers += accounts[usual].fleets.get(name, ())
        if key not in self.unseen_accounts:
            try:
                if key not in accounts:
                    accounts[key] = _Listed(await provider.fleets(), fleet.config)
                workers += await self._workers_of(name, provider, accounts[key], record)
            except LlmhostError as error:
                self._unseen(error, key, fleet.config)
        if key in self.unseen_accounts:
            unlisted = tuple(known.ids)
            try:
                unlisted = tuple(sorted({*known.ids, *provider.on_record()}))
            except StateError as fault:
                self._unknown(fault)
        unnamed = {worker.id: worker for worker in workers if worker.id not in named}
        return OtherFleet(name, "vast", fleet.config, tuple(unnamed.values()), unlisted)

    async def _workers_of(
        self, name: str, provider: Provider, listed: _Listed, record: _Recorded
    ) -> Sequence[Worker]:
        """Those of a fleet that was made here; where what was bought cannot be read, those of its label. What
        is in doubt is noted. A fleet of which nothing is on record has what the account has `listed` by its
        label: fleets that were taken down are many, and each list takes a second."""
        records, known = record
        try:
            if not (known.ids or known.begun or provider.on_record() or await provider.intents()):
                return listed.fleets.get(name, ())
            workers = await list_all_workers(provider, known)
            self.doubts += await find_doubts(provider, SystemClock(), records)
        except StateError as error:
            self._unknown(error)
            workers = (await provider.fleets()).get(name, ())
        return workers

    def _vast_of(self, name: str, source: str | None) -> tuple[Provider, str | None]:
        """Where a fleet of this machine is rented, and the key of the account that its own file names."""
        other = read_other(self._config, name, "vast", source)
        fault = other.account_fault
        if fault is None and name != self._config.fleet.name:
            fault = self._why_unknown(name, source)
        if fault is not None:
            self._warn.warn(f"it is not known what fleet {name} has rented", fault)
            # Where its file cannot be read, the key in use mostly is the one that all fleets have.
            if other.is_read or not self._is_payer(name, source):
                self.unread = fault
        provider = make_provider(other.config, state_dir() / "fleets" / name, self._note)
        return provider, account_key(other.config)

    def _why_unknown(self, name: str, source: str | None) -> ConfigError | None:
        """None where it is known which account pays for a fleet, and where its records are: its own file says
        so, or key and Redis in use are those that the fleet was last used with."""
        if source is not None and not is_gone(source):
            return None
        paid, places = self._is_payer(name, source), {use.redis for use in self._uses_of(name, source)}
        if paid and places <= {"", SOMEWHERE, records_of(self._config)}:
            return None
        what = "no configuration of it is known" if source is None else f"{source} is gone"
        which = "Redis" if paid else "key"
        return ConfigError(
            f"{what}, and the {which} in use is not the one that it was last used with",
            hint=f"put it back, or use that {which}; where you know that nothing of the fleet is left, remove"
            f" {known_file(state_dir() / 'fleets', name, 'vast')}",
        )

    def moved_redis(self, name: str) -> StateError | None:
        """Why what is on record of a rented fleet may not be seen: nothing in use names a Redis that it was
        used with since its last `up`. None where a configuration is not valid: that is said elsewhere; and of
        a fleet that was taken down here, which may change its Redis."""
        uses, own = [use for use in self._known_as(name) if not use.down], self._config.fleet
        there = [read_other(self._config, name, "vast", use.config) for use in uses]
        if any(other.records_fault for other in there):
            return None
        used = {records_of(other.config) for other in there}
        if (own.name, own.provider) == (name, "vast"):
            used.add(records_of(self._config))
        if {use.redis for use in uses} <= {"", SOMEWHERE, EMBEDDED, *used}:  # that one no other machine uses
            return None
        return _other_redis(name)

    def _unreached_redis(self, name: str) -> StateError | None:
        """As `moved_redis`, of a fleet that was taken down here, that is rented again, and whose file is gone
        since."""
        if not self._everywhere:
            return None
        with suppress(StateError):  # said elsewhere
            for use in known_fleets(state_dir() / "fleets"):
                was_down = (use.name, use.provider, use.down) == (name, "vast", True)
                here = use.redis in ("", EMBEDDED, records_of(self._config))
                if was_down and is_gone(use.config) and not here:
                    return _other_redis(name)
        return None

    def _known_as(self, name: str) -> Sequence[KnownFleet]:
        return [use for use in self._known() if (use.name, use.provider) == (name, "vast")]

    def _uses_of(self, name: str, source: str | None) -> Sequence[KnownFleet]:
        return [use for use in self._known_as(name) if use.config == source]

    def _is_payer(self, name: str, source: str | None) -> bool:
        """Whether the key in use is of the account that the fleet was used with from this file."""
        return bool({*account_names(self._config)} & {use.payer for use in self._uses_of(name, source)})

    async def appeared(self, named: Collection[str]) -> Sequence[OtherFleet]:
        """What the account in use rents now besides the workers named, by fleet, the configured one too: it
        is listed once more, all at once. That it cannot be is warned of, and not tried twice."""
        own, key = self._config.fleet.name, account_key(self._config)
        if key is None or not self._is_listed:
            return ()
        try:
            listed = await self._vast_of(own, None)[0].fleets()
        except LlmhostError as error:
            self._is_listed = False
            self._unseen(error, key)
            return ()
        sources = {
            which: source
            for which, source in self._sources().items()
            if self._key_of(*which, source) == key  # any other ends nothing in this account
        }
        new = {
            name: tuple(worker for worker in workers if worker.id not in named)
            for name, workers in listed.items()
        }
        return [
            OtherFleet(name, "vast", sources.get((name, "vast")), them) for name, them in new.items() if them
        ]

    def has_key_in_use(self, fleet: OtherFleet) -> bool:
        """Whether it is ended with the key in use, and not with another one that its file names."""
        return self._key_of(fleet.name, fleet.provider, fleet.config) == account_key(self._config)

    def _key_of(self, name: str, provider: str, source: str | None) -> str | None:
        return account_key(read_other(self._config, name, provider, source).config)

    def _unseen(self, error: LlmhostError, key: str | None, source: str | None = None) -> None:
        self._warn.warn("the fleets on vast.ai cannot be listed", error)
        self.unseen_accounts[key] = None if key == account_key(self._config) else source

    def refused_hint(self, fleet: OtherFleet) -> str | None:
        """Where nothing could be listed with the key that the fleet's own file names."""
        key = self._key_of(fleet.name, fleet.provider, fleet.config)
        return self.unseen_hint() if self.unseen_accounts.get(key) else None

    def unseen_hint(self) -> str:
        """Where an account could not be listed."""
        files = dict.fromkeys(self.unseen_accounts.values())
        keys = [f"correct `vast.api_key` in {file}" if file else "set VAST_API_KEY" for file in files]
        return f"{', '.join(keys)} and run it again, or see {CONSOLE}"

    def _known(self) -> Sequence[KnownFleet]:
        """The fleets that this machine has made; none, with a warning, where they cannot be read."""
        try:
            known = known_fleets(state_dir() / "fleets")
        except StateError as error:
            self._unknown(error)
            known = ()
        counts = [one for one in known if not one.down or (self._everywhere and not is_gone(one.config))]
        return [*counts, *self._in_redis]

    def _sources(self) -> Mapping[tuple[str, str], str | None]:
        """The configuration that each fleet was last made from, by the fleet's name and provider."""
        return {(fleet.name, fleet.provider): fleet.config for fleet in reversed(self._known())}

    def _unknown(self, error: StateError) -> None:
        self._warn.warn("what this machine knows of its fleets cannot be read", error)
        self.unread = error

    def configured(self, source: Path | None) -> OtherFleet:
        """The configured fleet, which comes from `source`, as the others are."""
        config = None if source is None else str(source.absolute())
        return OtherFleet(self._config.fleet.name, self._config.fleet.provider, config, ())

    def untold(self, told: Iterable[OtherFleet]) -> Sequence[OtherFleet]:
        """What this machine knows besides those that are told to stay down: fleets without workers, and other
        configurations of the same fleets, which may name another Redis."""
        fleets = {(fleet.name, fleet.provider, fleet.config) for fleet in told}
        fleets |= {(name, provider, None) for name, provider, _ in fleets}
        rest = {(use.name, use.provider, use.config): use.down for use in reversed(self._known())}
        return [OtherFleet(*which, (), was_down=down) for which, down in rest.items() if which not in fleets]

    def any_rented(self, told: Iterable[OtherFleet]) -> Sequence[OtherFleet]:
        """Where there is an account and none of its fleets is told to stay down: one that stands for those
        that are about to be rented for the first time."""
        if not account_key(self._config) or any(fleet.provider == "vast" for fleet in told):
            return ()
        return [OtherFleet(self._config.fleet.name, "vast", None, ())]

    async def remember(self, source: Path | None) -> None:
        """Writes down which configuration the fleet comes from, and where its records are. Raises StateError
        where that cannot be done of a rented one: nothing is to be bought that is not known here; of another
        it is warned."""
        try:
            await self._write_down(source, settled=False)
        except StateError as error:
            if self._config.fleet.provider == "vast":
                raise
            self._warn.warn(_NOT_WRITTEN, error)

    async def settle(self, source: Path | None) -> None:
        """As `remember`: its records are there from now on, whatever was in use before. Where that cannot be
        done, it is warned of."""
        try:
            await self._write_down(source, settled=True)
        except StateError as error:
            self._warn.warn(_NOT_WRITTEN, error)

    async def _write_down(self, source: Path | None, *, settled: bool) -> None:
        fleet = self.configured(source)
        payer = payer_of(self._config) if fleet.provider == "vast" else ""
        use = KnownFleet(fleet.name, fleet.provider, fleet.config, payer, records_of(self._config))
        await remember_fleet(state_dir() / "fleets", use, settled=settled)

    async def take_down(self, name: str, provider: str) -> None:
        """Nothing is left of it where its records are now; they may be elsewhere, too."""
        with suppress(StateError):
            await take_down(state_dir() / "fleets", name, provider, records_of(self._config))

    async def forget(self, name: str, provider: str) -> None:
        """Its last worker is gone. That it cannot be done is no matter: it has nothing to show."""
        with suppress(StateError):
            await forget_fleet(state_dir() / "fleets", name, provider)


def _other_redis(name: str) -> StateError:
    return StateError(
        f"fleet {name} was last used with another Redis",
        hint="use that one; where it is gone, run `llmhost up`, or, where nothing of the fleet is left,"
        f" remove {known_file(state_dir() / 'fleets', name, 'vast')}",
    )
