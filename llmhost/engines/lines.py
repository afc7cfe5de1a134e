"""Cutting a stream of bytes into lines of text, strictly and within bounds."""

from __future__ import annotations

from collections.abc import Iterator

from llmhost.engines.wire import BadReply

__all__ = ["MAX_LINE", "LineSplitter"]

#: bytes; a line brings a token or an error, some hundred bytes, so this is far off and still small
MAX_LINE = 1 << 20


class LineSplitter:
    """Fed with chunks as they come; gives back the lines that they complete, without their ends.

    Raises:
        BadReply: a line is too long or not UTF-8. The lines before it have been given.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._buffer = bytearray()
        self._max_line = max_line

    def feed(self, chunk: bytes) -> Iterator[str]:
        seen = len(self._buffer)
        self._buffer += chunk
        while (end := self._buffer.find(b"\n", seen)) >= 0:
            yield self._cut(end)
            del self._buffer[: end + 1]
            seen = 0
        self._check(len(self._buffer))

    def rest(self) -> str:
        """What came after the last line end."""
        return self._cut(len(self._buffer))

    def _cut(self, end: int) -> str:
        self._check(end)
        try:
            return self._buffer[:end].decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            raise BadReply("sent text that is not UTF-8") from error

    def _check(self, length: int) -> None:
        if length > self._max_line:
            raise BadReply(f"sent a line of more than {self._max_line} bytes")
