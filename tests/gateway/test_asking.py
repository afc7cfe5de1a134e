"""From a body to questions: what a client sends is either a question or its mistake."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmhost.answering.question import Question
from llmhost.config.models import Config
from llmhost.engines.ollama_wire import chat_payload
from llmhost.errors import LlmhostError
from llmhost.gateway import anthropic, ollama, openai, responses
from llmhost.gateway.asking import CacheControl, Questions, questions_of, read_cache_control
from llmhost.gateway.chat import Chat
from llmhost.gateway.exchange import Caller
from llmhost.gateway.fleets import ServedFleet
from llmhost.gateway.responses_writer import ResponseWriter

FLEET = ServedFleet(
    Config.model_validate(
        {
            "fleet": {"provider": "static", "workers": [{"url": "http://127.0.0.1:1"}]},
            "engine": {"kind": "openai", "model": "tiny"},
        }
    ),
    cast("Any", None),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
READ = [
    "model",
    "messages",
    "prompt",
    "stream",
    "n",
    "stop",
    "temperature",
    "tools",
    "stream_options",
    "seed",
    "suffix",
]
FIELDS = st.dictionaries(st.sampled_from(READ) | st.text(max_size=8), JSON, max_size=4)
CALL = {"function": {"name": "now", "arguments": {"city": "Rome"}}}
#: junk at every depth of a body of Anthropic's API, and of a response
BLOCK_TYPES = ["text", "image", "document", "thinking", "tool_use", "tool_result", "message", "reasoning"]
ITEM_TYPES = [*BLOCK_TYPES, "function_call", "function_call_output", "input_text", "input_image", "function"]
INNER = [
    "type",
    "role",
    "content",
    "text",
    "source",
    "input",
    "id",
    "name",
    "tool_use_id",
    "call_id",
    "output",
]
THING = st.dictionaries(
    st.sampled_from(INNER),
    st.sampled_from([*ITEM_TYPES, "user", "assistant", "namespace"]) | JSON,
    max_size=6,
)
THINGS = THING | st.lists(
    THING | st.dictionaries(st.sampled_from(INNER), st.lists(THING, max_size=3)), max_size=4
)
OTHERS = ["system", "tools", "tool_choice", "thinking", "output_config", "max_tokens", "thread", "metadata"]
OTHERS += ["instructions", "text", "reasoning", "include", "top_logprobs", "input", "messages", "top_k"]
JUNK = st.dictionaries(st.sampled_from(OTHERS) | st.text(max_size=8), THINGS | JSON, max_size=4)
ASKED: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


@given(changes=FIELDS)
def test_any_body_of_a_chat_is_questions_or_a_mistake(changes: dict[str, Any]) -> None:
    try:
        body = openai.CHAT_BODY.validate_json(json.dumps({**ASKED, **changes}))
        questions = questions_of([openai.chat_of(body)], FLEET, CacheControl(), Caller())
    except (ValidationError, LlmhostError):
        return
    assert len(questions) == (body.n or 1)
    assert all(question.model == "tiny" and question.request() for question in questions)


@given(changes=FIELDS)
def test_any_body_of_a_completion_is_questions_or_a_mistake(changes: dict[str, Any]) -> None:
    try:
        body = openai.COMPLETION_BODY.validate_json(json.dumps({"model": "tiny", "prompt": "Hi", **changes}))
        questions = questions_of(openai.completions_of(body), FLEET, CacheControl(), Caller())
    except (ValidationError, LlmhostError):
        return
    assert 1 <= len(questions) <= openai.MOST_CHOICES


OPTIONS = st.fixed_dictionaries(
    {}, optional={"num_predict": JSON, "stop": JSON, "top_k": JSON, "num_ctx": JSON, "mirostat": JSON}
)
OF_OLLAMA = st.dictionaries(
    st.sampled_from(["messages", "prompt", "images", "format", "think", "tools", "keep_alive", "system"])
    | st.sampled_from(["raw", "suffix"])
    | st.text(max_size=8),
    JSON,
    max_size=4,
)


@given(changes=OF_OLLAMA, options=OPTIONS)
def test_any_body_in_ollama_s_api_is_a_question_or_a_mistake(
    changes: dict[str, Any], options: dict[str, Any]
) -> None:
    sent = json.dumps({**ASKED, "prompt": "Hi", "options": options, **changes})
    try:
        chats = [
            ollama.chat_of(ollama.CHAT_BODY.validate_json(sent)),
            ollama.generated_chat_of(ollama.GENERATE_BODY.validate_json(sent)),
        ]
        questions = [
            question for chat in chats for question in questions_of([chat], FLEET, CacheControl(), Caller())
        ]
    except (ValidationError, LlmhostError):
        return
    assert len(questions) == 2


async def test_what_is_asked_again_is_the_same_question_and_another_s_is_not() -> None:
    remembered = Questions()

    async def asked(
        control: CacheControl | None = None, caller: Caller | None = None, **changes: Any
    ) -> Question:
        chat = openai.chat_of(openai.CHAT_BODY.validate_python({**ASKED, **changes}))
        return (await remembered.of([chat], FLEET, control or CacheControl(), caller or Caller()))[0]

    first = await asked()
    assert await asked() is first
    others = [
        await asked(temperature=0.5),
        await asked(messages=[{"role": "user", "content": "Else?"}]),
        await asked(prompt_cache_key="session"),
        await asked(caller=Caller("acme")),
        await asked(caller=Caller("acme", "ann")),
        await asked(CacheControl(max_age=60)),
    ]
    assert len({id(question) for question in (first, *others)}) == 7
    assert [question.tenant for question in others[3:5]] == ["acme", "acme"]
    assert others[4].user == "ann"


async def test_what_is_more_than_text_is_always_read_anew() -> None:
    remembered = Questions()
    image = {"role": "user", "content": [{"type": "image_url"}]}
    differently: list[dict[str, Any]] = [{"tools": [{}]}, {"messages": [image]}]
    for changes in differently:
        chat = openai.chat_of(openai.CHAT_BODY.validate_python({**ASKED, **changes}))
        one, two = [await remembered.of([chat], FLEET, CacheControl(), Caller()) for _ in range(2)]
        assert one[0] is not two[0]


async def test_other_requests_go_on_while_a_long_text_is_read() -> None:
    messages = [{"role": "user", "content": "What is this? " + "lorem ipsum " * 500}]
    chat = openai.chat_of(openai.CHAT_BODY.validate_python({**ASKED, "messages": messages}))
    another = asyncio.create_task(asyncio.sleep(0))
    await Questions().of([chat], FLEET, CacheControl(), Caller())
    assert another.done()


def test_what_ollama_s_clients_send_reaches_an_ollama_as_they_sent_it() -> None:
    schema = {"type": "object"}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "What is this?", "images": ["iVBORw0KGgo="]},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [CALL]},
        {"role": "tool", "content": "noon", "tool_name": "now"},
    ]
    options = {"top_k": 5, "mirostat": 1, "temperature": 0.5, "num_predict": 9, "stop": ["x"], "num_ctx": 64}
    sent = {"messages": messages, "options": options, "format": schema, "think": "high", "tools": [{}]}
    chat = ollama.chat_of(ollama.CHAT_BODY.validate_python({"model": "tiny", **sent}))
    payload = chat_payload(questions_of([chat], FLEET, CacheControl(), Caller())[0].request(), 4096)
    assert payload["options"] == {**options, "num_ctx": 4096}
    assert {name: payload[name] for name in ("messages", "format", "think", "tools")} == {
        "messages": messages,
        "format": schema,
        "think": "high",
        "tools": [{}],
    }


@given(changes=JUNK)
def test_any_body_of_anthropic_s_api_is_a_question_or_a_mistake(changes: dict[str, Any]) -> None:
    try:
        body = anthropic.MESSAGES_BODY.validate_json(json.dumps({**ASKED, "max_tokens": 9, **changes}))
        chat = anthropic.chat_of(body)
        (question,) = questions_of([chat], FLEET, CacheControl(), Caller())
    except (ValidationError, LlmhostError):
        return
    assert question.request()
    assert anthropic.MessageWriter(chat, thoughts=True).begin()


@given(changes=JUNK)
def test_any_body_of_a_response_is_a_question_or_a_mistake(changes: dict[str, Any]) -> None:
    try:
        body = responses.RESPONSE_BODY.validate_json(json.dumps({"model": "tiny", "input": "Hi", **changes}))
        (question,) = questions_of([responses.chat_of(body)], FLEET, CacheControl(), Caller())
    except (ValidationError, LlmhostError):
        return
    assert question.request()
    assert ResponseWriter(body).begin()


@given(header=st.text(max_size=60))
def test_any_cache_control_can_be_read(header: str) -> None:
    control = read_cache_control(header)
    assert control.max_age is None or control.max_age >= 0


def test_the_seeds_of_several_choices_differ() -> None:
    body = openai.CHAT_BODY.validate_python({**ASKED, "n": 3, "seed": 7})
    questions = questions_of([openai.chat_of(body)], FLEET, CacheControl(), Caller())
    assert [question.sampling.seed for question in questions] == [7, 8, 9]


# What each API's parameters do to the answers in the cache

#: what each API calls a request that asks "Hi"
REQUESTS: Mapping[str, Callable[[Mapping[str, Any]], Sequence[Chat]]] = {
    "/v1/chat/completions": lambda sent: [
        openai.chat_of(openai.CHAT_BODY.validate_python({**ASKED, **sent}))
    ],
    "/v1/completions": lambda sent: openai.completions_of(
        openai.COMPLETION_BODY.validate_python({"model": "tiny", "prompt": "Hi", **sent})
    ),
    "/v1/responses": lambda sent: [
        responses.chat_of(responses.RESPONSE_BODY.validate_python({"model": "tiny", "input": "Hi", **sent}))
    ],
    "/v1/messages": lambda sent: [
        anthropic.chat_of(anthropic.MESSAGES_BODY.validate_python({**ASKED, "max_tokens": 9, **sent}))
    ],
    "/api/chat": lambda sent: [ollama.chat_of(ollama.CHAT_BODY.validate_python({**ASKED, **sent}))],
    "/api/generate": lambda sent: [
        ollama.generated_chat_of(
            ollama.GENERATE_BODY.validate_python({"model": "tiny", "prompt": "Hi", **sent})
        )
    ],
}
OPENAI, COMPLETIONS, RESPONSES, ANTHROPIC, OLLAMA, GENERATE = REQUESTS
SCHEMA = {"type": "json_schema", "schema": {"type": "object"}}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
SEPARATES, SAME, BYPASSES = "separates", "is the same", "bypasses the cache"

#: parameters as each API calls them, and what they do; those that no engine is sent change nothing
OF_ENGINES: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"seed": 1}, SEPARATES),
    ({"top_k": 1}, SEPARATES),
    ({"min_p": 0.1}, SEPARATES),
    ({"presence_penalty": 0.5}, SEPARATES),
    ({"presence_penalty": 0}, SAME),
    ({"frequency_penalty": 0.5}, SEPARATES),
    ({"repeat_penalty": 1.2}, SEPARATES),
    ({"repetition_penalty": 1.2}, SEPARATES),
    ({"logit_bias": {"1": 1}}, SEPARATES),
]
OF_OPENAI: Sequence[tuple[Mapping[str, Any], str]] = [
    *OF_ENGINES,
    ({"stop": ["x"]}, SEPARATES),
    ({"temperature": 0}, SEPARATES),
    ({"top_p": 0.5}, SEPARATES),
    ({"max_tokens": 5}, SAME),
    ({"response_format": {"type": "json_object"}}, SEPARATES),
    ({"response_format": {"type": "text"}}, SAME),
    ({"reasoning_effort": "low"}, SEPARATES),
    ({"think": True}, SEPARATES),
    ({"options": {"num_ctx": 64}}, SAME),  # the context is the configuration's
    ({"options": {"top_k": 1, "num_gpu": 0}}, SEPARATES),
    ({"num_ctx": 64}, BYPASSES),
    ({"tools": []}, SAME),
    ({"verbosity": "low"}, BYPASSES),
    ({"verbosity": "medium"}, SAME),
    ({"keep_alive": "5m"}, SAME),
    ({"user": "ann"}, SAME),
    ({"stream": True}, SAME),
    ({"a_field_of_tomorrow": 1}, BYPASSES),
]
OF_RESPONSES: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"instructions": "Be brief."}, SEPARATES),
    ({"temperature": 0}, SEPARATES),
    ({"top_p": 0.5}, SEPARATES),
    ({"max_output_tokens": 5}, SAME),
    ({"text": {"format": {"type": "json_object"}}}, SEPARATES),
    ({"reasoning": {"effort": "low"}}, SEPARATES),
    ({"tools": [{"type": "function", **FUNCTION}]}, BYPASSES),
    ({"top_logprobs": 2}, BYPASSES),
    ({"metadata": {"a": "b"}}, SAME),
    ({"stream": True}, SAME),
    *OF_ENGINES,
    ({"stop": ["x"]}, SEPARATES),
    ({"keep_alive": "5m"}, SAME),
    ({"truncation": "auto", "include": ["reasoning.encrypted_content"], "client_metadata": {}}, SAME),
    ({"store": True, "service_tier": "flex", "max_tool_calls": 3, "background": False}, SAME),
    ({"text": {"verbosity": "low"}}, BYPASSES),
    ({"text": {"verbosity": "medium"}}, SAME),
    ({"text": {"tone": "kind"}}, BYPASSES),
    ({"reasoning": {"mode": "pro"}}, BYPASSES),
    ({"reasoning": {"summary": "auto", "context": "all_turns"}}, SAME),
    ({"max_tokens": 5}, BYPASSES),
    ({"a_field_of_tomorrow": None}, SAME),
    ({"a_field_of_tomorrow": 1}, BYPASSES),
]
OF_ANTHROPIC: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"system": "Be brief."}, SEPARATES),
    ({"temperature": 0}, SEPARATES),
    ({"top_p": 0.5}, SEPARATES),
    ({"max_tokens": 5}, SAME),
    ({"stop_sequences": ["x"]}, SEPARATES),
    ({"output_config": {"format": SCHEMA}}, SEPARATES),
    ({"output_config": {"effort": "low"}}, SEPARATES),
    ({"thinking": {"type": "disabled"}}, SEPARATES),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, SAME),
    ({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, BYPASSES),
    ({"metadata": {"user_id": "ann"}}, SAME),
    ({"stream": True}, SAME),
    *OF_ENGINES,
    ({"keep_alive": "5m"}, SAME),
    ({"cache_control": {"type": "ephemeral"}, "service_tier": "auto", "speed": "fast"}, SAME),
    ({"context_management": {"edits": []}, "inference_geo": "us", "diagnostics": {}}, SAME),
    ({"output_config": {"task_budget": {"type": "tokens", "total": 9}}}, BYPASSES),
    ({"thinking": {"type": "adaptive", "tone": "kind"}}, BYPASSES),
    ({"system": [{"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}]}, SAME),
    ({"system": [{"type": "text", "text": "", "weight": 2}]}, BYPASSES),
    ({"a_field_of_tomorrow": None}, SAME),
    ({"a_field_of_tomorrow": 1}, BYPASSES),
]
OF_OLLAMA_ALONE: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"options": {"seed": 1}}, SEPARATES),
    ({"options": {"stop": ["x"]}}, SEPARATES),
    ({"options": {"temperature": 0}}, SEPARATES),
    ({"options": {"top_p": 0.5}}, SEPARATES),
    ({"options": {"num_predict": 5}}, SAME),
    ({"options": {"top_k": 1}}, SEPARATES),
    ({"options": {"min_p": 0.1}}, SEPARATES),
    ({"options": {"typical_p": 0.1}}, SEPARATES),
    ({"options": {"repeat_penalty": 1.2}}, SEPARATES),
    ({"options": {"presence_penalty": 0.5}}, SEPARATES),
    ({"options": {"frequency_penalty": 0.5}}, SEPARATES),
    ({"options": {"mirostat": 1}}, SEPARATES),
    ({"options": {"num_ctx": 64}}, SAME),  # the context is the configuration's
    ({"options": {"num_thread": 2}}, SAME),
    ({"format": "json"}, SEPARATES),
    ({"format": {"type": "object"}}, SEPARATES),
    ({"think": True}, SEPARATES),
    ({"think": "high"}, SEPARATES),
    ({"tools": [{"type": "function", "function": FUNCTION}]}, BYPASSES),
    ({"keep_alive": "5m"}, SAME),
    ({"stream": False}, SAME),
    ({"n": 1}, SAME),
    ({"temperature": 0, "options": {"top_k": 2}}, SEPARATES),
    ({"top_p": 0.6}, SEPARATES),
    ({"max_output_tokens": 5}, SAME),
    ({"seed": 1}, BYPASSES),  # Ollama reads it among the options alone
    ({"a_field_of_tomorrow": 1}, BYPASSES),
]
EFFECTS: Mapping[str, Sequence[tuple[Mapping[str, Any], str]]] = {
    OPENAI: [
        *OF_OPENAI,
        ({"logprobs": True}, BYPASSES),
        ({"tools": [{"type": "function", "function": FUNCTION}]}, BYPASSES),
    ],
    COMPLETIONS: [*OF_OPENAI, ({"logprobs": 0}, BYPASSES), ({"logprobs": False}, SAME)],
    RESPONSES: OF_RESPONSES,
    ANTHROPIC: OF_ANTHROPIC,
    OLLAMA: OF_OLLAMA_ALONE,
    GENERATE: OF_OLLAMA_ALONE,
}


def entry_of(path: str, sent: Mapping[str, Any]) -> str | None:
    """Where the answer is kept; None where the cache is bypassed."""
    (question,) = questions_of(REQUESTS[path](sent), FLEET, CacheControl(), Caller())
    key = question.key("sha256:weights")
    return None if key is None or question.bypasses else key.entry


@pytest.mark.parametrize(
    ("path", "sent", "effect"), [(path, *one) for path, table in EFFECTS.items() for one in table]
)
def test_each_parameter_of_each_api_separates_answers_or_does_not(
    path: str, sent: Mapping[str, Any], effect: str
) -> None:
    found, plain = entry_of(path, sent), entry_of(path, {})
    assert effect == (BYPASSES if found is None else SAME if found == plain else SEPARATES)


@pytest.mark.parametrize("path", REQUESTS)
def test_no_two_parameters_of_an_api_share_an_answer(path: str) -> None:
    separating = [sent for sent, effect in EFFECTS[path] if effect == SEPARATES]
    assert len({entry_of(path, sent) for sent in separating}) == len(separating)


def test_every_api_asks_the_same_question_in_its_own_words() -> None:
    plain: Mapping[str, Mapping[str, Any]] = {
        OPENAI: {"max_tokens": 9},
        COMPLETIONS: {"max_tokens": 9},
        RESPONSES: {"max_output_tokens": 9},
        OLLAMA: {"options": {"num_predict": 9}},
        GENERATE: {"options": {"num_predict": 9}},
    }
    assert {entry_of(path, plain.get(path, {})) for path in REQUESTS} == {entry_of(ANTHROPIC, {})}
