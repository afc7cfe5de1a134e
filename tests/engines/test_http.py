"""The way to a worker: connections, TLS, tokens, addresses; on both chat APIs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from doubles.certificates import certify
from doubles.chat_server import Fault
from doubles.engine_limits import LIMITS
from doubles.fleet_values import make_worker
from doubles.openai_server import OpenAIServer
from doubles.waiting import LONGEST, until

from llmhost.config.models import Config
from llmhost.engines.engine import ChatRequest, Delta, Endpoint, Message, Sampling
from llmhost.engines.openai import OpenAIEngine
from llmhost.errors import ConfigError, EngineUnavailable, UntrustedWorker
from llmhost.fleet.workers import Engines

CERTIFICATES = Path(__file__).parents[1] / "store" / "certificates"


@pytest.fixture
async def start_server():
    """Starts servers from asyncio's connection handlers on a port of 127.0.0.1."""
    servers = []

    async def start(handler, **options):
        servers.append(await asyncio.start_server(handler, "127.0.0.1", 0, **options))
        return servers[-1].sockets[0].getsockname()[1]

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def tls_port(start_server):
    """A server that answers everything with status 500, over TLS."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
    return await start_server(answer, ssl=context)


@pytest.fixture
def full_port():
    """A port whose queue of connections is full, so that the next one is neither taken nor refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_leaving_a_stream_closes_its_connection(side, question):
    side.server.fail(Fault.HANGS, after=1)
    stream = side.engine().chat(question())
    await anext(stream)
    await stream.aclose()
    await asyncio.wait_for(side.server.left.wait(), LONGEST)


async def test_cancelling_a_wait_for_the_next_token_closes_the_connection(side, question):
    side.server.fail(Fault.HANGS, after=1)
    stream = side.engine().chat(question())
    await anext(stream)
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(side.server.left.wait(), LONGEST)


async def test_cancelling_a_wait_for_the_headers_closes_the_connection(side, question):
    side.server.fail(Fault.HANGS)
    waiting = asyncio.create_task(anext(side.engine().chat(question())))
    await asyncio.wait_for(side.server.asked.wait(), LONGEST)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(side.server.left.wait(), LONGEST)


async def test_each_question_has_a_connection_of_its_own(side, question, ask):
    engine = side.engine()
    for _ in range(3):
        await ask(engine, question())
    assert side.server.connections == len(side.server.requests)
    assert len([request for request in side.server.requests if request.path == side.server.chat_path]) == 3
    assert {request.headers["connection"] for request in side.server.requests} == {"close"}


async def test_a_worker_that_never_accepts_a_connection_is_left_in_time(side, gather, question, full_port):
    engine = side.engine(replace(LIMITS, connect_timeout=0.2), url=f"http://127.0.0.1:{full_port}")
    _, error = await gather(engine.chat(question()))
    assert isinstance(error, EngineUnavailable)
    assert "did not connect in time" in error.message


async def test_a_host_that_does_not_exist_cannot_be_found(side, gather, question):
    _, error = await gather(side.engine(url="http://no-such-host.invalid:1").chat(question()))
    assert isinstance(error, EngineUnavailable)
    assert "no such host name" in error.message


async def test_a_server_without_tls_at_an_https_address_cannot_be_used(side, gather, question, start_server):
    async def answer_in_plain_text(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    port = await start_server(answer_in_plain_text)
    _, error = await gather(side.engine(url=f"https://127.0.0.1:{port}").chat(question()))
    assert isinstance(error, EngineUnavailable)
    assert "does not speak TLS" in error.message


async def test_a_certificate_from_nobody_known_is_not_trusted(side, gather, question, tls_port):
    _, error = await gather(side.engine(url=f"https://127.0.0.1:{tls_port}").chat(question()))
    assert isinstance(error, EngineUnavailable)
    assert "a TLS certificate that is not trusted" in error.message


async def test_a_certificate_of_an_authority_in_ssl_cert_file_is_trusted(
    side, gather, question, tls_port, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "authority.pem"))
    _, error = await gather(side.engine(url=f"https://localhost:{tls_port}").chat(question()))
    assert "HTTP status 500" in error.message


async def test_a_proxy_from_the_environment_sees_nothing(side, question, ask, monkeypatch, refusing_port):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{refusing_port}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{refusing_port}")
    assert (await ask(side.engine(), question()))[0] == "Hello, Wörld!"


async def test_a_password_in_the_url_is_not_shown(side, gather, question, refusing_port):
    engine = side.engine(url=f"http://user:hunter2@127.0.0.1:{refusing_port}")
    _, error = await gather(engine.chat(question()))
    assert f"http://127.0.0.1:{refusing_port} cannot be reached" in error.message


@pytest.mark.parametrize("token", ["two\nlines", "umläut"])
async def test_a_token_that_http_cannot_carry_is_a_wrong_configuration(side, token):
    with pytest.raises(ConfigError) as caught:
        side.engine(token=token)
    assert token not in caught.value.message


