"""SHA-256 of model files, computed once for each state of a file."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from llmhost.errors import StateError
from llmhost.machine.files import read_json, write_json
from llmhost.machine.paths import cache_dir

__all__ = ["model_digest"]

#: in the cache folder: the checksums of files that were read
_DIGESTS = "model-digests.json"


def model_digest(path: Path) -> str:
    """The SHA-256 of a model file, remembered with the file's size and times, so that it is computed once;
    empty where it cannot be read. Blocks, as long as it takes to read some gigabytes. Raises StateError where
    the cache folder cannot be used.
    """
    try:
        status = path.stat()
        record, mark = cache_dir() / _DIGESTS, [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        try:
            known = read_json(record) or {}
        except (StateError, ValueError):  # damaged: hashed again
            known = {}
        match known.get(str(path)):
            case [str(digest), *seen] if seen == mark:
                return digest
        digest = _sha256(path)
    except OSError:
        return ""
    with suppress(StateError):  # hashed again next time; no reason to fail
        write_json(record, known | {str(path): [digest, *mark]})
    return digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
