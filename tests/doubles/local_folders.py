"""What a local worker's folder holds, for tests that look at it or spoil it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doubles.waiting import until

from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.provider import Provider


def record_of(folder: Path, worker: Worker) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "workers" / worker.id / "record.json").read_text())
    return record


def change_record(folder: Path, worker: Worker, **changes: Any) -> None:
    path = folder / "workers" / worker.id / "record.json"
    path.write_text(json.dumps({**record_of(folder, worker), **changes}))


def orders_of(folder: Path, worker: Worker) -> dict[str, Any]:
    orders: dict[str, Any] = json.loads((folder / "workers" / worker.id / "spec.json").read_text())
    return orders


async def settled(provider: Provider, state: WorkerState) -> Worker:
    """The provider's only worker, once it is in this state."""

    async def there() -> Worker | None:
        (worker,) = await provider.list()
        return worker if worker.state is state else None

    worker: Worker = await until(there)
    return worker
