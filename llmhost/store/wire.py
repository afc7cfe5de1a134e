"""Short questions to the embedded Redis: is it there, who is it, stop.

Spoken as inline commands (https://redis.io/docs/latest/develop/reference/protocol-spec/), because
importing redis-py takes longer than starting a server.
"""

from __future__ import annotations

import asyncio
import re
from enum import Enum, auto
from pathlib import Path

from llmhost.errors import StateError

__all__ = ["Presence", "presence", "say", "server_pid"]

#: seconds; a Redis that works answers a PING within milliseconds, also while it loads its data
_ANSWER_TIMEOUT = 2.0


class Presence(Enum):
    """What a PING on a socket meets."""

    NOBODY = auto()
    SILENT = auto()  #: somebody takes the connection and does not answer
    LOADING = auto()
    READY = auto()


async def presence(socket: Path) -> Presence:
    """Raises StateError where the socket may not be used."""
    try:
        answer = await say(socket, "PING")
    except TimeoutError:
        return Presence.SILENT
    except (FileNotFoundError, NotADirectoryError, ConnectionError):
        return Presence.NOBODY
    except OSError as error:
        raise StateError(
            f"cannot use the socket {socket}: {error.strerror}",
            hint="remove it, or set LLMHOST_STATE_DIR to another folder",
        ) from error
    if not answer:
        return Presence.NOBODY
    return Presence.LOADING if answer.startswith(b"-LOADING") else Presence.READY


async def server_pid(socket: Path) -> int | None:
    """The process id that the server on the socket gives for itself, or None."""
    try:
        answer = await say(socket, "INFO server")
    except OSError:
        return None
    found = re.search(rb"^process_id:(\d+)\r?$", answer, re.MULTILINE)
    return int(found[1]) if found else None


async def say(socket: Path, command: str) -> bytes:
    """The answer to one command: a line, or a bulk string's content; empty where the server hangs up.

    Raises OSError; TimeoutError, which is one, where no answer comes in time.
    """
    async with asyncio.timeout(_ANSWER_TIMEOUT):
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(f"{command}\r\n".encode())
            line = await reader.readline()
            if line.startswith(b"$"):
                return await reader.readexactly(int(line[1:]))
            return line
        except asyncio.IncompleteReadError:
            return b""
        finally:
            writer.close()
