from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "scripts" / "prepare_release.py"
_SPEC = importlib.util.spec_from_file_location("prepare_release", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
release = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(release)

CHANGELOG = (
    "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## 0.1.0 - 2026-01-01\n\n- All of it.\n"
)


def test_what_was_unreleased_goes_under_the_version() -> None:
    changed = release.close_section(CHANGELOG, "0.2.0", "2026-12-01")
    head = "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2026-12-01\n\n### Added\n\n- A thing.\n\n## 0.1.0"
    assert changed.startswith(head)


@pytest.mark.parametrize("changelog", ["# Changelog\n", "## Unreleased\n\n## 0.1.0\n\n- All of it.\n"])
def test_a_release_without_news_is_refused(changelog: str) -> None:
    with pytest.raises(ValueError, match="a release has something new"):
        release.close_section(changelog, "0.2.0", "2026-12-01")


def test_the_version_is_set_where_the_package_keeps_it() -> None:
    source = (Path(__file__).parents[2] / "llmhost" / "__init__.py").read_text()
    assert '__version__ = "9.8.7"' in release.set_version(source, "9.8.7")


def test_a_source_without_a_version_is_refused() -> None:
    with pytest.raises(ValueError, match="no line"):
        release.set_version("", "0.2.0")
