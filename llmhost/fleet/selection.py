"""Which workers somebody means who names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llmhost.errors import UsageError
from llmhost.fleet.models import Worker

__all__ = ["select"]


def select(listed: Sequence[Worker], ids: Iterable[str] | None) -> tuple[Worker, ...]:
    """The workers named, each once, or all. Raises UsageError for a name that none of them has."""
    if ids is None:
        return tuple(listed)
    known = {worker.id: worker for worker in listed}
    wanted = dict.fromkeys(ids)
    unknown = [worker_id for worker_id in wanted if worker_id not in known]
    if unknown:
        names = ", ".join(known) or "none"
        raise UsageError(
            f"no worker is called {', '.join(unknown)}; this fleet has: {names}",
            hint="see `llmhost status`",
        )
    return tuple(known[worker_id] for worker_id in wanted)
