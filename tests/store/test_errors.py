"""Redis's errors in our words."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis.exceptions
from doubles.waiting import until
from plugins.redis_servers import PortServer
from redis.asyncio import Redis

from llmhost.config.models import RedisConfig
from llmhost.errors import StoreError, StoreRefused, StoreUnavailable
from llmhost.store.client import connect, translate_errors

THEIRS = [
    kind
    for _, kind in inspect.getmembers(redis.exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == "redis.exceptions"
]


def raised(kind: type[Exception]) -> Exception:
    return kind("12182 127.0.0.1:6379") if issubclass(kind, redis.exceptions.AskError) else kind("text")


def translated(error: Exception) -> StoreError:
    with pytest.raises(StoreError) as caught, translate_errors():
        raise error
    return caught.value


@pytest.mark.parametrize("kind", THEIRS, ids=lambda kind: kind.__name__)
def test_no_exception_of_redis_py_is_left_unmapped(kind: type[Exception]) -> None:
    error = translated(raised(kind))
    assert error.hint
    assert "\n" not in error.message
    assert "{" not in error.message


@pytest.mark.parametrize("error", [OSError(9, "x"), TimeoutError(), ConnectionResetError(104, "x")])
def test_errors_of_the_system_are_mapped_too(error: Exception) -> None:
    assert isinstance(translated(error), StoreUnavailable)


@pytest.mark.parametrize(
    "error", [KeyError("k"), ValueError("v"), asyncio.CancelledError(), KeyboardInterrupt()]
)
def test_what_is_not_redis_passes_untouched(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, translate_errors():
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ("MISCONF Redis is configured to save", StoreRefused, "cannot save its data"),
        ("NOREPLICAS Not enough good replicas", StoreRefused, "too few replicas"),
        ("WRONGTYPE Operation against a key", StoreRefused, "holds something else"),
        ("BUSY Redis is busy running a script", StoreUnavailable, "busy with a script"),
        ("NOPERM this user has no permissions", StoreRefused, "lacks a permission"),
        ("CROSSSLOT Keys in request", StoreRefused, "different shards"),
        ("something new", StoreRefused, "refuses a command: something new"),
        (redis.exceptions.BusyLoadingError("x"), StoreUnavailable, "still loading"),
        (redis.exceptions.ClusterDownError("x"), StoreUnavailable, "cluster is not ready"),
        (redis.exceptions.MovedError("3999 10.0.0.1:6381"), StoreRefused, "one node of a cluster"),
        (redis.exceptions.InvalidResponse(b"HTTP/1.1 400"), StoreUnavailable, "does not speak its protocol"),
        (
            redis.exceptions.MaxConnectionsError("Too many connections"),
            StoreUnavailable,
            "Too many connections",
        ),
    ],
)
def test_an_error_is_told_by_the_code_of_an_answer_or_by_its_kind(
    error: Exception | str, kind: type[StoreError], words: str
) -> None:
    found = translated(redis.exceptions.ResponseError(error) if isinstance(error, str) else error)
    assert type(found) is kind
    assert words in found.message


def test_an_error_that_was_being_handled_does_not_hide_the_new_one() -> None:
    error = redis.exceptions.ReadOnlyError("You can't write")
    error.__context__ = redis.exceptions.NoScriptError("No matching script")
    assert translated(error).message == "Redis is read-only"


def test_a_long_answer_is_cut() -> None:
    assert len(translated(redis.exceptions.ResponseError("word " * 1000)).message) < 300


async def test_values_of_a_pipeline_are_neither_in_the_message_nor_in_the_traceback(
    redis_client: Redis,
) -> None:
    await redis_client.set("number", "none")
    pipeline = redis_client.pipeline(transaction=False)
    pipeline.incrby("number", "secret")  # type: ignore[arg-type]
    with pytest.raises(StoreRefused) as caught, translate_errors():
        await pipeline.execute()
    assert caught.value.message == "Redis refuses a command: value is not an integer or out of range"
    assert "secret" not in "".join(traceback.format_exception(caught.value))


async def test_arguments_of_an_unknown_command_are_neither_in_the_message_nor_in_the_traceback(
    redis_client: Redis,
) -> None:
    with pytest.raises(StoreRefused, match=r"unknown command .NOSUCH.$") as caught, translate_errors():
        await redis_client.execute_command("NOSUCH", "OOM", "quiet words")
    assert "quiet words" not in traceback.format_exception(caught.value)[-1]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.fixture(params=["command", "script", "transaction"])
def write(request: pytest.FixtureRequest) -> Callable[[Redis], Awaitable[object]]:
    """One way to write a key."""

    async def transaction(client: Any) -> object:
        return await client.pipeline(transaction=True).set("k", "v").execute()

    ways: dict[str, Callable[[Redis], Awaitable[object]]] = {
        "command": lambda client: client.set("k", "v"),
        "script": lambda client: client.eval("return redis.call('set', KEYS[1], 'v')", 1, "k"),
        "transaction": transaction,
    }
    return ways[request.param]


@pytest.mark.parametrize(
    ("server", "message"),
    [("full_redis", "Redis is out of memory"), ("read_only_redis", "Redis is read-only")],
)
async def test_a_server_that_cannot_write_refuses(
    server: str, message: str, write: Callable[[Redis], Awaitable[object]], request: pytest.FixtureRequest
) -> None:
    port = request.getfixturevalue(server).port
    async with connect(RedisConfig(host="127.0.0.1", port=port)) as client:
        with pytest.raises(StoreRefused) as caught, translate_errors():
            await write(client)
    assert caught.value.message == message


async def test_a_user_without_permission_is_told_what_was_refused(redis_port_server: PortServer) -> None:
    port = redis_port_server().port
    async with connect(RedisConfig(host="127.0.0.1", port=port)) as client:
        await client.execute_command("ACL", "SETUSER", "ops", "on", ">pw", "~ours:*", "+@all", "-set")
    login = RedisConfig.model_validate(
        {"host": "127.0.0.1", "port": port, "username": "ops", "password": "pw"}
    )
    async with connect(login) as client:
        for key, says in (("ours:1", "'set'"), ("theirs:1", "keys?")):
            with pytest.raises(StoreRefused, match=f"lacks a permission: .*{says}"), translate_errors():
                await (client.set(key, "v") if key == "ours:1" else client.get(key))


async def test_a_node_of_a_cluster_says_what_it_cannot_do(redis_port_server: PortServer) -> None:
    port = redis_port_server("--cluster-enabled", "yes").port
    async with connect(RedisConfig(host="127.0.0.1", port=port)) as client:
        with pytest.raises(StoreUnavailable, match="cluster is not ready"), translate_errors():
            await client.set("k", "v")
        await client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        await until(lambda: _is_up(client))
        with pytest.raises(StoreRefused, match="on different shards"), translate_errors():
            await client.execute_command("MGET", "a", "b")


async def _is_up(client: Redis) -> bool:
    return b"cluster_state:ok" in await client.execute_command("CLUSTER", "INFO")
