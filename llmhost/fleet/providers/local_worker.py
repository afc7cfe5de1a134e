"""What is kept about one local worker: a folder of its own with small JSON files, mode 0600.

* ``record.json``   ours: arguments, pid, start, price, model, port. Written before the process is started,
  and again with its pid, so that a crash in between leaves nothing unknown
* ``spec.json``     for the worker: what to serve, and the token it asks for
* ``address.json``  from the worker: where it listens
* ``failure.json``  from the worker: why it gave up
"""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmhost.errors import StateError
from llmhost.machine.files import make_folder, read_json, write_json

__all__ = ["Record", "WorkerFolder", "drop_drafts"]

_RECORD = "record.json"
_ORDERS = "spec.json"
_DRAFT = ".making-"


def drop_drafts(folder: Path) -> None:
    """Removes what commands have left that were killed while they made a worker's folder in `folder`."""
    for draft in folder.glob(f"{_DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Record:
    """`started` is Unix seconds, `price_per_hour` USD. `pid` is None until the process is started."""

    argv: tuple[str, ...]
    started: float
    price_per_hour: float
    model: str
    engine: str
    port: int
    pid: int | None = None


class WorkerFolder:
    """The folder's name is the worker's id. Every method raises StateError where the disk fails it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    def make(self, record: Record, orders: dict[str, object]) -> None:
        """Makes the folder appear whole: nobody ever lists half of it."""
        draft = self.path.with_name(f"{_DRAFT}{self.id}")
        make_folder(draft)
        write_json(draft / _RECORD, asdict(record))
        write_json(draft / _ORDERS, orders)
        try:
            draft.rename(self.path)
        except OSError as error:
            raise StateError(f"cannot make the folder {self.path}: {error.strerror}") from error

    def write_record(self, record: Record) -> None:
        write_json(self.path / _RECORD, asdict(record))

    def record(self) -> Record | None:
        """None where there is none that makes sense."""
        return _record(self._read(_RECORD))

    def made(self) -> float:
        """When the folder was last changed, Unix seconds; 0 where it is gone already."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    def token(self) -> str | None:
        return _text(self._read(_ORDERS), "token")

    def url(self) -> str | None:
        """Where the worker listens, None as long as it does not."""
        return _text(self._read("address.json"), "url")

    def failure(self) -> str | None:
        """Why the worker gave up, with what to do about it."""
        said = self._read("failure.json")
        parts = (_text(said, "message"), _text(said, "hint"))
        return "; ".join(part for part in parts if part) or None

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.exists():
            raise StateError(
                f"cannot remove the folder {self.path}", hint="remove it by hand: its process has ended"
            )

    def _read(self, name: str) -> dict[str, Any]:
        """Empty where the file is missing or damaged: the process is found without it, and can be ended."""
        try:
            return read_json(self.path / name) or {}
        except ValueError:
            return {}


def _record(raw: dict[str, Any]) -> Record | None:
    try:
        record = Record(**{**raw, "argv": tuple(raw["argv"])})
    except (KeyError, TypeError):
        return None
    numbers = (record.started, record.price_per_hour, record.port)
    sound = (
        all(isinstance(part, str) for part in (*record.argv, record.model, record.engine))
        and all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
        and (record.pid is None or isinstance(record.pid, int))
    )
    return record if sound else None


def _text(values: dict[str, Any], name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) and value else None
