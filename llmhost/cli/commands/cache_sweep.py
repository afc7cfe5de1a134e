"""`llmhost cache sweep`: removes what the cache has no use for any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cache.sweep import Swept

__all__ = ["sweep_cache"]


@asynchronous
async def sweep_cache(ctx: typer.Context) -> None:
    """Remove what expired entries have left, while other processes serve.

    That is: vectors in the index whose answer has expired, counts and questions of such entries, and all keys
    of a kind of index that is neither in use nor configured. Searches remove what they meet, so that this is
    needed seldom: where many questions are asked only once, run it once a day.

    Of a vector set with more than 1,000 entries, 1,000 at random are looked at again and again, until all of
    them have an answer.

    Examples:
      llmhost cache sweep
      llmhost cache sweep --json
    """
    options = globals_of(ctx)
    config = configured(options, header=True)

    def tell(done: Swept) -> None:
        options.output.status(f"{done.step}: {done.vectors + done.records + done.index_keys:,} removed")

    async with wired(options, config) as wiring:
        done = await wiring.caches.sweeper(await wiring.redis(), tell).run()
    options.output.status("")
    if done.refused:
        options.output.warn(f"a part of the index was left out: {done.refused}")
    document = {"vectors": done.vectors, "records": done.records, "index_keys": done.index_keys}
    options.output.result(done, _show, document)


def _show(done: Swept, console: Console) -> None:
    if not (done.vectors or done.records or done.index_keys):
        console.print("Nothing to remove.")
        return
    vectors, records = counted(done.vectors, "vector"), counted(done.records, "record")
    others = counted(done.index_keys, "key")
    console.print(f"Removed {vectors} and {records} of expired entries, {others} of an index not in use.")
