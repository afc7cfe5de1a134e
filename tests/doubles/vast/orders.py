"""What a purchase asks for, checked as vast.ai checks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doubles.vast.answers import Refused, refusal

#: characters; the published page says 4096 for onstart and args together, the observed limit is lower.
LONGEST_ONSTART = 4048
#: characters; published limits.
LONGEST_ENV_VALUE, LONGEST_ENV, LONGEST_LABEL, LONGEST_IMAGE = 256, 32_768, 256, 1024
#: GB
SMALLEST_DISK = 8.0
#: USD an hour
LOWEST_PRICE, HIGHEST_PRICE = 0.001, 128.0
#: GB; a purchase that names no size.
DEFAULT_DISK = 10.0

RUNTYPES = {"ssh", "jupyter", "args"} | {
    f"{kind}_{way}" for kind in ("ssh", "jupyter") for way in ("proxy", "direct", "direc")
}


@dataclass(frozen=True, slots=True)
class Order:
    """`price` is a bid in USD an hour, None where the price is fixed; `disk` is GB."""

    image: str
    env: Mapping[str, str]
    disk: float
    label: str | None
    onstart: str
    args: tuple[str, ...]
    runtype: str
    price: float | None
    cancel_unavailable: bool


def read_order(ask: int, body: Any) -> Order:
    """Raises Refused (400) where vast.ai would."""
    if not isinstance(body, Mapping):
        raise _invalid(ask, "the body is no object")
    order = Order(
        image=_text(ask, body, "image"),
        env=_env(ask, body.get("env")),
        disk=_number(ask, body.get("disk", DEFAULT_DISK), "disk"),
        label=body.get("label"),
        onstart=body.get("onstart") or "",
        args=tuple(body.get("args") or ()),
        runtype=body.get("runtype") or ("args" if body.get("args") else "ssh"),
        price=_price(ask, body.get("price")),
        # The published default: an interruptible one is kept waiting, one at a fixed price is not.
        cancel_unavailable=bool(body.get("cancel_unavail", body.get("price") is None)),
    )
    _check(ask, order)
    return order


def _check(ask: int, order: Order) -> None:
    wrong = {
        "image is required": not order.image,
        f"image is longer than {LONGEST_IMAGE}": len(order.image) > LONGEST_IMAGE,
        f"onstart and args are longer than {LONGEST_ONSTART}": (
            len(order.onstart) + sum(map(len, order.args)) > LONGEST_ONSTART
        ),
        f"label is longer than {LONGEST_LABEL}": len(order.label or "") > LONGEST_LABEL,
        f"disk is less than {SMALLEST_DISK}": order.disk < SMALLEST_DISK,
        f"unknown runtype {order.runtype}": bool(set(order.runtype.split()) - RUNTYPES),
    }
    for msg, holds in wrong.items():
        if holds:
            raise _invalid(ask, msg)


def _env(ask: int, env: Any) -> Mapping[str, str]:
    if env is None or env == "":
        return {}
    if not isinstance(env, Mapping) or not all(isinstance(value, str) for value in env.values()):
        raise _invalid(ask, "env is no object of strings")
    if any(len(value) > LONGEST_ENV_VALUE for value in env.values()):
        raise _invalid(ask, f"a value of env is longer than {LONGEST_ENV_VALUE}")
    if sum(len(key) + len(value) for key, value in env.items()) > LONGEST_ENV:
        raise _invalid(ask, f"env is longer than {LONGEST_ENV}")
    return dict(env)


def _price(ask: int, price: Any) -> float | None:
    if price is None:
        return None
    value = _number(ask, price, "price")
    if not LOWEST_PRICE <= value <= HIGHEST_PRICE:
        raise refusal(400, "invalid_price", f"price is not in {LOWEST_PRICE}..{HIGHEST_PRICE}", ask_id=ask)
    return value


def _number(ask: int, value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _invalid(ask, f"{name} is no number")
    return float(value)


def _text(ask: int, body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise _invalid(ask, f"'{name}' is required")
    return value


def _invalid(ask: int, msg: str) -> Refused:
    return refusal(400, "invalid_args", f"error 400/3467: Invalid args: {msg}", ask_id=ask)
