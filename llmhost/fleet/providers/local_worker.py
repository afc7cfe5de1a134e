"""What is kept about one local worker: a folder of its own with small JSON files, mode 0600.

* ``record.json``   ours: arguments, pid, start, price, model, port. Written before the process is started,
  and again with its pid, so that a crash in between leaves nothing unknown
* ``spec.json``     for the worker: what to serve, and the token it asks for
* ``address.json``  from the worker: where it listens
* ``failure.json``  from the worker: why it gave up
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import psutil
from pydantic import ConfigDict, FiniteFloat, Strict, StrictInt, TypeAdapter

from llmhost.engines.llama_cpp import ADDRESS_FILE, FAILURE_FILE, SPEC_FILE, WorkerSpec, write_spec
from llmhost.errors import ProviderError, StateError
from llmhost.machine.child import bare_environment
from llmhost.machine.files import make_folder, read_json, write_json
from llmhost.machine.process import end

__all__ = [
    "Record",
    "WorkerFolder",
    "drop_drafts",
    "find",
    "start",
    "stop",
    "threads_per_worker",
    "usable_cores",
]

_RECORD = "record.json"
_DRAFT = ".making-"


def drop_drafts(folder: Path) -> None:
    """Removes what commands have left that were killed while they made a worker's folder in `folder`."""
    for draft in folder.glob(f"{_DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Record:
    """`started` is Unix seconds, `price_per_hour` USD. `pid` is None until the process is started.
    `digest` is the hash of the model file.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    argv: tuple[str, ...]
    started: Annotated[FiniteFloat, Strict()]
    price_per_hour: Annotated[FiniteFloat, Strict()]
    model: str
    engine: str
    port: StrictInt
    pid: StrictInt | None = None
    digest: str = ""


_RECORDS = TypeAdapter(Record)


class WorkerFolder:
    """The folder's name is the worker's id. Every method raises StateError where the disk fails it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    def make(self, record: Record, spec: WorkerSpec) -> None:
        """Makes the folder appear whole: a reader never lists half of it."""
        draft = self.path.with_name(f"{_DRAFT}{self.id}")
        make_folder(draft)
        write_json(draft / _RECORD, asdict(record))
        write_spec(draft, spec)
        try:
            draft.rename(self.path)
        except OSError as error:
            raise StateError(f"cannot make the folder {self.path}: {error.strerror}") from error

    def write_record(self, record: Record) -> None:
        write_json(self.path / _RECORD, asdict(record))

    def record(self) -> Record | None:
        """None where there is none that makes sense."""
        try:
            return _RECORDS.validate_python(self._read(_RECORD))
        except ValueError:
            return None

    def made(self) -> float:
        """When the folder was last changed, Unix seconds; 0 where it is gone already."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    def token(self) -> str | None:
        return _text(self._read(SPEC_FILE), "token")

    def url(self) -> str | None:
        """Where the worker listens, None as long as it does not."""
        return _text(self._read(ADDRESS_FILE), "url")

    def failure(self) -> str | None:
        """Why the worker gave up, with what to do about it."""
        failure = self._read(FAILURE_FILE)
        parts = (_text(failure, "message"), _text(failure, "hint"))
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


def _text(values: dict[str, Any], name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) and value else None


# Worker processes of this machine: started so that they outlive us, and ended only when they are ours.
#
# A pid proves nothing, it is used again. A process is ours when its argument list is exactly the one
# that we started, which names a folder that no other worker ever had; psutil then makes sure that the
# process it signals is still the one whose arguments were read.


def start(argv: Sequence[str], folder: Path, log: Path) -> int:
    """Starts a process in a session of its own, with nothing open that is open here; its pid.

    Raises:
        ProviderError: it could not be started.
    """
    try:
        with log.open("ab") as output:
            log.chmod(0o600)
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env=bare_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                close_fds=True,
            )
    except OSError as error:
        raise ProviderError(f"cannot start a worker process: {error.strerror}") from error
    # Reaps the worker should it end before we do; without it, it stays a zombie of this process.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def find(argv: Sequence[str], pid: int | None) -> psutil.Process | None:
    """The living process with exactly these arguments, looked for first under `pid`."""
    first = [] if pid is None else [pid]
    for candidate in [*first, *psutil.pids()]:
        process = _matching(candidate, argv)
        if process is not None:
            return process
    return None


async def stop(argv: Sequence[str], pid: int | None) -> None:
    """Ends the process with exactly these arguments, if there is one, and returns when it is gone.

    It is asked first, and then killed.

    Raises:
        ProviderError: it cannot be signalled, or does not even end when killed.
    """
    process = find(argv, pid)
    if process is None:
        return
    try:
        ended = await end(process)
    except psutil.AccessDenied as error:
        raise ProviderError(
            f"process {process.pid} may not be ended by this user", hint="run as the user who started it"
        ) from error
    if not ended:
        raise ProviderError(f"process {process.pid} does not end, although it was killed")


def _matching(pid: int, argv: Sequence[str]) -> psutil.Process | None:
    """The process, unless it is another one, has ended, or is a zombie (which has no arguments)."""
    try:
        process = psutil.Process(pid)
        return process if process.cmdline() == list(argv) else None
    except (psutil.Error, ValueError, OverflowError):
        return None


# How many cores this process may really use.


_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # "max 100000" or "<quota> <period>", microseconds


def threads_per_worker(cores: int, workers: int) -> int:
    """The cores shared among the workers, at least one each."""
    return max(1, cores // max(1, workers))


def usable_cores(limit_file: Path = _CGROUP_LIMIT) -> int:
    """The cores this process may run on, and no more than a container's CPU quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit_file.read_text(encoding="ascii").split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return allowed
