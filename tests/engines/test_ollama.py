"""What is particular to Ollama."""

from __future__ import annotations

from typing import Any

import pytest
from doubles.chat_server import vector_of
from doubles.ollama_server import Download, Running

from llmhost.engines.engine import ChatRequest, EmbedRequest, Message, ModelDetails, ModelStatus, Progress
from llmhost.errors import EngineRefused, EngineUnavailable

GB = 10**9


async def test_a_question_is_asked_as_the_api_wants_it(ollama_side, ollama_server, question, ask):
    wanted = question(temperature=0.5, top_p=0.9, seed=3, max_tokens=50, stop=("END",))
    await ask(ollama_side.engine(), wanted)
    assert asked(ollama_server) == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Say hello."}],
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": {
            "num_ctx": 4096,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 3,
            "num_predict": 50,
            "stop": ["END"],
        },
    }


def asked(server):
    """The last question."""
    return [request.json for request in server.requests if request.path == server.chat_path][-1]


async def test_a_completion_is_asked_as_the_api_wants_it(ollama_side, ollama_server, completion, ask):
    engine = ollama_side.engine()
    text, done = await ask(engine, completion("def add(", max_tokens=50))
    assert (text, done.finish_reason, done.prompt_tokens) == ("Hello, Wörld!", "stop", 7)
    await ask(engine, completion("def add(", "return"))
    sent = [request.json for request in ollama_server.requests if request.path == "/api/generate"]
    usual = {"model": "tiny", "prompt": "def add(", "stream": True, "truncate": False, "shift": False}
    assert sent == [
        {**usual, "raw": True, "options": {"num_ctx": 4096, "num_predict": 50}},
        {**usual, "suffix": "return", "options": {"num_ctx": 4096}},
    ]


@pytest.mark.parametrize("name", ["logit_bias", "repetition_penalty", "web_search_options"])
async def test_a_field_that_changes_the_answer_and_that_ollama_lacks_is_refused(
    ollama_side, ollama_server, ask, name
):
    wanted = ChatRequest("tiny", (Message("user", "Hi"),), fields={name: {"1": 1}})
    with pytest.raises(EngineRefused, match=f"the engine does not support `{name}`"):
        await ask(ollama_side.engine(), wanted)
    assert not [request for request in ollama_server.requests if request.path == ollama_server.chat_path]


@pytest.mark.parametrize(
    ("fields", "of_message", "why"),
    [
        ({"options": "fast"}, {}, "`options` must be an object"),
        (
            {"response_format": {"type": "json_schema", "json_schema": "x"}},
            {},
            "`json_schema` must be an object",
        ),
        ({}, {"tool_calls": 5}, "the `tool_calls` of a message must be a list"),
        ({}, {"content": [{"type": "image_url"}]}, "images only as data URLs"),
    ],
)
async def test_what_a_client_wrote_wrongly_is_no_fault_of_the_worker(
    ollama_side, ask, fields, of_message, why
):
    rest = {name: value for name, value in of_message.items() if name != "content"}
    message = Message("user", of_message.get("content", "Hi"), rest)
    with pytest.raises(EngineRefused, match=why):
        await ask(ollama_side.engine(), ChatRequest("tiny", (message,), fields=fields))


async def test_a_completion_of_which_a_part_was_read_is_not_whole(ollama_side, completion, ask):
    _, done = await ask(ollama_side.engine(), completion("word " * 400, "word " * 600))
    assert done.finish_reason == "prompt_cut"


async def test_texts_are_embedded_as_the_api_wants_it(ollama_side, ollama_server):
    embedded = await ollama_side.engine().embed(EmbedRequest("tiny", ("one two", "three"), 6, cut=True))
    assert embedded.vectors == [vector_of("one two", 6), vector_of("three", 6)]
    assert embedded.tokens == 3
    assert [request.json for request in ollama_server.requests] == [
        {
            "model": "tiny",
            "input": ["one two", "three"],
            "truncate": True,
            "options": {"num_ctx": 4096},
            "dimensions": 6,
        }
    ]


