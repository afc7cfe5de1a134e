"""What a command prints: its result on stdout, as JSON or for people; messages and progress on stderr."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar

from llmhost.cli.text import TextFilter, clean, duration, shortened, wrapped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table

    from llmhost.cli.markdown import MarkdownStream

__all__ = [
    "LiveProgress",
    "Output",
    "PlainProgress",
    "Progress",
    "fitted",
    "is_terminal",
    "pairs",
    "plain",
    "table",
]

Model = TypeVar("Model")

#: columns; the width of a table that is piped: wide enough that nothing is cut.
_PIPE_WIDTH = 160

#: columns; of a terminal whose width is not known, and the least with which a table can be read
_TERMINAL_WIDTH, _NARROWEST = 80, 20

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}


class Output:
    """Where and how this command prints.

    `json`, `quiet` and `verbose` are the global options. Colour is used on a terminal, unless `NO_COLOR`
    is set or ``TERM=dumb``; `FORCE_COLOR` asks for it everywhere.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        #: whether there is a JSON object for each of several answers, in a line of its own
        self.json_lines = False
        #: whether stdout already holds this command's JSON object; there may only be one.
        self.printed = False
        self._live: Console | None = None
        self._kept: list[str] | None = None
        self._has_status = False
        self._filter = TextFilter()
        self._markdown: MarkdownStream | None = None

    def result(
        self, model: Model, renderer: Callable[[Model, Console], None], document: object = None
    ) -> None:
        """Prints one JSON object, `document` or else `model` itself, or hands `model` to `renderer` with a
        console on stdout.

        Strings given to that console are printed as they are: no markup, no highlighting.
        """
        if self.json:
            self.document(model if document is None else document)
        else:
            console = self.console()
            with console.capture() as drawn:
                renderer(model, console)
            # Tables fill their last column with blanks, which wrap in a narrower window and spoil a diff.
            sys.stdout.write("\n".join(line.rstrip(" ") for line in drawn.get().split("\n")))
            sys.stdout.flush()

    def document(self, model: Any) -> None:
        """Prints `model` as this command's JSON object."""
        self.printed = not self.json_lines
        is_unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
        sys.stdout.write(
            _json_text(plain(model), ascii_only=not is_unicode, indent=None if self.json_lines else 2) + "\n"
        )
        sys.stdout.flush()

    def stream(self, piece: str) -> None:
        """Prints the next piece of an answer at once, without terminal control sequences; on a terminal as
        Markdown."""
        self.status("")
        text = self._filter.feed(piece)
        if is_terminal(sys.stdout):
            if self._markdown is None:
                from llmhost.cli.markdown import MarkdownStream

                self._markdown = MarkdownStream(styled=_colour(sys.stdout))
            text = self._markdown.feed(text, _columns(sys.stdout))
        sys.stdout.write(text)
        sys.stdout.flush()

    def end_stream(self) -> None:
        """Ends the answer with a newline."""
        text = self._filter.close()
        if self._markdown is not None:
            width = _columns(sys.stdout)
            text = self._markdown.feed(text, width) + self._markdown.close(width)
            self._markdown = None
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """A message on stderr; nothing with ``--quiet``."""
        if not self.quiet:
            self._say(self.style(clean(text), "dim"))

    def status(self, text: str) -> None:
        """A line on the terminal that goes when anything else is printed, or with an empty text. Nothing
        where stderr is no terminal, and with ``--quiet``."""
        if (text or self._has_status) and not self.quiet and is_terminal(sys.stderr):
            self._has_status = bool(text)
            with suppress(OSError):
                shown = shortened(clean(text), _columns(sys.stderr) - 1)  # of two lines, one would stay
                sys.stderr.write(f"\r\x1b[K{self.style(shown, 'dim') if text else ''}")
                sys.stderr.flush()

    def detail(self, text: str) -> None:
        """A message on stderr; only with ``--verbose``."""
        if self.verbose:
            self._say(self.style(clean(text), "dim"))

    def warn(self, text: str) -> None:
        """A warning on stderr; even with ``--quiet``."""
        self._say(f"{self.style('warning:', 'yellow')} {clean(text)}")

    def error(self, message: str, hint: str | None = None) -> None:
        """What went wrong on one line of stderr, and what to do on the next."""
        self._say(f"{self.style('error:', 'red', 'bold')} {clean(message)}")
        if hint:
            self._say(f"{self.style('hint:', 'cyan')}  {clean(hint)}")

    def style(self, text: str, *styles: str) -> str:
        """`text` in colour where stderr shows colour. Styles: red, green, yellow, cyan, dim, bold."""
        if not _colour(sys.stderr):
            return text
        return f"\x1b[{';'.join(_COLOURS[name] for name in styles)}m{text}\x1b[0m"

    def console(self) -> Console:
        """A rich console on stdout."""
        return _console(sys.stdout)

    def console_of_errors(self) -> Console:
        """A rich console on stderr, for what is shown before the result."""
        return _console(sys.stderr)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Follows workers while they start: live lines on a terminal, else a line for each change."""

        if self.quiet:
            yield Progress()
        elif is_terminal(sys.stderr):
            self._live = _console(sys.stderr)
            try:
                with LiveProgress(self._live) as progress:
                    yield progress
            finally:
                self._live = None
        else:
            yield PlainProgress(self._say)

    @contextmanager
    def kept(self) -> Iterator[list[str]]:
        """Within the block, messages go to the list that it gives, for a screen that would hide them."""
        kept: list[str] = []
        self._kept = kept
        try:
            yield kept
        finally:
            self._kept = None

    def _say(self, text: str) -> None:
        if self._kept is not None:
            self._kept.append(text)
            return
        self.status("")
        # The reader of stderr may be gone, or the disk full that it is written to; the work goes on.
        with suppress(OSError):
            if self._live is None:
                sys.stderr.write(fitted(text, sys.stderr) + "\n")
                sys.stderr.flush()
                return
            from rich.text import Text

            self._live.print(Text.from_ansi(text))


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table in the common style; the columns in `right` hold numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    # Two blanks between columns: a table of workers fits in 80.
    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def pairs(*rows: tuple[str, str]) -> Table:
    """Keys with their values, in two columns that are read from left to right."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(4):
        made.add_column(overflow="fold")
    for number in range(0, len(rows), 2):
        cells = [cell for key, value in rows[number : number + 2] for cell in (Text(key, "dim"), Text(value))]
        made.add_row(*cells)
    return made


