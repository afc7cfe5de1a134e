"""Sets the version of llmhost and closes the changelog's section `Unreleased`. scripts/release calls it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_VERSION = _ROOT / "llmhost" / "__init__.py"
_CHANGELOG = _ROOT / "CHANGELOG.md"

_UNRELEASED = "## Unreleased\n"


def close_section(changelog: str, version: str, day: str) -> str:
    """The changelog with what was unreleased under `version`. Raises ValueError where there is nothing."""
    before, found, after = changelog.partition(_UNRELEASED)
    section = after.partition("\n## ")[0]
    if not found or not section.strip():
        raise ValueError("CHANGELOG.md has nothing under `## Unreleased`: a release has something new")
    return f"{before}{_UNRELEASED}\n## {version} - {day}\n{after}"


def set_version(source: str, version: str) -> str:
    """The source with another `__version__`. Raises ValueError where it has none."""
    changed, count = re.subn(
        r'^__version__ = "[^"]*"$', f'__version__ = "{version}"', source, flags=re.MULTILINE
    )
    if count != 1:
        raise ValueError(f"{_VERSION.name} has no line `__version__ = ...`")
    return changed


def main(version: str, day: str) -> int:
    """Returns the exit status."""
    try:
        changelog = close_section(_CHANGELOG.read_text(encoding="utf-8"), version, day)
        source = set_version(_VERSION.read_text(encoding="utf-8"), version)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    _CHANGELOG.write_text(changelog, encoding="utf-8")
    _VERSION.write_text(source, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
