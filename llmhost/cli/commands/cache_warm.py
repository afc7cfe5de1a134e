"""`llmhost cache warm`: fills the cache from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.commands.cache_transfer import input_file
from llmhost.cli.frame import globals_of
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import counted
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.answering.warm import Warmed

__all__ = ["warm_cache"]


@asynchronous
async def warm_cache(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to read; - is standard input.")],
    model: Annotated[str | None, typer.Option(help="Model, instead of `engine.model`.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt, instead of `engine.system`.")] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="How many questions to ask at once.")
    ] = 4,
) -> None:
    """Fill the cache from a file of questions, one a line.

    A line is a question, which a worker answers as it would answer `llmhost ask`; or a JSON object with
    `question` and `answer`, which is stored without asking. What the cache can answer already is left out, so
    that a run that was interrupted is continued by running it again. Questions that are not cached, as those
    whose answer changes with time, are left out too.

    Examples:
      llmhost cache warm questions.txt
      llmhost cache warm faq.jsonl --json
      llmhost cache warm questions.txt --parallel 16 --system "Be brief."
    """
    from llmhost.answering.question import make_question
    from llmhost.answering.warm import Warmer, read_questions
    from llmhost.engines.engine import Message

    options = globals_of(ctx)
    config = configured(options, header=True)
    if not config.cache.enabled:
        raise UsageError("the cache is off", hint="set `cache.enabled` to true")

    def tell(done: Warmed) -> None:
        options.output.status(_words(done))

    async with wired(options, config) as wiring:
        client = await wiring.redis()
        warmer = Warmer(
            cache=wiring.caches.cache(client),
            answerer=await wiring.answerer(),
            make=lambda text: make_question(config, [Message("user", text)], model=model, system=system),
            digest=wiring.caches.weights(client).digest,
            now=wiring.now,
            parallel=parallel,
            tell=tell,
        )
        with input_file(file) as source:
            done = await warmer.run(read_questions("standard input" if file == "-" else file, source))
    options.output.status("")
    options.output.result(done, _show)


def _show(done: Warmed, console: Console) -> None:
    console.print(f"{_words(done)}.")


def _words(done: Warmed) -> str:
    bypassed = f", {done.bypassed:,} not cached" if done.bypassed else ""
    asked, stored = counted(done.asked, "question"), counted(done.stored, "answer")
    return f"{asked} asked, {stored} stored, {done.hits:,} in the cache already{bypassed}"
