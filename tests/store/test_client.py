"""Connecting: a server of one's own, the embedded one, and those that do not let one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from plugins.redis_servers import PortServer, RedisServer, TlsRedis
from redis.asyncio import Redis

from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable
from llmhost.store.client import connect, load_script, translate_errors

#: seconds; long enough for a busy machine to answer, short enough to wait for
TIMEOUT = 0.5


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


async def test_a_client_connects_with_its_first_command_only(refusing_port: int) -> None:
    await client(port=refusing_port).aclose()


async def test_more_commands_than_connections_wait_for_their_turn(redis_server: RedisServer) -> None:
    redis = connect(RedisConfig(timeout=10.0), socket=redis_server.socket)
    await asyncio.gather(*(redis.incr("n") for _ in range(300)))
    assert await redis.get("n") == b"300"
    assert len(await redis.client_list()) <= 65
    await redis.aclose()


async def test_a_connection_that_the_server_closed_meanwhile_is_made_anew(
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


async def test_a_missing_password_is_told(redis_port_server: PortServer) -> None:
    error = await failure(client(port=redis_port_server("--requirepass", "secret").port))
    assert error.message == "Redis authentication failed: Authentication required"
    assert "${REDIS_PASSWORD}" in str(error.hint)


@pytest.mark.parametrize("way", ["tcp", "unix"])
async def test_a_wrong_password_is_told_and_not_shown(redis_port_server: PortServer, way: str) -> None:
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


async def test_a_missing_socket_names_its_path(tmp_path: Path) -> None:
    error = await failure(connect(RedisConfig(), socket=tmp_path / "no.sock"))
    assert error.message == f"Redis at {tmp_path}/no.sock cannot be reached: No such file or directory"


@pytest.mark.parametrize("tls", [False, True])
async def test_a_server_that_hangs_costs_one_timeout(hanging_port: int, tls: bool) -> None:
    redis = client(port=hanging_port, tls=tls)
    before = time.monotonic()
    error = await failure(redis)
    assert error.message == "Redis does not answer in time"
    assert TIMEOUT <= time.monotonic() - before < 1.9 * TIMEOUT


async def test_a_server_that_stops_answering_costs_one_timeout(redis_port_server: PortServer) -> None:
    server = redis_port_server("--unixsocket", "own.sock")
    redis = connect(RedisConfig(timeout=TIMEOUT), socket=server.folder / "own.sock")
    await redis.ping()
    os.kill(server.process.pid, signal.SIGSTOP)
    before = time.monotonic()
    await failure(redis)
    assert TIMEOUT <= time.monotonic() - before < 1.9 * TIMEOUT


async def test_tls_with_the_right_authority_and_name_works(tls_redis: TlsRedis) -> None:
    redis = client(
        host="localhost", port=tls_redis.port, tls=True, ca_file=str(tls_redis.authority), timeout=5
    )
    assert await redis.ping()
    await redis.aclose()


async def test_tls_works_through_a_url(tls_redis: TlsRedis) -> None:
    url = f"rediss://localhost:{tls_redis.port}"
    redis = client(host=None, url=url, ca_file=str(tls_redis.authority), timeout=5)
    assert await redis.ping()
    await redis.aclose()


async def test_a_certificate_of_an_unknown_authority_is_not_trusted(tls_redis: TlsRedis) -> None:
    error = await failure(client(host="localhost", port=tls_redis.port, tls=True, timeout=5))
    assert error.message == (
        f"the TLS certificate of Redis at localhost:{tls_redis.port} is not trusted: "
        "unable to get local issuer certificate"
    )


async def test_a_certificate_for_another_name_is_not_trusted(tls_redis: TlsRedis) -> None:
    error = await failure(client(port=tls_redis.port, tls=True, ca_file=str(tls_redis.authority), timeout=5))
    assert "IP address mismatch" in error.message


async def test_plain_text_to_a_port_that_wants_tls_is_an_error(tls_redis: TlsRedis) -> None:
    error = await failure(client(port=tls_redis.port))
    assert error.message == "Redis cannot be reached: Connection closed by server"


def test_a_script_is_read_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a_package_of_scripts" / "lua"
    folder.mkdir(parents=True)
    (folder / "one.lua").write_text("return 'ä'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_script("a_package_of_scripts.lua", "one.lua") == "return 'ä'\n"
