"""A fleet's gateway as a process of this machine: where it is found, how it is started, and how it ends.

The process holds a lock on a file, which the system releases when it ends, however it ends. What stands
in the record beside it holds for as long.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from llmhost.errors import StateError
from llmhost.machine.child import safe_environment
from llmhost.machine.files import hold_lock, make_folder, read_json, write_json
from llmhost.machine.paths import state_dir
from llmhost.store.embedded import make_private, socket_path

__all__ = ["GatewayHome", "GatewayRecord", "find_gateway", "gateway_home"]

#: seconds; on a busy machine it takes some to import all that it needs
_START_PATIENCE = 60.0
_STOP_PATIENCE = 35.0  #: seconds; streams that are under way have 30 to end in
_POLL = 0.05  #: seconds between two looks at a gateway that starts
_LOOK = 1.0  #: seconds; who looks whether one runs shares the lock for a moment
#: how a command begins the line that says why it failed, and characters of it that are shown
_ERROR, _SHOWN = "error: ", 300


@dataclass(frozen=True, slots=True)
class GatewayRecord:
    """A gateway that runs. `started` in Unix seconds; `inputs` names what its configuration of `fleet` comes
    from, of which there are `warnings`; questions may have `max_prompt_chars`. `managed`: `up` has started
    it.
    """

    pid: int
    url: str
    version: str
    started: float
    fleet: str = ""
    inputs: str = ""
    max_prompt_chars: int = 0
    managed: bool = True
    warnings: Sequence[str] = ()


class GatewayHome:
    """The place of one fleet's gateway, in a `folder` of its own. There is one gateway there at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = folder / "lock"
        self._record = folder / "gateway.json"
        self.log = folder / "gateway.log"
        #: where commands of this user reach it; the folder may be elsewhere, as such paths have a limit
        self.socket = socket_path(folder, "gateway.sock")

    def running(self) -> GatewayRecord | None:
        """The gateway that runs; None where there is none, or where it cannot be read."""
        if not self._is_held():
            return None
        try:
            record = read_json(self._record) or {}
            # One of another version may have other fields: it is found all the same, and can be ended.
            names = {known.name for known in fields(GatewayRecord)} & record.keys()
            return GatewayRecord(**{name: record[name] for name in names})
        except (StateError, ValueError, TypeError):
            return None

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[bool]:
        """Within the block this process is the fleet's gateway; False where another one is.

        Raises StateError.
        """
        make_private(self._folder)
        make_private(self.socket.parent)
        if self._is_held():
            yield False
            return
        async with hold_lock(self._lock, patience=_LOOK):
            self._record.unlink(missing_ok=True)  # of one that was killed
            try:
                yield True
            finally:
                with suppress(OSError):
                    self._record.unlink(missing_ok=True)
                    self.socket.unlink(missing_ok=True)

    def write(self, record: GatewayRecord) -> None:
        """Tells others what this process is. Raises StateError."""
        write_json(self._record, asdict(record))

    async def start(self, command: Sequence[str]) -> GatewayRecord:
        """Starts it with this command, which takes the place itself, and returns when it listens. Raises
        StateError with the error in its log where it does not."""
        process = self._launch(command)
        deadline = time.monotonic() + _START_PATIENCE
        while (record := self.running()) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                process.terminate()
                raise StateError(f"the gateway did not start: {self._complaint()}", hint=f"see {self.log}")
            await asyncio.sleep(_POLL)
        return record

    def _launch(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        make_folder(self._folder)
        try:
            with self.log.open("wb") as log:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=safe_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            raise StateError(f"the gateway cannot be started: {error.strerror}") from error

    async def stop(self) -> bool:
        """Ends it, once its answers are complete or had their time; False where none runs. Raises StateError
        where it does not end."""
        from llmhost.machine.process import end

        record = self.running()
        if record is None:
            return False
        import psutil

        try:
            process = psutil.Process(record.pid)
            ours = process.uids().real == os.getuid() and "serve" in process.cmdline()
        except psutil.Error:
            return False
        if not ours or not await end(process, _STOP_PATIENCE):
            raise StateError("the gateway cannot be stopped", hint=f"end process {record.pid}")
        return True

    def _is_held(self) -> bool:
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _complaint(self) -> str:
        """The error that its log ends with, which a hint may follow; else the last line."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
        return next(reversed(errors or lines), "it says nothing")[:_SHOWN]


def gateway_home(fleet: str) -> GatewayHome:
    """Where this fleet's gateway is found. Raises StateError."""
    return GatewayHome(state_dir() / "fleets" / fleet / "gateway")


def find_gateway(inputs: str) -> tuple[Path, GatewayRecord] | None:
    """The socket of the gateway of any fleet whose configuration comes from the same. Raises StateError."""
    for folder in (state_dir() / "fleets").glob("*/gateway"):
        home = GatewayHome(folder)
        record = home.running()
        if record is not None and record.inputs == inputs:
            return home.socket, record
    return None
