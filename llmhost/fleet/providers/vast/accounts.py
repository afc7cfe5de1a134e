"""Which account each API key is of, as vast.ai said it on this machine.

An account may have several keys, and a key is replaced. What belongs to all fleets of an account is therefore
named by the account's number; by the key's fingerprint as well, as the number is not known before vast.ai was
asked, and never with a key that may not read the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from llmhost.errors import StateError
from llmhost.machine.files import make_folder, read_json, write_json

__all__ = ["KnownAccounts"]

_MOST_KEYS = 20  #: the newest; each is one more name under which Redis is asked


class KnownAccounts:
    """`file` holds the number of each key's account. Of a key, nothing but its fingerprint is here."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def learn(self, key: str, account: int) -> None:
        """vast.ai says that this key is of this account. Where that cannot be written down, it is asked
        again."""
        known = self._read()
        if known.get(key) == account:
            return
        known = {**{one: number for one, number in known.items() if one != key}, key: account}
        with suppress(StateError):
            make_folder(self._file.parent)
            write_json(self._file, dict(list(known.items())[-_MOST_KEYS:]))

    def knows(self, key: str) -> bool:
        """Whether it is known which account the key is of."""
        return key in self._read()

    def names(self, key: str) -> Sequence[str]:
        """What the account of a key is called: its fingerprint, and where the account is known, its number
        and the fingerprints of its other keys. All of them are read and written: older commands knew the key
        alone."""
        known = self._read()
        account = known.get(key)
        if account is None:
            return (key,)
        return tuple(dict.fromkeys([key, str(account), *(one for one in known if known[one] == account)]))

    def _read(self) -> Mapping[str, int]:
        with suppress(StateError, ValueError):
            values = read_json(self._file) or {}
            return {key: number for key, number in values.items() if type(number) is int and number > 0}
        return {}
