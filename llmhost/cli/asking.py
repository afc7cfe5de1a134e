"""How `ask` and `chat` ask a question and show its answer: through the gateway's socket where it is there,
else in this process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.frame import Globals
from llmhost.cli.output import Output, table
from llmhost.cli.running import NO_FILE, configuration_arguments, inputs, load, wired
from llmhost.cli.text import ENTRY_DIGITS, clean, counted, milliseconds, money, percent, shortened
from llmhost.errors import EngineError, NoWorkerError, StateError, UsageError

if TYPE_CHECKING:
    from llmhost.answering.question import Question
    from llmhost.config.models import Config
    from llmhost.gateway.background import GatewayRecord
    from llmhost.wiring import Wiring

__all__ = [
    "WIDEST_CHARACTER",
    "Asked",
    "Asker",
    "Continue",
    "Model",
    "System",
    "UseCache",
    "argument_text",
    "decoded",
    "show_explanation",
    "start_auditing",
]

#: bytes; the longest character of UTF-8
WIDEST_CHARACTER = 4
#: seconds until the user sees for what they wait
_SILENCE = 1.0

_KINDS = {
    "changing": "the answer changes with time",
    "acting": "it asks to do something",
    "personal": "it is about personal data",
    "random": "each asker needs another answer",
    "denied": "`cache.deny` or its length says so",
}
#: by the finish reason of an answer
_NOT_WHOLE = {
    "length": "the answer was cut off at `engine.max_tokens`, so it is not cached",
    "prompt_cut": "the question is longer than `engine.context`: a part was read; the answer is not cached",
    "unknown": "the engine does not say whether the answer is whole, so it is not cached",
}
_NUMBERS = ("similarity", "confidence")
_REASON = len("confidence 0.979 ≥ 0.800")  #: columns

Model = Annotated[str | None, typer.Option(help="Model, instead of `engine.model`.")]
System = Annotated[str | None, typer.Option(help="System prompt, instead of `engine.system`.")]
UseCache = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache",
        help="Use the cache even for a question whose answer changes, that does something, or that is "
        "personal; or bypass it: neither read nor store. By default those questions bypass it.",
    ),
]
Continue = Annotated[
    bool,
    typer.Option("--continue", "-c", help="Continue the last conversation of this terminal, or else yours."),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a command. `history`: the conversation before it, oldest first, each with `role` and
    `content`."""

    prompt: str
    model: str | None = None
    system: str | None = None
    use_cache: bool | None = None
    refresh: bool = False
    threshold: float | None = None
    history: Sequence[Mapping[str, str]] = ()

    def question(self, config: Config) -> Question:
        """Raises UsageError."""
        from llmhost.answering.question import make_question
        from llmhost.engines.engine import Message

        options = {name: value for name, value in asdict(self).items() if name not in ("prompt", "history")}
        messages = [Message(turn["role"], turn["content"]) for turn in self.history]
        messages.append(Message("user", self.prompt))
        return make_question(config, messages, forgets=True, **options)


#: what comes of an answer: `forgotten` and how many messages are left out, `worker` and its name, `text` and
#: a piece, last `reply` and its document
Lines = AsyncGenerator[tuple[str, Any]]


