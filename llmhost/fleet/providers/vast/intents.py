"""Purchases that were begun: one small file each, mode 0600, written before vast.ai is asked.

A file outlives its purchase until the instance is gone, and then knows the number of the instance. It holds
what the worker was given, should vast.ai's list not give it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from llmhost.errors import StateError
from llmhost.fleet.models import Intent
from llmhost.fleet.providers.vast.identity import Facts
from llmhost.fleet.providers.vast.labels import ordered_at
from llmhost.machine.files import make_folder, read_json, write_json

__all__ = ["IntentBook", "Order"]

_FAR_AWAY = 1e11  #: Unix seconds; no clock is that wrong


@dataclass(frozen=True, slots=True)
class Order:
    """`id` is unique to this purchase. `written` is Unix seconds. `instance` is None until it is known."""

    id: str
    label: str
    offer: str
    machine: str
    written: float
    model: str
    engine: str
    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    instance: int | None = None

    @property
    def intent(self) -> Intent:
        return Intent(self.id, self.offer, self.machine, self.written)


class IntentBook:
    """Keeps a fleet's orders in `folder`, which is its own. Every method raises StateError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, order: Order) -> None:
        make_folder(self._folder)
        write_json(self._path(order.id), asdict(order))

    def settle(self, order: Order, instance: int) -> None:
        """Writes down which instance came of it."""
        self.write(replace(order, instance=instance))

    def all(self) -> Sequence[Order]:
        """Oldest first. A damaged file is an order of which little is known."""
        try:
            names = sorted(path.stem for path in self._folder.glob("*.json"))
        except OSError as error:
            raise StateError(f"cannot read the folder {self._folder}: {error.strerror}") from error
        found = (self.find(name) for name in names if ordered_at(name) is not None)
        return [order for order in found if order is not None]

    def find(self, order_id: str) -> Order | None:
        written = ordered_at(order_id)
        if written is None:
            return None
        try:
            raw = read_json(self._path(order_id))
            order = None if raw is None else Order(**{**raw, "id": order_id})
        except (TypeError, ValueError):
            order = _unknown(order_id, written)
        return order if order is None or _is_sound(order) else _unknown(order_id, written)

    def kept(self, order_id: str) -> Facts | None:
        """What the worker of this order was given, as far as it is known here."""
        order = self.find(order_id)
        if order is None or order.token is None:
            return None
        return Facts(model=order.model, token=order.token, certificate=order.certificate)

    def drop(self, order_id: str) -> None:
        """One that is not there is fine, and so is a name that no order has."""
        if ordered_at(order_id) is None:
            return
        try:
            self._path(order_id).unlink(missing_ok=True)
        except OSError as error:
            raise StateError(f"cannot remove {self._path(order_id)}: {error.strerror}") from error

    def _path(self, order_id: str) -> Path:
        return self._folder / f"{order_id}.json"


def _unknown(order_id: str, written: float) -> Order:
    return Order(order_id, label="", offer="", machine="", written=written, model="", engine="")


def _is_sound(order: Order) -> bool:
    """Whether every field is what it should be; the file may hold anything."""
    texts = (order.label, order.offer, order.machine, order.model, order.engine)
    perhaps = (order.token, order.certificate)
    instance = order.instance
    return (
        all(isinstance(text, str) for text in texts)
        and all(text is None or isinstance(text, str) for text in perhaps)
        and isinstance(order.written, int | float)
        and 0 <= order.written < _FAR_AWAY
        and (instance is None or (type(instance) is int and instance > 0))
    )
