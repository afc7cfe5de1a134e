"""Small private JSON files: whole or not there, and readable by their owner alone."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from llmhost.errors import StateError

__all__ = ["make_folder", "read_json", "write_json"]

_HINT = "set LLMHOST_STATE_DIR to a folder that you can write"


def make_folder(path: Path) -> None:
    """Makes `path`, parents included. Raises StateError."""
    try:
        for folder in (*reversed(path.parents), path):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make the folder {path}: {error.strerror}", hint=_HINT) from error


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces the file in one step, mode 0600. Raises StateError."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(value, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}", hint=_HINT) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's object, or None where there is no file.

    Raises:
        StateError: it cannot be read.
        ValueError: what it holds is no JSON object; what that means is the caller's to say.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value
