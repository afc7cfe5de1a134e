"""What vast.ai answers: a status with a body, and whether it reaches the caller at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class Fate(Enum):
    SENT = auto()
    CUT = auto()  # the connection is closed without a word
    SILENT = auto()  # nothing is said until the caller gives up


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    fate: Fate = Fate.SENT

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    def to_bytes(self) -> bytes:
        lines = {"Content-Type": self.content_type, "Content-Length": str(len(self.body)), **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {self.status} -\r\n{head}\r\n".encode() + self.body


CUT = Answer(fate=Fate.CUT)
SILENT = Answer(fate=Fate.SILENT)


class Refused(Exception):
    """Ends the handling of a request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status, answer.body)
        self.answer = answer


def as_json(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode())


def as_text(text: str, status: int = 200) -> Answer:
    return Answer(status, text.encode(), "text/plain; charset=utf-8")


def success(**more: Any) -> Answer:
    return as_json({"success": True, **more})


def refusal(status: int, error: str, msg: str, **more: Any) -> Refused:
    """The most common shape of an error (published page on rate limits and errors)."""
    return Refused(as_json({"success": False, "error": error, "msg": msg, **more}, status))