def plain(value: Any) -> Any:
    """`value` as JSON knows it: dataclasses become objects in the order of their fields.

    A field that is hidden from repr holds a secret and is left out. A trailing underscore is dropped
    from names (``from_``). A number that is not finite becomes null, as JSON has no such number.
    """
    if hasattr(value, "__dataclass_fields__"):
        fields = value.__dataclass_fields__.values()
        return {f.name.removesuffix("_"): plain(getattr(value, f.name)) for f in fields if f.repr}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if value is None or type(value) in (bool, int, str):
        return value
    return plain(value.value) if hasattr(value, "value") else str(value)


def _json_text(value: Any, *, ascii_only: bool, indent: int | None) -> str:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, allow_nan=False)
    # JSON does not escape DEL and the C1 controls; a terminal would obey them.
    return re.sub("[\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", text)


def is_terminal(stream: TextIO) -> bool:
    """Whether it obeys what moves its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _colour(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def _width(stream: TextIO) -> int | None:
    """Columns; None where the terminal is to be asked. `COLUMNS` counts where it is a width."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) >= _NARROWEST:
        return int(columns)
    if not stream.isatty():
        return _PIPE_WIDTH
    return _TERMINAL_WIDTH if columns else None


def _columns(terminal: TextIO) -> int:
    if (width := _width(terminal)) is not None:
        return width
    with suppress(OSError, ValueError):
        return max(os.get_terminal_size(terminal.fileno()).columns, _NARROWEST)
    return _TERMINAL_WIDTH


