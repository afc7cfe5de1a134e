"""What a test does to the double and asks it, without HTTP."""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping

from doubles.vast.faults import AFFLICTIONS, Armed, Fault, Faults
from doubles.vast.instances import Instance
from doubles.vast.limits import Limits
from doubles.vast.world import World

OTHER_USER = 5151  #: whose account it is after `change_account`


class Control:
    """The half of VastServer that is for tests. Every question is answered as of now, by the clock."""

    world: World
    faults: Faults
    limits: Limits
    url: str
    key: str

    def arm(
        self,
        fault: Fault,
        *,
        times: int | None = 1,
        offer: int | None = None,
        instance: int | None = None,
        endpoint: str | None = None,
        every: int = 1,
        value: float | None = None,
    ) -> None:
        """Lets `fault` strike the next `times` calls that fit (None: for ever), or each `every`-th of them.

        What befalls one instance strikes the next purchase (of `offer`), or `instance` at once.
        """
        armed = Armed(fault, times, offer, instance, endpoint, every, value)
        if instance is not None and fault in AFFLICTIONS:
            self.world.advance()
            self.world.afflict(self.world.instances[instance], armed)
        else:
            self.faults.arm(armed)

    def become(self, id: int, status: str, message: str | None = None) -> None:
        """It shows `status` from now on (exited, offline, unknown, frozen ...) and is billed by it."""
        now, instance = self.world.advance(), self.world.instances[id]
        instance.steps = []
        instance.show(status, now, message)

    def change_account(self) -> int | None:
        """Callers have the key of another account from now on; the number of the first one's user."""
        user, self.world.user = self.world.user, OTHER_USER
        self.key = secrets.token_hex(32)
        return user

    def outbid(self, id: int) -> None:
        """Somebody bids more for it; a higher bid of ours brings it back."""
        now = self.world.advance()
        self.world.instances[id].outbid(now)

    def traffic(self, id: int, *, down: float = 0.0, up: float = 0.0) -> None:
        """Bills it for so many GB."""
        instance, now = self.world.instances[id], self.world.advance()
        offer = instance.offer
        instance.bill.traffic += [
            ("bwd", now, down * offer["inet_down_cost"]),
            ("bwu", now, up * offer["inet_up_cost"]),
        ]

    def environment(self) -> dict[str, str]:
        """What a subprocess needs to take this for vast.ai."""
        return {"VAST_URL": self.url, "VAST_API_KEY": self.key}

    @property
    def instances(self) -> Mapping[int, Instance]:
        """All that there ever were."""
        self.world.advance()
        return self.world.instances

    def alive(self) -> list[int]:
        self.world.advance()
        return [instance.id for instance in self.world.alive]

    @property
    def created_total(self) -> int:
        return len(self.world.instances)

    @property
    def labels(self) -> Mapping[str | None, list[int]]:
        """Which living instances carry each label."""
        found: dict[str | None, list[int]] = defaultdict(list)
        for instance in self.world.alive:
            found[instance.label].append(instance.id)
        return dict(found)

    def double_paid(self) -> list[str | None]:
        """Labels that more than one living instance carries."""
        return [label for label, ids in self.labels.items() if len(ids) > 1]

    def billed(self, id: int) -> float:
        """USD for one instance, gone or not."""
        now = self.world.advance()
        return self.world.instances[id].bill.usd(now)

    def billed_total(self) -> float:
        """USD for all that there ever were."""
        self.world.advance()
        return self.world.billed()

    @property
    def burn(self) -> float:
        """USD an hour that is billed at this moment."""
        self.world.advance()
        return self.world.burn

    @property
    def peak_price(self) -> float:
        """USD an hour: the most that all living instances together would ever have cost while running."""
        return self.world.peak_price

    @property
    def credit(self) -> float:
        """USD left; set it to let the account run dry or to pay in."""
        self.world.advance()
        return self.world.credit

    @credit.setter
    def credit(self, usd: float) -> None:
        self.world.advance()
        self.world.credit = usd

    @property
    def too_early(self) -> Counter[str]:
        """Calls that came before the documented interval was over, by endpoint."""
        return self.limits.too_early
