"""What `/metrics` says of what was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import House, Serve
from doubles.openai_server import OpenAIServer
from doubles.waiting import until
from prometheus_client.parser import text_string_to_metric_families

from llmhost import __version__
from llmhost.gateway.fleets import ServedFleets
from llmhost.gateway.observe import Observation

if TYPE_CHECKING:
    from plugins.redis_servers import PortServer

CHAT = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "tiny"}


class Figures:
    """The samples of one reading."""

    def __init__(self, text: str) -> None:
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def of(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """The sum of the samples with this name and these labels."""
        wanted = set((labels or {}).items())
        return sum(
            one.value for one in self.samples if one.name == name and wanted <= set(one.labels.items())
        )

    def labels(self) -> set[str]:
        return {value for sample in self.samples for value in sample.labels.values()}


async def figures(house: House) -> Figures:
    answer = await house.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Figures(answer.text)


async def test_requests_are_counted_by_what_came_of_them(house: House) -> None:
    await house.chat("What is Redis?")
    await house.chat("What is Redis?", stream=True)
    await house.chat("what is redis?")
    await house.chat("What is Redis?", headers={"cache-control": "no-cache"})
    await house.chat(model="another")
    seen = await figures(house)
    counts = {
        outcome: seen.of("llmhost_requests_total", {"api": "openai.chat", "outcome": outcome})
        for outcome in ("exact", "semantic", "miss", "bypass", "error")
    }
    assert counts == {"exact": 1, "semantic": 1, "miss": 1, "bypass": 1, "error": 1}
    assert seen.of("llmhost_requests_total", {"status": "404"}) == 1


async def test_each_api_has_its_name(house: House) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    await house.http.post("/api/chat", json={"model": "tiny", "messages": messages})
    await house.http.post("/v1/messages", json={"model": "tiny", "messages": messages, "max_tokens": 9})
    await house.http.post("/v1/embeddings", json={"model": "all-minilm", "input": "Hi"})
    seen = await figures(house)
    for api in ("ollama.chat", "anthropic.messages", "openai.embeddings"):
        assert seen.of("llmhost_requests_total", {"api": api, "status": "200"}) == 1
    assert seen.of("llmhost_tokens_total", {"model": "all-minilm", "source": "embedder"}) > 0


async def test_hits_and_misses_have_their_latencies_tokens_and_savings(
    serve: Serve, engine: OpenAIServer
) -> None:
    fleet = {"provider": "static", "workers": [{"url": engine.url}], "price_per_hour": 1000}
    async with serve(fleet=fleet) as house:
        await house.chat()
        await house.chat()
        seen = await figures(house)
    for outcome in ("miss", "exact"):
        assert seen.of("llmhost_answer_seconds_count", {"outcome": outcome, "model": "tiny"}) == 1
    assert seen.of("llmhost_tokens_total", {"source": "engine", "gen_ai_token_type": "output"}) == 4
    assert seen.of("llmhost_tokens_total", {"source": "cache", "gen_ai_token_type": "output"}) == 4
    cost = seen.of("llmhost_cost_usd_total")  # that of a stored answer is rounded
    assert cost > 0
    assert seen.of("llmhost_saved_usd_total") == pytest.approx(cost, abs=1e-8)


async def test_the_conventions_of_opentelemetry_have_their_names(house: House) -> None:
    await house.chat(stream=True)
    await house.chat()
    seen = await figures(house)
    assert seen.of("gen_ai_server_request_duration_seconds_count", CHAT | {"error_type": ""}) == 2
    assert seen.of("gen_ai_server_time_to_first_token_seconds_count", CHAT) == 2
    assert seen.of("gen_ai_server_time_per_output_token_seconds_count", CHAT) == 1
    assert seen.of("gen_ai_client_operation_duration_seconds_count", CHAT) == 1
    assert seen.of("gen_ai_client_token_usage_sum", CHAT | {"gen_ai_token_type": "input"}) == 7


async def test_a_stream_that_breaks_is_an_error_with_its_status(house: House) -> None:
    house.engine.fail(Fault.CLOSES, after=2)
    assert (await house.chat(stream=True)).status_code == 200
    seen = await figures(house)
    assert seen.of("llmhost_requests_total", {"outcome": "error", "status": "502"}) == 1


async def test_a_client_that_leaves_is_no_error(house: House) -> None:
    house.engine.fail(Fault.HANGS, after=1)
    async with house.http.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": True},
    ) as answer:
        await anext(answer.aiter_bytes())

    async def counted() -> float:
        return (await figures(house)).of("llmhost_requests_total", {"outcome": "gone"})

    assert await until(counted) == 1
    assert (await figures(house)).of("llmhost_requests_total", {"outcome": "error"}) == 0


async def test_nothing_that_a_client_sent_becomes_a_label(house: House) -> None:
    await house.chat("secret-prompt", model="secret-model", user="secret-user")
    await house.http.get("/secret-path", headers={"x-request-id": "secret-id", "user-agent": "secret-agent"})
    assert not [label for label in (await figures(house)).labels() if "secret" in label]


async def test_requests_that_were_not_served_from_the_cache_are_counted_in_shadow_mode(serve: Serve) -> None:
    async with serve(cache={"shadow": True}) as house:
        await house.chat()
        await house.chat()
        assert (await figures(house)).of("llmhost_shadow_hits_total", {"tier": "exact"}) == 1


async def test_the_state_of_the_fleet_is_read_with_the_figures(house: House) -> None:
    seen = await figures(house)
    assert seen.of("llmhost_workers", {"state": "ready"}) == 1
    assert seen.of("llmhost_workers", {"state": "failed"}) == 0
    assert seen.of("llmhost_redis_up") == 1
    assert seen.of("llmhost_build_info", {"version": __version__}) == 1


async def test_a_redis_that_is_away_is_seen_and_its_warnings_are_counted(
    serve: Serve, redis_port_server: PortServer
) -> None:
    server = redis_port_server()
    async with serve(redis={"url": f"redis://127.0.0.1:{server.port}"}) as house:
        server.kill()
        await house.chat()
        seen = await figures(house)
    assert seen.of("llmhost_redis_up") == 0
    assert seen.of("llmhost_warnings_total") > 0


async def test_requests_under_way_are_counted_without_the_one_that_asks(house: House) -> None:
    house.engine.fail(Fault.HANGS)
    asking = asyncio.create_task(house.chat())
    await house.engine.asked.wait()
    seen = await figures(house)
    assert (seen.of("llmhost_requests_in_flight"), seen.of("llmhost_requests_waiting")) == (1, 1)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


async def test_two_gateways_in_one_process_do_not_mix(serve: Serve) -> None:
    async with serve() as one, serve() as other:
        await one.chat()
        assert (await figures(other)).of("llmhost_requests_total", {"api": "openai.chat"}) == 0


async def test_of_several_processes_on_one_address_each_names_itself() -> None:
    observation = Observation(process="4711")
    body, _ = await observation.exposition(ServedFleets([], {}))
    assert {sample.labels.get("process") for sample in Figures(body.decode()).samples} == {"4711"}


@pytest.mark.parametrize("path", ["/metrics", "/health/backlog"])
async def test_where_keys_are_needed_figures_need_one_too(serve: Serve, path: str) -> None:
    async with serve(gateway={"keys": "always"}) as house:
        assert (await house.http.get(path)).status_code == 401
