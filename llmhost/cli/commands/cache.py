"""`llmhost cache`: look into the cache and correct it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.commands.cache_audit import audit_hits
from llmhost.cli.commands.cache_eval import eval_pairs
from llmhost.cli.commands.cache_reindex import reindex_entries
from llmhost.cli.commands.cache_replay import replay_stream
from llmhost.cli.commands.cache_sweep import sweep_cache
from llmhost.cli.commands.cache_transfer import export_entries, import_entries
from llmhost.cli.commands.cache_tune import app as tune
from llmhost.cli.commands.cache_warm import warm_cache
from llmhost.cli.frame import App, Globals, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured, confirm, run_async, wired
from llmhost.cli.text import ENTRY_DIGITS, ago, clean, counted, duration, money, shortened
from llmhost.errors import Cancelled, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cache.catalog import Filter
    from llmhost.cache.models import Entry
    from llmhost.config.models import Config

__all__ = ["app"]

#: columns; a window that has room for all that is known of an entry
_WIDE = 120
#: entries that --dry-run names
_MOST_NAMED = 1000

app = App("Look into the cache and correct it.")


Model = Annotated[str | None, typer.Option(help="Only answers of this model.")]
Scope = Annotated[str | None, typer.Option(help="Only this scope, or the beginning of its name.")]
Worker = Annotated[
    str | None,
    typer.Option(help="Only answers of this worker, or of this machine of a provider."),
]
Part = Annotated[str | None, typer.Option(metavar="WORDS", help="Only questions with these words in them.")]


@app.command("ls")
@asynchronous
async def list_entries(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many to show.")] = 20,
    model: Model = None,
    scope: Scope = None,
    worker: Worker = None,
    text: Part = None,
) -> None:
    """List cached questions, last used first.

    All entries are read, some at a time, to find those that were used last; `llmhost cache export` writes
    all of them. In a wide window it shows size and age too, and model and scope where they differ.

    Examples:
      llmhost cache ls
      llmhost cache ls --text redis --model tiny
      llmhost cache ls --limit 1000 --json
    """
    options = globals_of(ctx)
    wanted = _filter(model, scope, worker, text)
    async with wired(options, configured(options, header=True)) as wiring:
        catalog = await wiring.catalog()
        entries, total = await catalog.last_used(wanted, limit)
        sizes = await catalog.sizes(entries)
    shown = [
        {
            "entry": entry.entry,
            "question": entry.question,
            "model": entry.answer.model,
            "scope": entry.scope,
            "hit_count": entry.hit_count,
            "size_bytes": size,
            "created": entry.created,
            "last_accessed": entry.last_accessed,
            "expires_in_s": entry.expires_in_s,
        }
        for entry, size in zip(entries, sizes, strict=True)
    ]
    document = {"entries": shown, "total": total}
    options.output.result(list(zip(entries, sizes, strict=True)), partial(_show_list, total=total), document)


def _filter(model: str | None, scope: str | None, worker: str | None, text: str | None) -> Filter:
    """Raises UsageError for one that is empty: it would match everything."""
    from llmhost.cache.catalog import Filter

    for name, value in (("--model", model), ("--scope", scope), ("--worker", worker), ("--text", text)):
        if value is not None and not value.strip():
            raise UsageError(f"{name} is empty", hint="leave it out, or give it a value")
    return Filter(model=model, scope=scope, worker=worker, text=text)


@app.command("get")
@asynchronous
async def get_entry(
    ctx: typer.Context, entry: Annotated[str, typer.Argument(help="The entry, or the beginning of its name.")]
) -> None:
    """Show one cached question and its answer.

    Examples:
      llmhost cache get 3f9a
    """
    options = globals_of(ctx)
    async with wired(options, configured(options, header=True)) as wiring:
        found = await (await wiring.catalog()).find(entry)
    options.output.result(found, _show_entry)


@app.command("forget")
def forget_entries(
    ctx: typer.Context,
    entries: Annotated[
        list[str] | None, typer.Argument(help="The entries, or the beginnings of their names.")
    ] = None,
    bad_answer: Annotated[
        bool, typer.Option("--bad-answer", help="The answer is bad for the question it was given to.")
    ] = False,
    wrong_match: Annotated[
        bool,
        typer.Option(
            "--wrong-match", help="It was served to a question that asks something else: learn that."
        ),
    ] = False,
    worker: Worker = None,
    model: Model = None,
    scope: Scope = None,
    text: Part = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only name what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --wrong-match: do not ask.")] = False,
    wrong: Annotated[bool, typer.Option("--wrong", hidden=True)] = False,
) -> None:
    """Remove entries: the next question like them is answered by a worker.

    Name them, or give options that they must all fit: `llmhost cache ls` takes the same ones.

    Examples:
      llmhost cache forget 3f9a
      llmhost cache forget --bad-answer 3f9a
      llmhost cache forget --wrong-match 3f9a
      llmhost cache forget --worker vast-123
      llmhost cache forget --text "opening hours" --dry-run
    """
    options = globals_of(ctx)
    if wrong:
        options.output.warn("--wrong is now --wrong-match; where the answer itself is bad, use --bad-answer")
        wrong_match = yes = True
    if bad_answer and wrong_match:
        raise UsageError(
            "--bad-answer and --wrong-match cannot be combined",
            hint="was the answer bad for its own question, or was it served to another question?",
        )
    wanted = _filter(model, scope, worker, text)
    if bool(entries) == (wanted != type(wanted)()):
        raise UsageError(
            "name entries, or say which with --worker, --model, --scope or --text",
            hint="`llmhost cache ls` lists entries",
        )
    if wrong_match and (dry_run or not entries):
        raise UsageError("--wrong-match is for entries that you name", hint="name them, without --dry-run")
    config = configured(options, header=True)
    if not entries:
        run_async(_forget_matching(options, config, wanted, dry_run))
    elif wrong_match:
        if not (yes or sys.stdin.isatty()):
            raise UsageError("--wrong-match asks whether the match was wrong", hint="confirm it with --yes")
        run_async(_forget_wrong_matches(options, config, entries, yes))
    else:
        run_async(_forget(options, config, entries, dry_run))


async def _forget(options: Globals, config: Config, prefixes: Sequence[str], dry_run: bool) -> None:
    async with wired(options, config) as wiring:
        catalog = await wiring.catalog()
        found = {entry.entry: entry for entry in [await catalog.find(prefix) for prefix in prefixes]}
        if dry_run:
            _report_matching(options, list(found.values()), len(found))
            return
        for entry in found.values():
            await catalog.forget(entry)
    _report_forgotten(options, list(found))


async def _forget_matching(options: Globals, config: Config, wanted: Filter, dry_run: bool) -> None:
    async with wired(options, config) as wiring:
        catalog = await wiring.catalog()
        if dry_run:
            _report_matching(options, *await catalog.last_used(wanted, _MOST_NAMED))
            return
        forgotten = await catalog.forget_matching(wanted)
    if not forgotten:
        options.output.note("no entry fits")
    _report_forgotten(options, forgotten)


def _report_matching(options: Globals, entries: Sequence[Entry], total: int) -> None:
    """What would be removed."""

    def show(_: object, console: Console) -> None:
        for entry in entries:
            question = " ".join(clean(shortened(entry.question)).split())
            console.print(f"{entry.entry[:ENTRY_DIGITS]}  {question}")
        more = f" The {len(entries):,} last used are shown." if len(entries) < total else ""
        console.print(f"{counted(total, 'entry')} would be removed.{more}", style="dim")

    names = [entry.entry for entry in entries]
    options.output.result(names, show, {"forgotten": [], "labelled": [], "matching": names, "total": total})


async def _forget_wrong_matches(options: Globals, config: Config, prefixes: Sequence[str], yes: bool) -> None:
    """Shows which question got the entry's answer, and learns from what the operator confirms."""
    from llmhost.cache.policy import shifted
    from llmhost.cli.trust_view import counts_as

    out = options.output
    forgotten, labelled = [], []
    async with wired(options, config) as wiring:
        catalog, labels = await wiring.catalog(), wiring.caches.labels(await wiring.redis())
        found = {entry.entry: entry for entry in [await catalog.find(prefix) for prefix in prefixes]}
        for entry in found.values():
            asked = await catalog.served_to(entry)
            if asked is not None:
                out.note(f"asked:  {clean(shortened(asked))}\nstored: {clean(shortened(entry.question))}")
                if not yes and not await confirm("Do these ask different things?"):
                    continue
            label = await catalog.forget(entry)
            forgotten.append(entry.entry)
            if label is not None:
                await labels.record(label, wiring.now())
                labelled.append(entry.entry)
        calibration = await labels.calibration() if labelled else None
    if calibration is not None:
        confidence = config.cache.confidence
        out.note(f"from now on {counts_as(confidence, shifted(confidence, calibration.shift))}")
    elif forgotten:
        out.note("nothing to learn: the cache gave their answers to no other wording")
    _report_forgotten(options, forgotten, labelled)


