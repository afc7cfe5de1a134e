"""`llmhost cache reindex`: takes all entries to another index, or to another embedding model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, get_args

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import counted
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cache.indexes.choose import IndexKind
    from llmhost.cache.reindex import Reindexed
    from llmhost.cli.output import Output
    from llmhost.config.models import Config

__all__ = ["reindex_entries"]


@asynchronous
async def reindex_entries(
    ctx: typer.Context,
    index: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="vector_set, query_engine or flat; else the best that this Redis has."
        ),
    ] = None,
    re_embed: Annotated[
        bool,
        typer.Option(
            "--embedder", help="Embed again what was embedded by another model than the configured."
        ),
    ] = False,
) -> None:
    """Move all entries to another index, while other processes serve.

    Entries get the best index that this Redis has, or the one of --index; those that are in no index are
    added, and records of an older llmhost are brought up to date. Other processes write to both indexes
    meanwhile and use the new one about 10 s after it is complete; then the old ones are removed, also one
    that other configurations name as `cache.index`. Ctrl-C stops it, and running it again continues where
    it was.

    To change the embedding model, set `cache.embedder`, restart gateways, and use --embedder.

    Examples:
      llmhost cache reindex
      llmhost cache reindex --index flat
      llmhost cache reindex --embedder --json
    """
    options = globals_of(ctx)
    config = configured(options, header=True)
    wanted = _wanted(index, config)
    async with wired(options, config) as wiring:
        client, tell = await wiring.redis(), _Teller(options.output)
        reindexer = await wiring.caches.reindexer(client, re_embed=re_embed, tell=tell)
        done = await reindexer.run(wanted)
    options.output.status("")
    if done.other_embedder and not re_embed:
        options.output.note(
            f"{counted(done.other_embedder, 'entry')} of another embedding model: --embedder embeds them "
            "again"
        )
    options.output.result(done, _show)


def _wanted(index: str | None, config: Config) -> IndexKind | None:
    """The kind to move to; None: the best. Raises UsageError."""
    from llmhost.cache.indexes.choose import IndexKind

    kinds = get_args(IndexKind)
    if index is not None and index not in kinds:
        raise UsageError(f"there is no index {index!r}", hint=f"choose one of {', '.join(kinds)}")
    fixed = config.cache.index
    if fixed == "auto":
        return next((kind for kind in kinds if kind == index), None)
    if index not in (None, fixed):
        raise UsageError(
            f"`cache.index` is {fixed}, so that {index} would not be used",
            hint=f"set `cache.index` to auto or {index} first",
        )
    return fixed


class _Teller:
    """Says each step, and how far it is."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._step = ""

    def __call__(self, done: Reindexed) -> None:
        if done.step != self._step:
            self._step = done.step
            self._output.note(f"{done.step} …")
        self._output.status(f"{counted(done.entries, 'entry')} read, {done.added:,} added")


def _show(done: Reindexed, console: Console) -> None:
    console.print(
        f"{counted(done.entries, 'entry')} in the index {done.index}: {done.added:,} added, "
        f"{done.embedded:,} of them embedded again, {done.updated:,} brought up to date."
    )
    if done.lost:
        console.print(
            f"{done.lost:,} have no vector, and their embedding model is not the configured one: only the "
            "same wording finds them."
        )
    if done.removed_keys:
        console.print(f"Removed {counted(done.removed_keys, 'key')} of indexes that are not used any more.")