def fitted(text: str, stream: TextIO) -> str:
    """`text` as this stream shows it: broken between words on a terminal, as it is elsewhere."""
    return wrapped(text, _columns(stream)) if is_terminal(stream) else text


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(
        file=stream,
        force_terminal=_colour(stream) or is_terminal(stream),
        no_color=not _colour(stream),
        width=_width(stream),
        markup=False,
        highlight=False,
        emoji=False,
    )


class Progress:
    """Shows the progress of several things by name, where a subclass does: this one is silent."""

    def update(self, name: str, stage: str, fraction: float | None = None) -> None:
        """`name` is now in `stage`; `fraction` is 0..1, None while unknown."""

    def done(self, name: str, stage: str = "ready") -> None:
        """`name` is finished."""

    def fail(self, name: str, reason: str) -> None:
        """`name` has failed."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While a question is asked on the same terminal."""
        yield

    @contextmanager
    def one_by_one(self, doing: str, done: str) -> Iterator[Callable[[str, float], None]]:
        """For things that come one after the other: gives what is called with a name and a share of 0..1. A
        name is `done` when the next one comes, or at the end."""
        last = ""

        def update(name: str, share: float) -> None:
            nonlocal last
            if last not in ("", name):
                self.done(last, done)
            last = name
            self.update(name, doing, share)

        yield update
        if last:
            self.done(last, done)


class PlainProgress(Progress):
    """A line for each change of stage, for logs and pipes."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._started: dict[str, float] = {}
        self._stage: dict[str, str] = {}

    def update(self, name: str, stage: str, fraction: float | None = None) -> None:  # noqa: ARG002
        self._started.setdefault(name, self._clock())
        if self._stage.get(name) != stage:
            self._stage[name] = stage
            self._say(f"{clean(name)}: {clean(stage)}")

    def done(self, name: str, stage: str = "ready") -> None:
        self._stage[name] = stage
        self._say(f"{clean(name)}: {clean(stage)}{self._elapsed(name)}")

    def fail(self, name: str, reason: str) -> None:
        self._say(f"{clean(name)}: failed{self._elapsed(name)}: {clean(reason)}")

    def _elapsed(self, name: str) -> str:
        started = self._started.get(name)
        return "" if started is None else f" ({duration(self._clock() - started)})"


class LiveProgress(Progress):
    """Lines that change in place: name, stage, bar, elapsed time. They stay afterwards."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        self._tasks: dict[str, TaskID] = {}
        self._reasons: dict[str, str] = {}
        self._bars = Bars(
            SpinnerColumn(finished_text=" "),
            # As wide as a worker's name: the bars of what follows stand below those of the workers.
            TextColumn("{task.description}", markup=False, style="bold", table_column=Column(min_width=13)),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stage]}", markup=False),
            console=console,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._bars.stop()
        yield
        self._bars.start()

    def update(self, name: str, stage: str, fraction: float | None = None) -> None:
        self._bars.update(
            self._task(name),
            stage=clean(stage),
            total=None if fraction is None else 1.0,
            completed=fraction or 0.0,
        )

    def done(self, name: str, stage: str = "ready") -> None:
        reason = self._reasons.get(name)
        if reason is None:
            self._bars.update(self._task(name), stage=clean(stage), total=1.0, completed=1.0)
        else:  # it failed before
            self._bars.update(self._task(name), stage=f"{clean(stage)}: {reason}")

    def fail(self, name: str, reason: str) -> None:
        task = self._task(name)
        self._reasons[name] = clean(reason)
        self._bars.update(task, stage=f"failed: {clean(reason)}")
        self._bars.stop_task(task)

    def _task(self, name: str) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(clean(name), total=None, stage="")
        return self._tasks[name]