async def test_a_requests_own_context_goes_before_the_configured_one(ollama_side, ollama_server, ask):
    own = ChatRequest("tiny", (Message("user", "Hi"),), fields={"options": {"num_ctx": 512}})
    await ask(ollama_side.engine(), own)
    assert asked(ollama_server)["options"] == {"num_ctx": 512}


async def test_an_answer_says_from_which_weights_it_is(ollama_side, ollama_server, question, ask):
    ollama_server.digests["tiny:latest"] = "8934d96d"
    assert (await ask(ollama_side.engine(), question()))[1].digest == "8934d96d"


async def test_what_ollama_tells_of_a_model(ollama_side, ollama_server):
    ollama_server.running["tiny:latest"] = Running(300_000_000, 200_000_000)
    assert await ollama_side.engine().model_details("tiny") == ModelDetails(
        format="gguf",
        family="llama",
        parameter_size="134.52M",
        quantization="F16",
        size=270_898_672,
        on_gpu=200_000_000,
        capabilities=("completion", "insert"),
    )
    ollama_server.capabilities = None  # an older one
    assert (await ollama_side.engine().model_details("tiny")).capabilities is None
    with pytest.raises(EngineRefused, match="not found"):
        await ollama_side.engine().model_details("huge")


@pytest.mark.parametrize(
    ("text", "context", "prompt_tokens", "reason"),
    [
        ("word " * 3000, 4096, 3010, "stop"),
        ("word " * 3000, 4096, 4093, "prompt_cut"),  # with the 4 tokens of the answer the context is full
        ("word " * 9000, 4096, 4000, "prompt_cut"),  # more than English has of characters to a token
        ("word " * 3000, 4096, 0, "prompt_cut"),  # it does not say how much it read
        ("\u6cd5" * 3000, 4096, 3010, "stop"),
        ("word " * 3000, 32_768, 3010, "stop"),
        ("short", 4096, 0, "stop"),
        ("word " * 100, 256, 60, "prompt_cut"),
    ],
)
async def test_an_answer_to_a_prompt_that_was_cut_is_not_called_complete(
    ollama_side, ollama_server, ask, text, context, prompt_tokens, reason
):
    ollama_server.prompt_tokens = prompt_tokens
    fields = {"options": {"num_ctx": context}}
    said = await ask(ollama_side.engine(), ChatRequest("tiny", (Message("user", text),), fields=fields))
    assert said[1].finish_reason == reason


async def test_tokens_are_taken_from_the_last_line(ollama_side, question, ask):
    done = (await ask(ollama_side.engine(), question()))[1]
    assert (done.finish_reason, done.prompt_tokens, done.completion_tokens) == ("stop", 7, 4)


async def test_an_end_without_a_reason_is_not_called_complete(ollama_side, ollama_server, question, ask):
    ollama_server.finish_reason = None
    assert (await ask(ollama_side.engine(), question()))[1].finish_reason == "unknown"


async def test_a_model_that_is_not_pulled_is_refused(ollama_side, question, ask):
    with pytest.raises(EngineRefused, match='model "other" not found'):
        await ask(ollama_side.engine(), question(model="other"))


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ("tiny:latest", "tiny"),
        ("tiny:latest", "tiny:latest"),
        ("host:5000/team/tiny:latest", "host:5000/team/tiny"),
        ("tiny:7b", "tiny:7b"),
    ],
)
async def test_a_name_without_a_tag_means_latest(ollama_side, ollama_server, held, asked):
    ollama_server.models = {held}
    assert (await ollama_side.engine().model_status(asked)).present is True


@pytest.mark.parametrize("asked", ["tiny", "tiny:8b", "other:7b"])
async def test_another_tag_is_another_model(ollama_side, ollama_server, asked):
    ollama_server.models = {"tiny:7b"}
    assert await ollama_side.engine().model_status(asked) == ModelStatus(False, False, "not pulled")


