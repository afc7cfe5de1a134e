"""OpenAI's responses, spoken by OpenAI's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import House, Serve

ASKED: Any = {"model": "tiny", "input": "Say hello."}
TOOL: Any = {"type": "function", "name": "now", "parameters": {"type": "object"}, "strict": False}


@pytest.fixture
async def client(house: House) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="none", max_retries=0) as made:
        yield made


async def sent_by(client: openai.AsyncOpenAI, house: House, **fields: Any) -> dict[str, Any]:
    """What the engine is sent for this request."""
    await client.responses.create(**{**ASKED, **fields})
    sent: dict[str, Any] = house.engine.requests[-1].json
    return sent


def answers_with(house: House, *deltas: dict[str, Any], finish: str = "stop") -> None:
    """The engine streams these deltas, each time that it is asked."""
    house.engine.pieces, house.engine.finish_reason = tuple(map(str, range(len(deltas)))), finish
    house.engine.piece = lambda text: house.engine.delta(deltas[int(text)])  # type: ignore[assignment,method-assign]


def call(arguments: str, **named: Any) -> dict[str, Any]:
    """A delta with a piece of a tool call; the first piece is `named`."""
    index, id = named.pop("index", 0), named.pop("id", None)
    function = {"arguments": arguments, **named}
    return {"tool_calls": [{"index": index, "function": function, **({"id": id} if id else {})}]}


async def test_a_response_is_made_by_the_engine_and_then_comes_from_the_cache(
    client: openai.AsyncOpenAI,
) -> None:
    for cache in ("miss", "exact"):
        answer = await client.responses.with_raw_response.create(**ASKED)
        response = answer.parse()
        assert answer.headers["x-llmhost-cache"] == cache
        assert (response.output_text, response.status, response.store) == (
            "Hello, Wörld!",
            "completed",
            False,
        )
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 4)


async def test_a_stream_of_an_engine_and_its_replay_are_both_proper_streams(
    client: openai.AsyncOpenAI,
) -> None:
    for _ in range(2):
        async with client.responses.stream(**ASKED) as stream:
            events = [event async for event in stream]
            response = await stream.get_final_response()
        assert (events[0].type, events[1].type) == ("response.created", "response.in_progress")
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert (response.output_text, response.status) == ("Hello, Wörld!", "completed")
        assert response.usage is not None
        assert response.usage.total_tokens == 11


async def test_the_events_of_a_stream_come_in_the_order_of_the_api(client: openai.AsyncOpenAI) -> None:
    kinds = [event.type async for event in await client.responses.create(**ASKED, stream=True)]
    assert [kind.removeprefix("response.") for kind in kinds] == [
        *("created", "in_progress", "output_item.added", "content_part.added", *["output_text.delta"] * 4),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_has_one_entry_whichever_api_asks(
    client: openai.AsyncOpenAI, house: House, streamed: bool
) -> None:
    system = {"role": "system", "content": "Be short."}
    await house.chat(messages=[system, {"role": "user", "content": "Say hello."}])
    items: Any = [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be short."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say hello."}]},
    ]
    for asked in (
        {"instructions": "Be short."},
        {"input": items, "store": True, "reasoning": {"summary": "auto"}},
    ):
        body = {**ASKED, **asked, "stream": streamed}
        answer = await house.http.post("/v1/responses", json=body)
        assert answer.headers["x-llmhost-cache"] == "exact"
        assert "Hello, Wörld!" in answer.text


async def test_a_conversation_with_tools_and_images_reaches_the_engine_in_its_form(
    client: openai.AsyncOpenAI, house: House
) -> None:
    image = "data:image/png;base64,iVBORw0="
    items: Any = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_image", "image_url": image, "detail": "low"}]},
        {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": "x"},
        {"type": "item_reference", "id": "rs_1"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "now", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "spawn", "namespace": "agents", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "12:00"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "seen"}, {"type": "input_image", "image_url": image}],
        },
        {"role": "user", "content": "Well?"},
        {"role": "developer", "content": "Answer in French."},
    ]
    sent = await sent_by(client, house, input=items, instructions="Be short.", tools=[TOOL])
    calls = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for id, name in (("c1", "now"), ("c2", "agents__spawn"))
    ]
    assert sent["messages"] == [
        {"role": "system", "content": "Be short.\n\nBe kind."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": image, "detail": "low"}}]},
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "content": "12:00", "tool_call_id": "c1"},
        {"role": "tool", "content": "seen", "tool_call_id": "c2"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]},
        {"role": "user", "content": "Well?"},
        {"role": "system", "content": "Answer in French."},
    ]
    function = {"name": "now", "parameters": {"type": "object"}, "strict": False}
    assert sent["tools"] == [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"text": {"format": {"type": "text"}}, "metadata": {"a": "b"}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"max_output_tokens": 9}, {"max_tokens": 9}),
        ({"extra_body": {"seed": 7, "min_p": 0.1, "presence_penalty": 0}}, {"seed": 7, "min_p": 0.1}),
        ({"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
    ],
)
async def test_how_the_model_is_to_answer_reaches_the_engine(
    client: openai.AsyncOpenAI, house: House, fields: Any, sent: Any
) -> None:
    plain = await sent_by(client, house, input="Say hi.")
    body = await sent_by(client, house, **fields)
    changed = {name: value for name, value in body.items() if plain.get(name) != value}
    assert changed == {"messages": [{"role": "user", "content": "Say hello."}], **sent}


async def test_a_json_schema_is_the_engine_s_response_format(
    client: openai.AsyncOpenAI, house: House
) -> None:
    wanted: Any = {"type": "json_schema", "name": "a", "strict": True, "schema": {"type": "object"}}
    sent = await sent_by(client, house, text={"format": wanted})
    schema = {"name": "a", "strict": True, "schema": {"type": "object"}}
    assert sent["response_format"] == {"type": "json_schema", "json_schema": schema}


async def test_the_tools_of_codex_are_functions_to_the_engine(
    client: openai.AsyncOpenAI, house: House
) -> None:
    tools: Any = [
        TOOL,
        {"type": "web_search", "external_web_access": False},
        {
            "type": "namespace",
            "name": "agents",
            "description": "Agents.",
            "tools": [{**TOOL, "name": "spawn"}],
        },
    ]
    answers_with(house, call("", id="c1", name="agents__spawn"), call("{}"), finish="tool_calls")
    response = await client.responses.create(**ASKED, tools=tools)
    called: Any = response.output[0]
    assert (called.name, called.namespace, called.call_id, called.arguments) == (
        "spawn",
        "agents",
        "c1",
        "{}",
    )
    names = [tool["function"]["name"] for tool in house.engine.requests[-1].json["tools"]]
    assert names == ["now", "agents__spawn"]


@pytest.mark.parametrize("streamed", [True, False])
async def test_thoughts_calls_and_text_are_items_of_their_own(
    client: openai.AsyncOpenAI, house: House, streamed: bool
) -> None:
    answers_with(
        house,
        {"reasoning_content": "hm"},
        {"content": "Let me see."},
        call("", id="c1", name="now"),
        call('{"zone":'),
        call('"UTC"}'),
        call("{}", id="c2", name="now", index=1),
        finish="tool_calls",
    )
    if streamed:
        async with client.responses.stream(**ASKED, tools=[TOOL]) as stream:
            output: Any = (await stream.get_final_response()).output
    else:
        output = (await client.responses.create(**ASKED, tools=[TOOL])).output
    thought, said, *calls = output
    assert (thought.type, thought.content[0].text) == ("reasoning", "hm")
    assert (said.type, said.content[0].text) == ("message", "Let me see.")
    assert [(one.call_id, one.arguments) for one in calls] == [("c1", '{"zone":"UTC"}'), ("c2", "{}")]


@pytest.mark.parametrize("streamed", [True, False])
async def test_thoughts_are_a_summary_to_clients_that_ask_for_one(
    client: openai.AsyncOpenAI, house: House, streamed: bool
) -> None:
    answers_with(house, {"reasoning_content": "hm"}, {"reasoning_content": "m"}, {"content": "Yes"})
    asked: Any = {**ASKED, "reasoning": {"summary": "auto"}}
    if streamed:
        async with client.responses.stream(**asked) as stream:
            kinds = [event.type async for event in stream]
            output: Any = (await stream.get_final_response()).output
        assert kinds.count("response.reasoning_summary_text.delta") == 2
    else:
        output = (await client.responses.create(**asked)).output
    assert [part.text for part in output[0].summary] == ["hmm"]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
async def test_an_answer_that_was_cut_off_is_incomplete(
    client: openai.AsyncOpenAI, house: House, finish: str, reason: str, streamed: bool
) -> None:
    house.engine.finish_reason = finish
    if streamed:
        events: list[Any] = [event async for event in await client.responses.create(**ASKED, stream=True)]
        assert events[-1].type == "response.incomplete"
        response = events[-1].response
    else:
        response = await client.responses.create(**ASKED)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", reason)
    assert response.output[-1].status == "incomplete"


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_empty_answer_is_an_empty_message(
    client: openai.AsyncOpenAI, house: House, streamed: bool
) -> None:
    house.engine.pieces = ()
    if streamed:
        async with client.responses.stream(**ASKED) as stream:
            response: Any = await stream.get_final_response()
    else:
        response = await client.responses.create(**ASKED)
    assert [item.type for item in response.output] == ["message"]
    assert response.output_text == ""


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"previous_response_id": "resp_1"}, "nothing is stored"),
        ({"prompt": {"id": "pmpt_1"}}, "nothing is stored"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"n": 2}, "`n` is not supported"),
        ({"conversation": "conv_1"}, "nothing is stored"),
        ({"background": True}, "nothing is stored"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "custom", "name": "patch"}]}, "custom"),
        ({"tools": [TOOL], "tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"input": []}, "input"),
        ({"input": ""}, "empty"),
        ({"input": [{"type": "item_reference", "id": "m1"}]}, "item_reference"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input_file"),
        ({"input": [{"role": "king", "content": "Hi"}]}, "role"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_the_api_s_shape(
    house: House, fields: dict[str, Any], named: str
) -> None:
    answer = await house.http.post("/v1/responses", json={**ASKED, **fields})
    told = answer.json()["error"]
    assert (answer.status_code, told["type"]) == (400, "invalid_request_error")
    assert named in told["message"]


async def test_an_unknown_field_is_passed_to_the_engine_around_the_cache_and_named(
    client: openai.AsyncOpenAI, house: House
) -> None:
    message = {"role": "user", "content": [{"type": "input_text", "text": "Say hello.", "weight": 2}]}
    await client.responses.create(**ASKED)
    for fields, named, sent in (
        ({"best_guess": 1}, "best_guess", {"best_guess": 1}),
        ({"guided_json": {"n": 10**30}, "store": True}, "guided_json", {"guided_json": {"n": 10**30}}),
        ({"text": {"verbosity": "low", "tone": "kind"}}, "verbosity, text.tone", {"verbosity": "low"}),
        ({"reasoning": {"mode": 10**30}}, "reasoning.mode", {}),
        ({"input": [message]}, "input.content.weight", {}),
        ({"max_tokens": 5, "stop": "x"}, "max_tokens", {"stop": ["x"]}),
    ):
        body = await house.passes_on("/v1/responses", {**ASKED, **fields}, named)
        assert body.items() >= sent.items()
        assert not {"text", "reasoning", "store"} & body.keys()
        assert "max_tokens" not in body or body["max_tokens"] != 5


async def test_what_clients_send_besides_is_no_other_question(
    client: openai.AsyncOpenAI, house: House
) -> None:
    """As Codex, Vercel's AI SDK and OpenAI's own send it."""
    item: Any = {
        "type": "message",
        "id": "m1",
        "status": "completed",
        "role": "user",
        "content": "Say hello.",
    }
    await client.responses.create(**ASKED)
    answer = await client.responses.with_raw_response.create(
        model="tiny",
        input=[item],
        store=False,
        truncation="auto",
        service_tier="auto",
        include=["reasoning.encrypted_content"],
        prompt_cache_key="s1",
        safety_identifier="u1",
        text={"format": {"type": "text"}, "verbosity": "medium"},
        extra_body={"client_metadata": {"a": "b"}},
    )
    assert answer.headers["x-llmhost-cache"] == "exact"
    assert "x-llmhost-unknown-fields" not in answer.headers
    assert len(house.engine.requests) == 1


async def test_what_a_response_repeats_of_its_request_may_be_any_json(house: House) -> None:
    schema = {"type": "object", "properties": {"n": {"maximum": 10**30}}}
    body = {**ASKED, "tools": [{**TOOL, "parameters": schema}], "stream": False}
    assert (await house.http.post("/v1/responses", json=body)).json()["tools"][0]["parameters"] == schema


async def test_a_fleet_without_a_worker_is_told_with_the_time_to_ask_again(serve: Serve) -> None:
    async with serve(workers=0) as house:
        answer = await house.http.post("/v1/responses", json=ASKED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_stream_that_breaks_fails_and_is_not_cached(client: openai.AsyncOpenAI, house: House) -> None:
    house.engine.fail(Fault.CLOSES, after=2)
    events: list[Any] = []

    async def listen() -> None:
        async for event in await client.responses.create(**ASKED, stream=True):
            events.append(event)

    with pytest.raises(openai.APIError, match="broke off"):
        await listen()
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
    house.engine.heal()
    answer = await client.responses.with_raw_response.create(**ASKED)
    assert answer.headers["x-llmhost-cache"] == "miss"
