"""Small private JSON files, complete or absent and readable by their owner alone; and a lock on a file."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from llmhost.errors import StateError

__all__ = [
    "Patience",
    "hold_lock",
    "leads_nowhere",
    "make_folder",
    "names_in",
    "open_file",
    "read_json",
    "replacing",
    "write_json",
]

_HINT = "set LLMHOST_STATE_DIR to a folder that you can write"


def make_folder(path: Path, *, hint: str = _HINT) -> None:
    """Makes `path`, parents included, for its owner alone. Raises StateError."""
    try:
        for folder in (*reversed(path.parents), path):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make the folder {path}: {error.strerror}", hint=hint) from error


def names_in(folder: Path) -> Sequence[str]:
    """The names of what is in the folder, sorted; none where there is no folder.

    Raises:
        StateError: it cannot be read. A link that leads nowhere, on the way too, is no missing folder: what
            it led to may be on a disk that is away.
    """
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not leads_nowhere(folder):
            return ()
        raise StateError(f"cannot read the folder {folder}: {error.strerror}") from error


def leads_nowhere(path: Path) -> bool:
    """Whether `path`, which cannot be found, is a link without an end, or is behind one."""
    nearest = next((part for part in (path, *path.parents) if os.path.lexists(part)), path)
    return not nearest.exists()


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A new file, mode 0600, that takes the place of `path` in one step once all of it is on the disk. What
    is there stays until then. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces the file in one step, mode 0600. Raises StateError."""
    try:
        with replacing(path) as file:
            json.dump(value, file)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}", hint=_HINT) from error


def open_file(path: Path) -> BinaryIO:
    """For reading. Raises ValueError for a name that no file has, and OSError, also for a pipe or a device:
    what it says may never come, never end, and cannot be read again."""

    def without_waiting(name: str, flags: int) -> int:  # for what would be written into a pipe
        return os.open(name, flags | os.O_NONBLOCK)

    file = open(path, "rb", opener=without_waiting)  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a file")
    return file


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's object, or None where there is no file.

    Raises:
        StateError: it cannot be read.
        ValueError: it holds no JSON object.
    """
    try:
        with open_file(path) as file:
            if os.fstat(file.fileno()).st_uid not in (os.geteuid(), 0):
                raise StateError(
                    f"{path} belongs to another user", hint="find out who put it there, and remove it"
                )
            value = json.loads(file.read().decode())
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not leads_nowhere(path):
            return None
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value


_POLL = 0.02  #: seconds between two tries; a server starts in about 0.1 s


@asynccontextmanager
async def hold_lock(path: Path, *, patience: float, held: StateError | None = None) -> AsyncIterator[None]:
    """Holds an `flock` on the file, which the system releases when its holder ends, however it ends.

    Raises:
        StateError: the file cannot be used, or another process held it for `patience` seconds; `held`
            replaces the error for the latter.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        deadline = time.monotonic() + patience
        while not _lock(path, descriptor):
            if time.monotonic() > deadline:
                raise held or StateError(
                    f"another llmhost has held {path} for {patience:g} s",
                    hint="wait for it, or end it: the lock is free as soon as it has ended",
                )
            await asyncio.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


#: seconds; a command that goes on without a lock waits so long, in all, for others that hold one. A call to
#: vast.ai, or a purchase, takes some seconds; one that takes longer hangs, or its command was suspended
PATIENCE = 20.0


class Patience:
    """How long one command waits for locks that it can do without. It waits in vain once: what holds one lock
    for ever, as it was suspended, may hold others too."""

    def __init__(self) -> None:
        self._is_over = False

    @property
    def left(self) -> float:
        """Seconds."""
        return 0.0 if self._is_over else PATIENCE

    def end(self) -> None:
        """A lock was waited for in vain."""
        self._is_over = True


def _lock(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _unusable(path, error) from error
    return True


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(
        f"cannot lock {path}: {error.strerror}",
        hint="set LLMHOST_STATE_DIR to a folder on a local disk that you can write",
    )
