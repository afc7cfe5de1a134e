"""What is particular to OpenAI-compatible servers."""

from __future__ import annotations

import pytest
from doubles.engine_limits import LIMITS

from llmhost.engines.engine import Done, Endpoint
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


async def test_a_broken_list_of_models_is_a_worker_that_cannot_be_used(openai_side, openai_server):
    openai_server.model = 5  # its JSON is valid, and not the API's
    with pytest.raises(EngineUnavailable, match="`id` that is not text"):
        await openai_side.engine().model_status("tiny")


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
