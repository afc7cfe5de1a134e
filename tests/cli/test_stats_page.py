"""The page that `llmhost stats --html` writes, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from doubles.browser import Browser
from doubles.stats import NOW, STATS, TARGETS

from llmhost.cli.stats_page import stats_page
from llmhost.ledger.report import make_report
from llmhost.ledger.totals import Totals


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "report.html"
    path.write_text(stats_page(STATS, NOW), encoding="utf-8")
    return path.as_uri()


def test_it_needs_no_other_file_and_runs_no_script() -> None:
    text = stats_page(STATS, NOW)
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert "default-src 'none'" in text


def test_what_users_wrote_is_shown_as_text(browser: Browser, page: str) -> None:
    browser.open(page, wait=False)
    assert browser.all("td b") == []
    assert "What is <b>Redis</b> & why?" in browser.text("body")
    assert "acme & <sons>" in browser.text("body")
    assert "\x1b" not in browser.text("body")


def test_its_charts_have_a_mark_for_each_value(browser: Browser, page: str) -> None:
    browser.open(page, wait=False)
    asked, ratio, _, _ = browser.all("svg")
    bars = sum(
        bool(getattr(point, kind))
        for point in STATS.points
        for kind in ("exact", "semantic", "misses", "other")
    )
    assert len(asked.find_elements("css selector", "rect")) == bars
    dots = sum(point.hit_ratio is not None for point in STATS.points)
    assert len(ratio.find_elements("css selector", "circle")) == dots
    assert all(box.size["height"] > 100 for box in browser.all("svg"))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_the_window_and_can_be_read(browser: Browser, page: str, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark, wait=False)
    assert browser.driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert min(browser.contrasts().values()) >= 4.5
    assert browser.complaints() == []


def test_without_questions_it_says_so(browser: Browser, tmp_path: Path) -> None:
    nothing = make_report(Totals(), [], TARGETS, 0.0, 3600.0)
    made = replace(STATS, report=nothing, workers=[], tenants=[], models=[], versus=[], top=[])
    path = tmp_path / "report.html"
    path.write_text(stats_page(made, NOW), encoding="utf-8")
    browser.open(path.as_uri(), wait=False)
    assert "Nothing was asked in this time." in browser.text("body")
    assert browser.all("svg") == []
