"""Whether `doctor` finds, on real servers, what keeps llmhost's commands from using Redis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from plugins.redis_servers import PortServer, RedisServer
from redis.asyncio import Redis

import llmhost
from llmhost.config.models import Config, RedisConfig
from llmhost.doctor.checks import Check
from llmhost.doctor.redis_use import commands, keys, try_redis
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys, NamespaceKeys

CONFIG = Config.model_validate({"fleet": {"name": "blue"}, "cache": {"namespace": "answers"}})
ALL = ("+@read", "+@write", "+@connection", "+@transaction", "+@scripting", "+@pubsub", "+info", "+time")
OURS = ("~llmhost:blue:*", "~answers:*")


async def tried(server: RedisServer, **login: Any) -> Sequence[Check]:
    config = RedisConfig.model_validate({"host": "127.0.0.1", "port": server.port, "timeout": 10.0} | login)
    async with connect(config) as client:
        return await try_redis(client, CONFIG)


async def tried_as(server: RedisServer, *rights: str) -> Sequence[Check]:
    """As a user with these rights alone."""
    async with connect(RedisConfig(host="127.0.0.1", port=server.port)) as client:
        await client.execute_command(
            "ACL", "SETUSER", "ops", "reset", "resetchannels", "on", ">secret", *rights
        )
    return await tried(server, username="ops", password="secret")


async def test_a_server_that_does_all_is_left_as_it_was(redis_client: Redis) -> None:
    await redis_client.set("mine", "1")
    (check,) = await try_redis(redis_client, CONFIG)
    assert check.ok
    assert await redis_client.keys() == [b"mine"]


async def test_the_rights_that_the_documentation_names_suffice(redis_port_server: PortServer) -> None:
    (check,) = await tried_as(redis_port_server(), *OURS, "&answers:*", *ALL)
    assert (check.ok, check.fix) == (True, None)


@pytest.mark.parametrize(
    ("rights", "named"),
    [
        (("~answers:*", "&answers:*", *ALL), "SET"),
        (("~llmhost:blue:*", "&answers:*", *ALL), "the key answers:embedding:"),
        ((*OURS, "&answers:*", *ALL, "-hset"), "HSET"),
        ((*OURS, "&answers:*", *ALL, "-@scripting"), "EVALSHA"),
        ((*OURS, "&answers:*", *ALL, "-exec"), "MULTI"),
        ((*OURS, *ALL), "PUBLISH, SUBSCRIBE"),
    ],
    ids=["keys of the fleet", "keys of the cache", "a command", "scripts", "transactions", "channels"],
)
async def test_a_user_who_lacks_a_right_fails_with_what_is_refused_and_the_rights_to_give(
    redis_port_server: PortServer, rights: Sequence[str], named: str
) -> None:
    (check,) = await tried_as(redis_port_server(), *rights)
    assert (check.ok, check.detail.startswith("the Redis user lacks a permission")) == (False, True)
    assert named in check.detail.partition("; refused: ")[2]
    assert "ACL SETUSER: ~llmhost:blue:* ~answers:* &answers:* +@read" in (check.fix or "")


async def test_scripts_that_were_renamed_away_are_named(redis_port_server: PortServer) -> None:
    renamed = [("--rename-command", name, "") for name in ("EVAL", "EVALSHA")]
    (check,) = await tried(redis_port_server(*(part for pair in renamed for part in pair)))
    assert (check.ok, "EVALSHA" in check.detail) == (False, True)


@pytest.mark.parametrize(
    ("server", "message", "fix"),
    [
        ("full_redis", "Redis is out of memory", "volatile-lru"),
        ("read_only_redis", "Redis is read-only", "the primary"),
        ("cluster_without_slots", "the Redis cluster is not ready", "all of its nodes"),
    ],
)
async def test_a_server_that_takes_no_writes_fails_with_its_cause(
    server: str, message: str, fix: str, request: pytest.FixtureRequest
) -> None:
    (check,) = await tried(request.getfixturevalue(server))
    assert (check.ok, check.detail.partition(";")[0], fix in (check.fix or "")) == (False, message, True)
    assert "SET" in check.detail


def test_every_command_that_a_script_of_ours_calls_is_tried() -> None:
    scripts = Path(llmhost.__file__).parent.rglob("*.lua")
    called = {
        name.upper()
        for script in scripts
        for name in re.findall(r"redis\.p?call\(\s*['\"](\w+)", script.read_text())
    }
    assert called <= {command[0] for command in commands("t")} | {"PUBLISH"}


def test_a_key_of_every_name_is_tried() -> None:
    names = [name for kind in (FleetKeys, NamespaceKeys) for name in vars(kind) if not name.startswith("_")]
    distinct = set(names) - {
        "fleet",
        "namespace",
        "everything",
        "prefix",
        "any_index",
        "family",
        "id_in",
        "vector_prefix",
        "sharded",
    }
    assert len(set(keys(CONFIG, "m"))) == len(distinct)
