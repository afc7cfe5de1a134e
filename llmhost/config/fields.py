"""The types of values in the configuration, with their grammar."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = [
    "FLEET_NAME",
    "UNNAMED_FLEET",
    "Aliases",
    "Allowed",
    "BrokenRules",
    "Duration",
    "HeaderName",
    "Host",
    "HoursOfWeek",
    "Image",
    "Lifetime",
    "ModelName",
    "Name",
    "Namespace",
    "Network",
    "OfferFilter",
    "Package",
    "Patterns",
    "Section",
    "Tenant",
    "TimeZone",
    "Url",
    "format_duration",
    "is_loopback",
    "is_public",
    "lifetime_seconds",
    "parse_duration",
    "raise_broken",
]

#: unit of a duration to seconds, shortest first
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds from text such as ``90s``, ``1.5h`` or ``7d``; a bare number is seconds.

    Raises:
        ValueError: it is neither. The caller checks the bounds: 0 and infinity pass.
    """
    text = text.strip()
    for unit, seconds in _UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * seconds
    return float(text)


def format_duration(seconds: float) -> str:
    """The shortest usual way to write it, such that `parse_duration` gives exactly the same seconds.

    One day is ``24h``, as lifetimes of a day are usually written; days begin at two.
    """
    for unit, size in reversed(_UNITS.items()):
        count = round(seconds / size)
        least = 2 if unit == "d" else 1
        if count >= least and count * size == seconds:
            return f"{count}{unit}"
    return f"{seconds!r}s"


class Section(BaseModel):
    """A mapping with fixed keys, frozen once it is validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


class BrokenRules(ValueError):
    """Rules between keys that are broken, each a sentence."""

    def __init__(self, rules: Sequence[str]) -> None:
        super().__init__("; ".join(rules))
        self.rules = rules


def raise_broken(*rules: tuple[bool, str]) -> None:
    """Raises BrokenRules with the sentences of those that are broken, if there are any."""
    if broken := [sentence for is_broken, sentence in rules if is_broken]:
        raise BrokenRules(broken)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a value may be, in words, for types whose range does not say it all."""

    words: str


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


#: seconds; a millisecond is the shortest lifetime of a Redis key, and ten years still fit every timer
Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0.001, le=3650 * 86400.0),
    Allowed("duration"),
]

#: seconds; as of `Duration`
_LONGEST_LIFETIME = 3650 * 86400.0


def lifetime_seconds(written: str) -> float | None:
    """Of a `Lifetime`: 0 is none, None the default one."""
    return {"none": 0.0, "default": None}.get(written) if written in _WORDS else parse_duration(written)


_WORDS = ("none", "default")


def _lifetime(value: str) -> str:
    try:
        seconds = lifetime_seconds(value)
    except ValueError:
        seconds = math.nan
    if seconds is not None and value not in _WORDS and not 0.001 <= seconds <= _LONGEST_LIFETIME:
        raise ValueError("a lifetime is `none`, `default`, or between `1ms` and `3650d`")
    return value


#: kept as written
Lifetime = Annotated[
    str,
    BeforeValidator(lambda value: f"{value:g}s" if type(value) in (int, float) else value),
    AfterValidator(_lifetime),
    Allowed("`none`, `default` (`cache.response_ttl`) or a duration such as `10m` or `2h`"),
]

#: what a fleet may be called: it is part of labels, keys and paths
FLEET_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")

Name = Annotated[
    str,
    Field(pattern=f"^{FLEET_NAME.pattern}$"),
    Allowed("1 to 32 of `a-z`, `0-9` and `-`, with no `-` at either end"),
]

#: names the rented machines of llmhost that say no more whose they are, so that they are listed and can be
#: destroyed
UNNAMED_FLEET = "unknown"

Host = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$"),
    Allowed("an address or a host name"),
]


def is_loopback(host: str) -> bool:
    """Whether only this machine itself reaches what listens on this `Host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(host: str) -> bool:
    """Whether machines elsewhere may reach this host, as far as its name or address says."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return host != "localhost"


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)  # raises ValueError where it is none
    return value


