"""The Redis that llmhost brings along: a real server as a child that outlives the command."""

from __future__ import annotations

import asyncio
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.errors import StateError, StoreUnavailable
from llmhost.machine.lock import hold_lock
from llmhost.store.launch import SETTINGS, find_program, launch
from llmhost.store.server_log import ServerLog
from llmhost.store.socket_path import is_private, make_private, socket_path
from llmhost.store.wire import Presence, presence, say, server_pid

if TYPE_CHECKING:
    import psutil

__all__ = ["EmbeddedRedis"]

_ANSWERING = frozenset({Presence.LOADING, Presence.READY})

_POLL = 0.01  #: seconds between two looks at a server that starts or ends, which takes about 0.1 s
_LISTEN_PATIENCE = 3.0  #: seconds; it listens before it loads its data
_LOAD_PATIENCE = 60.0  #: seconds; 1 GB of data comes from a disk in about 10 s
_SHUTDOWN_PATIENCE = 20.0  #: seconds; a slow disk takes this long to have the last of the data


class EmbeddedRedis:
    """One server for each `folder`, whichever command starts it.

    `server` is the configured redis-server program: a path, or a name to look for on PATH.
    """

    def __init__(self, folder: Path, server: str | None = None) -> None:
        self._folder = folder.expanduser().resolve()
        self._server = server
        self._socket = socket_path(self._folder)
        self._settings = self._folder / "redis.conf"
        self._pid_file = self._folder / "redis.pid"
        self._lock = self._folder / "redis.lock"
        self._log = ServerLog(self._folder / "redis.log")
        #: what only our server's command line consists of, after its program
        self._arguments = (str(self._settings), "--pidfile", str(self._pid_file))

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None where no process is certainly it."""
        process = self._process()
        return process.pid if process else None

    def binary(self) -> Path:
        """The program: the configured one, else the one on PATH, else the packaged one.

        Raises:
            StateError: there is none.
        """
        return find_program(self._server)

    async def is_running(self) -> bool:
        """Whether it answers; it may still be loading its data."""
        return await self._presence() in _ANSWERING

    async def ensure_running(self) -> Path:
        """Starts the server where none runs; the path of its socket, once its data is loaded.

        Raises:
            StateError: it cannot be started.
            StoreUnavailable: it runs, but hangs, or has not loaded its data within a minute.
        """
        met = await self._presence()
        if met is Presence.NOBODY:
            make_private(self._folder)
            make_private(self._socket.parent)
            async with hold_lock(self._lock, patience=_LOAD_PATIENCE):
                await self._start()
        if met is not Presence.READY:
            await self._until_ready()
        return self._socket

    async def stop(self) -> bool:
        """Lets the server bring its data to the disk and end; False where none was running.

        Raises:
            StateError: it is still there.
        """
        if not self._folder.is_dir():
            return False
        async with hold_lock(self._lock, patience=_LOAD_PATIENCE):
            met = await self._presence()
            process = await self._process_behind(met)
            if met is Presence.NOBODY and process is None:
                return False
            if not await self._ends(met, process):
                raise StateError(
                    "the embedded Redis cannot be stopped",
                    hint=f"end the redis-server that works in {self._folder}",
                )
            self._remove_temporary_folder()
        return True

    async def _presence(self) -> Presence:
        return await presence(self._socket) if is_private(self._socket.parent) else Presence.NOBODY

    def _process(self) -> psutil.Process | None:
        from llmhost.machine.process import find

        return find(self._folder, self._arguments, self._noted_pid())

    def _noted_pid(self) -> int | None:
        try:
            return int(self._pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    async def _process_behind(self, met: Presence) -> psutil.Process | None:
        """Ours, also where its folder was moved while it ran, so that its command line names the old one."""
        from llmhost.machine.process import works_in

        pid = await server_pid(self._socket) if met in _ANSWERING else None
        return (works_in(self._folder, pid) if pid else None) or self._process()

    async def _start(self) -> None:
        """Called with the lock held; somebody else may have had it before."""
        if await self._presence() is not Presence.NOBODY or await self._takes_over():
            return
        await self._launch()
        if not await self._listens():
            raise self._failure(self._log.last_words())

    async def _takes_over(self) -> bool:
        """Whether a server that its starter left alone comes up by itself. One that does not, because its
        socket was removed, cannot be reached any more; its data is on the disk."""
        from llmhost.machine.process import end

        left = self._process()
        if left is None or await self._listens():
            return left is not None
        if not await end(left):
            raise self._failure(f"process {left.pid} is in its place and does not end")
        return False

    async def _launch(self) -> None:
        program = self.binary()
        beside = self._socket.parent == self._folder
        settings = SETTINGS.format(socket=self._socket.name if beside else self._socket)
        try:
            self._log.begin()
            self._settings.touch(mode=0o600)
            self._settings.write_text(settings, encoding="ascii")
            await asyncio.to_thread(launch, program, self._arguments, self._folder, self._log.path)
        except OSError as error:
            raise self._failure(f"{error.filename or program}: {error.strerror}") from error
        except subprocess.SubprocessError as error:
            raise self._failure(self._log.last_words()) from error

    async def _listens(self) -> bool:
        """Whether our process, while it lives, gets to the point where it takes connections."""
        deadline = time.monotonic() + _LISTEN_PATIENCE
        while await self._presence() is Presence.NOBODY:
            if self._process() is None or time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL)
        return True

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + _LOAD_PATIENCE
        while (met := await self._presence()) is not Presence.READY:
            if met is Presence.NOBODY:
                raise self._failure(self._log.last_words())
            if met is Presence.SILENT or time.monotonic() > deadline:
                problem = "does not answer" if met is Presence.SILENT else "is still loading its data"
                raise StoreUnavailable(
                    f"the embedded Redis {problem}",
                    hint="wait for it, or stop it with `llmhost down --all`; its data stays",
                )
            await asyncio.sleep(_POLL)

    def _failure(self, reason: str) -> StateError:
        return StateError(
            f"the embedded Redis does not start: {reason}",
            hint=f"{self._log.path} may say more; `redis.server` or `redis.url` name another Redis",
        )

    async def _ends(self, met: Presence, process: psutil.Process | None) -> bool:
        from llmhost.machine.process import end

        if met in _ANSWERING and await self._shuts_down(process):
            return True
        return process is not None and await end(process)

    async def _shuts_down(self, process: psutil.Process | None) -> bool:
        """By its own command. A server that we see no process of, in another container, is gone when
        nobody answers."""
        from llmhost.machine.process import wait_gone

        with suppress(OSError):
            if await say(self._socket, "SHUTDOWN"):
                return False
        if process is not None:
            return await wait_gone(process, _SHUTDOWN_PATIENCE)
        return await self._falls_silent()

    async def _falls_silent(self) -> bool:
        deadline = time.monotonic() + _SHUTDOWN_PATIENCE
        while await self._presence() is not Presence.NOBODY:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL)
        return True

    def _remove_temporary_folder(self) -> None:
        if self._socket.parent != self._folder:
            self._socket.unlink(missing_ok=True)
            self._socket.parent.rmdir()
