"""OpenAI's API, spoken by OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import House, Serve

ASKED: Any = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
async def client(house: House) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="none", max_retries=0) as made:
        yield made


async def test_a_chat_is_answered_by_the_engine_and_then_from_the_cache(client: openai.AsyncOpenAI) -> None:
    first, second = [
        await client.chat.completions.with_raw_response.create(model="tiny", messages=ASKED) for _ in range(2)
    ]
    assert [answer.headers["x-llmhost-cache"] for answer in (first, second)] == ["miss", "exact"]
    assert {answer.parse().choices[0].message.content for answer in (first, second)} == {"Hello, Wörld!"}


async def test_the_usage_of_a_hit_is_that_of_the_answer_when_it_was_made(client: openai.AsyncOpenAI) -> None:
    usages = [(await client.chat.completions.create(model="tiny", messages=ASKED)).usage for _ in range(2)]
    assert [(usage.prompt_tokens, usage.completion_tokens) for usage in usages if usage] == [(7, 4), (7, 4)]


async def test_a_stream_of_an_engine_and_its_replay_are_both_proper_streams(
    client: openai.AsyncOpenAI,
) -> None:
    for _ in range(2):
        options: Any = {"include_usage": True}
        stream = await client.chat.completions.create(
            model="tiny", messages=ASKED, stream=True, stream_options=options
        )
        chunks = [chunk async for chunk in stream]
        assert len({(chunk.id, chunk.created, chunk.object) for chunk in chunks}) == 1
        *answering, usage = chunks
        assert (usage.choices, usage.usage and usage.usage.completion_tokens) == ([], 4)
        deltas = [chunk.choices[0] for chunk in answering]
        assert deltas[0].delta.role == "assistant"
        assert "".join(one.delta.content or "" for one in deltas) == "Hello, Wörld!"
        assert [one.finish_reason for one in deltas[-1:]] == ["stop"]
        assert deltas[-1].delta.model_dump(exclude_none=True) == {}


async def test_the_end_of_a_stream_is_marked(house: House) -> None:
    answer = await house.chat(stream=True)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text.endswith("data: [DONE]\n\n")
    assert not [line for line in answer.text.split("\n\n") if line and not line.startswith("data: ")]


async def test_how_a_model_is_run_is_the_fleet_s_whichever_api_asks(house: House) -> None:
    await house.chat(keep_alive=0, options={"num_ctx": 131_072, "num_gpu": 0, "top_k": 3})
    sent = house.engine.requests[-1].json
    assert sent["top_k"] == 3
    assert not {"keep_alive", "options", "num_ctx", "num_gpu"} & sent.keys()


async def test_what_stands_within_the_options_of_ollama_is_a_field_like_any_other(house: House) -> None:
    refused = await house.chat(options={"n": 2})
    assert (refused.status_code, "`options.n` is not supported" in refused.text) == (400, True)
    for _ in range(2):
        answer = await house.chat(options={"tools": [{"type": "function", "function": {"name": "send"}}]})
        assert answer.headers["x-llmhost-cache"] == "bypass"
        assert answer.headers["x-llmhost-unknown-fields"] == "options.tools"


async def test_what_the_client_sends_reaches_the_engine_as_it_is(
    client: openai.AsyncOpenAI, house: House
) -> None:
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    image: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    answer = await client.chat.completions.with_raw_response.create(
        model="tiny", messages=image, tools=tools, tool_choice="auto", extra_body={"best_guess": 1}
    )
    assert answer.headers["x-llmhost-unknown-fields"] == "best_guess"
    sent = house.engine.requests[-1].json
    assert (sent["messages"], sent["tools"], sent["best_guess"]) == (image, tools, 1)


async def test_a_call_of_a_tool_arrives_and_is_not_cached(client: openai.AsyncOpenAI, house: House) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"a":'}}
    rest = {"index": 0, "function": {"arguments": "1}"}}
    pieces = iter([{"tool_calls": [call]}, {"tool_calls": [rest]}] * 2)
    house.engine.pieces, house.engine.finish_reason = ("1", "2"), "tool_calls"
    house.engine.piece = lambda text: house.engine.delta(next(pieces))  # type: ignore[assignment,method-assign]
    for _ in range(2):
        answer = await client.chat.completions.with_raw_response.create(model="tiny", messages=ASKED)
        choice = answer.parse().choices[0]
        called: Any = (choice.message.tool_calls or [])[0]
        assert (called.id, called.function.name, called.function.arguments) == ("c1", "now", '{"a":1}')
        assert (choice.finish_reason, answer.headers["x-llmhost-cache"]) == ("tool_calls", "miss")


async def test_pieces_of_a_tool_call_keep_their_index_in_a_stream(
    client: openai.AsyncOpenAI, house: House
) -> None:
    call = {"index": 1, "id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    house.engine.pieces, house.engine.finish_reason = ("1",), "tool_calls"
    house.engine.piece = lambda text: house.engine.delta({"tool_calls": [call]})  # type: ignore[assignment,method-assign]
    stream = await client.chat.completions.create(model="tiny", messages=ASKED, stream=True)
    calls = [chunk.choices[0].delta.tool_calls async for chunk in stream]
    assert [(piece.index, piece.id) for found in calls if found for piece in found] == [(1, "c1")]


async def test_thoughts_arrive_beside_the_answer(house: House) -> None:
    plain = house.engine.piece
    house.engine.pieces = ("Yes",)
    house.engine.piece = lambda text: house.engine.thought("hm") + plain(text)  # type: ignore[assignment,method-assign]
    message = (await house.chat()).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "Yes")


async def test_several_choices_are_several_answers_around_the_cache(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.with_raw_response.create(model="tiny", messages=ASKED, n=3, seed=5)
    assert [choice.index for choice in answer.parse().choices] == [0, 1, 2]
    assert answer.headers["x-llmhost-cache"] == "bypass"


async def test_the_choices_of_a_stream_are_told_apart(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="tiny", messages=ASKED, n=2, stream=True)
    texts = {0: "", 1: ""}
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert set(texts.values()) == {"Hello, Wörld!"}


async def test_completions_answer_each_prompt(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="tiny", prompt=["Say hello.", "Say hi."])
    assert [choice.text for choice in answer.choices] == ["Hello, Wörld!"] * 2


async def test_completions_are_streamed(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(model="tiny", prompt="Say hello.", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello, Wörld!"


async def test_completions_list_the_logprobs_of_a_chat(client: openai.AsyncOpenAI, house: House) -> None:
    def piece(text: str) -> bytes:
        tops = [{"token": text, "logprob": -0.5}, {"token": "Hi", "logprob": -1.5}]
        logprobs = {"content": [{**tops[0], "bytes": None, "top_logprobs": tops}]}
        choice = {"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    house.engine.pieces = ("Hello", ", you")
    house.engine.piece = piece  # type: ignore[method-assign]
    asked: Any = {"model": "tiny", "prompt": ["Say hello.", "Say hi."], "logprobs": 2}
    listed = {
        "tokens": ["Hello", ", you"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"Hello": -0.5, "Hi": -1.5}, {", you": -0.5, "Hi": -1.5}],
        "text_offset": [0, 5],
    }
    for choice in (await client.completions.create(**asked)).choices:
        assert choice.logprobs is not None
        assert choice.logprobs.model_dump() == listed
    sent = house.engine.requests[-1].json
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 2)
    offsets: dict[int, list[int]] = {0: [], 1: []}
    async for chunk in await client.completions.create(**asked, stream=True):
        for one in chunk.choices:
            offsets[one.index] += (one.logprobs.text_offset or []) if one.logprobs else []
    assert offsets == {0: [0, 5], 1: [0, 5]}


async def test_a_completion_with_a_suffix_fills_the_gap(client: openai.AsyncOpenAI, house: House) -> None:
    house.engine.infill = True
    for _ in range(2):
        answer = await client.completions.with_raw_response.create(
            model="tiny", prompt="def add(", suffix="return", max_tokens=9
        )
        assert answer.headers["x-llmhost-cache"] == "bypass"
        (choice,) = answer.parse().choices
        assert (choice.text, choice.finish_reason) == ("Hello, Wörld!", "stop")
    stream = await client.completions.create(model="tiny", prompt="def add(", suffix="return", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello, Wörld!"
    assert [request.path for request in house.engine.requests] == ["/infill"] * 3


async def test_the_models_are_listed_with_their_aliases(serve: Serve) -> None:
    async with (
        serve(gateway={"aliases": {"gpt-4o": "tiny"}}) as house,
        openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="none") as client,
    ):
        assert [model.id async for model in await client.models.list()] == ["tiny", "gpt-4o", "all-minilm"]
        assert (await client.models.retrieve("tiny:latest")).id == "tiny:latest"
        answer = await client.chat.completions.create(model="gpt-4o", messages=ASKED)
        assert answer.choices[0].message.content == "Hello, Wörld!"


async def test_an_unknown_model_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="served are: tiny"):
        await client.chat.completions.create(model="huge", messages=ASKED)


async def test_a_request_that_the_engine_refuses_is_the_client_s_mistake(
    client: openai.AsyncOpenAI, house: House
) -> None:
    house.engine.refuse(400, json.dumps(house.engine.refused("no tools here")).encode())
    with pytest.raises(openai.BadRequestError, match="no tools here"):
        await client.chat.completions.create(model="tiny", messages=ASKED)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/chat/completions", {"functions": [{"name": "now"}]}),
        ("/v1/chat/completions", {"modalities": ["text", "audio"]}),
        ("/v1/completions", {"logprobs": 2, "suffix": "end"}),
        ("/v1/completions", {"echo": True}),
        ("/v1/completions", {"tools": [{"type": "function", "function": {"name": "now"}}]}),
    ],
)
async def test_what_no_answer_can_hold_is_refused(house: House, path: str, field: dict[str, Any]) -> None:
    asked = {"model": "tiny", "prompt": "Hi"} if path == "/v1/completions" else {"model": "tiny"}
    messages = {} if "prompt" in asked else {"messages": [{"role": "user", "content": "Hi"}]}
    answer = await house.http.post(path, json={**asked, **messages, **field})
    told = answer.json()["error"]
    assert (answer.status_code, told["type"], told["param"]) == (
        400,
        "invalid_request_error",
        next(iter(field)),
    )
    assert not house.engine.requests


async def test_an_engine_that_is_down_is_told_with_the_time_to_ask_again(
    client: openai.AsyncOpenAI, house: House
) -> None:
    house.engine.fail(Fault.CLOSES)
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model="tiny", messages=ASKED)
    assert caught.value.status_code == 502
    assert caught.value.response.headers["retry-after"] == "5"


async def test_a_stream_that_breaks_ends_with_an_error_and_is_not_cached(
    client: openai.AsyncOpenAI, house: House
) -> None:
    house.engine.fail(Fault.CLOSES, after=2)
    stream = await client.chat.completions.create(model="tiny", messages=ASKED, stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        async for _ in stream:
            pass
    house.engine.heal()
    assert (await house.chat()).headers["x-llmhost-cache"] == "miss"
