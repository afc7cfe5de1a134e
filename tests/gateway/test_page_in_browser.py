"""The page in a real Chromium."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from doubles.browser import Browser
from doubles.gateway_house import AddKey, House, Serve
from doubles.waiting import until, wait_until
from selenium.webdriver.common.keys import Keys

from llmhost.autoscale.state import ScaleState, ScaleStateStore, StepRecord
from llmhost.ledger.events import Outcome, QuestionEvent
from llmhost.ledger.ledger import Ledger
from llmhost.store.client import text

if TYPE_CHECKING:
    from plugins.redis_servers import PortServer
    from redis.asyncio import Redis

pytestmark = pytest.mark.slow

HOSTILE = '<img src=x onerror="document.title = 1"><script>document.title = 2</script>'

#: what has to have a name for those who do not see it
_NAMED = {"button", "link", "textbox", "radio", "checkbox", "combobox", "image", "table", "region", "form"}


@pytest.fixture
async def house(serve: Serve) -> AsyncIterator[House]:
    async with serve(cache={"audit_share": 0}) as served:
        yield served


async def look(what: Callable[[], Any]) -> Any:
    """In a thread: the gateway answers in this one."""
    return await asyncio.to_thread(what)


async def fill(house: House, client: Redis) -> None:
    """A hit of each kind, a miss, and a step of the autoscaler."""
    for question in ("What is Redis?", "What is Redis?", "what is redis?"):
        await house.chat(question)
    await until(lambda: client.exists("cache:served:local:default"))  # it is noted in the background
    fence = int(await client.hget("llmhost:local:scale", "lock:fence") or 0)
    step = StepRecord(time.time(), "up", 1, 2, "demand 310, capacity 150 tok/s")
    assert await ScaleStateStore(client, "local").save(ScaleState(), step, fence)


def open_filled(browser: Browser, house: House, *, width: int = 1280, dark: bool = False) -> None:
    """Opens the page and waits until all that `fill` has made is on it."""
    browser.open(house.url, width=width, dark=dark)
    browser.wait_for("#hit-list", "What is Redis?")
    browser.wait_for("#decisions", "demand 310")


async def test_it_shows_what_there_is_and_what_happened(
    house: House, redis_client: Redis, browser: Browser
) -> None:
    await fill(house, redis_client)

    def seen() -> None:
        browser.open(house.url)
        assert browser.wait_for("#headline", "ready") == "tiny on fleet local · 1 of 1 worker ready"
        tiles = browser.wait_for("#tiles", "Hit ratio66.7 %")
        assert "1 exact, 1 semantic" in tiles
        assert len(browser.all("#charts svg[role=img]")) == 4
        assert "what is redis?" in browser.wait_for("#hit-list", "What is Redis?")
        assert "demand 310, capacity 150 tok/s" in browser.text("#decisions")
        assert "ready" in browser.text("#worker-list tbody")
        assert browser.find("#endpoint").get_attribute("value") == f"{house.url}/v1"
        assert browser.complaints() == []

    await look(seen)


async def test_each_client_has_an_example_with_the_address_and_the_model(
    house: House, browser: Browser
) -> None:
    def seen() -> None:
        browser.open(house.url)
        for client in browser.all("#clients label"):
            client.click()
            example = browser.text("#snippet")
            assert house.url in example, client.text
            assert "tiny" in example or client.text == "Open WebUI"
        assert len(browser.all("#clients label")) == 9

    await look(seen)


async def test_a_charts_numbers_are_a_table_as_well(
    house: House, redis_client: Redis, browser: Browser
) -> None:
    await fill(house, redis_client)

    def seen() -> None:
        browser.open(house.url)
        browser.wait_for("#tiles", "66.7 %")
        browser.find("#charts summary").click()
        newest = [cell.text for cell in browser.all("#charts figure:first-child tbody tr:first-child td")]
        assert newest == ["1", "1", "1", "0"]

    await look(seen)


async def test_a_question_is_tried_and_says_where_its_answer_came_from(
    house: House, browser: Browser
) -> None:
    def seen() -> None:
        browser.open(house.url)
        browser.find("#question").send_keys("What is Redis?", Keys.CONTROL, Keys.ENTER)
        source = browser.wait_for("#source", "answered by a worker")
        assert "static-" in source
        assert browser.text("#answer") == "Hello, Wörld!"
        browser.find("#ask").click()
        browser.wait_for("#source", "from the cache: the same question")
        browser.find("#fresh").click()
        browser.find("#ask").click()
        browser.wait_for("#source", "without the cache")

    await look(seen)


async def test_an_answer_that_fails_says_why(serve: Serve, browser: Browser) -> None:
    async with serve(workers=0) as house:

        def seen() -> None:
            browser.open(house.url)
            browser.find("#question").send_keys("What is Redis?")
            browser.find("#ask").click()
            browser.wait_for("#source", "llmhost up")
            assert browser.find("#ask").is_enabled()

        await look(seen)


async def test_questions_and_answers_that_hold_html_are_shown_as_text(
    house: House, redis_client: Redis, browser: Browser
) -> None:
    house.engine.pieces = (HOSTILE,)
    await fill(house, redis_client)
    (entry,) = await redis_client.keys("cache:response:*")
    counts = f"cache:metadata:{text(entry).rpartition(':')[2]}"
    await redis_client.hset(counts, "served_question", HOSTILE)

    def seen() -> None:
        browser.open(house.url)
        assert HOSTILE in browser.wait_for("#hit-list", "img src")
        browser.find("#question").send_keys("What is Redis?")
        browser.find("#ask").click()
        browser.wait_for("#source", "from the cache")
        assert browser.text("#answer") == HOSTILE
        assert browser.all("main img, main script") == []
        assert browser.driver.title == "llmhost"

    await look(seen)


async def test_even_a_script_that_got_in_could_not_write_html_or_run(house: House, browser: Browser) -> None:
    def seen() -> None:
        browser.open(house.url)
        for attack in (
            "document.body.innerHTML = 'x'",
            "document.body.setAttribute('onclick', '1')",
            "document.body.append(Object.assign(document.createElement('script'), {text: '1'}))",
        ):
            tried = f"try {{ {attack}; return 'done' }} catch (error) {{ return error.message }}"
            assert "Trusted" in browser.run(tried), attack

    await look(seen)


async def test_a_verdict_is_given_and_the_focus_is_on_what_came_of_it(
    house: House, redis_client: Redis, browser: Browser
) -> None:
    await fill(house, redis_client)

    def seen() -> None:
        browser.open(house.url)
        browser.wait_for("#hit-list", "Other question")
        other = browser.all("#hit-list button")[1]
        other.send_keys(Keys.ENTER)
        browser.wait_for("#hit-list", "Other question: learnt; the stored answer is removed.")
        assert "done" in browser.focused().get_attribute("class")
        assert browser.all("#hit-list button") == []

    await look(seen)
    assert [text(name).split(":")[0] for name in await redis_client.hkeys("llmhost:local:trust")] == [
        "forget"
    ]
    assert await redis_client.keys("cache:response:*") == []


async def test_hits_of_one_fleet_are_not_shown_for_another_whose_redis_is_away(
    serve: Serve, redis_client: Redis, browser: Browser, tmp_path: Path
) -> None:
    other = {
        "fleet": {"name": "other", "provider": "static", "workers": [{"url": "http://127.0.0.1:9"}]},
        "engine": {"kind": "openai", "model": "other"},
        "redis": {"url": f"unix://{tmp_path}/none"},
    }
    async with serve(cache={"audit_share": 0}, beside=other) as house:
        await fill(house, redis_client)

        def seen() -> None:
            open_filled(browser, house)
            browser.find("#fleet option[value=other]").click()
            browser.wait_for("#hits-status", "Not known while Redis is away.")
            assert browser.text("#hit-list") == ""
            browser.find("#fleet option[value=local]").click()
            browser.wait_for("#hit-list", "What is Redis?")

        await look(seen)


async def test_nothing_asked_and_no_worker_say_what_to_do_next(serve: Serve, browser: Browser) -> None:
    async with serve(workers=0) as house:

        def seen() -> None:
            browser.open(house.url)
            browser.wait_for("#worker-list", "Run llmhost up")
            assert browser.find("#empty").is_displayed()
            assert not browser.find("#charts").is_displayed()
            assert "No scaling steps yet" in browser.text("#decisions")
            assert "No semantic hits" in browser.wait_for("#hits-status", "No semantic hits")
            assert browser.complaints() == []

        await look(seen)


async def test_ten_thousand_questions_are_as_few_points_as_a_hundred(
    house: House, redis_client: Redis, browser: Browser
) -> None:
    ledger, now = Ledger(redis_client, "local"), time.time()
    kinds = (Outcome.EXACT, Outcome.SEMANTIC, Outcome.MISS, Outcome.BYPASS)
    for start in range(0, 10_000, 20):
        events = [
            QuestionEvent(now - number * 30, kinds[number % 4], 5.0, user_ms=5.0, saved_usd=0.001)
            for number in range(start, start + 20)
        ]
        await asyncio.gather(*map(ledger.record, events))

    def seen() -> None:
        browser.open(house.url)
        for period in ("7d", "30d"):
            browser.run(f"document.querySelector('input[value=\"{period}\"]').click()")
            browser.wait_for("#tiles", "Questions10,000")
            assert len(browser.all("#charts svg *")) < 1_000

    await look(seen)


async def test_without_redis_it_says_so(
    serve: Serve, redis_port_server: PortServer, browser: Browser
) -> None:
    server = redis_port_server()
    async with serve(redis={"url": f"redis://127.0.0.1:{server.port}"}) as house:
        server.kill()

        def seen() -> None:
            browser.open(house.url)
            browser.wait_for("#problems", "Workers still answer")
            assert "1 of 1 worker ready" in browser.text("#headline")
            browser.find("#question").send_keys("What is Redis?")
            browser.find("#ask").click()
            browser.wait_for("#answer", "Hello, Wörld!")

        await look(seen)


async def test_a_gateway_that_stops_is_noticed_and_found_again(house: House, browser: Browser) -> None:
    def seen() -> None:
        browser.open(house.url)
        with browser.offline():
            browser.run("document.querySelector('input[value=\"1h\"]').click()")
            browser.wait_for("#problems", "The gateway does not answer")
        wait_until(lambda: browser.text("#problems") == "")

    await look(seen)


# For everyone: by keyboard, by ear, in both colour schemes, at every width.


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 768, 1280])
async def test_it_fits_and_can_be_read(
    house: House, redis_client: Redis, browser: Browser, width: int, dark: bool
) -> None:
    await fill(house, redis_client)

    def seen() -> None:
        open_filled(browser, house, width=width, dark=dark)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        contrasts = browser.contrasts()
        assert len(contrasts) > 40
        assert {words: found for words, found in contrasts.items() if found < 4.5} == {}
        back = browser.run("return getComputedStyle(document.body).backgroundColor")
        assert back == ("rgb(18, 20, 25)" if dark else "rgb(245, 246, 248)")

    await look(seen)


async def test_everything_is_reached_by_keyboard_in_the_order_of_the_page_and_shows_its_focus(
    house: House, redis_client: Redis, browser: Browser
) -> None:
    await fill(house, redis_client)

    def seen() -> None:
        open_filled(browser, house)
        reached = []
        for element in browser.tab_stops():
            reached.append(element)
            outline = browser.run(
                "const e = arguments[0], s = getComputedStyle(e.type === 'radio' ? e.nextElementSibling : e);"
                "return [s.outlineStyle, parseFloat(s.outlineWidth)]",
                element,
            )
            assert outline[0] != "none", element.get_attribute("outerHTML")
            assert outline[1] >= 1
        in_order = browser.run(
            "return arguments[0].every((e, i, all) => i === 0 || "
            "all[i - 1].compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING)",
            reached,
        )
        assert in_order
        names = [element.get_attribute("id") or element.get_attribute("textContent") for element in reached]
        assert names[0] == "Skip to the figures"
        expected = ["Figures", "copy-endpoint", "snippet", "question", "fresh", "ask", "refresh-hits"]
        positions = [names.index(name) for name in expected]
        assert positions == sorted(positions)
        assert names[-3:-1] == ["Same question", "Other question"]

    await look(seen)


async def test_the_period_is_changed_by_arrow_keys(
    house: House, redis_client: Redis, browser: Browser
) -> None:
    await fill(house, redis_client)

    def seen() -> None:
        browser.open(house.url)
        browser.wait_for("#tiles", "66.7 %")
        browser.run("document.querySelector('input[value=\"24h\"]').focus()")
        browser.press(Keys.ARROW_RIGHT)
        assert browser.focused().get_attribute("value") == "7d"
        # One script: the charts are drawn again meanwhile.
        label = "return document.querySelector('#charts svg[role=img]')?.getAttribute('aria-label') ?? ''"
        wait_until(lambda: "the last 7 days" in browser.run(label))

    await look(seen)


async def test_every_part_has_a_name_and_the_page_a_structure(
    house: House, redis_client: Redis, browser: Browser
) -> None:
    await fill(house, redis_client)

    def seen() -> None:
        open_filled(browser, house)
        parts = browser.named_parts()
        assert [role for role, name in parts if role in _NAMED and not name] == []
        fields = "[...document.querySelectorAll('input, select, textarea')]"
        assert browser.run(f"return {fields}.filter((e) => !e.labels.length).map((e) => e.id)") == []
        roles = {role for role, _ in parts}
        assert {"banner", "main", "navigation", "contentinfo", "region", "table", "status"} <= roles
        levels = [int(heading.tag_name[1]) for heading in browser.all("h1, h2, h3") if heading.is_displayed()]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
        ids = browser.run("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids))
        assert browser.run("return document.documentElement.lang") == "en"
        assert browser.all("img:not([alt]), [tabindex]:not([tabindex='0']):not([tabindex='-1'])") == []

    await look(seen)


async def test_a_key_is_asked_for_and_kept_in_the_tab(
    serve: Serve, add_key: AddKey, browser: Browser
) -> None:
    key, wrong = await add_key("acme", operator=True), await add_key("acme")
    async with serve(gateway={"keys": "always"}) as house:

        def seen() -> None:
            browser.open(house.url, wait=False)
            wait_until(lambda: browser.find("#key").is_displayed())
            browser.press(Keys.ESCAPE)
            wait_until(lambda: not browser.find("#key").is_displayed())
            browser.find("#refresh-hits").click()  # it is asked for again
            for typed in (wrong, key):
                wait_until(lambda: browser.find("#key").is_displayed())
                browser.find("#key").send_keys(typed, Keys.ENTER)
                if typed == wrong:
                    browser.wait_for("#key-error", "--operator")
            browser.wait_for("#headline", "1 of 1 worker ready")
            assert "YOUR_KEY" in browser.text("#snippet")
            assert key not in browser.text("html")
            browser.find("#question").send_keys("What is Redis?")
            browser.find("#ask").click()
            browser.wait_for("#answer", "Hello")
            assert browser.run("return [localStorage.length, document.cookie]") == [0, ""]

        await look(seen)
