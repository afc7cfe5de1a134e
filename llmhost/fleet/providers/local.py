"""Workers that are processes of this machine.

They belong to no command: each runs in a session of its own and is known by its folder alone, so any
later command finds it, and finds it dead if it died.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from llmhost.engines.llama_cpp import WorkerSpec
from llmhost.engines.model_file import model_digest
from llmhost.errors import ProviderError, StateError
from llmhost.fleet.models import FleetSpec, Market, Offer, Payer, Worker, WorkerState
from llmhost.fleet.provider import Confirm, Provider, agree
from llmhost.fleet.providers.local_worker import (
    Record,
    WorkerFolder,
    drop_drafts,
    find,
    start,
    stop,
    threads_per_worker,
    usable_cores,
)
from llmhost.machine.child import python_command
from llmhost.machine.files import make_folder, names_in, open_file

__all__ = ["LocalProvider", "LocalSettings"]

_HOST = "127.0.0.1"
_LAST_PORT = 65535
_ID = re.compile(r"local-[0-9a-f]{6}")
_LOGS_KEPT = 20  #: logs of workers that are gone, so that one can read why
_LOG_BYTES_A_LINE = 1000  #: how much of a log's end is read for one line; llama.cpp's are shorter
_COMMAND = python_command("llmhost.engines.llama_cpp")


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """How workers run. `threads` None: the cores are shared. `first_port` 0: any free port."""

    context: int
    parallel: int
    threads: int | None = None
    first_port: int = 0


class LocalProvider(Provider):
    """Keeps a fleet's workers under `folder`, which is this fleet's own.

    `find_model` gives the verified model file, and is asked once, before the first process is started.
    `command` starts a worker when its folder is added to it.
    """

    name = "local"

    def __init__(
        self,
        folder: Path,
        settings: LocalSettings,
        find_model: Callable[[], Path],
        *,
        command: Sequence[str] = _COMMAND,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._workers = folder / "workers"
        self._logs = folder / "logs"
        self._settings = settings
        self._find_model = find_model
        self._command = tuple(command)
        self._now = now
        self._model: tuple[Path, str] | None = None

    async def offers(self, spec: FleetSpec) -> Market:
        return Market(
            tuple(
                Offer(
                    id=f"place-{number}",
                    gpu="cpu",
                    price_per_hour=spec.price_per_hour,
                    reliability=1.0,
                    region="local",
                )
                for number in range(1, spec.max_gpus + 1)
            )
        )

    async def create(
        self,
        spec: FleetSpec,
        offer: Offer | None = None,  # noqa: ARG002
        confirm: Confirm = agree,  # noqa: ARG002
    ) -> Worker:
        if self._model is None:
            model = await asyncio.to_thread(self._find_model)
            self._model = model, await asyncio.to_thread(model_digest, model)
        return self._start(spec, *self._model)

    async def list(self) -> Sequence[Worker]:
        workers = [self._view(folder) for folder in self._folders()]
        return sorted(workers, key=lambda worker: (worker.started, worker.id))

    async def destroy(self, worker_id: str, payer: Payer | None = None) -> None:  # noqa: ARG002
        folder = self._folder(worker_id)
        if folder.id not in {existing.id for existing in self._folders()}:
            return
        record = folder.record()
        await stop(self._argv(folder, record), record.pid if record else None)
        folder.remove()

    async def logs(self, worker_id: str, lines: int = 100) -> str:
        return _tail(self._log(worker_id), lines) if _ID.fullmatch(worker_id) else ""

    # No step in here awaits: a command that is interrupted has started a worker and recorded it, or has not.
    def _start(self, spec: FleetSpec, model: Path, digest: str) -> Worker:
        make_folder(self._workers)
        make_folder(self._logs)
        drop_drafts(self._workers)  # the caller holds the fleet's lock: no other command makes one now
        self._drop_old_logs()
        port = self._next_port()
        folder = self._folder(f"local-{secrets.token_hex(3)}")
        record = Record(
            argv=(*self._command, str(folder.path)),
            started=self._now(),
            price_per_hour=spec.price_per_hour,
            model=spec.model,
            engine=spec.engine,
            port=port,
            digest=digest,
        )
        folder.make(record, self._worker_spec(spec, model, port))
        try:
            pid = start(record.argv, folder.path, self._log(folder.id))
        except ProviderError:
            folder.remove()
            raise
        folder.write_record(replace(record, pid=pid))
        return self._view(folder)

    def _worker_spec(self, spec: FleetSpec, model: Path, port: int) -> WorkerSpec:
        return WorkerSpec(
            model_path=str(model.absolute()),
            alias=spec.model,
            context=self._settings.context,
            parallel=self._settings.parallel,
            threads=self._settings.threads or threads_per_worker(usable_cores(), spec.gpus),
            port=port,
            token=secrets.token_urlsafe(32),
        )

    def _next_port(self) -> int:
        first = self._settings.first_port
        if first == 0:
            return 0
        ours = {record.port for folder in self._folders() if (record := folder.record()) is not None}
        port = next(port for port in range(first, _LAST_PORT + 2) if port not in ours)
        if port > _LAST_PORT:
            raise ProviderError(f"no port is left from {first} on", hint="choose a lower fleet.first_port")
        if not _is_free(port):
            raise ProviderError(
                f"port {port} of {_HOST} is taken by another program",
                hint="end that program, or change fleet.first_port (0 takes any free port)",
            )
        return port

    def _folders(self) -> Sequence[WorkerFolder]:
        return [WorkerFolder(self._workers / name) for name in names_in(self._workers) if _ID.fullmatch(name)]

    def _folder(self, worker_id: str) -> WorkerFolder:
        return WorkerFolder(self._workers / worker_id)

    def _log(self, worker_id: str) -> Path:
        return self._logs / f"{worker_id}.log"

    def _argv(self, folder: WorkerFolder, record: Record | None) -> tuple[str, ...]:
        return record.argv if record is not None else (*self._command, str(folder.path))

    def _view(self, folder: WorkerFolder) -> Worker:
        record = folder.record()
        state, detail = self._condition(folder, record)
        return Worker(
            id=folder.id,
            provider=self.name,
            state=state,
            url=folder.url() if state is WorkerState.READY else None,
            price_per_hour=record.price_per_hour if record else 0.0,
            started=record.started if record else folder.made(),
            model=record.model if record else "",
            engine=record.engine if record else "",
            gpu="cpu",
            detail=detail,
            log=str(self._log(folder.id)),
            token=folder.token(),
            digest=record.digest if record else "",
        )

    def _condition(self, folder: WorkerFolder, record: Record | None) -> tuple[WorkerState, str]:
        failure = folder.failure()
        if failure is not None:
            return WorkerState.FAILED, failure
        alive = find(self._argv(folder, record), record.pid if record else None) is not None
        if alive:
            return (WorkerState.READY, "") if folder.url() else (WorkerState.STARTING, "loading the model")
        if record is None or record.pid is None:
            return WorkerState.FAILED, "it was never started: llmhost was ended before that"
        # It may have said why between our first look and its end.
        return WorkerState.FAILED, folder.failure() or "its process has ended: it crashed, or was killed"

    def _drop_old_logs(self) -> None:
        """Keeps the newest logs of workers that are gone. One that cannot be removed keeps no worker from
        starting."""
        living = {folder.id for folder in self._folders()}
        old = [path for path in self._logs.glob("*.log") if path.stem not in living]
        for path in sorted(old, key=lambda path: path.lstat().st_mtime, reverse=True)[_LOGS_KEPT:]:
            with suppress(OSError):
                path.unlink()


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _tail(path: Path, lines: int) -> str:
    try:
        with open_file(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - lines * _LOG_BYTES_A_LINE))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StateError(f"cannot read the log {path}: {error.strerror}") from error
    return "\n".join(text.splitlines()[-lines:])
