"""Anthropic's API, spoken by Anthropic's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import House, Serve

from llmhost.gateway import asking

ASKED: Any = {"model": "tiny", "max_tokens": 100, "messages": [{"role": "user", "content": "Say hello."}]}
TOOL: Any = {"name": "now", "description": "The time.", "input_schema": {"type": "object"}}


@pytest.fixture
async def client(house: House) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=house.url, api_key="none", max_retries=0) as made:
        yield made


async def sent_by(client: anthropic.AsyncAnthropic, house: House, **fields: Any) -> dict[str, Any]:
    """What the engine is sent for this request, whatever was asked before."""
    await client.messages.create(**{**ASKED, **fields}, extra_headers={"cache-control": "no-cache"})
    sent: dict[str, Any] = house.engine.requests[-1].json
    return sent


def calls_a_tool(house: House, *pieces: dict[str, Any]) -> None:
    """The engine answers with these pieces of tool calls."""
    coming = iter(pieces)
    house.engine.pieces, house.engine.finish_reason = tuple(map(str, pieces)), "tool_calls"
    house.engine.piece = lambda text: house.engine.delta({"tool_calls": [next(coming)]})  # type: ignore[assignment,method-assign]


def piece(arguments: str, index: int = 0, id: str = "", name: str = "") -> dict[str, Any]:
    begins = {"id": id, "type": "function"} if id else {}
    return {
        "index": index,
        **begins,
        "function": {"arguments": arguments, **({"name": name} if name else {})},
    }


async def test_a_message_is_answered_by_the_engine_and_then_from_the_cache(
    client: anthropic.AsyncAnthropic,
) -> None:
    for cache in ("miss", "exact"):
        answer = await client.messages.with_raw_response.create(**ASKED)
        message = await answer.parse()
        assert answer.headers["x-llmhost-cache"] == cache
        assert [block.text for block in message.content if block.type == "text"] == ["Hello, Wörld!"]
        assert (message.stop_reason, message.model, message.role) == ("end_turn", "tiny", "assistant")
        assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 4)


async def test_a_stream_of_an_engine_and_its_replay_are_both_proper_streams(
    client: anthropic.AsyncAnthropic,
) -> None:
    for _ in range(2):
        async with client.messages.stream(**ASKED) as stream:
            kinds = [event.type async for event in stream]
            message = await stream.get_final_message()
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        assert [block.text for block in message.content if block.type == "text"] == ["Hello, Wörld!"]
        assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == (
            "end_turn",
            7,
            4,
        )


async def test_the_events_of_a_stream_come_in_the_order_of_the_api(client: anthropic.AsyncAnthropic) -> None:
    events = [event async for event in await client.messages.create(**ASKED, stream=True)]
    kinds = [event.type for event in events]
    deltas = ["content_block_delta"] * 4
    assert kinds == [
        *("message_start", "content_block_start", *deltas, "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    first: Any = events[0]
    assert first.message.usage.input_tokens > 0


async def test_an_answer_has_one_entry_whichever_api_asks(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    system = {"role": "system", "content": "Be short."}
    messages = [system, {"role": "user", "content": "Say hello."}]
    assert (await house.chat(messages=messages, max_tokens=100)).headers["x-llmhost-cache"] == "miss"
    blocks: Any = [{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}]
    answer = await client.messages.with_raw_response.create(**ASKED, system=blocks)
    assert answer.headers["x-llmhost-cache"] == "exact"
    async with client.messages.stream(**ASKED, system="Be short.") as stream:
        assert await stream.get_final_text() == "Hello, Wörld!"
        assert stream.response.headers["x-llmhost-cache"] == "exact"
    of_ollama = {"model": "tiny", "messages": messages, "options": {"num_predict": 100}}
    assert (await house.http.post("/api/chat", json=of_ollama)).headers["x-llmhost-cache"] == "exact"


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_anthropic_s_api_stored_is_replayed_in_openai_s(
    client: anthropic.AsyncAnthropic, house: House, streamed: bool
) -> None:
    await client.messages.create(**ASKED)
    answer = await house.chat(max_tokens=100, stream=streamed)
    assert answer.headers["x-llmhost-cache"] == "exact"
    assert "Hello, Wörld!" in answer.text
    assert answer.text.endswith("data: [DONE]\n\n") == streamed


async def test_the_billing_header_of_claude_code_does_not_separate_questions(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    for version in ("1", "2"):
        texts = [f"x-anthropic-billing-header: cc_version={version};", "Be short.", "Be kind."]
        system: Any = [{"type": "text", "text": text} for text in texts]
        answer = await client.messages.with_raw_response.create(**ASKED, system=system)
    assert answer.headers["x-llmhost-cache"] == "exact"
    sent = house.engine.requests[-1].json["messages"][0]
    assert sent == {"role": "system", "content": "Be short.\n\nBe kind."}


async def test_a_conversation_with_tools_and_images_reaches_the_engine_in_its_form(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}
    called = {"type": "tool_use", "id": "t1", "name": "now", "input": {"zone": "UTC"}}
    thought = {"type": "thinking", "thinking": "Which zone?", "signature": "s"}
    shown = [{"type": "text", "text": "12:00"}, {"type": "image", "source": source}]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": shown}
    failed = {"type": "tool_result", "tool_use_id": "t2", "content": "no clock", "is_error": True}
    messages: Any = [
        {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x/a.png"}}]},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "Let me see."}, called]},
        {"role": "user", "content": [result, failed, {"type": "text", "text": "Well?"}]},
        {"role": "system", "content": "Answer in French."},
    ]
    sent = await sent_by(client, house, messages=messages, tools=[TOOL])
    function = {"name": "now", "arguments": '{"zone": "UTC"}'}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}}
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "t1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "12:00", "tool_call_id": "t1"},
        {"role": "tool", "content": "Error:\n\nno clock", "tool_call_id": "t2"},
        {"role": "user", "content": [image, {"type": "text", "text": "Well?"}]},
        {"role": "system", "content": "Answer in French."},
    ]
    parameters = {"name": "now", "description": "The time.", "parameters": {"type": "object"}}
    assert sent["tools"] == [{"type": "function", "function": parameters}]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ({"type": "auto"}, ("auto", None)),
        ({"type": "any", "disable_parallel_tool_use": True}, ("required", False)),
        ({"type": "none"}, ("none", None)),
        ({"type": "tool", "name": "now"}, ({"type": "function", "function": {"name": "now"}}, None)),
    ],
)
async def test_the_choice_of_a_tool_is_the_engine_s_to_follow(
    client: anthropic.AsyncAnthropic, house: House, choice: Any, sent: object
) -> None:
    body = await sent_by(client, house, tools=[TOOL], tool_choice=choice)
    assert (body["tool_choice"], body.get("parallel_tool_calls")) == sent


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, {}),
        ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, {}),
        ({"output_config": {"effort": "medium"}}, {"reasoning_effort": "medium"}),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "high"}),
        ({"stop_sequences": ["END"], "extra_body": {"top_k": 5}}, {"stop": ["END"], "top_k": 5}),
        ({"extra_body": {"seed": 7, "repeat_penalty": 1.2}}, {"seed": 7, "repeat_penalty": 1.2}),
        ({"extra_body": {"temperature": 0.5, "top_p": 0.9}}, {"temperature": 0.5, "top_p": 0.9}),
        ({"metadata": {"user_id": "u"}, "extra_body": {"context_management": {"edits": []}}}, {}),
    ],
)
async def test_how_the_model_is_to_answer_reaches_the_engine(
    client: anthropic.AsyncAnthropic, house: House, fields: Any, sent: Any
) -> None:
    plain = await sent_by(client, house)
    body = await sent_by(client, house, **fields)
    assert {name: value for name, value in body.items() if plain.get(name) != value} == sent


async def test_a_json_schema_is_the_engine_s_response_format(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    sent = (await sent_by(client, house, output_config=config))["response_format"]
    assert (sent["type"], sent["json_schema"]["schema"]) == ("json_schema", schema)


async def test_a_continued_thread_is_never_answered_from_the_cache(client: anthropic.AsyncAnthropic) -> None:
    headers = {"anthropic-beta": "a,b"}
    await client.messages.create(**ASKED)
    answer = await client.messages.with_raw_response.create(
        **ASKED,
        extra_headers=headers,
        extra_body={"thread": {"type": "continue"}},
        extra_query={"beta": "true"},
    )
    assert answer.headers["x-llmhost-cache"] == "bypass"


@pytest.mark.parametrize("streamed", [True, False])
async def test_calls_of_tools_arrive_as_blocks(
    client: anthropic.AsyncAnthropic, house: House, streamed: bool
) -> None:
    calls_a_tool(
        house,
        piece("", id="c1", name="now"),
        piece('{"zone":'),
        piece('"UTC"}'),
        piece("{}", index=1, id="not an id", name="then"),
    )
    if streamed:
        async with client.messages.stream(**ASKED, tools=[TOOL]) as stream:
            message = await stream.get_final_message()
    else:
        message = await client.messages.create(**ASKED, tools=[TOOL])  # type: ignore[assignment]
    called: Any = message.content
    assert [(block.type, block.name, block.input) for block in called] == [
        ("tool_use", "now", {"zone": "UTC"}),
        ("tool_use", "then", {}),
    ]
    assert (called[0].id, called[1].id.startswith("toolu_")) == ("c1", True)
    assert message.stop_reason == "tool_use"


async def test_a_stream_of_mixed_calls_is_an_error(client: anthropic.AsyncAnthropic, house: House) -> None:
    calls_a_tool(house, piece("", id="a", name="x"), piece("{}", 1, "b", "y"), piece("{}"))
    with pytest.raises(anthropic.APIStatusError, match="mixed"):
        async with client.messages.stream(**ASKED, tools=[TOOL]) as stream:
            await stream.until_done()


async def test_arguments_that_are_no_object_are_the_engine_s_error(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    calls_a_tool(house, piece('{"a": ', id="c1", name="now"))
    with pytest.raises(anthropic.InternalServerError, match="no JSON object"):
        await client.messages.create(**ASKED, tools=[TOOL])


@pytest.mark.parametrize("streamed", [True, False])
async def test_thoughts_are_shown_to_those_who_ask_for_them(
    client: anthropic.AsyncAnthropic, house: House, streamed: bool
) -> None:
    plain = house.engine.piece
    house.engine.pieces = ("Yes",)
    house.engine.piece = lambda text: house.engine.thought("hm") + plain(text)  # type: ignore[assignment,method-assign]
    seen = []
    for thinking in ({"type": "adaptive"}, {"type": "disabled"}):
        asked: Any = {**ASKED, "thinking": thinking}
        if streamed:
            async with client.messages.stream(**asked) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(**asked)
        seen.append([block.type for block in message.content])
    assert seen == [["thinking", "text"], ["text"]]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("length", "max_tokens"), ("content_filter", "refusal"), ("tool_calls", "tool_use")],
)
async def test_the_stop_reason_says_why_an_answer_ended(
    client: anthropic.AsyncAnthropic, house: House, finish: str, reason: str
) -> None:
    house.engine.finish_reason = finish
    assert (await client.messages.create(**ASKED)).stop_reason == reason


async def test_an_empty_answer_has_a_block_all_the_same(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    house.engine.pieces = ()
    async with client.messages.stream(**ASKED) as stream:
        assert [block.type for block in (await stream.get_final_message()).content] == ["text"]
    assert [block.type for block in (await client.messages.create(**ASKED)).content] == ["text"]


async def test_a_client_that_waits_is_sent_pings_within_a_proper_stream(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PING_PERIOD", 0.02)
    house.engine.fail(Fault.HANGS, after=0)
    kinds: list[str] = []
    async with house.http.stream("POST", "/v1/messages", json={**ASKED, "stream": True}) as answer:
        async for line in answer.aiter_lines():
            kinds += [line] if line.startswith("event: ") else []
            if len(kinds) == 3:
                break
    assert kinds == ["event: message_start", "event: ping", "event: ping"]


async def test_tokens_are_estimated_before_they_are_sent(client: anthropic.AsyncAnthropic) -> None:
    messages: Any = [{"role": "user", "content": "word " * 100}]
    counts = [
        (await client.messages.count_tokens(model="tiny", messages=messages, **more)).input_tokens
        for more in ({}, {"system": "Be short."}, {"tools": [TOOL]})
    ]
    assert 80 <= counts[0] <= 160
    assert min(counts[1:]) > counts[0]


async def test_the_models_are_listed_in_anthropic_s_shape(serve: Serve) -> None:
    async with (
        serve(gateway={"aliases": {"claude-x": "tiny"}}) as house,
        anthropic.AsyncAnthropic(base_url=house.url, api_key="none") as client,
    ):
        page = await client.models.list()
        assert ([model.id for model in page.data], page.has_more) == (["tiny", "claude-x"], False)
        model = await client.models.retrieve("claude-x")
        assert (model.id, model.type, model.created_at.year) == ("claude-x", "model", 1970)
        with pytest.raises(anthropic.NotFoundError):
            await client.models.retrieve("huge")
        plain = (await house.http.get("/v1/models")).json()
        assert plain["object"] == "list"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "Hi"}]}, "role"),
        ({"messages": [{"role": "user", "content": ""}]}, "empty"),
        ({"messages": [{"role": "user", "content": [{"type": "server_tool_use"}]}]}, "server_tool_use"),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
            "document",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}, "mcp_servers"),
        ({"container": "c1"}, "container"),
        ({"compaction": {"type": "summary"}}, "compaction"),
        ({"functions": [{"name": "now"}]}, "functions"),
        ({"logprobs": True}, "logprobs"),
    ],
)
async def test_what_no_engine_can_do_is_refused_in_the_api_s_shape(
    house: House, fields: dict[str, Any], named: str
) -> None:
    answer = await house.http.post("/v1/messages", json={**ASKED, **fields})
    told = answer.json()
    assert (answer.status_code, told["type"], told["error"]["type"]) == (
        400,
        "error",
        "invalid_request_error",
    )
    assert named in told["error"]["message"]
    assert told["request_id"] == answer.headers["request-id"]


async def test_an_unknown_field_is_passed_to_the_engine_around_the_cache_and_named(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    await client.messages.create(**ASKED)
    weighed: Any = [{"role": "user", "content": [{"type": "text", "text": "Say hello.", "weight": 2}]}]
    for fields, named, sent in (
        ({"best_guess": 1}, "best_guess", {"best_guess": 1}),
        ({"output_config": {"task_budget": {"total": 9}}}, "output_config.task_budget", {}),
        ({"messages": weighed}, "messages.content.weight", {}),
        ({"a\r\nset-cookie: b": 1}, "a??set-cookie: b", {}),
        ({f"f{number}" * 50: 1 for number in range(99)}, ", ".join(f"f{n}" * 30 for n in range(10)), {}),
    ):
        body = await house.passes_on("/v1/messages", {**ASKED, **fields}, named)
        assert body.items() >= sent.items()
        assert body["messages"] == ASKED["messages"]
        assert "output_config" not in body


async def test_what_clients_send_besides_is_no_other_question(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    """As Claude Code and Anthropic's own send it."""
    text = {"type": "text", "text": "Say hello.", "cache_control": {"type": "ephemeral"}, "citations": None}
    asked: Any = {
        **ASKED,
        "messages": [{"role": "user", "content": [text]}],
        "betas": ["context-management-2025-06-27"],
        "metadata": {"user_id": "u"},
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "output_config": {"effort": "high"},
        "service_tier": "auto",
        "speed": "fast",
    }
    await client.messages.create(**ASKED)
    answer = await client.beta.messages.with_raw_response.create(**asked)
    assert answer.headers["x-llmhost-cache"] == "exact"
    assert "x-llmhost-unknown-fields" not in answer.headers
    assert len(house.engine.requests) == 1


