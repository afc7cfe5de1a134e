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
            return None if raw is None else _sound(Order(**raw))
        except (TypeError, ValueError):
            return Order(order_id, "", "", "", written, "", "")

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


def _sound(order: Order) -> Order:
    """The order itself. Raises TypeError where a field is not what it should be."""
    texts = (order.id, order.label, order.offer, order.machine, order.model, order.engine)
    maybe = (order.token, order.certificate)
    if not all(isinstance(text, str) for text in texts) or not isinstance(order.written, int | float):
        raise TypeError("not an order")
    if not all(text is None or isinstance(text, str) for text in maybe):
        raise TypeError("not an order")
    if order.instance is not None and not isinstance(order.instance, int):
        raise TypeError("not an order")
    return order
