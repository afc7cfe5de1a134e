"""`llmhost chat`: a conversation, each question of which is asked as `llmhost ask` asks it."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import typer

from llmhost.cli.asking import WIDEST_CHARACTER, Asker, Continue, Model, System, UseCache, decoded
from llmhost.cli.conversation import Conversation, last_conversation
from llmhost.cli.errors import report
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import Output
from llmhost.cli.running import Terminated, run_async
from llmhost.cli.text import counted
from llmhost.errors import LlmhostError, PartialError, StateError, UsageError
from llmhost.machine.paths import expand, state_dir

__all__ = ["chat"]

_PROMPT, _CONTINUED = "> ", ". "
#: lines that were typed and can be called back with the arrow keys
_MOST_LINES = 1000
#: a path such as /etc/hosts may begin a question
_COMMAND = re.compile(r"/([a-z?]*)(?:\s+(.*))?", re.DOTALL)
_HELP = """\
/new                  begin another conversation
/history              show this conversation
/system [TEXT]        set or show the system prompt; "" is none
/model [NAME]         set or show the model
/cache [on|off|auto]  use it always, never, or for answers that keep
/save FILE            write the conversation: JSON for *.json, else Markdown
/quit                 end the chat, as Ctrl-D does
A line that ends with \\ continues in the next. Ctrl-C stops an answer."""
_CACHE: Mapping[str, bool | None] = {"on": True, "off": False, "auto": None}


def chat(
    ctx: typer.Context,
    model: Model = None,
    system: System = None,
    use_cache: UseCache = None,
    goes_on: Continue = False,
) -> None:
    """Have a conversation with the model: each question is asked with those before it and their answers.

    Ctrl-C stops an answer, Ctrl-D or /quit ends the chat, /help lists what else there is. If standard input
    is no terminal, each of its lines is a question. With --json there is a JSON object for each question, in
    a line of its own.

    Examples:
      llmhost chat
      llmhost chat --continue
      llmhost chat --system "You are a patient teacher of French."
      llmhost chat --json < questions.txt | jq -r .answer
    """
    options = globals_of(ctx)
    options.output.json_lines = True
    asker = Asker(options)
    max_chars = asker.prepare()
    conversation = last_conversation(options.output) if goes_on else Conversation()
    conversation.choose(model, system)
    talk = _Chat(options, asker, conversation, use_cache)
    if sys.stdin.isatty():
        talk.with_user()
    elif code := talk.with_lines(max_chars):
        raise typer.Exit(code)


class _Chat:
    def __init__(
        self, options: Globals, asker: Asker, conversation: Conversation, use_cache: bool | None
    ) -> None:
        self._out = options.output
        self._asker = asker
        self._conversation = conversation
        self._use_cache = use_cache
        self._answered_by = ""
        self._commands: Mapping[str, Callable[[str], None]] = {
            "new": self._new,
            "history": self._show,
            "system": self._set_system,
            "model": self._set_model,
            "cache": self._set_cache,
            "save": self._save,
            "help": lambda _: self._out.note(_HELP),
        }

    def with_user(self) -> None:
        """At a terminal, until the user ends it."""
        self._out.note("/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends the chat")
        typed = _TypedLines(self._out)
        while True:
            try:
                text = typed.next()
                if text is None or text.strip() in ("/quit", "/exit", "/bye"):
                    return
                if command := _COMMAND.fullmatch(text.rstrip()):
                    self._run(command[1], (command[2] or "").strip())
                elif text.strip():
                    self._ask(text)
            except Terminated:
                raise
            except KeyboardInterrupt:
                self._out.note("· stopped")
            except LlmhostError as error:
                report(error, self._out)

    def with_lines(self, max_chars: int) -> int:
        """Asks each line of standard input: commands are for people. Returns the exit code."""
        questions, failures, code = 0, 0, 0
        for number, line in enumerate(_lines(max_chars * WIDEST_CHARACTER + 1), 1):
            try:
                questions += 1
                if text := decoded(f"line {number} of standard input", line, max_chars).strip():
                    self._ask(text)
                else:
                    questions -= 1
            except LlmhostError as error:
                failures += 1
                code = report(error, self._out)
        if not questions:
            raise UsageError("no question given", hint="give one in each line of standard input")
        return PartialError.exit_code if 0 < failures < questions else code

    def _ask(self, text: str) -> None:
        """Asks, and remembers the answer; of one that was stopped, as much as was shown."""
        self._asker.prepare()
        shown: list[str] = []
        began = time.monotonic()
        asked = self._conversation.asked(text, use_cache=self._use_cache)
        try:
            answered = run_async(
                self._asker.ask(asked, waited=lambda: time.monotonic() - began, on_text=shown.append)
            )
        except KeyboardInterrupt:
            self._remember(text, "".join(shown))
            raise
        self._answered_by = answered["model"]
        self._remember(text, answered["answer"])

    def _remember(self, question: str, answer: str) -> None:
        if answer.strip():
            self._conversation.add(question, answer)
            self._conversation.keep(self._out)

    # Commands

    def _run(self, name: str, text: str) -> None:
        """Raises UsageError."""
        if name not in self._commands:
            raise UsageError(
                f"there is no command /{name}", hint="/help lists them; a question may begin with a blank"
            )
        self._commands[name](text)

    def _new(self, _: str) -> None:
        self._conversation = replace(self._conversation, messages=[])
        self._out.note("a new conversation")

    def _show(self, _: str) -> None:
        if self._out.json:
            self._out.document({"messages": self._conversation.messages})
        elif self._conversation.messages:
            self._out.stream(self._conversation.markdown())
            self._out.end_stream()
        else:
            self._out.note("nothing was asked yet")

    def _set_system(self, text: str) -> None:
        if text:
            self._conversation.system = "" if text == '""' else text
        shown = self._conversation.system
        self._out.note(f"system prompt: {'the configured one' if shown is None else shown or 'none'}")

    def _set_model(self, name: str) -> None:
        self._conversation.model = name or self._conversation.model
        self._out.note(f"model: {self._conversation.model or self._answered_by or 'the configured one'}")

    def _set_cache(self, choice: str) -> None:
        """Raises UsageError."""
        if choice:
            if choice not in _CACHE:
                raise UsageError(
                    f"the cache cannot be {choice!r}", hint="/cache on, /cache off or /cache auto"
                )
            self._use_cache = _CACHE[choice]
        self._out.note(f"cache: {next(name for name, used in _CACHE.items() if used is self._use_cache)}")

    def _save(self, name: str) -> None:
        """Raises UsageError: also where the file exists, as a model's words must not replace another's."""
        if not name or not self._conversation.messages:
            what = "nothing was asked yet" if name else "no file is named"
            raise UsageError(what, hint="for example, after a question: /save redis.md")
        messages = json.dumps(self._conversation.messages, ensure_ascii=False, indent=2) + "\n"
        try:
            with expand(name).open("x", encoding="utf-8") as file:
                file.write(messages if name.endswith(".json") else self._conversation.markdown())
        except OSError as error:
            raise UsageError(f"cannot write {name}: {error.strerror}", hint="name another file") from error
        self._out.note(f"wrote {counted(len(self._conversation.messages), 'message')} to {name}")


class _TypedLines:
    """What a user types. Where the system has readline, lines can be edited and called back: those of earlier
    chats too, from a file of the state folder that only its owner can read."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._on_stdout = sys.stdout.isatty() and not out.json
        self._readline: Any = None
        self._lines = 0
        if not self._on_stdout:
            return
        with suppress(ImportError, StateError, OSError):
            import readline

            self._file = state_dir() / "chat_history"
            self._file.touch(mode=0o600)
            # Python switches this off: without it, each line that is pasted is a question of its own.
            readline.parse_and_bind("set enable-bracketed-paste on")
            readline.set_history_length(_MOST_LINES)
            readline.read_history_file(self._file)
            self._readline = readline
            self._lines = readline.get_current_history_length()

    def next(self) -> str | None:
        """A line, with those that continue it; an empty one where it was given up, None at the end. Raises
        UsageError where it is no text."""
        lines: list[str] = []
        try:
            while not lines or lines[-1].endswith("\\"):
                lines.append(self._line(_CONTINUED if lines else _PROMPT))
            text = "\n".join(line.removesuffix("\\") for line in lines)
            text.encode()
        except EOFError:
            sys.stderr.write("\n")
            return None
        except UnicodeError as error:
            raise UsageError("the line is not text", hint="type it as UTF-8 text") from error
        except Terminated:
            raise
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            self._out.note("Ctrl-D or /quit ends the chat")
            return ""
        return text

    def _line(self, prompt: str) -> str:
        if not self._on_stdout:
            sys.stderr.write(prompt)
            sys.stderr.flush()
        line = input(prompt if self._on_stdout else "")
        # Written at once: a terminal that is closed ends this process without a word.
        if self._readline is not None and self._readline.get_current_history_length() != self._lines:
            self._lines = self._readline.get_current_history_length()
            with suppress(OSError, AttributeError):  # not every editline can append
                self._readline.append_history_file(1, self._file)
        return line


def _lines(most: int) -> Iterator[bytes]:
    """The lines of standard input. One of `most` bytes or more is cut there: it is too long in any case."""
    while line := sys.stdin.buffer.readline(most):
        rest = line
        while len(rest) == most and not rest.endswith(b"\n"):
            rest = sys.stdin.buffer.readline(most)
        yield line