async def test_a_document_is_read_with_its_title_and_is_not_cited(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "It rains."}
    document: Any = {"type": "document", "source": source, "title": "Weather", "context": "Of today."}
    answer = await client.messages.with_raw_response.create(
        **{**ASKED, "messages": [{"role": "user", "content": [document]}]}
    )
    assert "x-llmhost-unknown-fields" not in answer.headers
    (sent,) = house.engine.requests[-1].json["messages"]
    assert sent["content"] == "Weather\n\nOf today.\n\nIt rains."
    cited = {**document, "citations": {"enabled": True}}
    with pytest.raises(anthropic.BadRequestError, match="citations"):
        await sent_by(client, house, messages=[{"role": "user", "content": [cited]}])


async def test_an_engine_that_is_down_is_told_with_the_time_to_ask_again(house: House) -> None:
    house.engine.fail(Fault.CLOSES)
    answer = await house.http.post("/v1/messages", json=ASKED)
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "api_error")
    assert answer.headers["retry-after"] == "5"


async def test_a_fleet_without_a_worker_is_overloaded(serve: Serve) -> None:
    async with serve(workers=0) as house:
        answer = await house.http.post("/v1/messages", json=ASKED)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "overloaded_error")


async def test_a_stream_that_breaks_ends_with_an_error_and_is_not_cached(
    client: anthropic.AsyncAnthropic, house: House
) -> None:
    house.engine.fail(Fault.CLOSES, after=2)
    with pytest.raises(anthropic.APIStatusError, match="broke off") as caught:
        async with client.messages.stream(**ASKED) as stream:
            await stream.until_done()
    told: Any = caught.value.body
    assert (told["type"], told["request_id"]) == ("error", caught.value.response.headers["request-id"])
    house.engine.heal()
    answer = await client.messages.with_raw_response.create(**ASKED)
    assert answer.headers["x-llmhost-cache"] == "miss"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_a_wrong_method_or_body_is_answered_in_the_api_s_shape(house: House, path: str) -> None:
    for answer in (await house.http.get(path), await house.http.post(path, content=b"{")):
        assert (answer.status_code // 100, answer.json()["type"]) == (4, "error")
    versioned = await house.http.get(f"{path}/nothing", headers={"anthropic-version": "2023-06-01"})
    assert json.loads(versioned.text)["error"]["type"] == "not_found_error"
