"""Resolves pyproject.toml with uv and writes the lock.

scripts/lock says how to use it, and why it is made so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_LOCK = _ROOT / "requirements"
_PYPROJECT = _ROOT / "pyproject.toml"
_CONFIG = _LOCK / "pyproject.toml"
_TORCH = _LOCK / "torch.txt"

#: The sets, each with all of those before it: the extras it adds, and the kept file that it includes.
_SETS = {
    "local": (["local", "plots"], None),
    "embedders": (["embedders"], _TORCH),
    "test": (["otel", "test"], None),
}

#: What installs, what resolves, and what scripts/release runs; each has a file of its own.
_TOOLS = {"pip": "pip", "uv": "uv", "release": "build\ncyclonedx-bom\nhatchling\ntwine"}

_NAME = re.compile(r"^([a-z0-9][a-z0-9.-]*)==", re.MULTILINE)


def main() -> int:
    """Returns the exit status: 0, or 1 where `--check` finds that the lock does not fit."""
    parser = argparse.ArgumentParser(prog="scripts/lock", description="Make or check the lock.")
    parser.add_argument("--check", action="store_true", help="only say whether it fits pyproject.toml")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    parser.add_argument("--to", type=Path, default=_LOCK, metavar="FOLDER", help="where to write it")
    options = parser.parse_args()
    if options.check:
        return _check()
    _make(options.to, upgrade=options.upgrade)
    return 0


def _check() -> int:
    stale = [path.name for path in map(_path, _SETS) if _inputs_line() not in _read(path).splitlines()]
    if not stale:
        return 0
    sys.stderr.write(
        f"error: the lock was made for other dependencies than pyproject.toml has ({', '.join(stale)})\n"
        "hint:  run `scripts/lock` and commit what it changes\n"
    )
    return 1


def _make(folder: Path, *, upgrade: bool) -> None:
    extras = [extra for added, _ in _SETS.values() for extra in added]
    former = [] if upgrade else [_entries(_read(_path(name))) for name in _SETS]
    entries = _entries(_compile(extras, kept=_text(*former)))
    pins = _text(entries)

    folder.mkdir(parents=True, exist_ok=True)
    done: set[str] = set()
    extras, included = [], None
    for name, (added, kept_file) in _SETS.items():
        extras += added
        # All is in one resolution already; this only says which of it the set needs.
        needed = set(_NAME.findall(_compile(extras, kept=pins))) - done
        includes = [path.name for path in (included, kept_file) if path]
        body = "".join(entries[package] for package in sorted(needed))
        included = _path(name, folder)
        included.write_text(_header(includes) + body, encoding="utf-8")
        done |= needed
        sys.stdout.write(f"{name}: {len(needed)} packages\n")
    if left := entries.keys() - done:
        raise SystemExit(f"error: no set needs {', '.join(sorted(left))}")
    if folder.resolve() != _LOCK:
        shutil.copy(_TORCH, folder)
    for tool, packages in _TOOLS.items():
        pins = _uv("-", upgrade=upgrade, kept=_read(_path(tool)), stdin=packages)
        _path(tool, folder).write_text(_MADE_BY + pins, encoding="utf-8")


def _compile(extras: list[str], *, kept: str) -> str:
    """The pins of pyproject.toml with `extras`, for every platform; versions in `kept` are preferred."""
    # torch is pinned by a file of its own.
    arguments = ["--group", f"{_PYPROJECT.name}:checkout", "--no-emit-package", "torch"]
    for extra in extras:
        arguments += ["--extra", extra]
    return _uv(_PYPROJECT.name, *arguments, kept=kept)


def _uv(source: str, *arguments: str, kept: str, upgrade: bool = False, stdin: str | None = None) -> str:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "pins.txt"
        output.write_text(kept, encoding="utf-8")
        command = [
            str(Path(sys.executable).with_name("uv")), "pip", "compile", source, *arguments,
            "--project", str(_LOCK), "--universal", "--python-version", "3.11", "--generate-hashes",
            "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet",
            "--output-file", str(output),
        ]  # fmt: skip
        if upgrade:
            command.append("--upgrade")
        subprocess.run(command, cwd=_ROOT, input=stdin, text=True, stdout=subprocess.DEVNULL, check=True)
        return output.read_text(encoding="utf-8")


def _entries(pins: str) -> dict[str, str]:
    """The lines of each package, which may stand there twice: in one version for each of some Pythons."""
    starts = [match.start() for match in _NAME.finditer(pins)]
    entries: dict[str, str] = {}
    for start, end in zip(starts, [*starts[1:], len(pins)], strict=True):
        name = pins[start:].split("==", 1)[0]
        entries[name] = entries.get(name, "") + pins[start:end]
    return entries


def _text(*entries: dict[str, str]) -> str:
    return "".join(lines for each in entries for lines in each.values())


_MADE_BY = "# Made by scripts/lock; do not edit.\n"


def _header(includes: list[str]) -> str:
    return f"{_MADE_BY}{_inputs_line()}\n" + "".join(f"-r {name}\n" for name in includes)


def _inputs_line() -> str:
    """A digest of all that decides about the lock, besides what the index has."""
    pyproject = tomllib.loads(_read(_PYPROJECT))
    project = pyproject["project"]
    inputs = [
        project["requires-python"],
        project["dependencies"],
        project["optional-dependencies"],
        pyproject["dependency-groups"],
        _read(_CONFIG),
        _read(_TORCH),
    ]
    return f"# Inputs: sha256:{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()}"


def _path(name: str, folder: Path = _LOCK) -> Path:
    return folder / f"{name}.txt"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    raise SystemExit(main())
