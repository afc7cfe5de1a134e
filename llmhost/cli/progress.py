"""How things that take a while are followed: one line for each of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from llmhost.cli.text import clean, duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

__all__ = ["LiveProgress", "PlainProgress", "Progress", "SilentProgress"]


class Progress(ABC):
    """Told what happens to each thing by name. Names and stages may come from outside."""

    @abstractmethod
    def update(self, name: str, stage: str, fraction: float | None = None) -> None:
        """`name` is now in `stage`; `fraction` is 0..1, None while unknown."""

    @abstractmethod
    def done(self, name: str, stage: str = "ready") -> None:
        """`name` has arrived."""

    @abstractmethod
    def fail(self, name: str, reason: str) -> None:
        """`name` will not arrive."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While a question is asked on the same terminal."""
        yield


class SilentProgress(Progress):
    def update(self, name: str, stage: str, fraction: float | None = None) -> None:
        pass

    def done(self, name: str, stage: str = "ready") -> None:
        pass

    def fail(self, name: str, reason: str) -> None:
        pass


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
        self._say(f"{clean(name)}: {clean(stage)}{self._elapsed(name)}")

    def fail(self, name: str, reason: str) -> None:
        self._say(f"{clean(name)}: failed{self._elapsed(name)}: {clean(reason)}")

    def _elapsed(self, name: str) -> str:
        started = self._started.get(name)
        return "" if started is None else f" ({duration(self._clock() - started)})"


class LiveProgress(Progress):
    """Lines that change in place: name, stage, bar, elapsed time. They stay when it is over."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._tasks: dict[str, TaskID] = {}
        self._reasons: dict[str, str] = {}
        self._bars = Bars(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False, style="bold"),
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
        else:  # it has arrived nowhere
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
