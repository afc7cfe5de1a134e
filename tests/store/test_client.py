"""Connecting: which server a configuration means, and those that do not answer as they should."""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from doubles.certificates import certify
from doubles.waiting import LONGEST
from hypothesis import given
from hypothesis import strategies as st
from plugins.redis_servers import PortServer, RedisServer, TlsRedis
from redis.asyncio import Redis, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from llmhost.config.models import RedisConfig
from llmhost.errors import ConfigError, StoreUnavailable
from llmhost.store import connections
from llmhost.store.client import address_options, all_ended, connect, translate_errors

#: seconds; a busy machine answers sooner
TIMEOUT = 10.0

#: seconds; for a server that never answers
SHORT = 0.5


def client(**keys: Any) -> Redis:
    return connect(RedisConfig.model_validate({"host": "127.0.0.1", "timeout": TIMEOUT} | keys))


async def failure(redis: Redis) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught, translate_errors():
        await redis.ping()
    await redis.aclose()
    return caught.value


async def test_a_client_answers_in_bytes_and_is_called_llmhost(redis_client: Redis) -> None:
    await redis_client.set("k", "v")
    assert await redis_client.get("k") == b"v"
    assert await redis_client.client_getname() == "llmhost"


async def test_more_commands_than_connections_wait_for_their_turn(redis_server: RedisServer) -> None:
    redis = connect(RedisConfig(timeout=10.0), socket=redis_server.socket)
    await asyncio.gather(*(redis.incr("n") for _ in range(300)))
    assert await redis.get("n") == b"300"
    assert len(await redis.client_list()) <= 65
    await redis.aclose()


@pytest.mark.parametrize("what", ["command", "script", "pipeline"])
async def test_whoever_is_cancelled_ends_at_once_and_takes_no_connection_along(
    redis_client: Redis, what: str
) -> None:
    script = redis_client.register_script("return 1")

    async def ask() -> Any:
        if what == "pipeline":
            pipeline: Any = redis_client.pipeline()
            return await pipeline.get("k").get("k").execute()
        return await (redis_client.get("k") if what == "command" else script(keys=["k"]))

    async def ask_for_ever() -> None:
        while True:
            await ask()

    for turns in range(500):  # each is cut off at another place
        asking = asyncio.create_task(ask_for_ever())
        for _ in range(turns % 50):
            await asyncio.sleep(0)
        asking.cancel()
        done, _ = await asyncio.wait([asking], timeout=5)
        assert done
    await asyncio.wait_for(asyncio.gather(*(ask() for _ in range(200))), LONGEST)


async def test_of_steps_at_once_all_have_ended_before_the_error_of_one_is_raised() -> None:
    ended: list[str] = []

    async def slow() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append("slow")

    async def fails() -> None:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await all_ended([fails(), slow()])
    assert ended == ["slow"]
    assert await all_ended([slow()]) == [None]


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced(
    redis_client: Redis, redis_server: RedisServer
) -> None:
    first = (await redis_client.client_info())["id"]
    async with connect(RedisConfig(), socket=redis_server.socket) as other:
        await other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert (await redis_client.client_info())["id"] != first


async def test_password_and_database_of_a_url_are_used(redis_port_server: PortServer) -> None:
    server = redis_port_server("--requirepass", "open: sesame/#?")
    redis = client(host=None, url=f"redis://:open%3A%20sesame%2F%23%3F@127.0.0.1:{server.port}/3")
    await redis.set("k", "v")
    assert (await redis.client_info())["db"] == 3
    await redis.aclose()


@pytest.mark.parametrize("way", ["tcp", "unix"])
async def test_a_wrong_password_is_reported_and_not_shown(redis_port_server: PortServer, way: str) -> None:
    server = redis_port_server("--requirepass", "secret", "--unixsocket", "own.sock")
    address: dict[str, Any] = {"port": server.port, "password": "wrongpw"}
    if way == "unix":
        address = {"host": None, "url": f"unix://:wrongpw@{server.folder}/own.sock"}
    redis = client(**address)
    assert "wrongpw" not in repr(redis)
    error = await failure(redis)
    assert error.message.startswith("Redis authentication failed: invalid username-password pair")
    assert "wrongpw" not in "".join(traceback.format_exception(error))


async def test_a_refused_connection_names_the_address(refusing_port: int) -> None:
    error = await failure(client(port=refusing_port))
    assert error.message == f"Redis at 127.0.0.1:{refusing_port} cannot be reached: Connection refused"


async def test_the_error_of_a_server_that_is_away_does_not_grow_with_each_command(refusing_port: int) -> None:
    redis = client(port=refusing_port)
    lengths = []
    for _ in range(20):
        with pytest.raises(RedisConnectionError) as raised:
            await redis.get("a")
        lengths.append(len(list(traceback.walk_tb(raised.tb))))
    assert lengths[-1] == lengths[1]