class Asker:
    """Asks questions, and shows their answers. A gateway may come and go between two of them."""

    def __init__(self, options: Globals) -> None:
        self._options = options
        self._config: Config | None = None
        #: the socket of the gateway that answers as this command would, where it runs: then the configuration
        #: need not be read again
        self._gateway: tuple[Path, GatewayRecord] | None = None
        self._told: set[str] = set()
        #: those that were loaded for a question without the gateway: the next one has them
        self._models: dict[str, object] = {}

    def prepare(self) -> int:
        """Looks for the gateway, and else reads the configuration. Returns the most characters that a
        question may have. Raises ConfigError.
        """
        from llmhost.gateway.background import find_gateway

        try:
            named = inputs(self._options)
            self._gateway = find_gateway(named) if named else None
        except StateError:
            self._gateway = None
        if self._gateway is None:
            return self._configured().limits.max_prompt_chars
        from llmhost.config.inputs import find_file

        record = self._gateway[1]
        self._tell(find_file(self._options.config, os.environ)[0], record.warnings)
        return record.max_prompt_chars

    def _configured(self) -> Config:
        if self._config is None:
            loaded = load(self._options)
            self._tell(loaded.source, loaded.warnings)
            self._config = loaded.config
        return self._config

    def _tell(self, source: Path | None, warnings: Sequence[str]) -> None:
        """What there is to say of the configuration, each thing once."""
        if source is None and NO_FILE not in self._told:
            self._options.output.note(NO_FILE)
        for warning in warnings:
            if warning not in self._told:
                self._options.output.warn(warning)
        self._told |= {NO_FILE, *warnings}

    async def ask(
        self,
        asked: Asked,
        *,
        waited: Callable[[], float],
        explain: bool = False,
        on_text: Callable[[str], object] = lambda _: None,
    ) -> Mapping[str, Any]:
        """Asks, shows the answer, and returns its document: what ``--json`` prints.

        `waited`: seconds since the user gave the question. `on_text` gets each piece as it comes.
        """
        from llmhost.gateway.socket_client import OtherGateway, ask_gateway

        waiting = _Waiting(self._options.output)
        if self._gateway is not None:
            socket, record = self._gateway
            body = {**asdict(asked), "inputs": record.inputs, "explain": explain, "waited": waited()}
            try:
                return await self._show(ask_gateway(socket, body), explain, waiting, on_text)
            except OtherGateway as error:
                self._options.output.note(f"asked without the gateway: {error}")
                waiting = _Waiting(self._options.output)
        config = self._configured()
        question = asked.question(config)
        forgotten = len(asked.history) - len(question.history)
        async with wired(self._options, config) as wiring:
            wiring.caches.models = self._models
            await _check_for_a_source(wiring)
            lines = _in_this_process(wiring, question, forgotten, explain, waited, waiting)
            document = await self._show(lines, explain, waiting, on_text)
            to_audit = wiring.audits_queued
        if to_audit:
            start_auditing(self._options)
        return document

    async def _show(
        self, lines: Lines, explain: bool, waiting: _Waiting, on_text: Callable[[str], object]
    ) -> Mapping[str, Any]:
        out = self._options.output
        document: dict[str, Any] | None = None
        forgotten = 0
        streamed = False
        try:
            async with aclosing(lines):
                async for what, value in lines:
                    if what == "worker":
                        waiting.on_worker(value)
                    elif what == "forgotten":
                        forgotten = value
                    else:
                        waiting.over()
                        if what == "reply":
                            document = value
                            continue
                        on_text(value)
                        if not out.json:
                            streamed = True
                            out.stream(value)
        finally:
            waiting.over()
            if streamed:
                out.end_stream()
        if document is None:
            raise AssertionError("a question ended without a reply")
        if out.json:
            out.document(document)
        elif explain:
            show_explanation(out, document)
        _footer(out, document, forgotten)
        _check_whole(out, document)
        return document


async def _in_this_process(
    wiring: Wiring,
    question: Question,
    forgotten: int,
    explain: bool,
    waited: Callable[[], float],
    waiting: _Waiting,
) -> Lines:
    from llmhost.answering.document import reply_document
    from llmhost.answering.question import Reply, Text

    if forgotten:
        yield "forgotten", forgotten
    answerer = await wiring.answerer()
    answer = answerer.answer(question, waited=waited(), on_worker=waiting.on_worker)
    async with aclosing(answer) as events:
        async for event in events:
            if isinstance(event, Text):
                yield "text", event.text
            elif isinstance(event, Reply):
                yield "reply", reply_document(event, question, explain=explain)


class _Waiting:
    """Shows on a terminal for what, and how long, the user waits, until it is `over`."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._what = "an answer"
        self._task = asyncio.create_task(self._show())

    def on_worker(self, worker: str) -> None:
        self._what = worker

    def over(self) -> None:
        self._task.cancel()
        self._out.status("")

    async def _show(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(_SILENCE)
            self._out.status(f"waiting for {self._what}, {time.monotonic() - began:.0f} s")


async def _check_for_a_source(wiring: Wiring) -> None:
    """Before `llmhost up` nothing can answer: no Redis is started and no model loaded to find that out."""
    embedded = wiring.embedded_redis
    if embedded is None or embedded.has_data or await wiring.provider.list():
        return
    raise NoWorkerError("there is no worker, and no Redis that may know the answer", hint="run `llmhost up`")


def decoded(name: str, raw: bytes, max_chars: int) -> str:
    """The text of `raw`, which was read up to the maximum length of a question, without a byte order mark.
    Raises UsageError where it is none."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # A cut may split a character; then the text is too long anyway, which is reported later.
        text = raw.decode(errors="ignore") if len(raw) > max_chars * WIDEST_CHARACTER else "\0"
    if "\0" in text:
        raise UsageError(f"{name} is not text", hint="give it as UTF-8 text")
    return text


