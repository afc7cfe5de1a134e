"""The site of the documents, as scripts/site builds it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
INDEX = (REPOSITORY / "docs/README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder; a link that leads nowhere, or a page without a place, ends the build with an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "scripts/mkdocs.yml"]
    done = subprocess.run(
        [*command, "--site-dir", folder],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_document_is_a_page_where_the_repository_has_it(site: Path) -> None:
    documents = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")]
    pages = {str(page.relative_to(site).with_suffix("")) for page in site.rglob("*.html")} - {"404"}
    paths = (str(document.relative_to(REPOSITORY).with_suffix("")) for document in documents)
    assert pages == {path.replace("README", "index") for path in paths}


def test_the_navigation_has_the_groups_of_the_index(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    navigation = page[page.index("md-nav--primary") : page.index("</nav>", page.index("Architecture"))]
    positions = [navigation.index(f"{group}\n") for group in re.findall("^## (.+)$", INDEX, re.MULTILINE)]
    assert len(positions) > 3
    assert positions == sorted(positions)


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
    assert {
        page.name: found for page in site.rglob("*.html") if (found := loads.findall(page.read_text()))
    } == {}
    styles = re.compile(r"@import[^;]*;|url\(\"?(?:https?:)?//[^)]*\)")
    assert {
        style.name: found for style in site.rglob("*.css") if (found := styles.findall(style.read_text()))
    } == {}


def test_the_search_knows_what_the_pages_say(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"] for entry in index["docs"] if "near-misses" in entry["text"]}
    assert "index.html" in found
    assert any(location.startswith("docs/trust.html") for location in found)