def _report_forgotten(options: Globals, forgotten: Sequence[str], labelled: Sequence[str] = ()) -> None:
    """`labelled` are those of which it was learnt that they were served to another question."""
    options.output.result(
        {"forgotten": list(forgotten), "labelled": list(labelled)},
        lambda _, console: _show_forgotten(forgotten, labelled, console),
    )


@app.command("clear")
def clear_cache(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove every entry of the namespace, of all fleets that share it in this Redis, and what waits to be
    audited of this fleet. The ledger and all other keys stay.

    Examples:
      llmhost cache clear --yes
    """
    options = globals_of(ctx)
    config = configured(options, header=True)
    if not (yes or sys.stdin.isatty()):
        raise UsageError("this removes every entry", hint="confirm it with --yes")
    run_async(_clear(options, config, yes))


async def _clear(options: Globals, config: Config, yes: bool) -> None:
    async with wired(options, config) as wiring:
        catalog = await wiring.catalog()
        if not yes and not await confirm(_scope_of_clear(config, await catalog.count())):
            raise Cancelled("Cancelled. Nothing was removed.")
        cleared = await catalog.clear()
        await wiring.drop_audits()
    words = f"removed {counted(cleared, 'entry')} of the namespace {config.cache.namespace}"
    options.output.result({"cleared": cleared}, lambda _, console: console.print(words))


def _scope_of_clear(config: Config, count: int) -> str:
    """Asks for what would be removed, and names whose it is: entries themselves name no fleet."""
    from llmhost.fleet.known_fleets import known_fleets
    from llmhost.machine.paths import state_dir

    own = config.fleet.name
    known = dict.fromkeys([own, *(fleet.name for fleet in known_fleets(state_dir() / "fleets"))])
    what = f"Remove {counted(count, 'entry')} of the namespace {config.cache.namespace!r}"
    return f"{what}, of every fleet that shares it in this Redis (known here: {', '.join(known)})?"


def _show_list(rows: Sequence[tuple[Entry, int | None]], console: Console, total: int) -> None:
    if not rows:
        console.print("No entry. `llmhost ask` and `llmhost cache warm` fill the cache.")
        return
    now, wide = time.time(), console.width >= _WIDE
    # What is the same of all tells nothing apart, and takes the room of the questions.
    has_models = wide and len({entry.answer.model for entry, _ in rows}) > 1
    has_scopes = wide and len({entry.scope for entry, _ in rows}) > 1
    details = [*["model"] * has_models, *["scope"] * has_scopes, *(["size", "age"] if wide else [])]
    grid = table("entry", "question", *details, "hits", "last used", "expires in", right=("hits", "size"))
    for entry, size in rows:
        cells = {
            "model": clean(entry.answer.model),
            "scope": entry.scope[:ENTRY_DIGITS],
            "size": "-" if size is None else f"{size:,}",
            "age": duration(max(now - entry.created, 0)),
        }
        grid.add_row(
            entry.entry[:ENTRY_DIGITS],
            " ".join(clean(entry.question).split()),
            *(cells[name] for name in details),
            f"{entry.hit_count:,}",
            ago(entry.last_accessed, now),
            duration(entry.expires_in_s),
        )
    console.print(grid)
    if len(rows) < total:
        console.print(f"{len(rows):,} of {total:,}; --limit shows more.", style="dim")


def _show_entry(output: Entry, console: Console) -> None:
    from rich.table import Table

    now = time.time()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("entry", output.entry)
    grid.add_row("question", clean(output.question))
    grid.add_row("scope", output.scope)
    grid.add_row("embedder", clean(output.embedder) or "none: the question is too long to embed")
    grid.add_row("hits", f"{output.hit_count:,}")
    grid.add_row("created", ago(output.created, now))
    grid.add_row("last used", ago(output.last_accessed, now))
    grid.add_row("expires in", duration(output.expires_in_s))
    grid.add_row("model", clean(output.answer.model))
    machine = f" on machine {output.answer.machine}" if output.answer.machine else ""
    grid.add_row("answered by", clean(f"{output.answer.worker or 'an unknown worker'}{machine}"))
    took, cost = duration(output.answer.engine_seconds), money(output.answer.cost_usd)
    grid.add_row("made in", f"{took}, {output.answer.completion_tokens:,} tokens, {cost}")
    console.print(grid)
    console.print()
    console.print(clean(output.answer.text))


def _show_forgotten(forgotten: Sequence[str], labelled: Sequence[str], console: Console) -> None:
    for entry in forgotten:
        learnt = " and learnt that it was a wrong match" if entry in labelled else ""
        console.print(f"forgot {entry[:ENTRY_DIGITS]}{learnt}")


app.command("warm")(warm_cache)
app.command("export")(export_entries)
app.command("import")(import_entries)
app.command("reindex")(reindex_entries)
app.command("sweep")(sweep_cache)
app.command("replay")(replay_stream)
app.command("eval")(eval_pairs)
app.command("audit")(audit_hits)
app.add_typer(tune, name="tune")
