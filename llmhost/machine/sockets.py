"""Whose program listens on a port of this machine, as Linux tells it."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["listener_owner"]

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"


def listener_owner(host: str, port: int) -> int | None:
    """The user id of the program that takes connections to this IP address; None where the system does not
    tell, which is so everywhere but on Linux, or where no program does."""
    owners = dict(_listeners(port))
    address = ipaddress.ip_address(host)
    mapped = ipaddress.ip_address(f"::ffff:{address}") if address.version == 4 else address
    anywhere = (ipaddress.ip_address("0.0.0.0"), ipaddress.ip_address("::"))  # noqa: S104 - compared, not bound
    # The most specific one gets the connection.
    return next((owners[each] for each in (address, mapped, *anywhere) if each in owners), None)


def _listeners(port: int) -> Iterator[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    for table in _TABLES:
        with suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, _, _, _, owner, *_ = line.split()
                address, _, number = local.partition(":")
                if state == _LISTENING and int(number, 16) == port:
                    yield _address(address), int(owner)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """In words of 32 bits, each in this machine's order of bytes (proc_pid_net(5))."""
    words = (text[start : start + 8] for start in range(0, len(text), 8))
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return ipaddress.ip_address(packed)
