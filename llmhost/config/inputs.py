"""Where a configuration comes from: which file it is, and whether two of them come from the same.

Reads nothing but bytes, so that a command can find a gateway of its configuration without checking it again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path

from llmhost import __version__
from llmhost.machine.files import open_file

__all__ = ["FILE_NAME", "MAX_SIZE", "find_file", "inputs_digest", "read_bytes"]

FILE_NAME = "llmhost.yaml"
#: bytes; a configuration with a thousand workers has a tenth of it
MAX_SIZE = 1_000_000

_PREFIX = b"LLMHOST_"
#: where things are kept, not what the configuration says
_PLACES = {b"LLMHOST_CONFIG", b"LLMHOST_STATE_DIR", b"LLMHOST_CACHE_DIR", b"LLMHOST_NO_BACKGROUND"}
#: the account, which decides what is known of its workers, and where it is
_ACCOUNT = {b"VAST_API_KEY", b"VAST_URL"}
_VARIABLE = re.compile(rb"\$\{([A-Za-z_][A-Za-z0-9_]*)")


def find_file(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """The file, and whether the user named it or put it into their configuration folder: one that was found
    in the current folder may have come with a download."""
    if path is not None:
        return path, True
    if named := environ.get("LLMHOST_CONFIG"):
        return Path(named), True
    # A broken link counts as a file: it must not silently select another configuration.
    if os.path.lexists(FILE_NAME):
        return Path(FILE_NAME), False
    import platformdirs

    try:
        of_user = platformdirs.user_config_path("llmhost") / FILE_NAME
    except RuntimeError:  # a user without a home folder has no configuration there
        return None, True
    return of_user if os.path.lexists(of_user) else None, True


def read_bytes(path: Path) -> bytes:
    """What the file holds, or more than `MAX_SIZE` bytes of it.

    Raises as `open_file`.
    """
    with open_file(path) as file:
        return file.read(MAX_SIZE + 1)


def inputs_digest(path: Path | None, fleet: str | None, environ: Mapping[str, str], secret: str) -> str:
    """The same for two programs of one version whose configurations come from the same file, variables and
    `fleet`. Without the `secret` nothing of what it is made from can be guessed.

    Raises OSError where the file cannot be read.
    """
    source, is_named = find_file(path, environ)
    content = b"" if source is None else read_bytes(source)
    there = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
    names = {name for name in there if name.startswith(_PREFIX)} - _PLACES
    names |= {name for name in (*_VARIABLE.findall(content), *_ACCOUNT) if name in there}
    parts = [
        *(__version__.encode(), os.fsencode(os.path.realpath(source)) if source else b"", content),
        *(str(is_named).encode(), (fleet or "").encode("utf-8", "surrogateescape")),
        *(name + b"=" + there[name] for name in sorted(names)),
    ]
    told = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.new(secret.encode(), told, hashlib.sha256).hexdigest()
