"""llmhost on one rented worker, vast-1, that has a shell. Run as `python -m doubles.shells TARGET ARGS...`.

It needs a process of its own, because ssh takes its place. TARGET is JSON: user, host, port; or null.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from doubles.fleet_values import make_worker
from doubles.memory_provider import MemoryProvider

from llmhost.cli.app import main
from llmhost.fleet.models import SshTarget, Worker
from llmhost.wiring import Wiring


class ShellProvider(MemoryProvider):
    rents = True

    def __init__(self, target: SshTarget | None) -> None:
        self._target = target

    async def list(self) -> Sequence[Worker]:
        return [make_worker("vast-1")]

    async def ssh(self, worker_id: str) -> SshTarget | None:
        return self._target if worker_id == "vast-1" else None


if __name__ == "__main__":
    given = json.loads(sys.argv.pop(1))
    Wiring.provider = ShellProvider(given and SshTarget(**given))  # type: ignore[assignment]
    main()
