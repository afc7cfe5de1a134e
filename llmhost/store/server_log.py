"""The embedded server's log."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["ServerLog"]

#: bytes; what a start leaves behind is about 1,000
_MAX_SIZE = 1_000_000

#: bytes and characters; the last line is in these bytes, and this much of it fits into one of ours
_TAIL = 8_000
_MAX_QUOTED = 200

#: process id and role, date, time, level: `7221:M 22 Nov 2026 12:46:24.326 # Failed …`
_PREFIX = re.compile(r"^\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ [.\-*#] ")


class ServerLog:
    """A file that the server appends to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin = 0

    def begin(self) -> None:
        """Before a start: what is there belongs to earlier ones. Raises OSError."""
        if self._size() > _MAX_SIZE:
            self.path.replace(self.path.with_suffix(".old"))
        self._begin = self._size()

    def last_words(self) -> str:
        """What the server last said since `begin`, in at most 200 characters."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(self._begin, self._size() - _TAIL), os.SEEK_SET)
                lines = file.read(_TAIL).decode(errors="replace").splitlines()
        except OSError:
            lines = []
        said = [line.strip() for line in lines if line.strip()]
        return _PREFIX.sub("", said[-1])[:_MAX_QUOTED] if said else "it says nothing"

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0