async def test_a_url_that_cannot_be_read_is_a_wrong_configuration(side):
    with pytest.raises(ConfigError, match="URL"):
        side.engine(url="http://[::zz")


async def test_half_a_character_in_a_prompt_is_left_to_the_engine(side, question, ask):
    await ask(side.engine(), question("bad \udcff byte"))
    sent = [request.json for request in side.server.requests if request.path == side.server.chat_path]
    assert sent[-1]["messages"][0]["content"] == "bad \udcff byte"


# Who has taken the port of a local worker that died

OWN = replace(LIMITS, connect_timeout=2.0)


def own_engine(server: OpenAIServer) -> OpenAIEngine:
    return OpenAIEngine(Endpoint(server.url, server.token, own=True), OWN)


async def test_another_user_s_program_on_a_local_worker_s_port_gets_no_prompt_and_no_token(
    openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmhost.engines.http.listener_owner", lambda *_: os.getuid() + 1)
    engine = own_engine(openai_server)
    for action in (ask_once(engine), engine.version()):
        with pytest.raises(UntrustedWorker, match="another user's program by now, so nothing was sent"):
            await action
    assert openai_server.requests == []
    await engine.aclose()


@pytest.mark.parametrize("owner", [os.getuid(), None])
async def test_a_local_worker_of_this_user_is_asked_and_so_is_one_where_the_system_does_not_tell(
    openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, owner: int | None
) -> None:
    asked: list[tuple[str, int]] = []

    def tells(host: str, port: int) -> int | None:
        asked.append((host, port))
        return owner

    monkeypatch.setattr("llmhost.engines.http.listener_owner", tells)
    engine = own_engine(openai_server)
    await ask_once(engine)
    assert asked == [("127.0.0.1", urlsplit(openai_server.url).port)]
    await engine.aclose()


async def test_a_server_that_is_not_llmhost_s_own_may_belong_to_any_user(
    openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmhost.engines.http.listener_owner", lambda *_: os.getuid() + 1)
    engine = OpenAIEngine(Endpoint(openai_server.url, openai_server.token), OWN)
    await ask_once(engine)
    await engine.aclose()


async def ask_once(engine: OpenAIEngine) -> None:
    async with aclosing(engine.chat(ChatRequest("tiny", (Message("user", "Hello?"),), Sampling()))) as events:
        async for _ in events:
            pass


async def test_a_fleet_s_local_workers_are_llmhost_s_own(
    openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmhost.engines.http.listener_owner", lambda *_: os.getuid() + 1)
    engines = Engines(Config())
    worker = make_worker(url=openai_server.url, token=openai_server.token, provider="local")
    with pytest.raises(UntrustedWorker):
        await engines.probe(worker)
    assert openai_server.requests == []
    await engines.probe(replace(worker, provider="static"))
    await engines.aclose()


def response(text: str) -> bytes:
    """A whole answer of an OpenAI-compatible server."""
    delta = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(delta)}\n\ndata: [DONE]\n\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("sent", "connections"),
    [
        (lambda asked: [response(f"to {asked}")], 1),
        (lambda asked: [response(f"to {asked}") + response(f"more to {asked}")], 3),
        (lambda asked: [response(f"to {asked}"), response(f"more to {asked}")], 3),  # two records of TLS
    ],
    ids=["nothing", "at once", "in another record"],
)
async def test_what_a_worker_sends_too_much_is_no_answer_to_the_next_question(
    start_server, tmp_path, sent, connections
):
    writers = []

    async def answer(reader, writer):
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
                asked = json.loads(await reader.readexactly(length))["messages"][-1]["content"]
                for data in sent(asked):
                    writer.write(data)
        writer.close()

    own = certify()
    port = await start_server(answer, ssl=own.server_context(tmp_path))
    engine = OpenAIEngine(Endpoint(f"https://127.0.0.1:{port}", None, own.pem), LIMITS)
    told = []
    for question in ("one", "two", "three"):
        async with aclosing(engine.chat(ChatRequest("tiny", (Message("user", question),)))) as events:
            told += [event.text async for event in events if isinstance(event, Delta)]
    await engine.aclose()
    await until(lambda: all(writer.transport.is_closing() for writer in writers))
    assert (told, len(writers)) == (["to one", "to two", "to three"], connections)


@pytest.mark.parametrize("cuts", [1, 2])
async def test_wherever_a_request_is_cut_off_its_connection_is_closed(cuts):
    async def ask():
        async with aclosing(engine.chat(ChatRequest("tiny", (Message("user", "Hi."),)))) as events:
            async for _ in events:
                pass

    async with OpenAIServer() as server:
        engine = OpenAIEngine(Endpoint(server.url), LIMITS)
        steps, asking = 0, asyncio.create_task(ask())
        while not asking.done():
            for _ in range(cuts):
                asking.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([asking])
            steps += 1
            asking = asyncio.create_task(ask())
            for _ in range(steps):
                await asyncio.sleep(0)
        await until(lambda: not server._tasks)
    assert steps > 10
