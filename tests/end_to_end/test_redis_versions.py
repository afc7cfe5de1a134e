"""What commands stored with one version of the embedded Redis is there for commands with another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doubles.openai_server import OpenAIServer
from plugins.commands import House, HouseMaker
from plugins.redis_servers import server_command

from llmhost.store.embedded import EmbeddedRedis

QUESTION, REWORDED = "Explain machine learning briefly", "What is machine learning in simple terms?"


async def checks(house: House) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in (await house.run("doctor", "--json")).json["checks"]}


async def test_answers_workers_and_counts_of_redis_6_are_there_after_the_upgrade_to_8(
    house: House, openai_server: OpenAIServer, static: HouseMaker, state_folder: Path
) -> None:
    static(house, openai_server)
    old = {"LLMHOST_REDIS__SERVER": server_command("redis-6.2")[0]}
    up = await house.ok("up", **old)
    stored = await house.ok("ask", QUESTION, **old)
    await EmbeddedRedis(state_folder / "redis").stop()

    again = await house.ok("ask", QUESTION)
    assert (again["source"], again["entry"], again["answer"]) == ("exact", stored["entry"], stored["answer"])
    reworded = await house.ok("ask", REWORDED, "--threshold", "0")
    assert (reworded["source"], reworded["matched_question"]) == ("semantic", QUESTION)
    assert [worker["id"] for worker in (await house.ok("status"))["workers"]] == [up["workers"][0]["id"]]
    found = await checks(house)
    assert "Redis 8.2" in found["redis"]["detail"]
    assert found["index"]["detail"].startswith("flat, on record in Redis; this server has vector_set")


async def test_a_fresh_embedded_redis_has_vector_sets_in_force(static_house: House) -> None:
    await static_house.ok("ask", QUESTION)
    assert (await static_house.ok("ask", REWORDED, "--threshold", "0"))["source"] == "semantic"
    found = await checks(static_house)
    assert (found["index"]["level"], found["index"]["detail"]) == ("ok", "vector_set, on record in Redis")
