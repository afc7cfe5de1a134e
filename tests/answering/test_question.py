"""What may be asked, what of a request reaches the engine, and what an answer depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.answering.question import Question, make_completion, make_question
from llmhost.cache.models import Answer
from llmhost.config.models import Config
from llmhost.engines.engine import ChatRequest, Completion, Message, Sampling
from llmhost.errors import UsageError

ASKED = Question(prompt="What is AI?", model="m", tenant="t")
CONFIG = Config.model_validate(
    {
        "fleet": {"provider": "static", "workers": [{"url": "http://127.0.0.1:1"}]},
        "engine": {"kind": "ollama", "model": "m", "system": "be brief", "max_tokens": 9},
    }
)
IMAGE = Message("user", [{"type": "image_url", "image_url": {"url": "data:,"}}])
CALL = Message("assistant", None, {"tool_calls": [{"id": "1", "function": {"name": "f"}}]})


def entry(question: Question) -> str:
    key = question.key()
    assert key is not None
    return key.entry


def user(text: str) -> Message:
    return Message("user", text)


def test_a_text_to_continue_reaches_the_engine_as_it_is_and_bypasses_the_cache() -> None:
    gap = Completion(" def add(", "\n")
    question = make_completion(CONFIG, gap, model="m", sampling=Sampling(seed=3), fields={"top_k": 1})
    assert question.request() == ChatRequest("m", (), Sampling(seed=3, max_tokens=9), {"top_k": 1}, gap)
    assert question.bypasses
    assert replace(question, use_cache=True).key() is None
    with pytest.raises(UsageError, match="32,001 characters"):
        make_completion(CONFIG, Completion("x", "y" * 32_000), model="m", sampling=Sampling(), fields={})


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"tenant": "other"},
        {"system": "Answer in French."},
        {"history": (Message("user", "Hi"), Message("assistant", "Hello"))},
        {"history": (IMAGE,)},
        {"sampling": Sampling(temperature=0.1)},
        {"sampling": Sampling(top_p=0.1)},
        {"sampling": Sampling(seed=1)},
        {"sampling": Sampling(stop=("\n",))},
        {"engine": "ollama"},
        {"context": 8192},
        {"fleet": "other"},
    ],
    ids=lambda changes: next(iter(changes)) + str(next(iter(changes.values())))[:30],
)
def test_whatever_an_answer_depends_on_separates_answers(changes: dict[str, Any]) -> None:
    assert entry(replace(ASKED, **changes)) != entry(ASKED)


@pytest.mark.parametrize("changes", [{"use_cache": False}, {"refresh": True}, {"threshold": 0.5}])
def test_how_the_cache_is_used_does_not_separate_answers(changes: dict[str, Any]) -> None:
    assert entry(replace(ASKED, **changes)) == entry(ASKED)


def test_a_turn_cannot_pass_for_two() -> None:
    one = replace(ASKED, history=(Message("user", "a\nassistant: b"),))
    two = replace(ASKED, history=(Message("user", "a"), Message("assistant", "b")))
    assert entry(one) != entry(two)


#: Every parameter that one of the engines knows, and what it does to the answers in the cache.
PARAMETERS = [
    ("options", {"num_ctx": 8192}, "separates"),
    ("options", {"seed": 1}, "separates"),
    ("options", {"stop": ["x"]}, "separates"),
    ("options", {"temperature": 0}, "separates"),
    ("options", {"top_k": 1}, "separates"),
    ("options", {"min_p": 0.1}, "separates"),
    ("options", {"repeat_penalty": 1.2}, "separates"),
    ("options", {"num_predict": 5}, "separates"),
    ("top_k", 1, "separates"),
    ("min_p", 0.1, "separates"),
    ("typical_p", 0.1, "separates"),
    ("repeat_penalty", 1.2, "separates"),
    ("repetition_penalty", 1.2, "separates"),
    ("presence_penalty", 0.5, "separates"),
    ("frequency_penalty", 0.5, "separates"),
    ("logit_bias", {"50256": -100}, "separates"),
    ("format", "json", "separates"),
    ("format", {"type": "object"}, "separates"),
    ("response_format", {"type": "json_object"}, "separates"),
    ("think", True, "separates"),
    ("think", "high", "separates"),
    ("reasoning_effort", "low", "separates"),
    ("keep_alive", "5m", "is the same"),
    ("user", "ann", "is the same"),
    ("tools", [], "bypasses the cache"),
    ("tool_choice", "auto", "bypasses the cache"),
    ("n", 2, "bypasses the cache"),
    ("logprobs", True, "bypasses the cache"),
    ("template", "{{ .Prompt }}", "bypasses the cache"),
    ("truncate", True, "bypasses the cache"),
    ("a_field_of_tomorrow", 1, "bypasses the cache"),
]


@pytest.mark.parametrize(("name", "value", "effect"), PARAMETERS)
def test_each_parameter_of_an_engine_separates_or_does_not(name: str, value: Any, effect: str) -> None:
    key = replace(ASKED, fields={name: value}).key()
    if effect == "bypasses the cache":
        assert key is None
    else:
        assert key is not None
        assert (key.entry == entry(ASKED)) == (effect == "is the same")


def test_two_values_of_a_parameter_are_two_places() -> None:
    separating = [{name: value} for name, value, effect in PARAMETERS if effect == "separates"]
    assert len({entry(replace(ASKED, fields=fields)) for fields in separating}) == len(separating)


def test_the_same_weights_are_the_same_in_every_fleet_and_other_weights_are_others() -> None:
    other_fleet = replace(ASKED, fleet="other")
    assert ASKED.key("sha256:a") == other_fleet.key("sha256:a")
    assert ASKED.key("sha256:a") != ASKED.key("sha256:b")
    assert ASKED.key("sha256:a") != ASKED.key()


@pytest.mark.parametrize(
    "changes",
    [{"last": IMAGE}, {"fields": {"tools": []}}, {"fields": {"n": 2}}, {"fields": {"format": float("nan")}}],
)
def test_what_the_cache_does_not_understand_has_no_place_in_it(changes: dict[str, Any]) -> None:
    assert replace(ASKED, **changes).key() is None


# From configuration and request


@pytest.mark.parametrize(
    ("most", "tokens", "worker", "text", "allowed"),
    [
        (None, 500, "w", "long", True),
        (100, 100, "w", "as long as it may be", True),
        (100, 101, "w", "one token too long", False),
        (100, 0, "w", "not counted, but surely short", True),
        (100, 0, "w", "not counted, and perhaps long" * 9, False),
        (100, 0, "", "given by the operator" * 9, True),
    ],
)
def test_an_answer_suits_a_limit_that_would_not_have_cut_it(
    most: int | None, tokens: int, worker: str, text: str, allowed: bool
) -> None:
    answer = Answer(text, "m", 0.0, 9, tokens, "stop", 1.0, 0.0, worker=worker)
    assert replace(ASKED, sampling=Sampling(max_tokens=most)).allows(answer) is allowed


def test_what_a_request_leaves_open_the_configuration_says() -> None:
    question = make_question(CONFIG, [user("hi")])
    assert question == Question(
        prompt="hi",
        model="m",
        tenant="default",
        system="be brief",
        settled=False,
        sampling=Sampling(max_tokens=9),
        engine="ollama",
        context=4096,
        fleet="local",
    )


#: Every key of the configuration that an engine is asked by, and what another value does to the answers.
CONFIGURED = [
    ("engine", {"model": "other"}, "separates"),
    ("engine", {"system": "be kind"}, "separates"),
    ("engine", {"temperature": 0.5}, "separates"),
    ("engine", {"top_p": 0.5}, "separates"),
    ("engine", {"seed": 1}, "separates"),
    ("engine", {"max_tokens": 5}, "is the same"),  # a longer answer is not served
    ("engine", {"context": 8192}, "separates"),
    ("engine", {"kind": "openai"}, "separates"),
    ("cache", {"tenant": "acme"}, "separates"),
    ("engine", {"keep_alive": "5m"}, "is the same"),
    ("engine", {"slots": 2}, "is the same"),
    ("engine", {"token_timeout": "9s"}, "is the same"),
    ("fleet", {"name": "other"}, "is the same"),  # the weights' digest is known
]


@pytest.mark.parametrize(("section", "values", "effect"), CONFIGURED)
def test_each_value_by_which_ask_asks_separates_answers_or_does_not(
    section: str, values: dict[str, Any], effect: str
) -> None:
    document = CONFIG.model_dump()
    other = Config.model_validate(document | {section: document[section] | values})
    one, two = (make_question(config, [user("hi")]).key("sha256:weights") for config in (CONFIG, other))
    assert one is not None
    assert two is not None
    assert (one.entry == two.entry) == (effect == "is the same")


@pytest.mark.parametrize(("system", "expected"), [("other", "other"), ("", None), (None, "be brief")])
def test_a_request_may_bring_its_own_system_prompt_or_none(system: str | None, expected: str | None) -> None:
    assert make_question(CONFIG, [user("hi")], system=system).system == expected


@pytest.mark.parametrize(
    "messages",
    [
        [user("hi")],
        [Message("system", "be kind"), user("a"), Message("assistant", "b"), user("hi")],
        [Message("developer", "be kind"), user("hi")],
        [user("a"), CALL, Message("tool", "42", {"tool_call_id": "1"})],
        [Message("system", [{"type": "text", "text": "be kind"}]), IMAGE],
        [user("a"), Message("user", "hi", {"name": "ann"})],
    ],
    ids=["plain", "turns", "developer", "tool", "parts", "name"],
)
def test_an_engine_is_sent_the_messages_as_the_client_sent_them(messages: list[Message]) -> None:
    fields = {"tools": [{"type": "function"}], "unknown": 1}
    request = make_question(CONFIG, messages, system="", fields=fields).request()
    assert (list(request.messages), request.fields) == (messages, fields)


@pytest.mark.parametrize("messages", [[], [user("")], [user(" ")], [user("a"), user("\n\t ")]])
def test_an_empty_question_is_refused(messages: list[Message]) -> None:
    with pytest.raises(UsageError, match="empty"):
        make_question(CONFIG, messages)


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 120))
def test_the_limit_holds_for_the_question_with_all_that_comes_with_it(
    prompt: int, system: int, turn: int, limit: int
) -> None:
    config = CONFIG.model_copy(
        update={"limits": CONFIG.limits.model_copy(update={"max_prompt_chars": limit})}
    )
    messages = [user("t" * turn), user("p" * prompt)]
    if prompt + system + turn > limit:
        with pytest.raises(UsageError, match=f"the limit is {limit}"):
            make_question(config, messages, system="s" * system)
    else:
        make_question(config, messages, system="s" * system)


TURNS = [user("a" * 300), Message("assistant", "b" * 300), user("c" * 300), Message("assistant", "d" * 300)]


def limited(**changes: Any) -> Config:
    """`CONFIG` with other limits: `max_prompt_chars`, or fields of the engine."""
    limits = {name: changes.pop(name) for name in ("max_prompt_chars",) if name in changes}
    update = {
        "limits": CONFIG.limits.model_copy(update=limits),
        "engine": CONFIG.engine.model_copy(update=changes),
    }
    return CONFIG.model_copy(update=update)


@pytest.mark.parametrize(
    ("config", "sent"),
    [
        (CONFIG, 4),
        (limited(max_prompt_chars=1210), 4),
        (limited(max_prompt_chars=1209), 2),
        (limited(max_prompt_chars=609), 0),
        (limited(context=404 + 9), 4),  # of 1,210 bytes a third, and the answer's 9
        (limited(context=403 + 9), 2),
        (limited(context=256, max_tokens=9000), 0),
        (limited(context=256, kind="openai"), 4),  # its context is not known
    ],
)
def test_a_conversation_that_has_become_too_long_goes_on_without_its_oldest_turns(
    config: Config, sent: int
) -> None:
    question = make_question(config, [*TURNS, user("hi")], forgets=True)  # "be brief" and "hi" have 10
    assert list(question.history) == TURNS[len(TURNS) - sent :]


def test_a_long_word_in_another_script_counts_by_its_bytes() -> None:
    turns = [user("語" * 300), Message("assistant", "語" * 300)]
    question = make_question(limited(context=605 + 9), [*turns, user("hi")], forgets=True)
    assert list(question.history) == turns
    assert make_question(limited(context=603 + 9), [*turns, user("hi")], forgets=True).history == ()


# What may be cached


@pytest.mark.parametrize(
    ("asked", "options", "cached"),
    [
        ("What is Redis?", {}, True),
        ("Is my parcel here yet?", {}, False),
        ("Book a table for two", {}, False),
        ("What time is it?", {}, False),
        ("What time is it?", {"use_cache": True}, True),
        ("What time is it?", {"refresh": True}, True),
        ("What is Redis?", {"use_cache": False}, False),
    ],
)
def test_a_question_whose_answer_does_not_keep_is_cached_only_where_that_is_asked_for(
    asked: str, options: dict[str, Any], cached: bool
) -> None:
    assert make_question(CONFIG, [user(asked)], **options).use_cache is cached


def test_the_configuration_may_admit_every_question() -> None:
    config = Config.model_validate({"cache": {"admission": "all"}})
    question = make_question(config, [user("Is my parcel here yet?")])
    assert (question.kind, question.use_cache, question.exact_only) == ("plain", True, False)


@pytest.mark.parametrize(
    ("asked", "options", "kind", "exact_only"),
    [
        ("What is Redis?", {}, "plain", False),
        ("Roll a die", {"use_cache": True}, "random", True),
        ("What time is it?", {"use_cache": True}, "changing", False),
        ("Is my parcel here yet?", {"use_cache": True}, "personal", True),
        ("Book a table for two", {"refresh": True}, "acting", True),
    ],
)
def test_what_does_something_or_is_personal_is_never_embedded(
    asked: str, options: dict[str, Any], kind: str, exact_only: bool
) -> None:
    question = make_question(CONFIG, [user(asked)], **options)
    assert (question.kind, question.exact_only) == (kind, exact_only)


@pytest.mark.parametrize(
    ("lifetime", "used", "seconds"), [("10m", True, 600.0), ("none", False, None), ("default", True, None)]
)
def test_the_configuration_says_how_long_an_answer_of_a_kind_is_kept(
    lifetime: str, used: bool, seconds: float | None
) -> None:
    config = Config.model_validate({"cache": {"lifetimes": {"changing": lifetime}}})
    question = make_question(config, [user("What time is it?")])
    assert (question.use_cache, question.lifetime) == (used, seconds)


def test_the_operator_s_patterns_allow_and_deny() -> None:
    config = Config.model_validate({"cache": {"allow": ["what time"], "deny": ["redis"]}})
    kinds = [make_question(config, [user(asked)]).kind for asked in ("What time is it?", "What is Redis?")]
    assert kinds == ["plain", "denied"]
    assert not make_question(config, [user("What is Redis?")]).use_cache


@pytest.mark.parametrize(
    ("options", "settled"),
    [
        ({}, False),
        ({"use_cache": True}, True),
        ({"use_cache": False}, True),
        ({"refresh": True}, True),
    ],
)
def test_a_plain_question_is_settled_where_somebody_says_whether_to_cache_it(
    options: dict[str, Any], settled: bool
) -> None:
    assert make_question(CONFIG, [user("What is Redis?")], **options).settled is settled


def test_a_conversation_an_allowed_and_a_recognised_question_are_settled() -> None:
    turns = [user("Hello"), Message("assistant", "Hello"), user("What is Redis?")]
    allowing = Config.model_validate({"cache": {"allow": ["redis"]}})
    everything = Config.model_validate({"cache": {"admission": "all"}})
    made = [
        make_question(CONFIG, turns),
        make_question(allowing, [user("What is Redis?")]),
        make_question(everything, [user("What is Redis?")]),
        make_question(CONFIG, [user("What time is it?")]),
    ]
    assert [question.settled for question in made] == [True] * 4


def test_a_conversation_in_which_somebody_gave_own_data_stays_personal() -> None:
    turns = [user("My name is Bob"), Message("assistant", "Hello Bob"), user("What is Redis?")]
    assert make_question(CONFIG, turns).kind == "personal"
    turns[0] = user("Hello")
    assert make_question(CONFIG, turns).kind == "plain"


@pytest.mark.parametrize("asked", ["Generate a strong password", "Roll a die", "Flip a coin, please"])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_secret_and_a_draw_are_never_kept(asked: str, temperature: float) -> None:
    config = Config.model_validate(
        {"cache": {"lifetimes": {"creative": "1h", "personal": "1h", "acting": "1h"}}}
    )
    question = make_question(config, [user(asked)], sampling=Sampling(temperature=temperature))
    assert (question.kind, question.use_cache, question.exact_only) == ("random", False, True)
    assert make_question(config, [user("My name is Bob.\n" + asked)]).kind == "random"


@pytest.mark.parametrize(
    "earlier",
    [
        [Message("system", "You know Project Falcon.")],
        [Message("developer", "You know Project Falcon."), user("Hi"), Message("assistant", "Hello")],
        [user("Project Falcon has 3 engines."), Message("assistant", "Noted.")],
        [user("What has 3 engines?"), Message("assistant", "Project Falcon.")],
        [
            user("What has 3 engines?"),
            Message("assistant", None, {"tool_calls": [{"function": {"arguments": '{"name": "falcon"}'}}]}),
            Message("tool", "found", {"tool_call_id": "1"}),
            Message("assistant", "It is there."),
        ],
        [
            user("What has 3 engines?"),
            Message("tool", "Project Falcon", {"tool_call_id": "1"}),
            Message("assistant", "It is there."),
        ],
    ],
)
def test_what_the_operator_denies_is_looked_for_in_every_message(earlier: list[Message]) -> None:
    config = Config.model_validate({"cache": {"deny": ["falcon"]}})
    question = make_question(config, [*earlier, user("How many engines has it then?")])
    assert (question.kind, question.use_cache) == ("denied", False)
    assert make_question(CONFIG, [*earlier, user("How many engines has it then?")]).kind == "plain"


@pytest.mark.parametrize(
    "message",
    [
        user("Tell me of the red\nfalcon."),
        Message(
            "user", [{"type": "text", "text": "Tell me of the red\nfalcon."}, {"type": "text", "text": "?"}]
        ),
        Message(
            "user", [{"type": "text", "text": "Tell me of the red"}, {"type": "text", "text": "falcon."}]
        ),
        Message("tool", "red\nfalcon", {"tool_call_id": "1"}),
        Message(
            "assistant", None, {"tool_calls": [{"function": {"name": "find", "arguments": "red\nfalcon"}}]}
        ),
    ],
)
def test_what_the_operator_denies_may_have_a_line_break_within_a_message_of_parts(message: Message) -> None:
    config = Config.model_validate({"cache": {"deny": [r"red\sfalcon"]}})
    assert make_question(config, [message, user("How many engines has it?")]).kind == "denied"


def test_own_data_in_a_message_of_parts_may_begin_a_line() -> None:
    parts = [{"type": "text", "text": "Hello.\nMy name is Bob."}, {"type": "text", "text": "What is Redis?"}]
    assert make_question(CONFIG, [Message("user", parts)]).kind == "personal"


def test_what_the_operator_denies_is_looked_for_in_the_configured_system_prompt() -> None:
    config = Config.model_validate({"cache": {"deny": ["falcon"]}, "engine": {"system": "Sell the Falcon."}})
    assert make_question(config, [user("How many engines has it?")]).kind == "denied"


@pytest.mark.parametrize(
    ("earlier", "kind"),
    [
        ([user("Hi"), Message("assistant", "Pay to DE89 3704 0044 0532 0130 00.")], "personal"),
        ([user("Hi"), Message("tool", "anna@example.com", {"tool_call_id": "1"})], "personal"),
        ([user("What is my balance?"), Message("assistant", "It is 12.")], "personal"),
        ([user("Roll a die"), Message("assistant", "Six.")], "random"),
        ([user("What time is it?"), Message("assistant", "Noon.")], "plain"),
        ([Message("system", "Send complaints to help@example.com.")], "plain"),
    ],
)
def test_an_earlier_turn_that_is_personal_makes_what_follows_personal(
    earlier: list[Message], kind: str
) -> None:
    assert make_question(CONFIG, [*earlier, user("And in euros?")]).kind == kind


def test_a_conversation_that_is_too_long_to_be_read_whole_is_not_cached() -> None:
    config = Config.model_validate({"limits": {"max_prompt_chars": 1_000_000}})
    turns = [user("lorem ipsum " * 4_500), Message("assistant", "What?"), user("lorem ipsum " * 4_500)]
    assert make_question(config, turns[2:]).kind == "plain"
    assert make_question(config, turns).kind == "denied"


@pytest.mark.parametrize(("name", "kind"), [("send_email", "acting"), ("get_weather", "plain")])
def test_a_request_with_a_tool_that_does_something_is_acting(name: str, kind: str) -> None:
    tools = [{"type": "function", "function": {"name": name}}]
    question = make_question(CONFIG, [user("What is Redis?")], fields={"tools": tools})
    assert (question.kind, question.bypasses) == (kind, True)


@pytest.mark.parametrize(("temperature", "exact_only"), [(0.7, True), (None, True), (0.0, False)])
def test_what_is_to_be_another_each_time_has_no_other_wording(
    temperature: float | None, exact_only: bool
) -> None:
    sampling = Sampling(temperature=temperature)
    question = make_question(CONFIG, [user("Write a haiku about autumn")], sampling=sampling)
    assert (question.exact_only, question.use_cache) == (exact_only, True)


def test_a_local_fleet_refuses_another_model_than_its_own() -> None:
    with pytest.raises(UsageError, match="this local fleet serves smollm2:135m, not llama3"):
        make_question(Config(), [user("Hi")], model="llama3")
    assert make_question(Config(), [user("Hi")], model="smollm2:135m").model == "smollm2:135m"


# Conversations: their questions go to one worker


SAID = (user("Hi"), Message("assistant", "Hello"))


def test_a_question_that_stands_alone_belongs_to_no_conversation() -> None:
    assert ASKED.conversation == ""
    assert replace(ASKED, system="Be brief.", history=(Message("developer", "x"),)).conversation == ""


def test_the_turns_of_a_conversation_belong_together() -> None:
    second = replace(ASKED, history=SAID)
    third = replace(ASKED, prompt="And now?", history=(*SAID, user("Why?"), Message("assistant", "So.")))
    assert second.conversation == third.conversation != ""


@pytest.mark.parametrize(
    "changes", [{"tenant": "other"}, {"system": "Be brief."}, {"history": (user("Hello"), SAID[1])}]
)
def test_another_beginning_or_tenant_is_another_conversation(changes: dict[str, Any]) -> None:
    question = replace(ASKED, history=SAID)
    assert replace(question, **changes).conversation != question.conversation


def test_the_session_that_a_client_names_is_the_conversation_from_its_first_turn_on() -> None:
    first, later = replace(ASKED, sticky="s1"), replace(ASKED, sticky="s1", system="x", history=SAID)
    assert first.conversation == later.conversation != ""
    assert replace(first, sticky="s2").conversation != first.conversation
    assert replace(first, tenant="other").conversation != first.conversation


def test_whatever_a_client_sent_can_be_the_beginning_of_a_conversation() -> None:
    odd = replace(ASKED, history=(Message("user", [{"text": "\ud800"}], {"x": {1}}),))
    assert odd.conversation == replace(odd, prompt="more").conversation != ""