@pytest.mark.parametrize(
    ("running", "status"),
    [
        ({}, ModelStatus(True, False)),
        ({"tiny:latest": Running(5 * GB, 5 * GB)}, ModelStatus(True, True)),
        (
            {"tiny:latest": Running(5 * GB, 4 * GB)},
            ModelStatus(True, True, "spilled to the CPU: 80% of it is on the GPU", spilled=True),
        ),
        ({"tiny:latest": Running(5 * GB, 0)}, ModelStatus(True, True, "runs on the CPU", on_cpu=True)),
        ({"other:latest": Running(5 * GB, 0)}, ModelStatus(True, False)),
    ],
)
async def test_the_status_tells_where_a_model_runs(ollama_side, ollama_server, running, status):
    ollama_server.running = running
    assert await ollama_side.engine().model_status("tiny") == status


async def test_a_missing_model_is_pulled_with_progress(ollama_side, ollama_server):
    ollama_server.registry["new:latest"] = Download(size=5 * GB)
    steps: list[Any] = []
    await ollama_side.engine().ensure_model("new", steps.append)
    assert steps[0] == Progress("pulling manifest", None)
    assert [step.fraction for step in steps if step.stage == "pulling 8934d96d3f08"] == [
        tenth / 10 for tenth in range(1, 11)
    ]
    assert (await ollama_side.engine().model_status("new")).present is True


async def test_a_present_model_is_not_pulled_again(ollama_side, ollama_server):
    await ollama_side.engine().ensure_model("tiny", lambda _: None)
    assert "/api/pull" not in [request.path for request in ollama_server.requests]


async def test_a_pull_that_breaks_off_goes_on_where_it_stopped(ollama_side, ollama_server):
    ollama_server.registry["new:latest"] = Download(size=1000, failures=(300, 600))
    steps: list[Any] = []
    await ollama_side.engine().ensure_model("new", steps.append)
    fractions = [step.fraction for step in steps if step.stage == "pulling 8934d96d3f08"]
    assert fractions == [tenth / 10 for tenth in range(1, 11)]


async def test_a_pull_that_keeps_breaking_off_fails(ollama_side, ollama_server):
    ollama_server.registry["new:latest"] = Download(size=1000, failures=(100, 200, 300, 400))
    with pytest.raises(EngineUnavailable):
        await ollama_side.engine().ensure_model("new", lambda _: None)


async def test_a_model_that_the_registry_lacks_is_refused(ollama_side):
    with pytest.raises(EngineRefused, match="file does not exist"):
        await ollama_side.engine().ensure_model("new", lambda _: None)


@pytest.mark.parametrize("error", ["digest mismatch, download it again", "max retries exceeded: EOF"])
async def test_a_pull_that_another_try_mends_is_tried_again(ollama_side, ollama_server, error):
    ollama_server.registry["new:latest"] = Download(errors=(error,))
    await ollama_side.engine().ensure_model("new", lambda _: None)
    assert (await ollama_side.engine().model_status("new")).present is True


async def test_a_pull_that_keeps_failing_fails_with_the_last_reason(ollama_side, ollama_server):
    ollama_server.registry["new:latest"] = Download(errors=("digest mismatch",) * 9)
    with pytest.raises(EngineUnavailable, match="digest mismatch"):
        await ollama_side.engine().ensure_model("new", lambda _: None)


@pytest.mark.parametrize(
    ("error", "what_to_do"),
    [
        ("write /root/.ollama: no space left on device", "free some disk space"),
        ("pull model manifest: 412: requires a newer version of Ollama", "upgrade Ollama"),
        ("mkdir /models/blobs: permission denied", "let Ollama write"),
    ],
)
async def test_a_pull_that_would_fail_again_is_not_repeated_and_its_cause_has_a_hint(
    ollama_side, ollama_server, error, what_to_do
):
    ollama_server.registry["new:latest"] = Download(errors=(error,) * 9)
    with pytest.raises(EngineRefused, match=error) as caught:
        await ollama_side.engine().ensure_model("new", lambda _: None)
    assert what_to_do in caught.value.hint
    assert [request.path for request in ollama_server.requests].count("/api/pull") == 1


async def test_the_version_is_told(ollama_side):
    assert await ollama_side.engine().version() == "0.12.3"
