"""Charts as files: an SVG or a PNG, whole or not at all, and the same bytes for the same figures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_drawable", "save"]

_SUFFIXES = (".svg", ".png")

#: dots an inch of a .png
_DOTS = 150


def check_drawable(path: Path) -> None:
    """Before anything is worked out, which may take a minute.

    Raises:
        UsageError: the suffix is neither .svg nor .png, or nothing can be written there.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"cannot draw {path.name}", hint=f"name it {' or '.join(_SUFFIXES)}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: there is no such folder")
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {path}: its folder may not be written to")


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Writes what `draw` draws to `path`, an SVG or a PNG as its suffix says.

    Raises:
        UsageError: the suffix is another, or the file cannot be written.
    """
    check_drawable(path)
    try:
        _write(draw, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _write(draw: Callable[[], Figure], path: Path) -> None:
    from matplotlib import rc_context

    suffix = path.suffix.lower()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    try:
        # The same figures give the same bytes.
        with rc_context({"svg.hashsalt": "llmhost", "font.family": "DejaVu Sans"}):
            metadata = {"Date": None} if suffix == ".svg" else None
            draw().savefig(name, format=suffix[1:], dpi=_DOTS, metadata=metadata)
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """It can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
