"""That a fleet is to stay down until the next `up`.

Redis holds it, where the autoscaler on every machine looks. What Redis could not be told is marked on this
machine, which buys nothing meanwhile, and tells Redis when it next can.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmhost.errors import StateError
from llmhost.machine.files import make_folder

__all__ = ["NOWHERE", "PauseMark", "PauseResult"]


@dataclass(frozen=True, slots=True)
class PauseResult:
    """`kept` says where the pause is: Redis was `told`, or it is `marked` on this machine alone, or `lost`,
    as neither could be written. `since` is when it began, Unix seconds; None where it is lost. `scales`: an
    autoscaler has made a step for this fleet, as far as is known.
    """

    kept: Literal["told", "marked", "lost"]
    since: float | None = None
    scales: bool = False


@dataclass(frozen=True, slots=True)
class PauseMark:
    """An empty file, which a full disk mostly has room for; its time is when the pause began. None: this
    machine has nowhere to keep it."""

    path: Path | None

    def put(self, at: float) -> bool:
        """Whether it is there now; the pause began `at`, Unix seconds."""
        if self.path is None:
            return False
        try:
            make_folder(self.path.parent)
            self.path.touch(mode=0o600)
            os.utime(self.path, (at, at))
        except (OSError, StateError):
            return False
        return True

    def since(self) -> float | None:
        """Unix seconds; None where there is none."""
        if self.path is None:
            return None
        try:
            return self.path.stat().st_mtime
        except OSError:
            return None

    def remove(self) -> None:
        """One that is not there is fine. Raises StateError."""
        if self.path is None:
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise StateError(
                f"cannot remove {self.path}, which says that the fleet is to stay down: {error.strerror}"
            ) from error


#: for a machine that cannot keep it
NOWHERE = PauseMark(None)