async def test_tls_with_the_right_authority_and_name_works(tls_redis: TlsRedis) -> None:
    redis = client(
        host="localhost", port=tls_redis.port, tls=True, ca_file=str(tls_redis.authority), timeout=5
    )
    assert await redis.ping()
    await redis.aclose()


async def test_a_certificate_of_an_unknown_authority_is_not_trusted(tls_redis: TlsRedis) -> None:
    error = await failure(client(host="localhost", port=tls_redis.port, tls=True))
    assert error.message == (
        f"the TLS certificate of Redis at localhost:{tls_redis.port} is not trusted: "
        "unable to get local issuer certificate"
    )


async def test_a_certificate_for_another_name_is_not_trusted(tls_redis: TlsRedis) -> None:
    error = await failure(client(port=tls_redis.port, tls=True, ca_file=str(tls_redis.authority)))
    assert "IP address mismatch" in error.message


async def test_a_client_shows_its_certificate_where_redis_wants_one(client_checking_redis: TlsRedis) -> None:
    redis = client(
        host="localhost",
        port=client_checking_redis.port,
        tls=True,
        ca_file=str(client_checking_redis.authority),
        cert_file=str(client_checking_redis.client),
    )
    assert await redis.ping()
    await redis.aclose()


async def test_a_redis_that_wants_the_clients_certificate_says_so(client_checking_redis: TlsRedis) -> None:
    port, authority = client_checking_redis.port, str(client_checking_redis.authority)
    error = await failure(client(host="localhost", port=port, tls=True, ca_file=authority))
    assert (
        error.message == f"Redis at localhost:{port} ends TLS connections without a certificate of the client"
    )
    assert error.hint == "set `redis.cert_file` and `redis.key_file`"


def test_a_certificate_and_a_key_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        certify(name).server_context(folder)
    (one,), (two,) = (list((tmp_path / name).glob("*.pem")) for name in ("one", "two"))
    with pytest.raises(ConfigError, match="they hold no pair"):
        options(host="h", tls=True, cert_file=str(one), key_file=str(two))
    with pytest.raises(ConfigError, match="No such file or directory"):
        options(host="h", tls=True, cert_file="/nowhere.pem")


async def test_plain_text_to_a_port_that_wants_tls_says_so(tls_redis: TlsRedis) -> None:
    error = await failure(client(port=tls_redis.port))
    assert error.message == (
        f"Redis at 127.0.0.1:{tls_redis.port} wants TLS, and the configuration does not ask for it"
    )
    assert "rediss://" in str(error.hint)


@pytest.mark.parametrize("password", [(), ("--requirepass", "secret")], ids=["open", "with a password"])
async def test_tls_to_a_port_that_speaks_none_says_so(
    redis_port_server: PortServer, password: tuple[str, ...]
) -> None:
    port = redis_port_server(*password).port
    error = await failure(client(host=None, url=f"rediss://:secret@127.0.0.1:{port}", timeout=SHORT))
    assert error.message == f"Redis at 127.0.0.1:{port} speaks no TLS, and the configuration asks for it"
    assert "redis://" in str(error.hint)


# One question uses Redis in several steps; only the first of them waits for a server that is away.


@dataclass
class Silent:
    """A server that takes connections and answers nothing, or nothing but what a client says first."""

    port: int = 0
    greets: bool = False
    connections: list[asyncio.StreamWriter] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    made = Silent()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections.append(writer)
        with suppress(asyncio.CancelledError):  # the test is over
            while command := await reader.read(65536):
                made.commands.append(command)
                if made.greets and b"PING" not in command:
                    writer.write(b"+OK\r\n")

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    for writer in made.connections:
        writer.close()
    await server.wait_closed()


async def ping_fails(redis: Redis) -> str:
    with pytest.raises(StoreUnavailable) as caught, translate_errors():
        await redis.ping()
    return caught.value.message


@pytest.mark.parametrize(("tls", "tries"), [(False, 1), (True, 2)])
async def test_after_a_silent_server_nothing_more_is_tried_for_a_while(
    silent: Silent, monkeypatch: pytest.MonkeyPatch, tls: bool, tries: int
) -> None:
    """Where TLS is wanted, it is spoken to in plain text as well: it may be a Redis without TLS."""
    monkeypatch.setattr(connections, "_PAUSE", 600.0)  # a busy machine may stand still for the usual pause
    redis = client(port=silent.port, timeout=SHORT, tls=tls)
    messages = {await ping_fails(redis) for _ in range(5)}
    assert (messages, len(silent.connections)) == ({"Redis does not answer in time"}, tries)
    await redis.aclose()


