"""A real Chromium, and what a person does with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doubles.waiting import wait_until
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

#: what a script of a page finds of all elements that show text, and of their colours
_TEXTS = """
const shown = [];
const parse = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const box = element.getBoundingClientRect();
  if (!own || !box.width || !box.height || element.closest("[hidden], script, noscript, title")) continue;
  let back = [255, 255, 255, 0];
  for (let holder = element; holder && back[3] === 0; holder = holder.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(holder).backgroundColor);
    back = [r, g, b, a];
  }
  const style = getComputedStyle(element);
  const colour = parse(element.ownerSVGElement ? style.fill : style.color);
  shown.push([element.textContent.trim().slice(0, 40), colour, back]);
}
return shown;
"""


class Browser:
    """One window of a Chromium that reaches this machine alone. Its methods block."""

    def __init__(self, program: str, driver: str, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for argument in (
            "--headless=new",
            "--no-sandbox",  # which cannot be had as root
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={folder}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))

    def close(self) -> None:
        self.driver.quit()

    def open(self, url: str, *, width: int = 1280, dark: bool = False, wait: bool = True) -> None:
        """Opens the page; `wait`: until it knows the fleet."""
        self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])
        self.driver.get_log("browser")  # what was there before
        self.driver.get(url)
        if wait:
            self.wait_for("#headline", "tiny")

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        """All text of it, shown or not."""
        return str(
            self.run(f"return (document.querySelector({json.dumps(selector)}) || {{}}).textContent || ''")
        )

    def wait_for(self, selector: str, text: str) -> str:
        """Waits until the element has that text in it; gives all of its text."""
        wait_until(lambda: text in self.text(selector))
        return self.text(selector)

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def tab_stops(self) -> Iterator[WebElement]:
        """What the Tab key reaches, one after the other, from the beginning of the page to its end."""
        self.run("document.activeElement.blur(); window.getSelection().removeAllRanges(); scrollTo(0, 0)")
        while True:
            self.press(Keys.TAB)
            element = self.focused()
            if element.tag_name == "body":
                return
            yield element

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the browser has complained about on this page: errors, and what the policy forbade."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def named_parts(self) -> list[tuple[str, str]]:
        """Role and name of what a screen reader offers."""
        nodes = self._send("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"] and "role" in node
        ]

    def contrasts(self) -> dict[str, float]:
        """The contrast of each text, by its beginning, to what is behind it, as WCAG 2.2 defines it."""
        found: dict[str, float] = {}
        for text, colour, back in self.run(_TEXTS):
            one, other = sorted((_luminance(colour), _luminance(back)))
            found[text] = min(found.get(text, 21.0), (other + 0.05) / (one + 0.05))
        return found

    @contextmanager
    def offline(self) -> Iterator[None]:
        """Nothing answers the page within the block."""
        self._send("Network.enable")
        limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self._send("Network.emulateNetworkConditions", offline=True, **limits)
        try:
            yield
        finally:
            self._send("Network.emulateNetworkConditions", offline=False, **limits)

    def _send(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)


def _luminance(colour: list[float]) -> float:
    parts = [value / 255 for value in colour[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