def argument_text(argument: str | None) -> str:
    """An argument of the command line, which may not be valid text."""
    try:
        (argument or "").encode()
    except UnicodeEncodeError as error:
        raise UsageError("an argument is not text", hint="give it as UTF-8 text") from error
    return argument or ""


def start_auditing(options: Globals) -> subprocess.Popen[bytes] | None:
    """Works off the queue in a detached process that outlives this one. None where the environment forbids it
    (LLMHOST_NO_BACKGROUND), or the system: then the audits wait.
    """
    if os.environ.get("LLMHOST_NO_BACKGROUND"):
        return None
    from llmhost.machine.child import python_command, safe_environment

    try:
        return subprocess.Popen(
            python_command("llmhost", *configuration_arguments(options), "cache", "audit"),
            env=safe_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None


def show_explanation(out: Output, reply: Mapping[str, Any]) -> None:
    """Prints the question's kind, the candidates and why each was served or not, on stderr; nothing with
    ``--quiet``."""
    because = f": “{clean(reply['because'])}”" if reply["because"] else ""
    out.note(f"· {reply['kind']} question{because}")
    if reply["condensed"]:
        out.note(f"· looked up as “{clean(shortened(reply['condensed']))}”")
    if reply["source"] == "exact":
        out.note("· exact match: the same question is stored")
    elif not reply["explain"]:
        out.note(f"· {reply['reason'] or 'no stored question was considered'}")
    elif not out.quiet:
        shown = table("", "similarity", "confidence", "reason", "stored question", right=_NUMBERS)
        for verdict in reply["explain"]:
            confidence = "" if verdict["confidence"] is None else f"{verdict['confidence']:.3f}"
            shown.add_row(
                "served" if verdict["taken"] else "",
                f"{verdict['similarity']:.3f}",
                confidence,
                clean(verdict["why"]),
                clean(shortened(verdict["question"])),
            )
        # `confidence 0.979 ≥ 0.800` stays on one line of a narrow terminal.
        longest = max(len(verdict["why"]) for verdict in reply["explain"])
        shown.columns[3].min_width = min(longest, _REASON)
        out.console_of_errors().print(shown)


def _footer(out: Output, reply: Mapping[str, Any], forgotten: int) -> None:
    """The answer's source, latency, cost or savings, why it is not cached, and how many messages of the
    conversation were not sent."""
    took = milliseconds(reply["latency_ms"]["total"])
    if reply["source"] == "engine":
        tokens = f"{reply['tokens']['completion']:,} tokens"
        parts = [f"answered by {reply['worker']}", reply["model"], tokens, took]
        parts.append(f"cost {money(reply['cost_usd'])}")
    else:
        parts = [
            f"{reply['source']} hit" + (", stale: a new answer is asked for" if reply["stale"] else ""),
            took,
            f"saved {money(reply['saved_usd'])}",
            f"entry {(reply['entry'] or '')[:ENTRY_DIGITS]}",
        ]
    if reply["matched_question"] is not None:
        matched = shortened(reply["matched_question"])
        parts.insert(1, f"similarity {reply['similarity']:.2f} to “{matched}”")
        if reply["confidence"] is not None:
            parts.insert(2, f"confidence {percent(reply['confidence'])}")
    if (shadow := reply["shadow"]) is not None:
        parts.append(f"{shadow['source']} hit not served (cache.shadow)")
    if reply["kind"] in _KINDS and reply["entry"] is None:
        parts.append(f"not cached: {_KINDS[reply['kind']]}")
    if forgotten:
        parts.append(f"without the first {counted(forgotten, 'message')}, for its length")
    out.note("· " + " · ".join(parts))


def _check_whole(out: Output, reply: Mapping[str, Any]) -> None:
    """Warns of an answer that is not whole. Raises EngineError where there is none."""
    reason = reply["finish_reason"]
    if reply["source"] == "engine" and not reply["answer"].strip():
        hint = "raise `engine.max_tokens`: a model that reasons may use all of it before its answer"
        raise EngineError(
            f"{reply['worker']} gave an empty answer (finish reason: {clean(reason)})",
            hint=hint if reason == "length" else "ask again, or use another `engine.model`",
        )
    if reason != "stop":
        out.warn(
            _NOT_WHOLE.get(
                reason, f"the answer may not be whole (finish reason: {clean(reason)}): not cached"
            )
        )
