"""A hosted Redis: one endpoint with `FT.*`, whose users may not use the commands of an administrator."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from doubles.openai_server import OpenAIServer
from plugins.commands import House, HouseMaker
from plugins.redis_servers import PortServer

QUESTION, REWORDED = "Explain machine learning briefly", "What is machine learning in simple terms?"

#: what Redis Cloud and Enterprise do not have, by their documentation, and vector sets, as before Redis 8
REFUSED = (
    *("acl", "bgrewriteaof", "bgsave", "client|kill", "cluster", "config", "debug", "failover", "flushall"),
    *("flushdb", "keys", "lastsave", "latency", "memory", "migrate", "module", "monitor", "move", "object"),
    *(
        "psync",
        "replicaof",
        "role",
        "save",
        "select",
        "shutdown",
        "slaveof",
        "slowlog",
        "swapdb",
        "sync",
        "wait",
    ),
    *("wait", "vadd", "vsim", "vrem", "vemb", "vrandmember", "hello"),
)


@pytest.fixture(params=[False, True], ids=["one shard", "several shards"])
async def hosted(
    request: pytest.FixtureRequest,
    house: House,
    static: HouseMaker,
    openai_server: OpenAIServer,
    redis_port_server: PortServer,
) -> House:
    """A static worker that is up, and such a Redis."""
    options = ("--appendonly", "yes", "--maxmemory", "1gb", "--maxmemory-policy", "volatile-lru")
    server = redis_port_server(*options, name="redis-8.2-search")
    with redis.Redis(port=server.port) as client:
        rights = [f"-{command}" for command in REFUSED]
        client.execute_command("ACL", "SETUSER", "u", "on", ">secret", "~*", "&*", "+@all", *rights)
        client.execute_command("ACL", "SETUSER", "default", "off")
    login = {"username": "u", "password": "secret", "sharded": request.param}
    static(house, openai_server, redis={"host": "127.0.0.1", "port": server.port, **login})
    await house.ok("up")
    return house


async def test_the_path_of_a_question_and_doctor_use_nothing_that_a_hosted_redis_refuses(
    hosted: House,
) -> None:
    stored = await hosted.ok("ask", QUESTION)
    again = await hosted.ok("ask", QUESTION)
    reworded = await hosted.ok("ask", REWORDED, "--threshold", "0")

    assert [each["source"] for each in (stored, again, reworded)] == ["engine", "exact", "semantic"]
    assert reworded["matched_question"] == QUESTION
    done = await hosted.run("doctor", "--json")
    found: dict[str, dict[str, Any]] = {check["name"]: check for check in done.json["checks"]}
    assert found["index"]["detail"] == "query_engine, on record in Redis"
    for name in ("redis", "redis use", "redis eviction", "redis persistence", "index"):
        assert found[name]["level"] == "ok", found[name]


async def test_what_operators_do_works_there_too(hosted: House) -> None:
    stored = await hosted.ok("ask", QUESTION)
    assert (await hosted.ok("stats"))["redis"]["entries"] == 1
    (entry,) = (await hosted.ok("cache", "ls"))["entries"]
    assert entry["entry"] == stored["entry"]
    await hosted.ok("cache", "sweep")
    await hosted.ok("cache", "export", "--vectors", "all.jsonl")
    await hosted.ok("cache", "clear", "--yes")
    assert (await hosted.ok("cache", "import", "all.jsonl"))["imported"] == 1
    assert (await hosted.ok("ask", REWORDED, "--threshold", "0"))["source"] == "semantic"
