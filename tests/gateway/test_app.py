"""Routes, errors and headers of the gateway."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

import anthropic
import ollama
import openai
import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import House, Serve
from doubles.waiting import LONGEST, until
from redis.asyncio.connection import AbstractConnection

from llmhost.gateway.app import path_of_route


async def test_another_wording_is_a_semantic_hit_that_says_how_sure_it_is(house: House) -> None:
    await house.chat("What is Redis?")
    answer = await house.chat("what is redis?")
    assert answer.headers["x-llmhost-cache"] == "semantic"
    assert float(answer.headers["x-llmhost-similarity"]) > 0.8
    assert float(answer.headers["x-llmhost-confidence"]) >= 0.8
    assert len(answer.headers["x-llmhost-entry"]) == 32


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stale_answer_is_named_and_asked_for_again_once_the_client_has_it(
    serve: Serve, stream: bool
) -> None:
    async with serve(cache={"response_ttl": "1ms", "stale_for": "1h"}) as house:
        first = await house.chat("What is Redis?")
        answer = await house.chat("What is Redis?", stream=stream)
        assert "x-llmhost-stale" not in first.headers
        assert (answer.headers["x-llmhost-cache"], answer.headers["x-llmhost-stale"]) == ("exact", "true")

        async def asked_again() -> bool:
            return len(house.engine.requests) == 2

        await until(asked_again)


@pytest.mark.parametrize("stream", [False, True])
async def test_in_shadow_mode_a_hit_is_named_and_not_served(serve: Serve, stream: bool) -> None:
    async with serve(cache={"shadow": True}) as house:
        await house.chat("What is Redis?")
        answer = await house.chat("what is redis?", stream=stream)
    assert (answer.headers["x-llmhost-cache"], answer.headers["x-llmhost-shadow"]) == ("miss", "semantic")
    assert float(answer.headers["x-llmhost-confidence"]) >= 0.8
    assert float(answer.headers["x-llmhost-similarity"]) > 0.8
    assert len(house.engine.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_question_that_no_rule_but_its_vector_tells_goes_around_the_cache(
    serve: Serve, stream: bool
) -> None:
    async with serve() as house:
        await house.chat("What is Redis?")
        for _ in range(2):
            answer = await house.chat("Cut a hotfix release", stream=stream)
            told = answer.headers["x-llmhost-kind"], answer.headers["x-llmhost-cache"]
            assert told == ("acting", "bypass")


@pytest.mark.parametrize(
    ("control", "seen"),
    [
        ("", "exact"),
        ("no-cache", "bypass"),
        ("max-age=0", "bypass"),
        ("max-age=3600", "exact"),
        ("only-if-cached", "exact"),
        ("no-store", "exact"),
        ("no-cache, no-store", "bypass"),
        ("private, of-no-meaning=3", "exact"),
    ],
)
async def test_a_client_controls_the_cache_for_its_request(house: House, control: str, seen: str) -> None:
    await house.chat()
    assert (await house.chat(headers={"cache-control": control})).headers["x-llmhost-cache"] == seen


async def test_what_must_not_be_stored_is_not_found_later(house: House) -> None:
    await house.chat(headers={"cache-control": "no-store"})
    assert (await house.chat()).headers["x-llmhost-cache"] == "miss"


async def test_only_if_cached_never_asks_an_engine(house: House) -> None:
    answer = await house.chat(headers={"cache-control": "only-if-cached"})
    assert (answer.status_code, house.engine.requests) == (504, [])


async def test_defaults_that_a_client_spells_out_ask_the_same_question(house: House) -> None:
    await house.chat()
    answer = await house.chat(n=1, frequency_penalty=0, logit_bias={}, tools=[], user="u7", stop=None)
    assert answer.headers["x-llmhost-cache"] == "exact"


async def test_a_text_in_parts_is_the_same_question(house: House) -> None:
    await house.chat("Say hello.")
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
    assert (await house.chat(messages=parts)).headers["x-llmhost-cache"] == "exact"


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v1/chat/completions", "GET", 405),
        ("/v1/models", "POST", 405),
        ("/nothing", "GET", 404),
        ("/v1/models/huge", "GET", 404),
        ("/healthz", "GET", 200),
        ("/readyz", "GET", 200),
    ],
)
async def test_every_path_answers_in_json(house: House, path: str, method: str, status: int) -> None:
    answer = await house.http.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")


async def test_a_wrong_method_is_refused_with_the_right_one(house: House) -> None:
    seen = [await house.http.get("/v1/messages"), await house.http.delete("/v1/models")]
    assert [(answer.status_code, answer.headers["allow"]) for answer in seen] == [(405, "POST"), (405, "GET")]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1//models/", "/v1/models"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1/api/tags", "/api/tags"),
        ("/api/chat", "/api/chat"),
        ("/v1", "/v1"),
        ("//", "/"),
        ("/v1/models/v1/x", "/v1/models/v1/x"),
    ],
)
def test_a_path_is_found_from_base_urls_of_every_form(path: str, route: str) -> None:
    assert path_of_route(path) == route


async def test_clients_may_give_their_base_url_with_and_without_v1(house: House) -> None:
    for base in ("", "/", "/v1", "/v1/"):
        async with (
            openai.AsyncOpenAI(base_url=house.url + base, api_key="none") as of_openai,
            anthropic.AsyncAnthropic(base_url=house.url + base, api_key="none") as of_anthropic,
            ollama.AsyncClient(house.url + base) as of_ollama,
        ):
            assert (await of_openai.models.retrieve("tiny")).id == "tiny"
            assert [model.id async for model in await of_anthropic.models.list()] == ["tiny"]
            assert (await of_ollama.list()).models[0].model == "tiny:latest"


async def test_a_fleet_without_a_worker_is_not_ready(serve: Serve) -> None:
    async with serve(workers=0) as house:
        assert (await house.http.get("/readyz")).status_code == 503
        answer = await house.chat()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"model": "tiny"}',
        b'{"model": "tiny", "messages": []}',
        b'{"model": "tiny", "messages": [{"role": "king", "content": "Hi"}]}',
        b'{"model": "tiny", "messages": [{"role": "user", "content": ""}]}',
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": 5, "messages": "Hi"}',
        b'{"model": "tiny", "messages": ' + b"[" * 100_000,
        b'{"model": "tiny", "temperature": "hot", "messages": [{"role": "user", "content": "Hi"}]}',
    ],
)
async def test_a_body_that_cannot_be_is_refused_in_the_api_s_shape(house: House, body: bytes) -> None:
    answer = await house.http.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(serve: Serve) -> None:
    async with serve(gateway={"max_body": 1000}) as house:
        assert (await house.chat("x" * 2000)).status_code == 413


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"host": "127.0.0.1.evil.example:11435"}],
)
async def test_a_page_of_another_site_is_not_answered(house: House, headers: dict[str, str]) -> None:
    assert (await house.chat(headers=headers)).status_code == 403


async def test_a_name_from_outside_cannot_add_a_header(house: House) -> None:
    answer = await house.chat(model="tiny\r\nx-evil: 1")
    assert (answer.status_code, "x-evil" in answer.headers) == (404, False)


#: what Redis is sent before a worker is asked, by what is in its keys; what stands together is sent at once
NEEDED = [["response:"], ["trust", "vector_log:", "vectors:"], ["flight:"], ["traffic"]]


async def test_redis_is_waited_for_four_times_before_a_worker_is_asked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a question in a scope of its own. The list of workers is read once a second, whoever asks."""
    await house.chat("What is Redis?")
    house.engine.asked.clear()
    sent: list[str] = []
    send = AbstractConnection.send_packed_command

    async def noted(connection: AbstractConnection, command: Any, **options: Any) -> None:
        words = b"".join([command] if isinstance(command, bytes) else command).decode("latin-1")
        kinds = [kind for kind in chain.from_iterable(NEEDED) if kind in words]
        is_for_it = not house.engine.asked.is_set() and ":ledger:" not in words and ":speed:" not in words
        if is_for_it and ":worker" not in words:
            sent.append(kinds[-1] if kinds else words)
        await send(connection, command, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", noted)
    body = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a queue?"}]
    assert (await house.chat(messages=body)).status_code == 200
    assert [
        sorted(sent[at : at + len(step)]) for at, step in zip((0, 1, 4, 5), NEEDED, strict=True)
    ] == NEEDED
    assert len(sent) == 6


async def test_where_the_client_is_gone_the_engine_stops(house: House) -> None:
    house.engine.fail(Fault.HANGS, after=1)
    body = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "Say hello."}]}
    async with house.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for _ in answer.aiter_lines():
            break
    await asyncio.wait_for(house.engine.left.wait(), LONGEST)
