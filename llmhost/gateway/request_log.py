"""The request log: a line of JSON for each request, with figures and names of ours alone.

Lines are written by a thread, so that a slow disk delays no answer. Of a full disk an operator is told, and
lines are dropped until there is room.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import orjson

from llmhost.errors import StateError
from llmhost.gateway.record import RequestRecord
from llmhost.machine.paths import expand

__all__ = ["RequestLog", "log_line"]

#: lines that wait for a slow disk
_MOST_WAITING = 10_000
#: lines that are written at once
_BATCH = 256
#: seconds; how long the end of a process waits for a disk
_LAST_WRITE = 5.0


def log_line(record: RequestRecord) -> bytes:
    """One request as a line of JSON. Nothing in it was sent by its client, and it has no other line ends."""
    replies = record.replies
    first = replies[0] if replies else None
    hit = first if first is not None and first.source != "engine" else record.shadow
    served = hit.lookup.served if hit is not None and hit.source == "semantic" else None
    made = [reply.answer for reply in replies if reply.source == "engine"]
    line = {
        "time": datetime.fromtimestamp(record.at, UTC).isoformat(timespec="milliseconds"),
        "id": record.id,
        "api": record.api,
        "fleet": record.fleet or None,
        "model": record.model or None,
        "tenant": record.tenant or None,
        "kind": record.kind or None,
        "outcome": record.outcome,
        "shadow": record.shadow.source if record.shadow else None,
        "status": record.status,
        "error": record.error,
        "latency_ms": round(record.seconds * 1000, 3),
        "ttft_ms": None if record.first is None else round(record.first * 1000, 3),
        "tokens": {
            "prompt": record.embedded + sum(reply.answer.prompt_tokens for reply in replies),
            "completion": sum(reply.answer.completion_tokens for reply in replies),
        },
        "engine_ms": round(sum(answer.engine_seconds for answer in made) * 1000, 3),
        "cost_usd": sum(reply.cost_usd for reply in replies),
        "saved_usd": sum(reply.saved_usd for reply in replies),
        "worker": record.worker,
        "entry": first.entry if first is not None else None,
        "similarity": served.similarity if served is not None else None,
        "confidence": hit.confidence if hit is not None else None,
    }
    return orjson.dumps(line) + b"\n"


class RequestLog:
    """Appends to the file `where`, or to standard error. `warn` is told once of what cannot be written."""

    def __init__(self, where: str, warn: Callable[[str], None]) -> None:
        """Raises StateError where the file cannot be opened."""
        self._path = None if where == "stderr" else expand(where)
        self._warn = warn
        self._warned = False
        self.dropped = 0
        self._torn = False
        self._file = self._open()
        #: None: open the file again; an event: everything before it was written, and is the end of it
        self._lines: queue.Queue[bytes | threading.Event | None] = queue.Queue(_MOST_WAITING)
        threading.Thread(target=self._run, name="request-log", daemon=True).start()

    def ended(self, record: RequestRecord) -> None:
        """Writes the request's line, unless too many wait already."""
        try:
            self._lines.put_nowait(log_line(record))
        except queue.Full:
            self.dropped += 1

    def reopen(self) -> None:
        """The next line is written to a file that is at the path then."""
        with suppress(queue.Full):
            self._lines.put_nowait(None)

    def end(self) -> threading.Event:
        """Writes what waits and closes the file; the event is set when that is done."""
        done = threading.Event()
        with suppress(queue.Full):
            self._lines.put_nowait(done)
        return done

    def close(self) -> None:
        """As `end`, and waits for it, for some seconds at most."""
        self.end().wait(_LAST_WRITE)

    def _open(self) -> int:
        if self._path is None:
            return os.dup(sys.stderr.fileno())
        try:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"the request log cannot be opened: {self._path}: {error.strerror}",
                hint="correct `gateway.log`",
            ) from error

    def _run(self) -> None:
        while True:
            batch = [self._lines.get()]
            with suppress(queue.Empty):
                while len(batch) < _BATCH:
                    batch.append(self._lines.get_nowait())
            lines: list[bytes] = []
            for one in batch:
                if isinstance(one, bytes):
                    lines.append(one)
                    continue
                self._write(lines)
                lines = []
                if one is None:
                    self._reopen()
                else:
                    os.close(self._file)
                    one.set()
                    return
            self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        # What a full disk cut off is no line: the next one does not go on from it.
        data = (b"\n" if self._torn else b"") + b"".join(lines)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
            self._torn = False
        except OSError as error:
            self._torn = self._torn if written == 0 else not data[:written].endswith(b"\n")
            self.dropped += data[written:].count(b"\n")
            self._tell(f"lines of the request log are lost: {error.strerror}")
        else:
            self._warned = False

    def _reopen(self) -> None:
        try:
            file = self._open()
        except StateError as error:
            self._tell(f"{error.message}; the file before it is used")
            return
        os.close(self._file)
        self._file = file

    def _tell(self, sentence: str) -> None:
        """Once, until it can be written again."""
        if not self._warned:
            self._warned = True
            with suppress(Exception):  # the terminal may be on the disk that is full
                self._warn(sentence)
