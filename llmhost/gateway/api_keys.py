"""API keys of the gateway: how they are written, what one may use, and how it is kept. Pure.

A key is ``llmhost-<id>-<secret>``: it is found by its id, and proven by the hash of the whole. The secret has
256 random bits, so a fast hash is right: there is nothing to guess that a slow one would protect.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "FIELDS",
    "ApiKey",
    "Booking",
    "Limits",
    "PresentedKey",
    "Use",
    "fields_of",
    "key_in",
    "make_key",
    "read_key",
]

_FORM = re.compile(r"llmhost-([0-9a-f]{12})-([0-9a-f]{64})", re.ASCII)
_BEARER = re.compile(r"bearer +", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A key as a client sends it: which one it claims to be, and the hash that proves it."""

    id: str
    digest: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used with a key; None is no limit, and no `models` are all. Days are those of UTC."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    usd_per_day: float | None = None
    models: tuple[str, ...] = ()

    @property
    def of_a_day(self) -> bool:
        return self.tokens_per_day is not None or self.usd_per_day is not None


@dataclass(frozen=True, slots=True)
class Use:
    """What was used: since midnight UTC, or by one request."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Use) -> Use:
        return Use(self.requests + other.requests, self.tokens + other.tokens, self.usd + other.usd)


@dataclass(frozen=True, slots=True)
class Booking:
    """What was used with a key, and the ids of the holds that end with it."""

    used: Use = field(default_factory=Use)
    ended: tuple[str, ...] = ()

    def __add__(self, other: Booking) -> Booking:
        return Booking(self.used + other.used, self.ended + other.ended)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept; times in Unix seconds, `last_used` to the minute."""

    id: str
    tenant: str
    limits: Limits
    created: float
    digest: str = field(repr=False)
    label: str = ""
    expires: float | None = None
    last_used: float | None = None
    #: whether it also shows what concerns all tenants: figures, and the page
    operator: bool = False

    def is_expired(self, now: float) -> bool:
        return self.expires is not None and self.expires <= now


def make_key() -> tuple[str, PresentedKey]:
    """A new key's text, which is shown once, and what is kept of it."""
    id, secret = secrets.token_hex(6), secrets.token_hex(32)
    text = f"llmhost-{id}-{secret}"
    return text, PresentedKey(id, _digest(text))


def key_in(headers: Sequence[str]) -> PresentedKey | None:
    """The first of the headers' values that is a key, with ``Bearer`` before it or not. Clients demand some
    key where none is needed, so that most values are none."""
    for value in headers:
        prefix = _BEARER.match(value)
        text = value[prefix.end() :] if prefix else value
        if match := _FORM.fullmatch(text):
            return PresentedKey(match[1], _digest(text))
    return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# As a hash of Redis keeps it

_OPTIONAL_LIMITS = ("requests_per_minute", "tokens_per_day", "usd_per_day")
#: the fields that are written once, and when the key was last used
FIELDS = (
    "digest",
    "tenant",
    "label",
    "created",
    "expires",
    "models",
    "operator",
    *_OPTIONAL_LIMITS,
    "last_used",
)


def fields_of(key: ApiKey) -> dict[Any, Any]:
    """As redis-py takes them."""
    limits = key.limits
    fields: dict[str, str | float | None] = {
        "digest": key.digest,
        "tenant": key.tenant,
        "label": key.label,
        "created": key.created,
        "expires": key.expires,
        "models": json.dumps(limits.models),
        "operator": int(key.operator),
        **{name: getattr(limits, name) for name in _OPTIONAL_LIMITS},
    }
    return {name: value for name, value in fields.items() if value is not None}


def read_key(id: str, fields: Mapping[str, str]) -> ApiKey | None:
    """The key with these fields; None where they are not all there, or not what they should be: such a key is
    refused, as a limit that cannot be read would be none."""
    try:
        models = json.loads(fields["models"])
        rpm, tokens = (int(fields[name]) if name in fields else None for name in _OPTIONAL_LIMITS[:2])
        key = ApiKey(
            id=id,
            tenant=fields["tenant"],
            limits=Limits(rpm, tokens, _number(fields.get("usd_per_day")), tuple(models)),
            created=_number(fields["created"]) or 0.0,
            digest=fields["digest"],
            label=fields.get("label", ""),
            expires=_number(fields.get("expires")),
            last_used=_number(fields.get("last_used")),
            operator=fields.get("operator") == "1",
        )
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    well_formed = isinstance(models, list) and all(isinstance(model, str) for model in models)
    limits = [getattr(key.limits, name) for name in _OPTIONAL_LIMITS]
    well_formed = well_formed and all(limit is None or limit > 0 for limit in limits)
    return key if well_formed and key.digest and key.tenant else None


def _number(value: str | None) -> float | None:
    number = None if value is None else float(value)
    if number is not None and not math.isfinite(number):
        raise ValueError(value)
    return number
