"""The exported models on disk.

<cache folder>/embedders/<id>/            one exported model, whole or not there
                        /sources/*.json   which model each configured name meant, last time
                        /.lock            held while one is being made
                        /.tmp-*           what a crash left behind; swept by the next export
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmhost.cache.embedders.manifest import MANIFEST
from llmhost.cache.embedders.weights import Source, fingerprint
from llmhost.errors import StateError
from llmhost.machine.paths import cache_dir

__all__ = ["discard", "exclusive", "folder_of", "is_there", "new_folder", "publish", "remember", "remembered"]

_LEFTOVER = ".tmp-"


def folder_of(export: str) -> Path:
    """Where the exported model of this id lies or will lie. Raises StateError as `cache_dir` does."""
    return _root() / export


def is_there(export: str) -> bool:
    return (folder_of(export) / MANIFEST).is_file()


def remembered(source: Source) -> str | None:
    """The id of this source's export, or None where there is none or the source's files have changed.

    Cheap: a file's status for each of the model's files, nothing is hashed. A model from the Hub is
    the one that was exported, whatever has been published under its name since.
    """
    try:
        record = json.loads(_record(source).read_text(encoding="utf-8"))
        export, files = str(record["id"]), record["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if source.folder is not None and fingerprint(source.folder) != files:
        return None
    return export if is_there(export) else None


def remember(source: Source, files: dict[str, list[int]], export: str) -> None:
    """Notes which export this source, with these files (`fingerprint`), has. Only inside `exclusive`."""
    record = _record(source)
    record.parent.mkdir(mode=0o700, exist_ok=True)
    unfinished = record.with_suffix(".new")
    unfinished.write_text(json.dumps({"name": source.name, "id": export, "files": files}), encoding="utf-8")
    unfinished.replace(record)


def discard(export: str) -> None:
    """Takes a damaged export out of the way, in one step; whoever has it open keeps it."""
    folder = folder_of(export)
    with suppress(FileNotFoundError):  # not there, or another process was faster
        folder.rename(folder.with_name(f"{_LEFTOVER}{secrets.token_hex(8)}"))


@contextmanager
def exclusive() -> Iterator[None]:
    """One export at a time on this machine; sweeps away what crashed ones left."""
    descriptor = os.open(_root() / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for leftover in _root().glob(f"{_LEFTOVER}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def new_folder() -> Path:
    """An empty private folder, which the next export sweeps away unless it has become one by `publish`."""
    return Path(tempfile.mkdtemp(prefix=_LEFTOVER, dir=_root()))


def publish(folder: Path, export: str) -> None:
    """Makes the finished folder the export of this id, after its bytes have reached the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    discard(export)
    folder.rename(folder_of(export))


def _record(source: Source) -> Path:
    return _root() / "sources" / f"{hashlib.sha256(source.name.encode()).hexdigest()[:16]}.json"


def _root() -> Path:
    root = cache_dir() / "embedders"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        root.chmod(0o700)
    except OSError as error:
        raise StateError(
            f"cannot use the folder {root}: {error.strerror}",
            hint="set LLMHOST_CACHE_DIR to a folder that you can write",
        ) from error
    return root
