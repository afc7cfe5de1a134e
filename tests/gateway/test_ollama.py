"""Ollama's API, spoken by Ollama's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import ollama
import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import House, Serve
from doubles.ollama_server import OllamaServer, Running

from llmhost.gateway import asking

ASKED: Any = [{"role": "user", "content": "Say hello."}]
PNG = "iVBORw0KGgo="


@pytest.fixture
async def client(house: House) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(house.url) as made:
        yield made


async def lines(house: House, path: str, **body: Any) -> list[dict[str, Any]]:
    answer = await house.http.post(path, json={"model": "tiny", **body})
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_it_says_that_ollama_runs(house: House) -> None:
    assert (await house.http.head("/")).status_code == 200
    assert (await house.http.get("/")).text == "Ollama is running"
    assert (await house.http.get("/api/version")).json() == {"version": "0.12.11"}


async def test_a_chat_is_answered_whole(client: ollama.AsyncClient) -> None:
    answer = await client.chat("tiny", ASKED)
    assert (answer.message.role, answer.message.content) == ("assistant", "Hello, Wörld!")
    assert (answer.model, answer.done, answer.done_reason) == ("tiny", True, "stop")


async def test_a_stream_of_an_engine_and_its_replay_are_both_proper_streams(
    client: ollama.AsyncClient, house: House
) -> None:
    for _ in range(2):
        pieces = [piece async for piece in await client.chat("tiny", ASKED, stream=True)]
        assert "".join(piece.message.content or "" for piece in pieces) == "Hello, Wörld!"
        assert [piece.done for piece in pieces[-2:]] == [False, True]
        end = pieces[-1]
        assert (end.done_reason, end.prompt_eval_count, end.eval_count) == ("stop", 7, 4)
        assert min(end.total_duration or 0, end.prompt_eval_duration or 0, end.eval_duration or 0) > 0
    assert len(house.engine.requests) == 1


async def test_a_stream_is_what_is_meant_where_nothing_is_said(house: House) -> None:
    assert [line["done"] for line in await lines(house, "/api/chat", messages=ASKED)][-1] is True


async def test_a_text_is_generated(client: ollama.AsyncClient, house: House) -> None:
    answer = await client.generate("tiny", "Say hello.", system="Be brief.")
    assert (answer.response, answer.done_reason) == ("Hello, Wörld!", "stop")
    assert house.engine.requests[-1].json["messages"] == [{"role": "system", "content": "Be brief."}, *ASKED]
    pieces = [piece async for piece in await client.generate("tiny", "Say hello.", stream=True)]
    assert "".join(piece.response or "" for piece in pieces) == "Hello, Wörld!"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_was_stored_by_one_api_is_served_by_the_other(
    house: House, *, stream: bool
) -> None:
    body = {"model": "tiny:latest", "messages": ASKED, "stream": stream, "options": {"num_ctx": 512}}
    assert (await house.http.post("/api/chat", json=body)).headers["x-llmhost-cache"] == "miss"
    assert (await house.chat(stream=stream)).headers["x-llmhost-cache"] == "exact"
    generated = {"model": "tiny", "prompt": "Say hello.", "stream": stream}
    assert (await house.http.post("/api/generate", json=generated)).headers["x-llmhost-cache"] == "exact"

    question = [{"role": "user", "content": "What is Redis?"}]
    settings = {"temperature": 0.5, "top_k": 20, "stop": ["\n"], "seed": 3}
    stored = await house.chat("What is Redis?", stream=stream, max_tokens=9, **settings)
    assert stored.headers["x-llmhost-cache"] == "miss"
    body = {"model": "tiny", "messages": question, "stream": stream}
    answer = await house.http.post("/api/chat", json={**body, "options": {**settings, "num_predict": 9}})
    assert answer.headers["x-llmhost-cache"] == "exact"


async def test_another_format_is_another_question(client: ollama.AsyncClient, house: House) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    await client.chat("tiny", ASKED)
    await client.chat("tiny", ASKED, format="json")
    await client.chat("tiny", ASKED, format=schema)
    formats = [request.json.get("response_format") for request in house.engine.requests]
    assert formats == [
        None,
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    ]
    json_mode = await house.chat(response_format={"type": "json_object"})
    assert json_mode.headers["x-llmhost-cache"] == "exact"


async def test_how_a_model_is_run_is_the_fleet_s(client: ollama.AsyncClient, house: House) -> None:
    options: Any = {
        "num_ctx": 64,
        "num_gpu": 0,
        "num_thread": 2,
        "mirostat": 1,
        "min_p": 0.1,
        "num_predict": -1,
    }
    await client.chat("tiny", ASKED, options=options, keep_alive="5m")
    sent = house.engine.requests[-1].json
    assert (sent["mirostat"], sent["min_p"]) == (1, 0.1)
    assert not {"options", "num_ctx", "num_gpu", "num_thread", "keep_alive", "num_predict"} & sent.keys()


async def test_what_vercel_s_provider_sends_beside_the_options_is_one_of_them(house: House) -> None:
    asked: Any = {
        "model": "tiny",
        "messages": ASKED,
        "temperature": 0.5,
        "top_p": 0.8,
        "max_output_tokens": 9,
    }
    for options, sent in (({}, (0.5, 0.8, 9)), ({"temperature": 0.1, "num_predict": 7}, (0.1, 0.8, 7))):
        answer = await house.http.post("/api/chat", json={**asked, "options": options})
        body = house.engine.requests[-1].json
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == sent
        assert answer.headers["x-llmhost-cache"] == "miss"


@pytest.mark.parametrize(
    ("think", "sent"),
    [
        (True, {"chat_template_kwargs": {"enable_thinking": True}}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("high", {"reasoning_effort": "high"}),
    ],
)
async def test_a_model_is_told_to_think(
    client: ollama.AsyncClient, house: House, think: Any, sent: dict[str, Any]
) -> None:
    await client.chat("tiny", ASKED, think=think)
    assert house.engine.requests[-1].json.items() >= sent.items()


async def test_thoughts_arrive_beside_the_answer(client: ollama.AsyncClient, house: House) -> None:
    plain = house.engine.piece
    house.engine.pieces = ("Yes",)
    house.engine.piece = lambda text: house.engine.thought("hm") + plain(text)  # type: ignore[assignment,method-assign]
    answer = await client.chat("tiny", ASKED)
    assert (answer.message.thinking, answer.message.content) == ("hm", "Yes")
    pieces = [piece async for piece in await client.generate("tiny", "And now?", stream=True)]
    assert [piece.thinking for piece in pieces if piece.thinking] == ["hm"]


async def test_an_image_is_passed_on(client: ollama.AsyncClient, house: House) -> None:
    await client.generate("tiny", "What is this?", images=[PNG])
    await client.chat("tiny", [{"role": "user", "content": "What is this?", "images": [PNG]}])
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    assert [request.json["messages"] for request in house.engine.requests] == [
        [{"role": "user", "content": parts}]
    ] * 2


def now(city: str) -> str:
    """The time in a city.

    Args:
      city: its name
    """
    return f"noon in {city}"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_tool_is_called_and_its_result_is_read(
    client: ollama.AsyncClient, house: House, *, stream: bool
) -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"city":'}}
    rest = {"index": 0, "function": {"arguments": '"Rome"}'}}
    pieces = iter([{"tool_calls": [first]}, {"tool_calls": [rest]}])
    plain = house.engine.piece
    house.engine.pieces, house.engine.finish_reason = ("1", "2"), "tool_calls"
    house.engine.piece = lambda text: house.engine.delta(next(pieces))  # type: ignore[assignment,method-assign]
    if stream:
        answers = [piece async for piece in await client.chat("tiny", ASKED, tools=[now], stream=True)]
        message = next(piece.message for piece in answers if piece.message.tool_calls)
        assert answers[-1].done_reason == "stop"
    else:
        message = (await client.chat("tiny", ASKED, tools=[now])).message
    (call,) = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("now", {"city": "Rome"})

    house.engine.piece = plain  # type: ignore[method-assign]
    result: Any = {"role": "tool", "content": now(**call.function.arguments), "tool_name": "now"}
    await client.chat("tiny", [*ASKED, message, result], tools=[now])
    _, called, answered = house.engine.requests[-1].json["messages"]
    assert called["tool_calls"][0]["function"] == {"name": "now", "arguments": '{"city": "Rome"}'}
    assert (answered["content"], answered["tool_call_id"]) == ("noon in Rome", called["tool_calls"][0]["id"])


async def test_results_of_several_calls_belong_to_their_calls(
    client: ollama.AsyncClient, house: House
) -> None:
    calls: Any = [{"function": {"name": name, "arguments": {}}} for name in ("a", "b", "a")]
    results: Any = [
        {"role": "tool", "content": "of b", "tool_name": "b"},
        {"role": "tool", "content": "of the first a", "tool_name": "a"},
        {"role": "tool", "content": "of what is left"},
    ]
    await client.chat("tiny", [*ASKED, {"role": "assistant", "tool_calls": calls}, *results])
    _, called, *answers = house.engine.requests[-1].json["messages"]
    ids = [call["id"] for call in called["tool_calls"]]
    assert [answer["tool_call_id"] for answer in answers] == [ids[1], ids[0], ids[2]]


@pytest.mark.parametrize("arguments", ["{", "[1]", '"Rome"', "[" * 5000])
async def test_a_call_whose_arguments_are_no_object_is_the_engine_s_fault(
    client: ollama.AsyncClient, house: House, arguments: str
) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "now", "arguments": arguments}}
    house.engine.pieces, house.engine.finish_reason = ("1",), "tool_calls"
    house.engine.piece = lambda text: house.engine.delta({"tool_calls": [call]})  # type: ignore[assignment,method-assign]
    with pytest.raises(ollama.ResponseError, match="no JSON object") as caught:
        await client.chat("tiny", ASKED, tools=[now])
    assert caught.value.status_code == 502
    with pytest.raises(ollama.ResponseError, match="no JSON object"):
        async for _ in await client.chat("tiny", ASKED, tools=[now], stream=True):
            pass


async def test_a_call_that_was_cut_off_is_left_out_and_the_reason_of_the_end_says_so(
    client: ollama.AsyncClient, house: House
) -> None:
    call = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "now", "arguments": '{"city": "R'},
    }
    house.engine.pieces, house.engine.finish_reason = ("1",), "length"
    house.engine.piece = lambda text: house.engine.delta({"tool_calls": [call]})  # type: ignore[assignment,method-assign]
    whole = await client.chat("tiny", ASKED, tools=[now])
    parts = [part async for part in await client.chat("tiny", ASKED, tools=[now], stream=True)]
    assert (whole.done_reason, parts[-1].done_reason) == ("length", "length")
    assert not any(part.message.tool_calls for part in (whole, *parts))


@pytest.mark.parametrize(
    ("keep_alive", "reason"), [(None, "load"), ("5m", "load"), (0, "unload"), ("0", "unload")]
)
async def test_a_request_without_a_question_loads_or_unloads(
    client: ollama.AsyncClient, house: House, keep_alive: Any, reason: str
) -> None:
    chat = await client.chat("tiny", [], keep_alive=keep_alive)
    text = await client.generate("tiny", keep_alive=keep_alive)
    assert [(answer.done, answer.done_reason) for answer in (chat, text)] == [(True, reason)] * 2
    assert house.engine.requests == []


async def test_a_silent_stream_shows_that_it_lives(
    client: ollama.AsyncClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PING_PERIOD", 0.01)
    house.engine.fail(Fault.HANGS)
    async for piece in await client.chat("tiny", ASKED, stream=True):
        assert (piece.done, piece.message.content) == (False, "")
        break


async def test_a_stream_that_breaks_ends_with_an_error(client: ollama.AsyncClient, house: House) -> None:
    house.engine.fail(Fault.CLOSES, after=2)
    with pytest.raises(ollama.ResponseError, match="broke off"):
        async for _ in await client.chat("tiny", ASKED, stream=True):
            pass
    *_, last = await lines(house, "/api/generate", prompt="And now?")
    assert last.keys() == {"error"}


async def test_an_unknown_model_is_not_found(client: ollama.AsyncClient) -> None:
    for answer in (client.chat("huge", ASKED), client.generate("huge"), client.show("huge")):
        with pytest.raises(ollama.ResponseError, match="served are: tiny") as caught:
            await answer
        assert caught.value.status_code == 404


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"raw": True}, ("/v1/completions", {"prompt": "<PRE> def <SUF> end"})),
        ({"raw": True, "suffix": "ignored"}, ("/v1/completions", {"prompt": "<PRE> def <SUF> end"})),
        ({"suffix": "end"}, ("/infill", {"input_prefix": "<PRE> def <SUF> end", "input_suffix": "end"})),
    ],
)
async def test_a_text_is_continued_and_a_gap_filled_around_the_cache(
    house: House, fields: dict[str, Any], asked: tuple[str, dict[str, Any]], *, stream: bool
) -> None:
    house.engine.infill = True
    body = {"model": "tiny", "prompt": "<PRE> def <SUF> end", "stream": stream, **fields}
    for _ in range(2):
        answer = await house.http.post("/api/generate", json={**body, "options": {"num_predict": 9}})
        assert answer.headers["x-llmhost-cache"] == "bypass"
        *_, last = pieces = [json.loads(line) for line in answer.text.splitlines()]
        assert "".join(piece["response"] for piece in pieces) == "Hello, Wörld!"
        assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("stop", 7, 4)
    assert [request.path for request in house.engine.requests] == [asked[0]] * 2
    assert asked[1].items() <= house.engine.requests[-1].json.items()


async def test_ollama_s_own_client_fills_a_gap(serve: Serve) -> None:
    async with OllamaServer() as worker:
        sections: Any = {
            "fleet": {"provider": "static", "workers": [{"url": worker.url}]},
            "engine": {"kind": "ollama", "model": "tiny"},
        }
        async with serve(**sections) as house, ollama.AsyncClient(house.url) as client:
            assert "{{ .Suffix }}" in ((await client.show("tiny")).template or "")
            answer = await client.generate("tiny", "def add(", suffix="return", options={"top_k": 5})
            assert (answer.response, answer.done_reason) == ("Hello, Wörld!", "stop")
            pieces = [
                piece async for piece in await client.generate("tiny", "def add(", raw=True, stream=True)
            ]
            assert "".join(piece.response or "" for piece in pieces) == "Hello, Wörld!"
            worker.capabilities = ["completion"]
            with pytest.raises(ollama.ResponseError, match="does not support insert") as caught:
                await client.generate("tiny", "def add(", suffix="return")
            assert caught.value.status_code == 400


async def test_what_a_model_cannot_do_with_a_text_is_its_client_s_to_know(
    client: ollama.AsyncClient, house: House
) -> None:
    house.engine.infill = False
    with pytest.raises(ollama.ResponseError, match="Infill is not supported by this model") as caught:
        await client.generate("tiny", "def add(", suffix="return")
    assert caught.value.status_code == 400
    for fields in ({"raw": True, "system": "Be brief."}, {"suffix": "end", "images": [PNG]}):
        with pytest.raises(ollama.ResponseError, match=r"does not go with `(raw|suffix)`"):
            await client.generate("tiny", "def add(", **cast("Any", fields))


async def test_an_unknown_field_is_passed_to_the_engine_around_the_cache_and_named(house: House) -> None:
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Say hello."}], "stream": False}
    await house.http.post("/api/chat", json=asked)
    called = [{"type": "function", "function": {"index": 0, "name": "now", "arguments": {}}}]
    known: Any = [{"role": "assistant", "content": "", "tool_calls": called}, *asked["messages"]]  # type: ignore[misc]
    weighed = [{"role": "user", "content": "Say hello.", "weight": 2}]
    for fields, named in (
        ({"best_guess": 1}, "best_guess"),
        ({"seed": 7, "options": {"mirostat": 1}}, "seed"),
        ({"messages": weighed}, "messages.weight"),
        ({"messages": known, "options": {"mirostat": 1}}, ""),
    ):
        answer = await house.http.post("/api/chat", json={**asked, **fields})
        assert answer.headers.get("x-llmhost-unknown-fields", "") == named
        assert answer.headers["x-llmhost-cache"] == ("bypass" if named else "miss")
        assert house.engine.requests[-1].json.get("best_guess") == fields.get("best_guess")
    answer = await house.http.post("/api/chat", json={**asked, "n": 2})
    assert (answer.status_code, "`n` is not supported" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("field", [{"template": "{{ .Prompt }}"}, {"context": [1, 2]}])
async def test_what_a_chat_cannot_do_is_refused(client: ollama.AsyncClient, field: dict[str, Any]) -> None:
    with pytest.raises(ollama.ResponseError, match=f"`{next(iter(field))}` is not supported"):
        await client.generate("tiny", "Say hello.", **field)


async def test_models_are_changed_by_llmhost_alone(client: ollama.AsyncClient, house: House) -> None:
    changes = [client.pull("tiny"), client.push("tiny"), client.delete("tiny"), client.create("a", "tiny")]
    for answer in changes:
        with pytest.raises(ollama.ResponseError, match=r"llmhost (up|down)") as caught:
            await answer
        assert caught.value.status_code == 403
    with pytest.raises(ollama.ResponseError, match="llmhost serve"):
        await client.copy("tiny", "other")
    assert (await house.http.post("/api/blobs/sha256:00", content=b"x")).status_code == 403


async def test_the_models_are_listed_and_shown(serve: Serve) -> None:
    sections: Any = {
        "engine": {"kind": "openai", "model": "tiny", "temperature": 0.5, "max_tokens": 9},
        "gateway": {"aliases": {"gpt-4o": "tiny"}},
    }
    async with serve(**sections) as house, ollama.AsyncClient(house.url) as client:
        listed = (await client.list()).models
        assert [model.model for model in listed] == ["tiny:latest", "gpt-4o:latest", "all-minilm:latest"]
        assert all(len(model.digest or "") == 64 and model.modified_at for model in listed)
        running = (await client.ps()).models
        assert [model.name for model in running] == ["tiny:latest"]
        shown = await client.show("tiny:latest")
        assert [line.split() for line in (shown.parameters or "").splitlines()] == [
            ["num_predict", "9"],
            ["temperature", "0.5"],
        ]
        assert (shown.capabilities, shown.template) == (["completion", "tools"], "{{ .Prompt }}")
        embedder = await client.show("all-minilm")
        assert embedder.capabilities == ["embedding"]
        assert (embedder.modelinfo or {})["llmhost.context_length"] == 256


async def test_what_an_ollama_tells_of_its_model_is_shown(serve: Serve) -> None:
    async with OllamaServer() as engine:
        engine.running["tiny:latest"] = Running(300_000_000, 200_000_000)
        sections: Any = {
            "fleet": {"provider": "static", "workers": [{"url": engine.url}]},
            "engine": {"kind": "ollama", "model": "tiny", "context": 2048},
        }
        async with serve(**sections) as house, ollama.AsyncClient(house.url) as client:
            model, _ = (await client.list()).models
            assert (model.size, model.details.parameter_size) == (270_898_672, "134.52M")
            assert (await client.ps()).models[0].size_vram == 200_000_000
            shown = await client.show("tiny")
            assert shown.capabilities == ["completion", "insert"]
            assert (shown.modelinfo or {})["llama.context_length"] == 2048


async def test_a_fleet_without_a_worker_runs_no_model(serve: Serve) -> None:
    async with serve(workers=0) as house, ollama.AsyncClient(house.url) as client:
        assert (await client.ps()).models == []
        with pytest.raises(ollama.ResponseError, match="no worker is ready") as caught:
            await client.chat("tiny", ASKED)
    assert caught.value.status_code == 503


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", b"{"),
        ("/api/chat", b'{"messages": []}'),
        ("/api/chat", b'{"model": "tiny", "messages": [{"role": "king", "content": "Hi"}]}'),
        ("/api/chat", b'{"model": "tiny", "messages": [{"role": "user", "content": ""}]}'),
        ("/api/chat", b'{"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "think": "hard"}'),
        ("/api/chat", b'{"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "format": "xml"}'),
        ("/api/generate", b'{"model": "tiny", "prompt": "Hi", "options": {"temperature": "hot"}}'),
        ("/api/generate", b'{"model": "tiny", "prompt": "Hi", "images": ["http://example.com/a.png"]}'),
        ("/api/show", b"{}"),
        ("/api/show", b'{"model": "' + b"x" * 1000 + b'"}'),
        ("/api/embed", b'{"model": 5}'),
    ],
)
async def test_a_body_that_cannot_be_is_refused_in_the_api_s_shape(
    house: House, path: str, body: bytes
) -> None:
    answer = await house.http.post(path, content=body)
    assert (answer.status_code, answer.json().keys()) == (400, {"error"})


JUNK: list[Any] = [None, True, -1, 1e308, "\x00", [], [None], [[1]], {"role": []}, [{"role": "user"}]]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/chat", ["model", "messages", "options", "format", "think", "tools", "n"]),
        ("/api/generate", ["prompt", "system", "images", "keep_alive", "stream", "context", "logprobs"]),
        ("/api/show", ["model", "name"]),
        ("/api/embed", ["model", "input", "truncate"]),
        ("/api/embeddings", ["prompt"]),
        ("/v1/embeddings", ["input", "dimensions", "encoding_format"]),
    ],
)
async def test_no_body_is_an_error_of_the_gateway(house: House, path: str, fields: list[str]) -> None:
    model = "all-minilm" if "embed" in path else "tiny"
    whole: Any = {"model": model, "messages": ASKED, "prompt": "Hi", "input": "Hi"}
    bodies = [json.dumps({**whole, field: junk}).encode() for field in fields for junk in JUNK]
    for body in [b"", b"null", b"[]", b'"x"', b"{", b"[" * 100_000, b"\xff", *bodies]:
        answer = await house.http.post(path, content=body)
        assert answer.status_code in (200, 400, 404), body
        assert answer.status_code == 200 or "error" in answer.json()


async def test_every_path_below_api_answers_in_its_shape(house: House) -> None:
    for method, path, status in [("GET", "/api/chat", 405), ("GET", "/api/nothing", 404)]:
        answer = await house.http.request(method, path)
        assert (answer.status_code, answer.json().keys()) == (status, {"error"})
