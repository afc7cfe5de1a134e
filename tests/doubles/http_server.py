"""A small HTTP/1.1 server on a real socket that does what a test says, broken HTTP included."""

from __future__ import annotations

import asyncio
import json
import ssl
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

_REASONS = {200: "OK"}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reply:
    """One answer, written piece by piece."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.keep_alive = True
        self._gzip: zlib._Compress | None = None

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def json(self, value: Any, status: int = 200) -> None:
        await self.body(json.dumps(value).encode(), status)

    async def body(
        self,
        body: bytes,
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        await self.raw(
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Not OK')}\r\nContent-Type: {content_type}\r\n{more}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    async def start(self, content_type: str, *, compressed: bool = False) -> None:
        """From now on chunks come, each compressed with gzip and flushed where that is wanted."""
        encoding = "Content-Encoding: gzip\r\n" if compressed else ""
        self._gzip = zlib.compressobj(wbits=31) if compressed else None
        await self.raw(
            f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{encoding}"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )

    async def chunk(self, data: bytes) -> None:
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        await self.raw(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def until_client_leaves(self) -> None:
        while await self._reader.read(1024):
            pass


class HttpServer:
    """Listens on a free port of 127.0.0.1 from `async with` on; subclasses write `answer`.

    `requests` are those seen, `connections` how many were opened; `asked` is set by the first request,
    `left` once a client that was kept waiting closes its connection. With `tls` set, it speaks that. With
    `drops_next`, it closes the connection on which the next request comes.
    """

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.requests: list[Request] = []
        self.connections = 0
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.tls: ssl.SSLContext | None = None
        self.url = ""
        self.drops_next = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self.tls)
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._is_closed = True
        for writer in self._writers:  # a client that keeps its connection would be waited for
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # connections that were accepted meanwhile are closed

    async def answer(self, request: Request, reply: Reply) -> None:
        raise NotImplementedError

    @property
    def open_connections(self) -> int:
        return len(self._writers)

    def drop_connections(self) -> None:
        for writer in self._writers:
            writer.close()

    async def wait(self, reply: Reply) -> None:
        """Says nothing more until the client leaves."""
        await reply.until_client_leaves()
        self.left.set()
        reply.keep_alive = False

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._is_closed:
            writer.close()
            return
        task = asyncio.create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while (request := await _read_request(reader)) is not None:
                if self.drops_next:
                    self.drops_next = False
                    break
                self.requests.append(request)
                self.asked.set()
                reply = Reply(reader, writer)
                if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
                    await reply.json({"error": {"message": "Invalid API Key", "code": 401}}, 401)
                else:
                    await self.answer(request, reply)
                if not reply.keep_alive or request.headers.get("connection") == "close":
                    break
        except (ConnectionError, asyncio.IncompleteReadError):  # it was killed while it asked
            self.left.set()
        finally:
            self._writers.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head.decode("latin-1").split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)
