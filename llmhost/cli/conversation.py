"""The conversations that `ask -c` and `chat -c` continue: files of the state folder, for their owner alone.

Each terminal has one, the last: a script that asks meanwhile does not take its place.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmhost.cli.asking import Asked, argument_text
from llmhost.cli.output import Output
from llmhost.cli.text import ago, shortened
from llmhost.errors import StateError, UsageError
from llmhost.machine.files import make_folder, read_json, write_json
from llmhost.machine.paths import state_dir

__all__ = ["Conversation", "last_conversation"]

#: conversations that are kept, the newest, besides those of terminals that are still open
_MOST = 20
#: characters of one that are kept, the newest: more than a model is sent
_LONGEST = 1_000_000


@dataclass(slots=True)
class Conversation:
    """`messages` are the user's and the assistant's in turns, oldest first, each with `role` and `content`.
    `model` and `system` None: those of the configuration."""

    messages: list[Mapping[str, str]] = field(default_factory=list)
    model: str | None = None
    system: str | None = None

    def choose(self, model: str | None, system: str | None) -> None:
        """Takes what the user gave. Raises UsageError where it is no text."""
        self.model = argument_text(model) if model is not None else self.model
        self.system = argument_text(system) if system is not None else self.system

    def asked(self, prompt: str, **options: Any) -> Asked:
        """A question that goes on with it; `options` are others of `Asked`."""
        return Asked(prompt, self.model, self.system, history=tuple(self.messages), **options)

    def add(self, question: str, answer: str) -> None:
        self.messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]

    def markdown(self) -> str:
        """As a document, in which the questions are quoted."""
        return "\n".join(
            re.sub("^", "> ", turn["content"], flags=re.MULTILINE) + "\n"
            if turn["role"] == "user"
            else turn["content"].rstrip() + "\n"
            for turn in self.messages
        )

    def keep(self, out: Output) -> None:
        """Makes it this terminal's last one. Where that fails, only ``--verbose`` says so: the user has the
        answer."""
        kept, length = list(self.messages), sum(len(turn["content"]) for turn in self.messages)
        while length > _LONGEST and len(kept) > 2:
            length -= sum(len(turn["content"]) for turn in kept[:2])
            del kept[:2]
        try:
            folder = _folder()
            make_folder(folder)
            document = {"model": self.model, "system": self.system, "messages": kept}
            write_json(folder / f"{os.getsid(0)}.json", document)
            for old in _newest_first(folder)[_MOST:]:
                if not _is_open(old.stem):
                    old.unlink(missing_ok=True)
        except (StateError, OSError) as error:
            out.detail(f"this conversation is not kept: {error}")


def last_conversation(out: Output) -> Conversation:
    """The last one of this terminal, else the last one of this user; a note says which.

    Raises:
        UsageError: there is none.
        StateError: it cannot be read.
    """
    folder = _folder()
    own = folder / f"{os.getsid(0)}.json"
    for path in (own, *_newest_first(folder)):
        with suppress(ValueError, KeyError, TypeError, FileNotFoundError):
            if (found := read_json(path)) is not None:
                conversation = _read(found)
                question = shortened(conversation.messages[-2]["content"])
                out.note(f"continuing after “{question}”, {ago(path.stat().st_mtime, time.time())}")
                return conversation
    raise UsageError("there is no conversation to continue", hint="ask without --continue first")


def _read(found: Mapping[str, Any]) -> Conversation:
    """Raises KeyError, TypeError and ValueError where it is none of ours."""
    messages: list[Mapping[str, str]] = []
    for turn in found["messages"]:
        role, content = turn["role"], turn["content"]
        if role not in ("user", "assistant") or not isinstance(content, str):
            raise ValueError("no message")
        messages.append({"role": role, "content": content})
    if len(messages) < 2:
        raise ValueError("no conversation")
    model, system = found["model"], found["system"]
    if not isinstance(model, str | None) or not isinstance(system, str | None):
        raise TypeError("no names")
    return Conversation(messages, model, system)


def _folder() -> Path:
    return state_dir() / "conversations"


def _is_open(session: str) -> bool:
    """Whether the terminal session of this name, the id of its first process, has not ended."""
    try:
        os.kill(int(session), 0)
    except PermissionError:  # it is another user's
        return True
    except (ValueError, OverflowError, OSError):
        return False
    return True


def _newest_first(folder: Path) -> list[Path]:
    aged: list[tuple[float, Path]] = []
    for path in folder.glob("*.json"):
        with suppress(OSError):  # another process has removed it
            aged.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(aged, reverse=True)]
