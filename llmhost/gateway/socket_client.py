"""Asks a question through the gateway's own socket, with nothing but the standard library.

A command that does so loads no client of HTTP and no model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from llmhost import errors
from llmhost.errors import EngineUnavailable, LlmhostError

__all__ = ["OtherGateway", "ask_gateway"]

#: bytes of a line: the longest answer, and every stored question that was considered
_LONGEST_LINE = 256 << 20
_PATH = "/llmhost/ask"
#: why a gateway does not answer a command, by the status
_REFUSALS = {401: "`gateway.keys: always` asks everyone for a key", 409: "it runs with another configuration"}
#: what reading raises where the other side ended, or speaks no HTTP
_BROKEN = (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class OtherGateway(Exception):
    """There is no gateway at this socket that would answer as this command."""


async def ask_gateway(socket: Path, body: Mapping[str, Any]) -> AsyncGenerator[tuple[str, Any]]:
    """The lines of the answer: `worker` and its name, `text` and a piece of it, `reply` and the document.

    Raises:
        OtherGateway: before anything else, and nothing was asked: another process may be.
        LlmhostError: what the gateway could not do, as the command's own process would say it.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket), limit=_LONGEST_LINE)
    except OSError as error:
        raise OtherGateway(str(error)) from error
    with closing(writer):
        data = json.dumps(body).encode()
        head = (
            f"POST {_PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        try:
            status = await _status(reader)
        except _BROKEN as error:  # the status comes before anything is asked
            raise OtherGateway("it ended") from error
        if status != 200:
            raise OtherGateway(_REFUSALS.get(status, f"it answers with HTTP status {status}"))
        whole = False
        try:
            async for line in _lines(reader):
                for name, value in json.loads(line).items():
                    if name == "error":
                        raise _error(value)
                    whole = whole or name == "reply"
                    yield name, value
        except _BROKEN as error:  # whose words are about HTTP
            raise _ended_early() from error
    if not whole:
        raise _ended_early()


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the answer, whose headers are read. Raises ValueError where it has none."""
    first, *_ = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    return int(first.partition(b" ")[2][:3])


async def _lines(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    """The lines of a chunked answer: the gateway writes whole lines."""
    while size := int(await reader.readline(), 16):
        for line in (await reader.readexactly(size)).splitlines():
            yield line
        await reader.readline()


def _ended_early() -> EngineUnavailable:
    return EngineUnavailable("the gateway ended before the answer did", hint="ask again")


def _error(told: Mapping[str, Any]) -> LlmhostError:
    kind = getattr(errors, str(told["kind"]), LlmhostError)
    if not (isinstance(kind, type) and issubclass(kind, LlmhostError)):
        kind = LlmhostError
    return kind(str(told["message"]), hint=told["hint"])
