"""What is particular to OpenAI-compatible servers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doubles.chat_server import vector_of
from doubles.engine_limits import LIMITS

from llmhost.engines.engine import ChatRequest, Done, EmbedRequest, Endpoint, Message
from llmhost.engines.openai import OpenAIEngine
from llmhost.errors import EngineRefused, EngineUnavailable, StreamBroken


async def test_a_question_is_asked_as_the_api_wants_it(openai_side, openai_server, question, ask):
    wanted = question(temperature=0.5, top_p=0.9, seed=3, max_tokens=50, stop=("END",))
    await ask(openai_side.engine(), wanted)
    assert openai_server.requests[-1].json == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Say hello."}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "max_tokens": 50,
        "stop": ["END"],
    }


@pytest.mark.parametrize("name", ["options", "chat_template_kwargs"])
async def test_a_field_that_is_no_object_where_one_is_read_is_no_fault_of_the_worker(openai_side, ask, name):
    wanted = ChatRequest("tiny", (Message("user", "Hi"),), fields={name: "fast", "think": True})
    with pytest.raises(EngineRefused, match=f"`{name}` must be an object"):
        await ask(openai_side.engine(), wanted)


async def test_a_completion_is_asked_as_the_api_wants_it(openai_side, openai_server, completion, ask):
    text, done = await ask(openai_side.engine(), completion("def add(", max_tokens=50))
    assert (text, done) == ("Hello, Wörld!", Done("stop", 7, 4))
    (sent,) = openai_server.requests
    assert sent.path == "/v1/completions"
    assert sent.json == {
        "model": "tiny",
        "prompt": "def add(",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 50,
    }


@pytest.mark.parametrize("base", ["", "/v1"])
async def test_llama_cpp_fills_a_gap_by_infill(openai_side, openai_server, completion, ask, base):
    openai_server.infill = True
    engine = openai_side.engine(url=openai_server.url + base)
    whole = await ask(engine, completion("def add(", "return", max_tokens=50, temperature=0.5))
    cut = await ask(engine, completion("def add(", "return", max_tokens=2))
    assert whole == ("Hello, Wörld!", Done("stop", 7, 4))
    assert cut == ("Hello, ", Done("length", 7, 2))
    assert openai_server.requests[0].path == "/infill"
    assert openai_server.requests[0].json == {
        "model": "tiny",
        "input_prefix": "def add(",
        "input_suffix": "return",
        "stream": True,
        "n_predict": 50,
        "temperature": 0.5,
    }


async def test_another_server_is_sent_the_suffix_as_openai_s_api_has_it(
    openai_side, openai_server, completion, ask
):
    engine = openai_side.engine()
    for _ in range(2):
        assert (await ask(engine, completion("def add(", "return")))[0] == "Hello, Wörld!"
    paths = [request.path for request in openai_server.requests]
    assert paths == ["/infill", "/v1/completions", "/v1/completions"]
    assert openai_server.requests[-1].json["suffix"] == "return"


async def test_what_a_server_says_of_a_suffix_is_passed_on(openai_side, openai_server, completion, ask):
    said = {"error": {"message": "suffix is not currently supported", "type": "BadRequestError"}}
    openai_server.unknown["suffix"] = (400, said)
    with pytest.raises(EngineRefused, match="suffix is not currently supported"):
        await ask(openai_side.engine(), completion("def add(", "return"))


async def test_a_server_that_only_chats_is_not_at_fault(openai_side, openai_server, completion, ask):
    openai_server.completes = False
    with pytest.raises(EngineRefused, match="only takes chats"):
        await ask(openai_side.engine(), completion("def add("))


async def test_a_format_that_would_be_ignored_is_refused(openai_side, openai_server, completion, ask):
    asked = replace(completion("def add("), fields={"response_format": {"type": "json_object"}})
    with pytest.raises(EngineRefused, match="without a `format`"):
        await ask(openai_side.engine(), asked)
    assert openai_server.requests == []


async def test_texts_are_embedded_as_the_api_wants_it(openai_side, openai_server):
    openai_server.embeds = True
    embedded = await openai_side.engine().embed(EmbedRequest("tiny", ("one two", "three")))
    assert embedded.vectors == [vector_of("one two", 4), vector_of("three", 4)]
    assert embedded.tokens == 3
    (sent,) = openai_server.requests
    assert sent.json == {"model": "tiny", "input": ["one two", "three"], "encoding_format": "float"}


async def test_vectors_of_another_length_than_asked_for_are_refused(openai_side, openai_server):
    openai_server.embeds = True
    with pytest.raises(EngineRefused, match="have 4 dimensions"):
        await openai_side.engine().embed(EmbedRequest("tiny", ("Hi",), dimensions=8))


async def test_a_server_without_embeddings_is_not_at_fault(openai_side):
    with pytest.raises(EngineRefused, match="gives no embeddings"):
        await openai_side.engine().embed(EmbedRequest("tiny", ("Hi",)))


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"index": 0, "embedding": [0.5]}],
        [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": [0.5, 1]}],
        [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": [float("nan")]}],
        [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": [1e300]}],
        [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": [None]}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
        [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": "AAAA"}],
    ],
)
async def test_what_is_no_vector_is_a_worker_that_cannot_be_used(openai_side, openai_server, data):
    openai_server.embeds = {"data": data}
    with pytest.raises(EngineUnavailable, match="vector"):
        await openai_side.engine().embed(EmbedRequest("tiny", ("one", "two")))


async def test_sampling_that_is_not_given_is_left_to_the_server(openai_side, openai_server, question, ask):
    await ask(openai_side.engine(), question())
    assert set(openai_server.requests[-1].json) == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_the_url_may_end_in_v1_or_not(openai_side, openai_server, question, ask, suffix):
    text, _ = await ask(openai_side.engine(url=openai_server.url + suffix), question())
    assert text == "Hello, Wörld!"


async def test_a_server_without_usage_counts_no_tokens(openai_side, openai_server, question, ask):
    openai_server.has_usage = False
    assert (await ask(openai_side.engine(), question()))[1] == Done("stop", 0, 0)


async def test_usage_is_taken_from_the_server(openai_side, question, ask):
    assert (await ask(openai_side.engine(), question()))[1] == Done("stop", 7, 4)


async def test_a_finish_reason_without_done_is_no_end(openai_side, openai_server, question, gather):
    openai_server.has_done = False
    _, error = await gather(openai_side.engine().chat(question()))
    assert isinstance(error, StreamBroken)
    assert "without an end mark" in error.message


async def test_done_without_a_finish_reason_is_no_end(openai_side, openai_server, question, gather):
    openai_server.finish_reason = None
    _, error = await gather(openai_side.engine().chat(question()))
    assert isinstance(error, StreamBroken)
    assert "without a finish reason" in error.message


async def test_an_error_as_bare_json_is_heard(openai_side, openai_server, question, gather):
    openai_server.piece = lambda _: b'{"error": "no memory left"}\n'
    _, error = await gather(openai_side.engine().chat(question()))
    assert isinstance(error, EngineUnavailable)
    assert "no memory left" in error.message


async def test_a_model_that_is_not_served_says_which_are(openai_side):
    status = await openai_side.engine().model_status("other")
    assert status.detail == "it serves tiny"


async def test_a_server_that_cannot_fetch_models_refuses_to(openai_side):
    with pytest.raises(EngineRefused, match="it serves tiny") as caught:
        await openai_side.engine().ensure_model("other", lambda _: None)
    assert "start that server with the model" in caught.value.hint


async def test_vllm_tells_its_version(openai_side, openai_server):
    openai_server.server_version = "0.11.0"
    assert await openai_side.engine().version() == "0.11.0"


async def test_a_server_that_tells_no_version_has_none(openai_side):
    assert await openai_side.engine().version() == ""


@pytest.mark.parametrize(
    "listed",
    [None, b"<html>", b'{"data": [{"id": 5}]}', b'{"models": []}', b'["tiny"]'],
    ids=["404", "a page", "numbers", "another API's", "names alone"],
)
async def test_a_server_without_a_list_that_can_be_read_is_judged_by_its_answers(
    openai_side, openai_server, question, ask, listed
):
    openai_server.listed = listed
    engine = openai_side.engine()
    await engine.ensure_model("tiny", lambda _: None)
    assert (await engine.model_status("tiny")).present is None
    assert (await ask(engine, question()))[0] == "Hello, Wörld!"


@pytest.mark.parametrize("listed", [b'[{"id": "tiny"}]', b'{"data": [{"id": "tiny:latest"}]}'])
@pytest.mark.parametrize("asked", ["tiny", "tiny:latest"])
async def test_a_bare_list_counts_and_latest_is_a_tag_that_may_be_left_out(
    openai_side, openai_server, listed, asked
):
    openai_server.listed = listed
    assert (await openai_side.engine().model_status(asked)).present is True


async def test_a_model_that_is_not_listed_and_answers_is_there(openai_side, openai_server):
    openai_server.known = {"an-alias"}
    await openai_side.engine().ensure_model("an-alias", lambda _: None)


async def test_llama_cpp_answers_to_any_name_so_its_list_counts(openai_side, openai_server):
    openai_server.known = {"llama3.2:3b"}
    openai_server.listed = b'{"data": [{"id": "tiny", "owned_by": "llamacpp"}]}'
    with pytest.raises(EngineRefused, match="it serves tiny"):
        await openai_side.engine().ensure_model("llama3.2:3b", lambda _: None)


async def test_the_path_of_a_url_is_used_as_it_is_given(openai_side, openai_server, question, ask):
    openai_server.base = "/openai/v2beta"
    engine = openai_side.engine(url=openai_server.url + openai_server.base)
    await engine.ensure_model("tiny", lambda _: None)
    await ask(engine, question())
    assert [request.path for request in openai_server.requests] == [
        "/openai/v2beta/models",
        "/openai/v2beta/chat/completions",
    ]


@pytest.mark.parametrize(
    ("status", "reply", "dropped", "instead"),
    [
        (
            400,
            {"error": {"message": "Unrecognized argument: stream_options"}},
            "stream_options",
            {},
        ),
        (
            422,
            {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]},
            "stream_options",
            {},
        ),
        (400, {"error": {"message": "Unsupported value.", "param": "temperature"}}, "temperature", {}),
        (
            400,
            {"error": {"message": "'max_tokens' is not supported. Use 'max_completion_tokens' instead."}},
            "max_tokens",
            {"max_completion_tokens": 50},
        ),
    ],
)
async def test_what_a_server_does_not_know_is_left_out_from_then_on(
    openai_side, openai_server, question, ask, status, reply, dropped, instead
):
    openai_server.unknown = {dropped: (status, reply)}
    engine, wanted = openai_side.engine(), question(temperature=0.5, max_tokens=50)
    for _ in range(2):
        assert (await ask(engine, wanted))[0] == "Hello, Wörld!"
    first, second, third = (request.json for request in openai_server.requests)
    assert second == third == {name: value for name, value in first.items() if name != dropped} | instead


@pytest.mark.parametrize(
    "message", ["temperature 1.9 is not supported", "Unsupported value: temperature, the most is 1.0"]
)
async def test_a_value_that_a_server_does_not_support_is_left_out_and_no_other(
    openai_side, openai_server, question, ask, message
):
    openai_server.unsupported = {("temperature", 1.9): (400, {"error": {"code": 400, "message": message}})}
    engine = openai_side.engine()
    for temperature in (1.9, 0.5, 1.9):
        assert (await ask(engine, question(temperature=temperature)))[0] == "Hello, Wörld!"
    sent = [request.json.get("temperature") for request in openai_server.requests]
    assert sent == [1.9, None, 0.5, None]


async def test_of_values_that_a_server_does_not_support_only_the_last_hundred_are_known(
    openai_side, openai_server, question, ask
):
    refusal = (400, {"error": "this seed is not supported: 0"})
    openai_server.unsupported = {("seed", seed): refusal for seed in range(102)}
    engine = openai_side.engine()
    for seed in (*range(102), 101, 0):
        await ask(engine, question(seed=seed))
    assert [request.json.get("seed") for request in openai_server.requests[-3:]] == [None, 0, None]


async def test_what_an_error_quotes_of_one_request_is_not_left_out_of_others(
    openai_side, openai_server, question, ask
):
    openai_server.unknown = {
        "colour": (400, {"error": "not permitted: colour, 'temperature seed max_tokens'"})
    }
    engine, wanted = openai_side.engine(), question(temperature=0.5, seed=3, max_tokens=50)
    with pytest.raises(EngineRefused, match="not permitted: colour"):
        await ask(engine, replace(wanted, fields={"colour": "temperature seed max_tokens"}))
    openai_server.requests.clear()
    await ask(engine, wanted)
    (sent,) = (request.json for request in openai_server.requests)
    assert (sent["temperature"], sent["seed"], sent["max_tokens"]) == (0.5, 3, 50)


async def test_a_server_that_knows_neither_name_of_the_most_tokens_refuses(
    openai_side, openai_server, question
):
    openai_server.unknown = {
        name: (400, {"error": f"unknown field {name}"}) for name in ("max_tokens", "max_completion_tokens")
    }
    with pytest.raises(EngineRefused, match="unknown field max_completion_tokens"):
        await anext(openai_side.engine().chat(question(max_tokens=5)))


async def test_content_may_be_a_list_of_parts_of_which_texts_are_the_answer(
    openai_side, openai_server, question, ask
):
    plain = openai_server.delta
    openai_server.piece = lambda text: plain(
        {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": text}]}
    )
    assert (await ask(openai_side.engine(), question()))[0] == "Hello, Wörld!"


async def test_usage_of_another_shape_does_not_break_a_good_answer(openai_side, openai_server, question, ask):
    openai_server.usage = []
    assert await ask(openai_side.engine(), question()) == ("Hello, Wörld!", Done("stop", 0, 0))


@pytest.mark.parametrize("line", [b' data: {"choices": []}', b"Data: x", b"some words", b'{"choices": 5}'])
async def test_a_line_that_may_be_a_part_of_the_answer_is_not_ignored(
    openai_side, openai_server, question, gather, line
):
    openai_server.piece = lambda _: line + b"\n\n"
    _, error = await gather(openai_side.engine().chat(question()))
    assert isinstance(error, EngineUnavailable)


async def test_fields_of_an_event_besides_its_data_are_ignored(openai_side, openai_server, question, ask):
    plain = openai_server.piece
    openai_server.piece = lambda text: b"event: chunk\nid: 5\nretry: 10\n" + plain(text)
    assert (await ask(openai_side.engine(), question()))[0] == "Hello, Wörld!"


async def test_a_server_of_another_kind_is_named_as_such(ollama_server, question):
    ollama_server.token = None
    engine = OpenAIEngine(Endpoint(ollama_server.url), LIMITS)
    with pytest.raises(EngineUnavailable, match="not as this kind of engine") as caught:
        await anext(engine.chat(question()))
    assert "`engine.kind`" in caught.value.hint
    await engine.aclose()


def test_neither_endpoint_nor_engine_shows_its_token():
    endpoint = Endpoint("http://127.0.0.1:1", "a-secret-token")
    assert "a-secret-token" not in f"{endpoint!r} {OpenAIEngine(endpoint, LIMITS)!r}"
