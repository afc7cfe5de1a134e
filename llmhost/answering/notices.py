"""What the user is told when something gives way: one line, not one for each step that fails."""

from __future__ import annotations

from collections.abc import Callable

from llmhost.errors import UntrustedWorker

__all__ = ["Notices"]


class Notices:
    """Hands sentences to `notify`, each effect and each cause only once in this process."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._told: set[str] = set()

    def tell(self, effect: str, cause: Exception) -> None:
        """Says `effect` and why, unless one of the two was told before."""
        if self._told.isdisjoint((effect, str(cause))):
            self._notify(f"{effect}: {cause}")
        self._told |= {effect, str(cause)}

    def doubt(self, worker: str, error: UntrustedWorker) -> None:
        """Says that a worker is not asked, although another one answers: it costs money and does nothing."""
        self.tell(f"worker {worker} is not asked until `llmhost up` replaces it", error)
