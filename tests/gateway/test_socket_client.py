"""The client of the gateway's own socket, where what listens there is no gateway that answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmhost.errors import EngineUnavailable
from llmhost.gateway.socket_client import OtherGateway, ask_gateway

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(line: bytes) -> bytes:
    return f"{len(line):x}\r\n".encode() + line + b"\r\n"


class Answering:
    """Sends `answer` to each request, and closes the connection."""

    answer = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Answering]:
    answering = Answering()
    async with await asyncio.start_unix_server(answering, tmp_path / "socket"):
        yield answering


async def asked(tmp_path: Path) -> list[tuple[str, object]]:
    return [line async for line in ask_gateway(tmp_path / "socket", {"prompt": "Say hello."})]


async def test_an_answer_is_its_lines(server: Answering, tmp_path: Path) -> None:
    server.answer = HEAD + chunk(b'{"worker": "local-1"}\n{"text": "Hello"}\n') + chunk(b'{"reply": {}}\n')
    server.answer += b"0\r\n\r\n"
    assert await asked(tmp_path) == [("worker", "local-1"), ("text", "Hello"), ("reply", {})]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "it ended"),
        (b"HTTP/1.1 2", "it ended"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "it ended"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "`gateway.keys: always`"),
        (b"HTTP/1.1 409 Conflict\r\n\r\n", "another configuration"),
        (b"HTTP/1.1 500 \r\n\r\n", "HTTP status 500"),
    ],
)
async def test_what_does_not_say_that_it_answers_leaves_the_question_to_another_and_says_why(
    server: Answering, tmp_path: Path, answer: bytes, why: str
) -> None:
    server.answer = answer
    with pytest.raises(OtherGateway, match=why):
        await asked(tmp_path)


async def test_a_socket_without_a_server_leaves_the_question_to_another(tmp_path: Path) -> None:
    with pytest.raises(OtherGateway):
        await asked(tmp_path)


@pytest.mark.parametrize("rest", [b"", chunk(b'{"text": "Hel"}\n'), b"ff\r\nHel", chunk(b"no JSON\n")])
async def test_an_answer_that_breaks_off_is_an_error_and_is_not_asked_again(
    server: Answering, tmp_path: Path, rest: bytes
) -> None:
    server.answer = HEAD + rest
    with pytest.raises(EngineUnavailable, match="the gateway ended before the answer did"):
        await asked(tmp_path)
