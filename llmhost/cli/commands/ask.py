"""`llmhost ask`: one question, answered from the cache or by a worker."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from llmhost.cli.commands.cache_audit import start_auditing
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import Output, table
from llmhost.cli.running import NO_FILE, configured, process_age, run_async, wired
from llmhost.cli.text import ENTRY_DIGITS, clean, milliseconds, money, percent, shortened
from llmhost.errors import EngineError, NoWorkerError, StateError, UsageError

if TYPE_CHECKING:
    from llmhost.answering.question import Question
    from llmhost.config.models import Config
    from llmhost.gateway.background import GatewayRecord
    from llmhost.wiring import Wiring

__all__ = ["ask", "show_explanation"]


#: seconds; a pipe that is silent for longer may never end, and the user may not know that it is read
_SILENCE = 1.0
_KINDS = {
    "changing": "the answer changes with time",
    "acting": "it asks to do something",
    "personal": "it is about personal data",
}
#: bytes; the longest character of UTF-8
_WIDEST_CHARACTER = 4
#: by the finish reason of an answer
_NOT_WHOLE = {
    "length": "the answer was cut off at `engine.max_tokens`, so it is not cached",
    "prompt_cut": "the question is longer than `engine.context`: a part was read; the answer is not cached",
    "unknown": "the engine does not say whether the answer is whole, so it is not cached",
}
_NUMBERS = ("similarity", "confidence")


Prompt = Annotated[
    str | None, typer.Argument(help="The question. What is piped in is added to it; - waits for that.")
]
Files = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", help="A text file to add to the question; may be given several times."),
]
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
Refresh = Annotated[bool, typer.Option("--refresh", help="Ask a worker, and replace the stored answer.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=-1,
        max=1,
        help="The minimum for serving the answer to a similar question: a confidence with the policy "
        "`verified`, a similarity with `threshold`.",
    ),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Show why similar stored questions were served or not.")
]


def ask(
    ctx: typer.Context,
    prompt: Prompt = None,
    files: Files = None,
    model: Model = None,
    system: System = None,
    use_cache: UseCache = None,
    refresh: Refresh = False,
    threshold: Threshold = None,
    explain: Explain = False,
) -> None:
    """Answer a question from the cache, or by the least busy worker.

    The question is the prompt, then the files, then standard input where that is no terminal; `< /dev/null`
    gives none. The answer is streamed to stdout; its source, latency and cost are printed on stderr.

    Examples:
      llmhost ask "What is artificial intelligence?"
      llmhost ask --json "What is Redis?" | jq .source
      llmhost ask --explain "How does Redis work?"
      git diff | llmhost ask "Review this change."
      llmhost ask "Which of these is faster?" -f one.py -f two.py
    """
    options = globals_of(ctx)
    if use_cache is False and refresh:
        raise UsageError(
            "--no-cache and --refresh cannot be combined", hint="--refresh stores, --no-cache does not"
        )
    gateway = _gateway(options)
    config = configured(options) if gateway is None else None
    most = config.limits.max_prompt_chars if config else gateway[1].max_prompt_chars if gateway else 0
    began = time.monotonic()
    text = _given(options.output, prompt, files or (), most)
    reading = time.monotonic() - began
    arguments = _Arguments(
        text, model and _text(model), system and _text(system), use_cache, refresh, threshold
    )
    run_async(_ask(options, config, gateway, arguments, explain, lambda: process_age() - reading))


@dataclass(frozen=True, slots=True)
class _Arguments:
    prompt: str
    model: str | None
    system: str | None
    use_cache: bool | None
    refresh: bool
    threshold: float | None

    def question(self, config: Config) -> Question:
        """Raises UsageError."""
        from llmhost.answering.question import make_question
        from llmhost.engines.engine import Message

        options = {name: value for name, value in asdict(self).items() if name != "prompt"}
        return make_question(config, [Message("user", self.prompt)], **options)


#: what comes of an answer: the `kind` of a question that is not cached, `worker` and its name, `text` and a
#: piece, last `reply` and its document
Lines = AsyncGenerator[tuple[str, Any]]


def _gateway(options: Globals) -> tuple[Path, GatewayRecord] | None:
    """The socket of the gateway that answers as this command would, where it runs: then the configuration
    need not be read again."""
    from llmhost.cli.running import inputs
    from llmhost.config.inputs import find_file
    from llmhost.gateway.background import find_gateway

    try:
        found = find_gateway(named) if (named := inputs(options)) else None
    except StateError:
        return None
    if found is not None:
        if find_file(options.config, os.environ)[0] is None:
            options.output.note(NO_FILE)
        for warning in found[1].warnings:
            options.output.warn(warning)
    return found


async def _ask(
    options: Globals,
    config: Config | None,
    gateway: tuple[Path, GatewayRecord] | None,
    arguments: _Arguments,
    explain: bool,
    waited: Callable[[], float],
) -> None:
    """`waited`: seconds since the user gave the command, without those for reading the question."""
    from llmhost.gateway.socket_client import OtherGateway, ask_gateway

    waiting = _Waiting(options.output)
    if gateway is not None:
        socket, record = gateway
        body = {**asdict(arguments), "inputs": record.inputs, "explain": explain, "waited": waited()}
        try:
            await _show_answer(options, ask_gateway(socket, body), explain, waiting)
        except OtherGateway as error:
            options.output.note(f"asked without the gateway: {error}")
        else:
            return
    config = config or configured(options)
    question = arguments.question(config)
    async with wired(options, config) as wiring:
        await _check_for_a_source(wiring)
        lines = _in_this_process(wiring, question, explain, waited, waiting)
        await _show_answer(options, lines, explain, waiting)
        to_audit = wiring.audits_queued
    if to_audit:
        start_auditing(options)


async def _in_this_process(
    wiring: Wiring, question: Question, explain: bool, waited: Callable[[], float], waiting: _Waiting
) -> Lines:
    from llmhost.answering.document import reply_document
    from llmhost.answering.question import Reply, Text

    if question.kind is not None and not question.use_cache:
        yield "kind", question.kind
    answerer = await wiring.answerer()
    answer = answerer.answer(question, waited=waited(), on_worker=waiting.on_worker)
    async with aclosing(answer) as events:
        async for event in events:
            if isinstance(event, Text):
                yield "text", event.text
            elif isinstance(event, Reply):
                yield "reply", reply_document(event, explain=explain)


async def _show_answer(options: Globals, lines: Lines, explain: bool, waiting: _Waiting) -> None:
    out = options.output
    document: dict[str, Any] | None = None
    kind: str | None = None
    streamed = False
    try:
        async with aclosing(lines):
            async for what, value in lines:
                if what == "worker":
                    waiting.on_worker(value)
                elif what == "kind":
                    kind = value
                else:
                    waiting.over()
                    if what == "reply":
                        document = value
                    elif not out.json:
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
    _footer(out, document, kind)
    _check_whole(out, document)


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


def _given(out: Output, prompt: str | None, files: Sequence[Path], max_chars: int) -> str:
    """All that the user gave: prompt, files, standard input. Raises UsageError where a part is no text."""
    parts = [] if prompt in (None, "-") else [_text(prompt)]
    for path in files:
        try:
            with path.open("rb") as file:
                parts.append(_decoded(_text(str(path)), file, max_chars))
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    if sys.stdin is not None and not sys.stdin.isatty():
        with suppress(OSError, ValueError):  # what cannot be waited for is read at once
            if not select.select([sys.stdin], [], [], _SILENCE)[0]:
                out.note("waiting for the end of standard input (`< /dev/null` gives none)")
        parts.append(_decoded("standard input", sys.stdin.buffer, max_chars))
    elif prompt == "-" or not parts:
        raise UsageError("no question given", hint='for example: llmhost ask "What is Redis?"')
    return "\n\n".join(part for part in parts if part.strip())


def _decoded(name: str, file: BinaryIO, max_chars: int) -> str:
    """The text of `file`, read up to the maximum length of a question, without a byte order mark."""
    raw = file.read(max_chars * _WIDEST_CHARACTER + 1)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # A cut may split a character; then the text is too long anyway, which is reported later.
        text = raw.decode(errors="ignore") if len(raw) > max_chars * _WIDEST_CHARACTER else "\0"
    if "\0" in text:
        raise UsageError(f"{name} is not text", hint="give it as UTF-8 text")
    return text


def _text(argument: str | None) -> str:
    """An argument of the command line, which may not be valid text."""
    try:
        (argument or "").encode()
    except UnicodeEncodeError as error:
        raise UsageError("an argument is not text", hint="give it as UTF-8 text") from error
    return argument or ""


def show_explanation(out: Output, reply: Mapping[str, Any]) -> None:
    """Prints the candidates and why each was served or not, on stderr; nothing with ``--quiet``."""
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
        out.console_of_errors().print(shown)


def _footer(out: Output, reply: Mapping[str, Any], kind: str | None) -> None:
    """The answer's source, latency, cost or savings, and of which `kind` it is that it is not cached."""
    took = milliseconds(reply["latency_ms"]["total"])
    if reply["source"] == "engine":
        tokens = f"{reply['tokens']['completion']:,} tokens"
        parts = [f"answered by {reply['worker']}", reply["model"], tokens, took]
        parts.append(f"cost {money(reply['cost_usd'])}")
    else:
        parts = [
            f"{reply['source']} hit",
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
    if kind in _KINDS:
        parts.append(f"not cached: {_KINDS[kind]}")
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
