"""Where llmhost keeps its own files.

The state folder holds what must survive (the embedded Redis, worker records, logs); the cache folder
holds what can be made again (exported embedders). `LLMHOST_STATE_DIR` and `LLMHOST_CACHE_DIR` move them.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from llmhost.errors import StateError
from llmhost.machine.files import leads_nowhere, make_folder, open_file

__all__ = [
    "cache_dir",
    "config_dir",
    "do_without_unreadable",
    "expand",
    "may_hold_state",
    "owner_id",
    "secret_key",
    "state_dir",
]


#: where a folder is: the variable that moves it, and what platformdirs calls it
_STATE = ("LLMHOST_STATE_DIR", "user_state_path")
_CACHE = ("LLMHOST_CACHE_DIR", "user_cache_path")


def state_dir() -> Path:
    """The state folder, made on first use and readable by its owner alone. What writes there finds out if it
    can: a disk that is full or read-only must not keep anybody from looking or stopping.

    Raises:
        StateError: it cannot be made or read.
    """
    return _private_folder(*_STATE)


def may_hold_state() -> bool:
    """Whether something may have been written into the state folder, which need not be usable."""
    try:
        path = _folder(*_STATE)
    except StateError:
        return False
    try:
        path.lstat()
    except FileNotFoundError:
        return leads_nowhere(path)
    except NotADirectoryError:
        return False
    except OSError:  # it is there, and cannot be looked at
        return True
    return True


def expand(name: str) -> Path:
    """The absolute path of `name`, which may begin with ``~``. Raises StateError where no home is known."""
    try:
        return Path(name).expanduser().absolute()
    except RuntimeError as error:
        raise StateError(f"the home folder in {name} is not known", hint="give the whole path") from error


def owner_id() -> str:
    """A name that this state folder has and no other, on this machine or elsewhere. Raises StateError."""
    return _drawn_once("owner")


def secret_key() -> str:
    """What only this state folder knows. Raises StateError."""
    return _drawn_once("key")


_DRAWN = {"owner": 8, "key": 32}  #: random bytes in each file
_DAMAGED = "remove it, then run `llmhost status`: both are made again, this file and the records of workers"
_not_read: set[Path] = set()  #: those that this process does without


def do_without_unreadable() -> Sequence[StateError]:
    """From now on `owner_id` and `secret_key` raise nothing: what cannot be read is drawn for this process.
    Returns why, for a file that had not been found unreadable before."""
    failures = []
    for name in _DRAWN:
        try:
            _drawn_once(name)
        except StateError as error:
            failures.append(error)
            _not_read.add(state_dir() / name)
    return failures


def _drawn_once(name: str) -> str:
    """Random bytes in hexadecimal that are kept in the state folder, mode 0600. Where they cannot be kept,
    they hold for this process: a full disk stops neither looking nor ending.
    """
    path, size = state_dir() / name, _DRAWN[name]
    draft = path.with_suffix(f".{secrets.token_hex(4)}")
    try:
        if not path.exists():
            draft.touch(mode=0o600)
            with draft.open("w", encoding="ascii") as file:
                file.write(secrets.token_hex(size))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # another command was faster, and what it drew counts
                path.hardlink_to(draft)
            draft.unlink()
        with open_file(path) as kept:
            drawn = kept.read().decode("ascii")
        if len(bytes.fromhex(drawn)) < size:  # as a crash of the machine may leave it
            raise ValueError("it is too short")
        return drawn
    except (OSError, ValueError) as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if path.exists() and path not in _not_read:
            if isinstance(error, OSError):
                raise StateError(f"cannot use {path}: {error.strerror}") from error
            raise StateError(f"cannot use {path}: it is damaged", hint=_DAMAGED) from error
        return _drawn_for_now(path, size)


@cache
def _drawn_for_now(_path: Path, size: int) -> str:
    return secrets.token_hex(size)


def cache_dir() -> Path:
    """The cache folder, made on first use. Raises StateError as `state_dir` does."""
    return _private_folder(*_CACHE)


def config_dir() -> Path:
    """The user's configuration folder, which may not exist. Raises StateError where no home is known."""
    import platformdirs

    try:
        return platformdirs.user_config_path("llmhost")
    except RuntimeError as error:
        raise _homeless("set XDG_CONFIG_HOME to a folder that you can write") from error


def _homeless(hint: str) -> StateError:
    return StateError("this user has no home folder", hint=f"set HOME, or {hint}")


def _folder(variable: str, default: str) -> Path:
    if configured := os.environ.get(variable):
        return expand(configured)
    import platformdirs

    try:
        return Path(getattr(platformdirs, default)("llmhost"))
    except RuntimeError as error:
        raise _homeless(_hint(variable)) from error


def _hint(variable: str) -> str:
    return f"set {variable} to a folder that you can write"


def _private_folder(variable: str, default: str) -> Path:
    path, hint = _folder(variable, default), _hint(variable)
    make_folder(path, hint=hint)
    _close(path, hint)
    if not os.access(path, os.R_OK | os.X_OK):
        raise StateError(f"cannot read the folder {path}", hint=hint)
    return path


def _close(folder: Path, hint: str) -> None:
    """Only its owner may enter the folder, also where it existed. Raises StateError where it is another
    user's, or is there for all users, as /tmp is."""
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise StateError(f"the folder {folder} belongs to another user", hint=hint)
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_ISVTX:
        raise StateError(f"the folder {folder} is shared by all users", hint=hint)
    if not mode & 0o077:
        return
    try:
        folder.chmod(0o700)
    except OSError as error:
        if mode & 0o022 and error.errno != errno.EROFS:
            what = f"cannot close the folder {folder} to other users: {error.strerror}"
            raise StateError(what, hint=hint) from error
        return  # others cannot write there, and each file has its own mode
    if mode & 0o022:
        with suppress(OSError):
            sys.stderr.write(
                f"warning: other users could write in {folder} (mode {mode:04o}); it is closed now\n"
            )
