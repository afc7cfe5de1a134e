"""`llmhost ask`: one question, answered from the cache or by a worker."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from llmhost.cli.asking import (
    WIDEST_CHARACTER,
    Asker,
    Continue,
    Model,
    System,
    UseCache,
    argument_text,
    decoded,
)
from llmhost.cli.conversation import Conversation, last_conversation
from llmhost.cli.frame import globals_of
from llmhost.cli.output import Output
from llmhost.cli.running import process_age, run_async
from llmhost.errors import UsageError

__all__ = ["ask"]

#: seconds; a pipe that is silent for longer may never end, and the user may not know that it is read
_SILENCE = 1.0

Prompt = Annotated[
    str | None, typer.Argument(help="The question. What is piped in is added to it; - waits for that.")
]
Files = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", help="A text file to add to the question; may be given several times."),
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
    goes_on: Continue = False,
) -> None:
    """Answer a question from the cache, or by the least busy worker.

    The question is the prompt, then the files, then standard input where that is no terminal; `< /dev/null`
    gives none. The answer is streamed to stdout; its source, latency and cost are printed on stderr.

    Examples:
      llmhost ask "What is artificial intelligence?"
      llmhost ask -c "And who invented it?"
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
    asker = Asker(options)
    max_chars = asker.prepare()
    began = time.monotonic()
    text = _given(options.output, prompt, files or (), max_chars)
    reading = time.monotonic() - began
    conversation = last_conversation(options.output) if goes_on else Conversation()
    conversation.choose(model, system)
    asked = conversation.asked(text, use_cache=use_cache, refresh=refresh, threshold=threshold)
    document = run_async(asker.ask(asked, explain=explain, waited=lambda: process_age() - reading))
    conversation.add(text, document["answer"])
    conversation.keep(options.output)


def _given(out: Output, prompt: str | None, files: Sequence[Path], max_chars: int) -> str:
    """All that the user gave: prompt, files, standard input. Raises UsageError where a part is no text."""
    most = max_chars * WIDEST_CHARACTER + 1
    parts = [] if prompt in (None, "-") else [argument_text(prompt)]
    for path in files:
        try:
            with path.open("rb") as file:
                parts.append(decoded(argument_text(str(path)), file.read(most), max_chars))
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    if sys.stdin is not None and not sys.stdin.isatty():
        with suppress(OSError, ValueError):  # what cannot be waited for is read at once
            if not select.select([sys.stdin], [], [], _SILENCE)[0]:
                out.note("waiting for the end of standard input (`< /dev/null` gives none)")
        parts.append(decoded("standard input", sys.stdin.buffer.read(most), max_chars))
    elif prompt == "-" or not parts:
        raise UsageError("no question given", hint='for example: llmhost ask "What is Redis?"')
    return "\n\n".join(part for part in parts if part.strip())
