"""One rented instance: what it is, what befalls it and when, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doubles.vast.billing import Bill
from doubles.vast.catalogue import Offer
from doubles.vast.faults import Fault
from doubles.vast.market import MONTH
from doubles.vast.orders import Order

#: What a daemon says while it loads an image, one after the other.
LOADING = (
    "Pulling from library/image",
    "3c67549075b6: Downloading",
    "3c67549075b6: Extracting",
    "Status: Downloaded newer image",
)
BOOT_ERROR = "Error response from daemon: OCI runtime create failed: nvidia-container-cli: device error"


#: Statuses in which the GPU is billed, once it has run.
BILLED_IN_FULL = {"running", "unknown", "frozen"}


@dataclass(frozen=True, slots=True)
class Boot:
    """Seconds from the purchase until each status."""

    created: float = 2.0
    loading: float = 5.0
    running: float = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """From `at` on, Unix seconds, the instance shows this. `status` "outbid" stops it."""

    at: float
    status: str
    message: str | None = None


class Instance:
    def __init__(self, id: int, key: str, offer: Offer, order: Order, at: float) -> None:
        self.id = id
        self.key = key
        self.offer = offer
        self.order = order
        self.label = order.label
        self.bid = order.price
        self.min_bid: float = offer["min_bid"]
        self.created = at
        self.destroyed: float | None = None
        self.actual_status: str | None = None
        self.status_msg: str | None = None
        self.intended_status = self.cur_state = self.next_state = "running"
        self.steps: list[Step] = []
        self.quirks: dict[Fault, float | None] = {}
        self.odd: dict[str, Any] = {}  # fields of its row, whatever they should be; see schema.ODD_VALUES
        self.boots = 0
        self.ports: Mapping[int, int] = {}
        self.bill = Bill()
        self.bill.begin("disk", self.disk_rate, at)

    @property
    def alive(self) -> bool:
        return self.destroyed is None

    @property
    def gpu_rate(self) -> float:
        """USD an hour, while it runs."""
        rate: float = self.offer["dph_base"] if self.bid is None else self.bid
        return rate * (self.quirks.get(Fault.DEARER) or 1.0)

    @property
    def disk_rate(self) -> float:
        """USD an hour, for as long as it exists."""
        rate: float = self.offer["storage_cost"] * self.order.disk / MONTH
        return rate

    @property
    def price(self) -> float:
        """USD an hour, all of it: what the row calls dph_total."""
        return self.gpu_rate + self.disk_rate

    @property
    def running(self) -> bool:
        """Whether its container does: a heartbeat of its host that does not arrive changes nothing for it."""
        return self.alive and self.actual_status in {"running", "unknown"}

    @property
    def stopped(self) -> bool:
        return self.intended_status == "stopped"

    @property
    def next_step(self) -> float:
        return self.steps[0].at if self.steps and self.alive else float("inf")

    def plan_boot(self, boot: Boot, at: float) -> None:
        wait = (boot.running - boot.loading) / len(LOADING)
        self.steps = [
            Step(at + boot.created, "created"),
            *(Step(at + boot.loading + n * wait, "loading", text) for n, text in enumerate(LOADING)),
            self._running(at + boot.running),
        ]

    def afterwards(self, seconds: float, status: str, now: float) -> None:
        """Plans `status` for so long after it runs, or after now if it runs already."""
        runs = [step.at for step in self.steps if step.status == "running"]
        later = Step((runs[-1] if runs else now) + seconds, status)
        self.steps = sorted([*self.steps, later], key=lambda step: step.at)

    def stick(self) -> None:
        """It will not come further than the first words of loading."""
        self.steps = [step for step in self.steps if step.status == "created" or step.message == LOADING[0]]

    def fail_to_boot(self) -> None:
        at = next((step.at for step in self.steps if step.status == "loading"), self.created)
        self.steps = [Step(at, "created", BOOT_ERROR)]

    def take_step(self) -> None:
        step = self.steps.pop(0)
        if step.status == "outbid":
            self.outbid(step.at)
        else:
            self.show(step.status, step.at, step.message)

    def show(self, status: str, at: float, message: str | None = None) -> None:
        """Enters `status` and bills by it: the GPU in BILLED_IN_FULL, the disk unless offline."""
        previous, self.actual_status = self.actual_status, status
        self.status_msg = message or self.status_msg
        if status not in BILLED_IN_FULL:
            self.bill.finish("gpu", at)
        if status == "offline":
            self.bill.finish("disk", at)
        elif all(spell.end is not None for spell in self.bill.spells if spell.kind == "disk"):
            self.bill.begin("disk", self.disk_rate, at)
        if status == "running":
            self.boots += previous != "unknown"
            self.bill.begin("gpu", self.gpu_rate, at)

    def stop(self, at: float) -> None:
        self.intended_status = self.cur_state = self.next_state = "stopped"
        self.steps = []
        self.show("exited", at)

    def outbid(self, at: float) -> None:
        """Somebody pays more than we do."""
        self.min_bid = max(self.min_bid, self.gpu_rate * 1.1)
        self.stop(at)

    def destroy(self, at: float) -> None:
        self.destroyed = at
        self.bill.close(at)

    def _running(self, at: float) -> Step:
        return Step(at, "running", f"success, running {self.order.image}/{self.order.runtype}")


def extra_env(instance: Instance) -> list[list[str]]:
    hidden = Fault.HIDDEN_ENV in instance.quirks
    return [] if hidden else [[name, value] for name, value in instance.order.env.items()]


def ports(instance: Instance) -> dict[str, Any] | None:
    """As Docker tells them; only while it runs, and not if the machine has too few open ports."""
    if not instance.running or Fault.NO_PORTS in instance.quirks:
        return None
    exposed = EXPOSED.get(instance.order.image.partition(":")[0], ())
    if instance.offer["direct_port_count"] < len({SSH_PORT, *exposed, *instance.ports}):
        return None
    closed = Fault.PORT_CLOSED in instance.quirks
    return {
        f"{inside}/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(CLOSED_PORT if closed else outside)}]  # noqa: S104
        for inside, outside in instance.ports.items()
    }


#: Mapped beside the ports that were asked for: SSH, and what the image's Dockerfile EXPOSEs.
SSH_PORT = 22
EXPOSED: Mapping[str, tuple[int, ...]] = {"ollama/ollama": (11434,)}

#: Nothing of ours listens here: a port that only the super-user may open.
CLOSED_PORT = 9


def is_known(instance: Instance, now: float) -> bool:
    """Whether anything shows it yet."""
    return now >= instance.created + (instance.quirks.get(Fault.SHOWN_LATE) or 0.0)