Network = Annotated[
    str,
    Field(max_length=64),
    AfterValidator(_network),
    Allowed("an IP address, or a network such as `10.0.0.0/24`"),
]

HeaderName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9-]{1,64}$"),
    Allowed("the name of an HTTP header"),
]

_MODEL_NAME = r"[^\s\x00-\x1f]+"
_LONGEST_MODEL_NAME = 200
_MODEL_NAME_WORDS = f"text without spaces, 1 to {_LONGEST_MODEL_NAME} characters"

ModelName = Annotated[
    str,
    Field(min_length=1, max_length=_LONGEST_MODEL_NAME, pattern=f"^{_MODEL_NAME}$"),
    Allowed(_MODEL_NAME_WORDS),
]


def _aliases(value: dict[str, str]) -> dict[str, str]:
    for name in (*value, *value.values()):
        if not re.fullmatch(_MODEL_NAME, name) or len(name) > _LONGEST_MODEL_NAME:
            raise ValueError(f"{name[:_LONGEST_MODEL_NAME]!r} is no model's name, {_MODEL_NAME_WORDS}")
    return value


Aliases = Annotated[
    dict[str, str],
    Field(max_length=100),
    AfterValidator(_aliases),
    Allowed("mapping of at most 100 names to models"),
]


#: 1024 is vast.ai's limit.
Image = Annotated[
    str,
    Field(min_length=1, max_length=1024, pattern=r"^[^\s\x00-\x1f]+$"),
    Allowed("text without spaces, 1 to 1024 characters"),
]

#: no option of pip; 256 is vast.ai's limit for a value of the environment
Package = Annotated[
    str,
    Field(max_length=256, pattern=r"^[A-Za-z0-9/.][^\s\x00-\x1f]*$"),
    Allowed("a package such as `llmhost==0.1.0`, or the path or URL of a wheel; up to 256 characters"),
]


def _no_fleet_keys(value: str) -> str:
    if value == "llmhost":
        raise ValueError("`llmhost` is the prefix of the fleets' own keys; choose another namespace")
    return value


Namespace = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_.{}-]{1,64}$"),
    AfterValidator(_no_fleet_keys),
    Allowed("1 to 64 of `A-Z`, `a-z`, `0-9`, `_`, `.`, `-`, `{` and `}`"),
]

Tenant = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x1f]{1,128}$"),
    Allowed("one line of text, 1 to 128 characters"),
]


def _reachable(value: str) -> str:
    try:
        port = urlsplit(value).port
    except ValueError as error:
        raise ValueError("its host or its port is not valid") from error
    if port == 0:
        raise ValueError("port 0 is no server's")
    return value


#: without user name and password, as `llmhost status` shows URLs
Url = Annotated[
    str,
    Field(max_length=2000, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"),
    AfterValidator(_reachable),
    Allowed("`http://` or `https://` address, with no user name, `?` or `#` in it"),
]


def _filter(value: str) -> str:
    from llmhost.config.offer_filter import parse_filter

    parse_filter(value)
    return value


#: kept as written, as messages quote its terms
OfferFilter = Annotated[
    str,
    Field(max_length=2000),
    AfterValidator(_filter),
    Allowed("terms such as `gpu_name=RTX_4090`, `reliability>0.95` or `geolocation=US`"),
]


def _patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    from llmhost.config.patterns import check_patterns

    check_patterns(value)
    return value


Patterns = Annotated[
    tuple[str, ...],
    Field(max_length=50),
    AfterValidator(_patterns),
    Allowed("list of at most 50 regular expressions, of up to 200 characters each"),
]


def _hours(value: str) -> str:
    from llmhost.config.hours import parse_window

    parse_window(value, 0)
    return value


HoursOfWeek = Annotated[
    str,
    Field(max_length=100),
    AfterValidator(_hours),
    Allowed("days and hours such as `mon-fri 08:00-18:00`"),
]


def _zone(value: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"there is no time zone called {value!r}") from error
    return value


TimeZone = Annotated[
    str,
    Field(min_length=1, max_length=64),
    AfterValidator(_zone),
    Allowed("a time zone such as `UTC` or `Europe/Zurich`"),
]
