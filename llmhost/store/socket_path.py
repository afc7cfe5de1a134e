"""Where the embedded server's socket lies: in its folder, unless the path is too long for a socket."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from llmhost.errors import StateError

__all__ = ["is_private", "make_private", "socket_path"]

_NAME = "redis.sock"
_HINT = "set LLMHOST_STATE_DIR to a folder of your own, with a short path"

#: bytes; `sun_path` of unix(7) has 108 on Linux and 104 on macOS, one of them the final NUL
_MAX_PATH = 103

#: not TMPDIR: a cron job's is not the shell's, and both must find the same server
_TEMPORARY = Path("/tmp")  # noqa: S108 - is_private tells what others have put there


def socket_path(folder: Path) -> Path:
    """The same for every command that uses this folder."""
    path = folder / _NAME
    if len(os.fsencode(path)) <= _MAX_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return _TEMPORARY / f"llmhost-{os.getuid()}-{digest}" / _NAME


def is_private(folder: Path) -> bool:
    """Whether it is a real folder of this user that nobody else can enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return mine and stat.S_IMODE(found.st_mode) == 0o700


def make_private(folder: Path) -> None:
    """Makes the folder, or closes it to others.

    Raises:
        StateError: it cannot be made, belongs to somebody else, or is a link.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.is_symlink():
            folder.chmod(0o700)
    except OSError as error:
        raise StateError(f"cannot use the folder {folder}: {error.strerror}", hint=_HINT) from error
    if not is_private(folder):
        raise StateError(f"{folder} is not a folder of your own", hint=_HINT)
