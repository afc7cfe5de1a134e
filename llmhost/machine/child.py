"""How llmhost starts other programs: nothing of the current folder runs, and no secret goes along."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["bare_environment", "python_command", "safe_environment"]

#: what a program needs to be found, linked and to speak its user's language
_NEEDED = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")
_FAMILIES = ("LC_", "OMP_", "GGML_", "CUDA_", "NVIDIA_")


def python_command(module: str, *args: str) -> list[str]:
    """The command line that runs a module of ours with this Python.

    -P: a `typer.py` in the current folder is not ours to run.
    """
    return [sys.executable, "-P", "-m", module, *args]


def safe_environment() -> dict[str, str]:
    """This process's environment, in which no folder of PYTHONPATH is relative to the current one."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    folders = [
        path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(path).is_absolute()
    ]
    return environ | ({"PYTHONPATH": os.pathsep.join(folders)} if folders else {})


def bare_environment(*families: str) -> dict[str, str]:
    """For programs that need none of our settings and keys: what is named here, and variables whose names
    begin with one of `families`."""
    wanted = (*_FAMILIES, *families)
    return {
        name: value
        for name, value in safe_environment().items()
        if name in (*_NEEDED, "PYTHONPATH") or name.startswith(wanted)
    }
