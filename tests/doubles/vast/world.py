"""The account and its instances over time: who lives, what is billed, when the credit is used up."""

from __future__ import annotations

import itertools
import secrets

from doubles.vast.catalogue import Offer
from doubles.vast.faults import Armed, Fault
from doubles.vast.instances import Boot, Instance
from doubles.vast.market import Market
from doubles.vast.orders import Order

from llmhost.fleet.clock import Clock

FIRST_INSTANCE = 25_000_001


class World:
    """Time passes in `advance` alone: everything due by the clock happens there, in its order."""

    def __init__(self, clock: Clock, boot: Boot, credit: float) -> None:
        self.clock = clock
        self.boot = boot
        self.user: int | None = 4242  # whose account it is
        self.market = Market()
        self.instances: dict[int, Instance] = {}
        self.peak_price = 0.0
        self._paid_in = credit
        self._settled = 0.0  # the bills of those that are gone
        self._alive: dict[int, Instance] = {}
        self._until = clock.now()
        self.number_from(FIRST_INSTANCE)

    def number_from(self, first: int) -> None:
        """No two instances of vast.ai have the same number."""
        self._ids = itertools.count(first)

    @property
    def alive(self) -> list[Instance]:
        return list(self._alive.values())

    @property
    def burn(self) -> float:
        """USD an hour that is billed at this moment."""
        return sum(instance.bill.burn for instance in self._alive.values())

    def billed(self) -> float:
        """USD until the moment up to which time has passed."""
        return self._settled + sum(one.bill.usd(self._until) for one in self._alive.values())

    @property
    def credit(self) -> float:
        return self._paid_in - self.billed()

    @credit.setter
    def credit(self, usd: float) -> None:
        self._paid_in = usd + self.billed()

    def advance(self) -> float:
        """Lets happen what is due by now, which it returns."""
        now = self.clock.now()
        while (at := min(self._next_step(), self._broke_at())) <= now:
            self._until = max(at, self._until)
            if self._broke_at() <= at:
                self._stop_all(at)
            else:
                self._step(at)
        self._until = max(now, self._until)
        return now

    def buy(self, offer: Offer, order: Order) -> Instance:
        """An instance, booting; but stopped, and paid for, if the offer is taken or the bid too low."""
        now = self._until
        instance = Instance(next(self._ids), secrets.token_hex(32), offer, order, now)
        waits = offer["id"] in self.market.rented or (order.price or 1e9) < offer["min_bid"]
        if waits:
            instance.intended_status = instance.cur_state = instance.next_state = "stopped"
        else:
            instance.plan_boot(self.boot, now)
        self.market.take(offer["id"])
        self.instances[instance.id] = self._alive[instance.id] = instance
        self.peak_price = max(self.peak_price, sum(one.price for one in self._alive.values()))
        return instance

    def destroy(self, instance: Instance) -> None:
        """Gone for good; its offer is for rent again unless another instance sits on it."""
        instance.destroy(self._until)
        del self._alive[instance.id]
        self._settled += instance.bill.usd(self._until)
        offer = instance.offer["id"]
        if all(other.offer["id"] != offer for other in self._alive.values()):
            self.market.give_back(offer)

    def afflict(self, instance: Instance, armed: Armed) -> None:
        """Brings one of AFFLICTIONS upon it."""
        seconds = armed.value or 0.0
        match armed.fault:
            case Fault.STUCK:
                instance.stick()
            case Fault.BOOT_ERROR:
                instance.fail_to_boot()
            case Fault.EXITS:
                instance.afterwards(seconds, "exited", self._until)
            case Fault.OFFLINE:
                instance.afterwards(seconds, "offline", self._until)
            case Fault.OUTBID:
                instance.afterwards(seconds, "outbid", self._until)
            case quirk:
                instance.quirks[quirk] = armed.value

    def _next_step(self) -> float:
        return min((one.next_step for one in self._alive.values()), default=float("inf"))

    def _step(self, at: float) -> None:
        for instance in self.alive:
            if instance.next_step <= at:
                instance.take_step()

    def _broke_at(self) -> float:
        """When the credit will be used up, if something could then be stopped."""
        if all(instance.stopped for instance in self._alive.values()):
            return float("inf")
        left, burn = self.credit, self.burn
        if left <= 0:
            return self._until
        return self._until + left / burn * 3600 if burn else float("inf")

    def _stop_all(self, at: float) -> None:
        for instance in self.alive:
            if not instance.stopped:
                instance.stop(at)
