"""A Chromium of this machine for tests of the gateway's page."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from doubles.browser import Browser


@pytest.fixture(scope="session")
def _shared_browser() -> Iterator[Browser]:
    from doubles.browser import Browser  # selenium takes a moment

    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        reason = "the page's tests need Chrome or Chromium, and chromedriver; see scripts/test"
        if os.environ.get("CI") and sys.platform == "linux":
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="llmhost-chromium-", ignore_cleanup_errors=True) as folder:
        browser = Browser(program, driver, Path(folder))
        yield browser
        browser.close()


@pytest.fixture
def browser(_shared_browser: Browser) -> Browser:
    """A browser without a memory of other tests; the same process for all."""
    _shared_browser.driver.get("about:blank")
    _shared_browser.driver.execute_cdp_cmd("Storage.clearCookies", {})
    return _shared_browser
