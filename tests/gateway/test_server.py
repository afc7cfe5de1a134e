"""The HTTP server: what it does not wait for, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import House, Serve
from doubles.waiting import until

from llmhost.gateway import server
from llmhost.gateway.server import listen, listen_on_path


async def connect(house: House) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = house.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def test_a_client_whose_headers_do_not_arrive_is_disconnected(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_HEADER_TIMEOUT", 0.05)
    reader, writer = await connect(house)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: loc")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


@pytest.mark.parametrize("head", [b"GET /" + b"x" * 100_000, b"GET / HTTP/1.1\r\na: " + b"x" * 100_000])
async def test_headers_that_are_too_long_are_refused(house: House, head: bytes) -> None:
    reader, writer = await connect(house)
    writer.write(head + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_stream_under_way_ends_before_the_server_does(serve: Serve) -> None:
    pieces: list[str] = []
    async with serve() as house:
        body: Any = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        async with house.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            pieces.append(await anext(lines))
            house.server.stop()
            pieces += [line async for line in lines]
    assert "data: [DONE]" in pieces


async def test_a_client_that_never_reads_does_not_keep_others_waiting(house: House) -> None:
    house.engine.fail(Fault.ENDLESS_ANSWER, after=0)
    _, writer = await connect(house)
    body = b'{"model": "tiny", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await asyncio.wait_for(house.engine.asked.wait(), 5)
    assert (await house.http.get("/healthz")).status_code == 200
    writer.transport.abort()


def test_a_socket_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with listen_on_path(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    listen_on_path(path).close()
    with listen_on_path(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_another_gateway_listens_on_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with listen_on_path(path), pytest.raises(OSError, match="in use"):
        listen_on_path(path)


async def backlog(house: House) -> dict[str, Any]:
    return (await house.http.get("/health/backlog")).json()


async def test_a_connection_is_part_of_the_backlog_from_when_it_is_accepted(house: House) -> None:
    assert (await backlog(house))["waiting"] == 0
    _, writer = await connect(house)

    async def waits() -> bool:
        return (await backlog(house))["waiting"] == 1

    await until(waits)
    before = (await backlog(house))["oldest_s"]
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: loc")  # half of a request makes it no younger
    await writer.drain()
    after = await backlog(house)
    assert (after["waiting"], after["answering"]) == (1, 0)
    assert after["oldest_s"] >= before
    writer.close()


async def test_requests_wait_until_their_answer_begins_and_then_are_under_way(house: House) -> None:
    house.engine.fail(Fault.HANGS)
    waiting = asyncio.create_task(house.chat())
    await house.engine.asked.wait()
    assert [(await backlog(house))[what] for what in ("waiting", "answering")] == [1, 0]
    house.engine.fail(Fault.HANGS, after=1)
    body: Any = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    async with house.http.stream("POST", "/v1/chat/completions", json=body):
        assert [(await backlog(house))[what] for what in ("waiting", "answering")] == [1, 1]
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_a_connection_that_is_kept_for_the_next_request_is_idle(house: House) -> None:
    reader, writer = await connect(house)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.readuntil(b"}")
    assert await backlog(house) == {"waiting": 0, "answering": 0, "idle": 2, "oldest_s": 0}
    writer.close()


def test_a_short_write_does_not_wait_for_the_acknowledgement_of_the_one_before() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
