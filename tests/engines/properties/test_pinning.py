"""A rented worker shows the certificate that was made for it, or it is not spoken to; on both chat APIs."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace

import pytest
from doubles.certificates import DAY, certify
from doubles.chat_server import Fault
from doubles.engine_limits import LIMITS
from doubles.ollama_server import OllamaServer
from doubles.openai_server import OpenAIServer
from plugins.engines import TOKEN

from llmhost.engines.engine import Endpoint
from llmhost.engines.faults import tls_context
from llmhost.engines.ollama import OllamaEngine
from llmhost.engines.openai import OpenAIEngine
from llmhost.errors import EngineRefused, EngineUnavailable, UntrustedWorker

OWN = certify()


@pytest.fixture(params=[(OpenAIEngine, OpenAIServer), (OllamaEngine, OllamaServer)], ids=["openai", "ollama"])
async def pinned(request, tmp_path):
    """Starts a server that shows a certificate, and gives it with an engine that expects OWN."""
    kind, server_kind = request.param
    open_things = []

    async def start(shown, expected=OWN.pem, token=TOKEN):
        server = server_kind(token=token)
        server.tls = shown.server_context(tmp_path)
        await server.__aenter__()
        engine = kind(Endpoint(server.url, TOKEN, expected), LIMITS)
        open_things.append((server, engine))
        return server, engine

    yield start
    for server, engine in open_things:
        await engine.aclose()
        await server.__aexit__()


async def test_a_worker_that_shows_its_own_certificate_answers(pinned, question, ask):
    _, engine = await pinned(OWN)
    assert (await ask(engine, question()))[0] == "Hello, Wörld!"


async def test_the_connection_to_a_worker_is_kept_for_the_next_question(pinned, question, ask):
    server, engine = await pinned(OWN)
    await ask(engine, question())
    opened = server.connections
    answers = {(await ask(engine, question()))[0] for _ in range(5)}
    assert (answers, server.connections) == ({"Hello, Wörld!"}, opened)


async def test_questions_at_once_have_a_connection_each(pinned, question, ask):
    server, engine = await pinned(OWN)
    for _ in range(2):
        answers = await asyncio.gather(*(ask(engine, question()) for _ in range(3)))
        assert {text for text, _ in answers} == {"Hello, Wörld!"}
    assert server.connections >= 3


async def test_a_connection_that_the_worker_has_closed_meanwhile_is_replaced(pinned, question, ask):
    server, engine = await pinned(OWN)
    await ask(engine, question())
    server.drop_connections()
    assert (await ask(engine, question()))[0] == "Hello, Wörld!"


async def test_a_connection_that_is_closed_when_a_question_comes_is_replaced(pinned, question, ask):
    server, engine = await pinned(OWN)
    await ask(engine, question())
    server.drops_next = True
    assert (await ask(engine, question()))[0] == "Hello, Wörld!"
    assert not server.drops_next


async def test_where_an_answer_breaks_or_is_left_its_connection_is_closed(pinned, question, gather, ask):
    server, engine = await pinned(OWN)
    await ask(engine, question())
    opened = server.connections
    server.fail(Fault.CLOSES, after=2)
    await gather(engine.chat(question()))
    server.heal()
    left = engine.chat(question())
    await anext(left)
    await left.aclose()
    assert (await ask(engine, question()))[0] == "Hello, Wörld!"
    assert server.connections > opened


async def test_no_connection_is_kept_to_a_server_that_was_not_rented(ollama_server, question, ask):
    engine, opened = OllamaEngine(Endpoint(ollama_server.url, TOKEN), LIMITS), []
    for _ in range(3):
        await ask(engine, question())
        opened.append(ollama_server.connections)
    assert opened[0] < opened[1] < opened[2]
    await engine.aclose()


@pytest.mark.parametrize(
    "impostor",
    [
        certify(),
        certify("another name"),
        certify("leaf", signed_by=certify("an authority")),
        certify(signed_by=replace(OWN, key=certify().key)),
    ],
    ids=["same name", "other name", "of an authority", "forged signature"],
)
async def test_a_worker_that_shows_another_certificate_is_sent_nothing(pinned, gather, question, impostor):
    server, engine = await pinned(impostor)
    pieces, error = await gather(engine.chat(question()))
    assert (pieces, type(error)) == ([], UntrustedWorker)
    assert error.message == f"{server.url} shows another certificate than its own, so nothing was sent to it"
    assert error.hint == "`llmhost up` replaces it"
    assert server.requests == []


async def test_every_other_conversation_refuses_the_impostor_too(pinned):
    server, engine = await pinned(certify())
    for talk in (engine.version(), engine.model_status("tiny"), engine.ensure_model("tiny", lambda _: None)):
        with pytest.raises(UntrustedWorker):
            await talk
    assert server.requests == []


async def test_a_worker_with_the_certificate_of_a_public_authority_is_refused(
    pinned, gather, question, monkeypatch, tmp_path
):
    authority = certify("an authority")
    (tmp_path / "authority.pem").write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    server, engine = await pinned(certify("127.0.0.1", signed_by=authority))
    _, error = await gather(engine.chat(question()))
    assert isinstance(error, UntrustedWorker)
    assert server.requests == []


@pytest.mark.parametrize("age", [-2 * DAY, 20 * DAY], ids=["not yet valid", "expired"])
async def test_the_dates_of_its_own_certificate_do_not_matter_for_clocks_differ(pinned, question, ask, age):
    own = certify(age=age)
    _, engine = await pinned(own, own.pem)
    assert (await ask(engine, question()))[0] == "Hello, Wörld!"


@pytest.mark.parametrize(
    "record",
    [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
        "ümlaut",
        OWN.pem[:200],
        OWN.pem + certify().pem,
    ],
)
async def test_a_certificate_on_record_that_makes_no_sense_matches_nobody(pinned, gather, question, record):
    server, engine = await pinned(OWN, record)
    _, error = await gather(engine.chat(question()))
    assert isinstance(error, UntrustedWorker)
    assert "its certificate on record makes no sense" in error.message
    assert server.requests == []


async def test_a_worker_with_a_certificate_is_not_spoken_to_without_tls(ollama_server, question, gather):
    engine = OllamaEngine(Endpoint(ollama_server.url, TOKEN, OWN.pem), LIMITS)
    _, error = await gather(engine.chat(question()))
    await engine.aclose()
    assert isinstance(error, UntrustedWorker)
    assert "without TLS" in error.message
    assert ollama_server.connections == 0


async def test_a_worker_that_does_not_know_its_own_token_is_not_trusted(pinned, gather, question):
    _, engine = await pinned(OWN, token="another token")
    _, error = await gather(engine.chat(question()))
    assert isinstance(error, UntrustedWorker)
    assert "does not accept the token that was made for it" in error.message
    assert TOKEN not in error.message


@pytest.mark.parametrize("status", [403, 404])
async def test_what_its_proxy_does_not_let_through_is_not_blamed_on_the_configuration(
    pinned, gather, question, status
):
    server, engine = await pinned(OWN)
    server.refuse(status, b"<html>nginx</html>")
    _, error = await gather(engine.chat(question()))
    assert (type(error), error.hint) == (EngineUnavailable, None)
    assert f"answers with HTTP status {status}" in error.message


async def test_a_model_that_it_lacks_is_refused_as_by_any_engine(pinned, gather, question):
    server, engine = await pinned(OWN)
    server.refuse(404, b'{"error": "model \\"tiny\\" not found"}')
    _, error = await gather(engine.chat(question()))
    assert isinstance(error, EngineRefused)


def test_a_certificate_is_no_part_of_what_is_printed():
    assert "CERTIFICATE" not in repr(Endpoint("https://w", TOKEN, OWN.pem))


def test_an_old_tls_is_not_spoken_and_no_authority_is_asked():
    context = tls_context("https://w", OWN.pem)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats()["x509"] == 1
