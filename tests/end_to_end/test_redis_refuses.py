"""A Redis that answers and refuses: `doctor` says what to fix, `scale` changes nothing and says why, and a
question is answered all the same."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from doubles.openai_server import OpenAIServer
from plugins.commands import House, HouseMaker
from plugins.redis_servers import PortServer, RedisServer

#: by the name of the fixture that starts the server: what is said of it
REFUSING = {
    "full_redis": "Redis is out of memory",
    "read_only_redis": "Redis is read-only",
    "cluster_without_slots": "the Redis cluster is not ready",
    "foreign_keys_redis": "the Redis user lacks a permission",
    "scriptless_redis": "Redis refuses a command",
}


@pytest.fixture
def foreign_keys_redis(redis_port_server: PortServer) -> RedisServer:
    """Its users may use the keys of others alone."""
    server = redis_port_server()
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~others:*")
    return server


@pytest.fixture
def scriptless_redis(redis_port_server: PortServer) -> RedisServer:
    """Scripts were renamed away."""
    return redis_port_server("--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "")


@pytest.fixture(params=REFUSING)
def refusing(
    request: pytest.FixtureRequest, house: House, static: HouseMaker, openai_server: OpenAIServer
) -> tuple[House, str]:
    """A fleet whose Redis refuses, and what is to be said of it."""
    server: RedisServer = request.getfixturevalue(request.param)
    sections: dict[str, Any] = {"redis": {"host": "127.0.0.1", "port": server.port}}
    static(house, openai_server, **sections, scale={"max_late_ratio": 0.1})
    return house, REFUSING[request.param]


async def test_a_question_is_answered_and_each_thing_is_said_once(refusing: tuple[House, str]) -> None:
    house, cause = refusing
    await house.run("up")
    done = await house.run("ask", "What is Redis?")
    warnings = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert (done.code, done.out) == (0, "Hello, Wörld!\n")
    assert cause in done.err
    assert len(warnings) == len(set(warnings)) <= 2


async def test_a_step_of_autoscaling_fails_with_the_cause_and_changes_nothing(
    refusing: tuple[House, str], openai_server: OpenAIServer
) -> None:
    house, cause = refusing
    done = await house.run("scale")
    assert (done.code, cause in done.error) == (5, True)
    assert openai_server.requests == []


async def test_doctor_fails_with_the_cause_and_a_fix(refusing: tuple[House, str]) -> None:
    house, cause = refusing
    done = await house.run("doctor", "--json")
    failed = [check for check in done.json["checks"] if check["name"].startswith("redis") and not check["ok"]]
    assert done.code == 1
    assert any(cause in check["detail"] and check["fix"] for check in failed)
