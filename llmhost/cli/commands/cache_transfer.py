"""`llmhost cache export` and `import`: entries as JSON lines."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TextIO

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import counted
from llmhost.errors import StateError, UsageError
from llmhost.machine.files import replacing

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cache.transfer import Imported

__all__ = ["export_entries", "import_entries", "input_file"]

#: entries; how often it is said how far it is
_STEP = 256


@asynchronous
async def export_entries(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write; - is standard output.")],
    vectors: Annotated[
        bool, typer.Option("--vectors", help="With the vectors: larger, and imported without embedding.")
    ] = False,
) -> None:
    """Write all entries to a file: JSON, one entry a line.

    It holds questions, answers, counts and remaining lifetimes, so keep it as safe as the cache: the file
    gets mode 0600. It appears when it is complete; an existing one is replaced then.

    Examples:
      llmhost cache export cache.jsonl
      llmhost cache export --vectors cache.jsonl
      llmhost cache export - | gzip > cache.jsonl.gz
    """
    options = globals_of(ctx)
    if file == "-" and options.json:
        raise UsageError("--json writes to standard output, as - does", hint="name a file instead of -")
    count = -2  # the first line and the last are no entries
    async with wired(options, configured(options, header=True)) as wiring:
        exporter = wiring.caches.exporter(await wiring.redis(), vectors=vectors)
        with _output(file) as target:
            async for line in exporter.lines():
                target.write(line + "\n")
                count += 1
                if count % _STEP == 0:
                    options.output.status(f"{counted(count, 'entry')} written")
    options.output.status("")
    if file == "-":
        options.output.note(f"wrote {counted(count, 'entry')}")
        return
    document = {"path": file, "entries": count}
    options.output.result(
        document, lambda _, console: console.print(f"Wrote {counted(count, 'entry')} to {file}.")
    )


@asynchronous
async def import_entries(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to read; - is standard input.")],
) -> None:
    """Read entries that `llmhost cache export` wrote.

    Entries keep their counts, and live as long as they had left when they were exported. What is in the cache
    already stays as it is, so that an import can be repeated. Questions are embedded, unless the file has the
    vectors of this embedding model. Of a file that was cut off, everything before that is read (exit code 3).

    Examples:
      llmhost cache import cache.jsonl
      gunzip < cache.jsonl.gz | llmhost cache import -
    """
    options = globals_of(ctx)

    def tell(done: Imported) -> None:
        options.output.status(f"{done.imported:,} imported, {done.kept:,} were there already")

    async with wired(options, configured(options, header=True)) as wiring:
        with input_file(file) as source:
            importer = wiring.caches.importer(await wiring.redis(), tell)
            done = await importer.run("standard input" if file == "-" else file, source)
    options.output.status("")
    options.output.result(done, _show)


def _show(done: Imported, console: Console) -> None:
    kept = f"; {done.kept:,} were there already" if done.kept else ""
    console.print(f"Imported {counted(done.imported, 'entry')}, {done.embedded:,} of them embedded{kept}.")


@contextmanager
def _output(file: str) -> Iterator[TextIO]:
    """The file, which takes the place of an older one when all is written. Raises StateError."""
    if file == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    path = Path(file)
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device
            with path.open("w", encoding="ascii") as target:
                yield target
            return
        with replacing(path) as target:
            yield target
    except OSError as error:
        raise StateError(f"cannot write {file}: {error.strerror}") from error


@contextmanager
def input_file(file: str) -> Iterator[BinaryIO]:
    """A file that is read, or standard input where it is ``-``. Raises UsageError."""
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as source:
            yield source
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
