"""The HTTP server: what it does not wait for, and how it ends."""

from __future__ import annotations

import asyncio
import resource
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import House, Serve
from doubles.waiting import LONGEST, until

from llmhost.gateway import exchange, server
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
    assert await asyncio.wait_for(reader.read(), LONGEST) == b""
    writer.close()


@pytest.mark.parametrize("head", [b"GET /" + b"x" * 100_000, b"GET / HTTP/1.1\r\na: " + b"x" * 100_000])
async def test_headers_that_are_too_long_are_refused(house: House, head: bytes) -> None:
    reader, writer = await connect(house)
    writer.write(head + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), LONGEST)).startswith(b"HTTP/1.1 400")
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
    await asyncio.wait_for(house.engine.asked.wait(), LONGEST)
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


async def test_of_too_many_connections_the_oldest_without_a_request_are_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CLIENTS_SHARE", 20.5 / resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    async with serve() as house:
        house.engine.fail(Fault.HANGS)
        asked = asyncio.create_task(house.chat())  # older than all others
        await house.engine.asked.wait()
        idle = [await connect(house) for _ in range(30)]
        assert (await house.http.get("/healthz")).status_code == 200
        open_ones = [number for number, (reader, _) in enumerate(idle) if not reader.at_eof()]
        assert not asked.done()
        asked.cancel()
        await asyncio.wait([asked])
        for _, writer in idle:
            writer.close()
    assert 15 <= len(open_ones) <= 20
    assert open_ones == list(range(30))[-len(open_ones) :]


async def test_a_client_that_stops_reading_is_disconnected(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_READ_TIMEOUT", 0.05)
    house.engine.fail(Fault.ENDLESS_ANSWER, after=0)
    _, writer = await connect(house)
    body = b'{"model": "tiny", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await asyncio.wait_for(house.engine.asked.wait(), LONGEST)

    async def is_gone() -> bool:
        count = await backlog(house)
        return count["waiting"] + count["answering"] == 0

    await until(is_gone)
    writer.transport.abort()


async def test_of_a_body_of_100_mb_no_more_than_the_limit_is_kept(serve: Serve) -> None:
    """It has no length, so that it is known to be too large only when it comes."""
    piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    async with serve(gateway={"max_body": 2 << 20}) as house:
        reader, writer = await connect(house)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        status = asyncio.create_task(reader.readline())
        for _ in range(100):
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), LONGEST)
        assert (await asyncio.wait_for(status, LONGEST)).startswith(b"HTTP/1.1 413")
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        writer.close()
    assert grown < 30e6


async def test_a_body_that_comes_in_drops_has_an_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_BODY_TIME", 0.05)
    reader, writer = await connect(house)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n")

    async def drip() -> None:
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    assert (await asyncio.wait_for(reader.readline(), LONGEST)).startswith(b"HTTP/1.1 408")
    dripping.cancel()
    writer.close()