async def test_after_that_while_it_is_tried_again(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_PAUSE", 0.0)
    redis = client(port=silent.port, timeout=SHORT)
    for _ in range(2):
        await ping_fails(redis)
    assert len(silent.connections) == 2
    await redis.aclose()


async def test_a_command_that_a_connected_server_does_not_answer_is_sent_once(silent: Silent) -> None:
    silent.greets = True
    redis = client(port=silent.port, timeout=SHORT)
    assert await ping_fails(redis) == "Redis does not answer in time"
    assert sum(b"PING" in command for command in silent.commands) == 1
    await redis.aclose()


# Which server a configuration means.


def options(**keys: Any) -> dict[str, Any]:
    return address_options(RedisConfig.model_validate(keys), None)


def login(**keys: Any) -> tuple[str | None, str | None]:
    found = options(**keys)
    return found["username"], found["password"]


def test_a_url_says_the_same_as_its_parts() -> None:
    parts = options(host="redis.example", port=6380, db=2, username="bob", password="pw")
    assert options(url="redis://bob:pw@redis.example:6380/2") == parts


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"url": "redis://h", "username": "bob", "password": "pw"}, ("bob", "pw")),
        ({"url": "redis://eve:other@h", "username": "bob", "password": "pw"}, ("eve", "other")),
        ({"host": "h", "password": ""}, (None, None)),
    ],
    ids=["beside the URL", "of the URL", "empty"],
)
def test_the_login_of_a_url_goes_before_the_one_beside_it(
    keys: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    assert login(**keys) == expected


def test_a_url_without_port_and_database_uses_the_ones_beside_it() -> None:
    found = options(url="redis://[::1]", db=4)
    assert (found["host"], found["port"], found["db"]) == ("::1", 6379, 4)


def test_a_unix_url_names_a_path_and_a_database() -> None:
    found = options(url="unix:///run/my%20redis.sock?db=3")
    assert (found["connection_class"], found["path"], found["db"]) == (
        UnixDomainSocketConnection,
        "/run/my redis.sock",
        3,
    )


def test_the_embedded_socket_goes_before_everything_and_knows_no_password() -> None:
    config = RedisConfig.model_validate({"host": "h", "password": "pw", "db": 1})
    assert address_options(config, Path("/s/redis.sock")) == {
        "connection_class": UnixDomainSocketConnection,
        "path": "/s/redis.sock",
        "db": 1,
    }


@pytest.mark.parametrize("keys", [{"url": "rediss://h"}, {"url": "redis://h", "tls": True}])
def test_tls_always_checks_certificate_and_name(keys: dict[str, Any]) -> None:
    found = options(**keys)
    assert found["connection_class"] is SSLConnection
    assert found["ssl_cert_reqs"] == "required"
    assert found["ssl_check_hostname"] is True
    assert found["ssl_min_version"] is ssl.TLSVersion.TLSv1_2


def test_no_server_at_all_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        options()
    assert caught.value.hint == "set `redis.url` or `redis.host`"


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///3",
        "redis://host/three",
        "redis://host/3/4",
        "redis://host/²",
        "redis://host:0",
        "redis://host:99999",
        "redis://host:port",
        "redis://[::1",
        "redis://host#fragment",
        "redis://host?protocol=3",
        "rediss://host?ssl_cert_reqs=none",
        "unix://",
        "unix://relative/path",
        "unix:///path?db=x",
        "redis://:se/cret@h",
        "redis://:se#cret@h",
        "redis://u:1?secret@h:1",
    ],
)
def test_a_url_that_is_not_what_it_seems_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="not an address that llmhost can use") as caught:
        options(url=url)
    shown = "".join(traceback.format_exception(caught.value, limit=0)) + str(caught.value.hint)
    assert "cret" not in shown


@given(
    user=st.text(st.characters(codec="utf-8"), min_size=1),
    secret=st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_any_escaped_login_arrives_as_it_was(user: str, secret: str) -> None:
    assert login(url=f"redis://{quote(user, safe='')}:{quote(secret, safe='')}@h") == (user, secret)


@given(st.text(st.characters(codec="utf-8")))
def test_any_url_gives_options_or_a_config_error(rest: str) -> None:
    try:
        found = options(url=f"redis://{rest}")
    except ConfigError:
        return
    assert found["host"]
    assert 0 < found["port"] < 65536


@pytest.mark.parametrize(
    ("file", "problem"),
    [("/nowhere.pem", "No such file or directory"), (__file__, "it holds no certificate")],
    ids=["not there", "no certificate"],
)
def test_an_authority_file_that_cannot_be_used_is_named(file: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(host="h", tls=True, ca_file=file)
    assert caught.value.message == f"`redis.ca_file` {file} cannot be used: {problem}"
