"""Whatever a worker does wrong, on both chat APIs: before the first token another one may be tried."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doubles.chat_server import Fault
from doubles.engine_limits import LIMITS

from llmhost.engines.faults import Unreached, transport_faults
from llmhost.errors import (
    ConfigError,
    ContextExceeded,
    EngineRefused,
    EngineUnavailable,
    RefusingWorker,
    StreamBroken,
)
from llmhost.fleet.health import is_permanent

#: faults that the engine notices at once; the others take a limit
AT_ONCE = [
    Fault.CLOSES,
    Fault.ENDS,
    Fault.INVALID_JSON,
    Fault.DEEP_JSON,
    Fault.NOT_AN_OBJECT,
    Fault.WRONG_TYPES,
    Fault.INVALID_UTF8,
    Fault.HALF_CHARACTER,
    Fault.ERROR,
    Fault.ENDLESS_LINE,
]

QUICK = replace(LIMITS, first_token_timeout=0.2, token_timeout=0.2)


@pytest.mark.parametrize("fault", AT_ONCE)
async def test_a_fault_before_the_first_token_leaves_the_worker_for_another(side, gather, question, fault):
    side.server.fail(fault, after=0)
    pieces, error = await gather(side.engine().chat(question()))
    assert ([], EngineUnavailable) == (pieces, type(error))


@pytest.mark.parametrize("fault", AT_ONCE)
async def test_a_fault_after_the_first_token_breaks_the_stream(side, gather, question, fault):
    side.server.fail(fault, after=2)
    pieces, error = await gather(side.engine().chat(question()))
    assert (["Hello", ", "], StreamBroken) == (pieces, type(error))


@pytest.mark.parametrize("fault", [Fault.CLOSES, Fault.NOT_HTTP])
async def test_a_fault_before_the_headers_leaves_the_worker_for_another(side, gather, question, fault):
    side.server.fail(fault)
    pieces, error = await gather(side.engine().chat(question()))
    assert ([], EngineUnavailable) == (pieces, type(error))


@pytest.mark.parametrize(
    ("fault", "after"),
    [(Fault.HANGS, None), (Fault.HANGS, 0), (Fault.PINGS, 0)],
    ids=["no headers", "headers alone", "pings alone"],
)
async def test_a_worker_without_a_first_token_is_left_in_time(side, gather, question, fault, after):
    side.server.fail(fault, after)
    _, error = await gather(side.engine(QUICK).chat(question()))
    assert isinstance(error, EngineUnavailable)
    assert "sent no token within 0.2 s" in error.message


@pytest.mark.parametrize("fault", [Fault.HANGS, Fault.PINGS])
async def test_a_pause_between_tokens_that_is_too_long_breaks_the_stream(side, gather, question, fault):
    side.server.fail(fault, after=1)
    _, error = await gather(side.engine(QUICK).chat(question()))
    assert isinstance(error, StreamBroken)
    assert "paused for more than 0.2 s" in error.message


async def test_an_answer_that_takes_too_long_in_all_breaks_off(side, gather, question):
    side.server.fail(Fault.ENDLESS_ANSWER, after=0)
    limits = replace(LIMITS, answer_timeout=0.2, max_answer_chars=10**12)
    _, error = await gather(side.engine(limits).chat(question()))
    assert isinstance(error, StreamBroken)
    assert "did not finish within 0.2 s" in error.message


async def test_an_answer_that_is_too_long_breaks_off_without_passing_the_limit(side, gather, question):
    side.server.fail(Fault.ENDLESS_ANSWER, after=0)
    pieces, error = await gather(side.engine(replace(LIMITS, max_answer_chars=5500)).chat(question()))
    assert isinstance(error, StreamBroken)
    assert len("".join(pieces)) == 5000


async def test_an_answer_as_long_as_the_limit_is_whole(side, gather, question):
    side.server.pieces = ("x" * 100, "y" * 100)
    pieces, error = await gather(side.engine(replace(LIMITS, max_answer_chars=200)).chat(question()))
    assert (len("".join(pieces)), error) == (200, None)


@pytest.mark.parametrize("status", [301, 403, 404, 408, 429, 500, 502, 503, 529])
async def test_a_worker_that_answers_with_an_error_status_is_left_for_another(side, gather, question, status):
    side.server.refuse(status, b"<html>nothing to see</html>")
    pieces, error = await gather(side.engine().chat(question()))
    assert pieces == []
    assert isinstance(error, EngineUnavailable)
    assert "html" not in error.message


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_request_that_is_wrong_is_refused_in_the_engines_words(side, question, status):
    side.server.refuse(status, b'{"error": {"message": "too\\u001b[31m wild\\n(0, 1]"}}')
    with pytest.raises(EngineRefused) as caught:
        await anext(side.engine().chat(question()))
    assert caught.value.message == "the engine refuses this request: too [31m wild (0, 1]"
    assert caught.value.public == "the engine refuses this request"


async def test_a_prompt_that_an_engine_finds_too_long_only_in_its_stream_is_refused(side, gather, question):
    side.server.piece = lambda _: side.server.error("the input length exceeds the context length")
    _, error = await gather(side.engine().chat(question()))
    assert isinstance(error, ContextExceeded)


async def test_an_input_that_the_model_cannot_read_is_refused(side, question):
    side.server.refuse(500, b'{"error": {"message": "image input is not supported - hint: mmproj"}}')
    with pytest.raises(EngineRefused, match="image input is not supported"):
        await anext(side.engine().chat(question()))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b""),
        (403, b""),
        (404, b"404 page not found"),
        (500, b'{"error": "model requires more system memory (5.6 GiB) than is available (1.2 GiB)"}'),
    ],
)
async def test_a_refusal_that_no_repetition_mends_is_told_apart(side, gather, question, status, body):
    side.server.refuse(status, body)
    _, error = await gather(side.engine().chat(question()))
    assert isinstance(error, RefusingWorker)
    assert is_permanent(error)
    assert error.hint


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_a_refusal_that_may_pass_is_not_permanent(side, gather, question, status):
    side.server.refuse(status, b"too many requests")
    _, error = await gather(side.engine().chat(question()))
    assert not is_permanent(error)


async def test_a_redirect_names_its_target_without_what_may_be_secret_in_it(side, gather, question):
    target = "https://user:secret@sso.example/login?token=secret#secret"
    side.server.refuse(302, b"", {"Location": target})
    _, error = await gather(side.engine().chat(question()))
    assert "redirects to https://sso.example/login" in error.message
    assert "secret" not in error.message


async def test_an_answer_that_comes_compressed_is_read(side, question, ask):
    side.server.compressed = True
    assert (await ask(side.engine(), question()))[0] == "Hello, Wörld!"


async def test_a_byte_order_mark_before_the_answer_loses_nothing(side, question, ask):
    plain, side.server.pieces = side.server.piece, ("Hello",)
    side.server.piece = lambda text: b"\xef\xbb\xbf" + plain(text)
    assert (await ask(side.engine(), question()))[0] == "Hello"


async def test_an_emoji_whose_halves_come_one_after_the_other_is_whole(side, question, ask):
    plain = side.server.piece
    halves = {"Hello": b"\\ud83d", ", ": b"\\ude42"}
    side.server.piece = lambda text: plain("half").replace(b"half", halves.get(text, b"."))
    assert (await ask(side.engine(), question()))[0] == "\U0001f642.."


async def test_a_synonym_of_stop_is_a_complete_answer(side, question, ask):
    side.server.finish_reason = "eos"
    assert (await ask(side.engine(), question()))[1].finish_reason == "stop"


async def test_an_unknown_model_is_refused_with_what_to_do(side, question):
    side.server.refuse(404, b'{"error": {"message": "The model `tiny` does not exist."}}')
    with pytest.raises(EngineRefused, match="does not exist") as caught:
        await anext(side.engine().chat(question()))
    assert "`llmhost up`" in caught.value.hint


async def test_a_long_explanation_is_cut(side, question):
    side.server.refuse(400, b'{"error": "' + b"very " * 1000 + b'wrong"}')
    with pytest.raises(EngineRefused) as caught:
        await anext(side.engine().chat(question()))
    assert len(caught.value.message) < 300


async def test_an_error_body_without_end_is_not_waited_for(side, gather, question):
    side.server.refuse(500, b"x" * 1_000_000)
    _, error = await gather(side.engine().chat(question()))
    assert "HTTP status 500" in error.message


async def test_the_engines_own_error_is_shown_without_control_characters(side, gather, question):
    side.server.fail(Fault.ERROR, after=0)
    _, error = await gather(side.engine().chat(question()))
    assert "the GPU [31m is on fire" in error.message


async def test_a_token_that_comes_back_in_an_error_is_not_shown(side, gather, question):
    side.server.refuse(500, f"Authorization: Bearer {side.endpoint.token}".encode())
    _, error = await gather(side.engine().chat(question()))
    assert "Bearer …" in error.message


async def test_control_characters_of_an_answer_arrive_as_they_are(side, question, ask):
    side.server.pieces = ("a\x1b[31m", "\x00\r\n", "\u2028b")
    assert (await ask(side.engine(), question()))[0] == "a\x1b[31m\x00\r\n\u2028b"


async def test_an_empty_answer_is_an_end_mark_alone(side, question, ask):
    side.server.pieces = ()
    text, done = await ask(side.engine(), question())
    assert (text, done.finish_reason) == ("", "stop")


async def test_thoughts_are_not_part_of_the_answer(side, question, ask):
    plain = side.server.piece
    side.server.piece = lambda text: side.server.thought("hm") + plain(text)
    assert (await ask(side.engine(), question()))[0] == "Hello, Wörld!"


async def test_a_fault_while_the_model_thinks_leaves_the_worker_for_another(side, gather, question):
    side.server.piece = side.server.thought
    side.server.fail(Fault.CLOSES, after=2)
    _, error = await gather(side.engine().chat(question()))
    assert isinstance(error, EngineUnavailable)


async def test_a_tampered_finish_reason_is_one_clean_line(side, question, ask):
    side.server.finish_reason = "st\x1b\nop"
    assert (await ask(side.engine(), question()))[1].finish_reason == "st op"


async def test_a_worker_that_failed_can_be_asked_again(side, gather, question, ask):
    engine = side.engine()
    side.server.fail(Fault.CLOSES, after=1)
    await gather(engine.chat(question()))
    side.server.heal()
    assert (await ask(engine, question()))[0] == "Hello, Wörld!"


@pytest.mark.parametrize("name", ["SSL_CERT_FILE"])
async def test_authorities_that_cannot_be_read_are_named(side, question, monkeypatch, name):
    monkeypatch.setenv(name, "/no/such/file")
    with pytest.raises(ConfigError, match=name):
        await anext(side.engine(url="https://127.0.0.1:1").chat(question()))


def test_a_connection_that_is_reset_before_its_first_use_is_a_worker_that_was_not_reached():
    with pytest.raises(Unreached), transport_faults(pinned=False):
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")  # as anyio says it
