"""The page at `/` and the JSON that its script reads."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from doubles.gateway_house import AddKey, House, Serve, bearer
from doubles.waiting import until

from llmhost.gateway.figures import PERIODS
from llmhost.gateway.page import FILES
from llmhost.ledger.buckets import stretches
from llmhost.store.client import text

if TYPE_CHECKING:
    from plugins.redis_servers import PortServer
    from redis.asyncio import Redis

MARKED = {"x-llmhost-page": "1"}
TRUST = "llmhost:local:trust"


@pytest.fixture
async def house(serve: Serve) -> AsyncIterator[House]:
    """Without audits, which are drawn by lot and would be labels, too."""
    async with serve(cache={"audit_share": 0}) as served:
        yield served


async def json_of(house: House, path: str, **query: str) -> Any:
    answer = await house.http.get(f"/llmhost/{path}", params=query)
    assert answer.status_code == 200
    return answer.json()


async def ask_twice(house: House, headers: dict[str, str] | None = None) -> None:
    """Asks a question in two wordings. The hit is noted in the background."""
    await house.chat("What is Redis?", headers=headers)
    answer = await house.chat("what is redis?", headers=headers)
    assert answer.headers["x-llmhost-cache"] == "semantic"


async def hits_of(house: House, headers: dict[str, str] | None = None) -> Any:
    return (await house.http.get("/llmhost/hits", headers=headers)).json()["hits"]


async def semantic_hit(house: House, headers: dict[str, str] | None = None) -> Any:
    """The hit as the page gets it, once it is noted."""
    await ask_twice(house, headers)
    (hit,) = await until(lambda: hits_of(house, headers))
    return hit


async def judge(house: House, hit: Any, same: bool, headers: dict[str, str] | None = None) -> Any:
    body = {"fleet": "local", "entry": hit["entry"], "at": hit["at"], "same": same}
    return await house.http.post("/llmhost/label", json=body, headers=MARKED if headers is None else headers)


async def labels(client: Redis) -> dict[str, int]:
    """The operator's labels, by what they say."""
    names = [text(name).split(":") for name in await client.hkeys(TRUST)]
    assert {source for source, _, _ in names} <= {"forget"}
    return {word: int(await client.hget(TRUST, f"forget:{band}:{word}")) for _, band, word in names}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("application/json", "text/plain; charset=utf-8"),
    ],
)
async def test_a_browser_gets_the_page_and_others_that_ollama_runs(
    house: House, accept: str, kind: str
) -> None:
    answer = await house.http.get("/", headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert (answer.text == "Ollama is running") == (kind.startswith("text/plain"))


@pytest.mark.parametrize("path", ["/", *FILES, "/llmhost/gateway", "/llmhost/overview", "/llmhost/hits"])
async def test_a_browser_runs_nothing_but_the_page_s_own_script_and_shows_it_in_no_frame(
    house: House, path: str
) -> None:
    headers = (await house.http.get(path, headers={"accept": "text/html"})).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")


async def test_the_page_loads_nothing_from_elsewhere_and_has_nothing_inline(house: House) -> None:
    page = (await house.http.get("/", headers={"accept": "text/html"})).text
    assert set(re.findall(r'(?:src|href)="(/[^"]*)"', page)) == set(FILES)
    assert not re.findall(r"https?://|<style|\sstyle=|\son\w+=|<script(?! src)", page)
    script = (await house.http.get("/llmhost/page.js")).text
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script)


async def test_what_was_asked_is_counted(house: House) -> None:
    await semantic_hit(house)
    await house.chat("What is Redis?")

    async def counted() -> Any:
        overview = await json_of(house, "overview", fleet="local", period="1h")
        figures = overview["figures"]
        in_series = sum(point["exact"] + point["semantic"] for point in figures["series"])
        return overview if (figures["requests"], in_series) == (3, 2) else None

    overview = await until(counted)
    figures = overview["figures"]
    asked = [figures[name] for name in ("requests", "exact", "semantic", "misses", "errors")]
    assert asked == [3, 1, 1, 1, 0]
    assert figures["hit_ratio"] == pytest.approx(2 / 3)
    assert [worker["state"] for worker in overview["workers"]] == ["ready"]
    assert overview["served_error"]["samples"] == 0
    assert (overview["decisions"], overview["problems"]) == ([], [])


async def test_an_address_or_token_that_the_figures_do_not_need_is_not_in_them(house: House) -> None:
    (worker,) = (await json_of(house, "overview"))["workers"]
    assert not {"token", "certificate", "log", "machine"} & worker.keys()


async def test_a_fleet_without_workers_has_none(serve: Serve) -> None:
    async with serve(workers=0) as house:
        overview = await json_of(house, "overview")
    assert (overview["workers"], overview["figures"]["requests"]) == ([], 0)


async def test_without_redis_the_page_says_so_and_shows_what_is_known(
    serve: Serve, redis_port_server: PortServer
) -> None:
    server = redis_port_server()
    async with serve(redis={"url": f"redis://127.0.0.1:{server.port}"}) as house:
        server.kill()
        overview = await json_of(house, "overview")
        assert (await house.http.get("/", headers={"accept": "text/html"})).status_code == 200
        assert (await house.http.get("/llmhost/hits")).status_code == 503
    assert len(overview["problems"]) == 1
    assert "Redis" in overview["problems"][0]
    assert [worker["state"] for worker in overview["workers"]] == ["ready"]
    assert (overview["figures"], overview["served_error"], overview["decisions"]) == (None, None, None)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("overview?period=1y", 400),
        ("overview?fleet=other", 404),
        ("hits?fleet=", 200),
        ("overview?" + "a=1&" * 50, 400),
        ("nothing", 404),
    ],
)
async def test_a_request_that_cannot_be_is_refused(house: House, path: str, status: int) -> None:
    assert (await house.http.get(f"/llmhost/{path}")).status_code == status


@pytest.mark.parametrize("period", PERIODS)
def test_a_period_is_stretches_without_a_gap_and_the_last_holds_now(period: str) -> None:
    now = 1_800_000_123.0
    parts = stretches(*PERIODS[period], now)
    buckets = [bucket for part in parts for bucket in part]
    assert all(one.end == other.start for one, other in pairwise(buckets))
    assert parts[-1][0].start <= now < parts[-1][-1].end
    assert 24 <= len(parts) <= 30


# Semantic hits and verdicts.


async def test_a_semantic_hit_is_shown_with_both_wordings(house: House) -> None:
    hit = await semantic_hit(house)
    assert (hit["asked"], hit["stored"], hit["answer"]) == (
        "what is redis?",
        "What is Redis?",
        "Hello, Wörld!",
    )
    assert hit["confidence"] >= 0.8
    assert abs(hit["at"] - time.time()) < 60


async def test_a_hit_on_what_must_not_be_stored_leaves_no_trace_of_it(
    house: House, redis_client: Redis
) -> None:
    await house.chat("What is Redis?")
    answer = await house.chat("what is redis?", headers={"cache-control": "no-store"})
    assert answer.headers["x-llmhost-cache"] == "semantic"
    (entry,) = await redis_client.keys("cache:response:*")
    counts = f"cache:metadata:{text(entry).rpartition(':')[2]}"

    async def is_counted() -> bool:
        return await redis_client.hget(counts, "hit_count") == b"1"

    await until(is_counted)
    assert await redis_client.hget(counts, "served_question") is None
    assert await hits_of(house) == []


async def test_another_tenants_hits_are_neither_seen_nor_judged(serve: Serve) -> None:
    async with serve(cache={"tenant": "theirs"}) as house:
        theirs = await semantic_hit(house)
    async with serve(cache={"tenant": "ours"}) as house:
        assert await hits_of(house) == []
        assert (await judge(house, theirs, same=False)).status_code == 409
    async with serve(cache={"tenant": "theirs"}) as house:
        assert len(await hits_of(house)) == 1


async def test_another_question_removes_the_entry_and_is_learnt(house: House, redis_client: Redis) -> None:
    hit = await semantic_hit(house)
    answer = await judge(house, hit, same=False)
    assert (answer.status_code, answer.json()) == (200, {"learnt": True, "forgotten": True})
    assert await labels(redis_client) == {"wrong": 1}
    assert await hits_of(house) == []
    assert (await house.chat("what is redis?")).headers["x-llmhost-cache"] == "miss"


async def test_the_same_question_is_learnt_and_goes_on_being_served(
    house: House, redis_client: Redis
) -> None:
    hit = await semantic_hit(house)
    assert (await judge(house, hit, same=True)).json() == {"learnt": True, "forgotten": False}
    assert await labels(redis_client) == {"right": 1}
    assert await hits_of(house) == []
    assert (await house.chat("what is redis?")).headers["x-llmhost-cache"] == "semantic"
    operator = (await json_of(house, "overview"))["served_error"]["operator"]
    assert operator == {"same": 1, "other": 0}


async def test_a_hit_has_one_verdict(house: House, redis_client: Redis) -> None:
    hit = await semantic_hit(house)
    await judge(house, hit, same=True)
    assert (await judge(house, hit, same=True)).status_code == 409
    assert await labels(redis_client) == {"right": 1}


async def test_a_verdict_is_on_the_wording_that_was_shown(house: House, redis_client: Redis) -> None:
    hit = await semantic_hit(house)
    await house.chat("what is  REDIS?")
    assert (await judge(house, {**hit, "at": hit["at"] - 1}, same=False)).status_code == 409
    assert await labels(redis_client) == {}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**MARKED, "origin": "http://localhost:3000"},
        {**MARKED, "origin": "null"},
        {**MARKED, "sec-fetch-site": "cross-site"},
        {**MARKED, "sec-fetch-site": "same-site"},
        {**MARKED, "host": "evil.example"},
    ],
)
async def test_a_page_of_another_origin_gives_no_verdict(
    house: House, redis_client: Redis, headers: dict[str, str]
) -> None:
    hit = await semantic_hit(house)
    assert (await judge(house, hit, same=False, headers=headers)).status_code == 403
    assert await redis_client.exists(TRUST) == 0
    assert len(await hits_of(house)) == 1


@pytest.mark.parametrize("path", ["gateway", "overview", "hits"])
async def test_a_page_of_another_origin_reads_nothing(house: House, path: str) -> None:
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "http://localhost:3000"}):
        assert (await house.http.get(f"/llmhost/{path}", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "change",
    [{"entry": "*"}, {"entry": 5}, {"at": "now"}, {"at": None}, {"same": "yes"}, {"more": 1}, {"fleet": 1}],
)
async def test_a_verdict_that_cannot_be_is_refused(house: House, change: dict[str, Any]) -> None:
    body = {"fleet": "local", "entry": "a" * 32, "at": 1.5, "same": True, **change}
    answer = await house.http.post("/llmhost/label", json=body, headers=MARKED)
    assert answer.status_code == 400


# Who may see what, where there are keys.

KEYS: Any = {"gateway": {"keys": "always"}, "cache": {"audit_share": 0}}


async def test_the_page_is_there_without_a_key_and_what_it_reads_is_not(serve: Serve) -> None:
    async with serve(**KEYS) as house:
        for path in ("/", *FILES):
            answer = await house.http.get(path, headers={"accept": "text/html"})
            assert answer.status_code == 200
        for path in ("gateway", "overview", "hits"):
            assert (await house.http.get(f"/llmhost/{path}")).status_code == 401
        answer = await house.http.post("/llmhost/label", json={}, headers=MARKED)
        assert answer.status_code == 401


@pytest.mark.parametrize("path", ["gateway", "overview", "hits"])
async def test_what_it_reads_concerns_all_tenants_and_needs_an_operators_key(
    serve: Serve, add_key: AddKey, path: str
) -> None:
    keys = [await add_key("acme"), await add_key("acme", operator=True)]
    async with serve(**KEYS) as house:
        answers = [await house.http.get(f"/llmhost/{path}", headers=bearer(key)) for key in keys]
    assert [answer.status_code for answer in answers] == [403, 200]


async def test_an_operator_sees_and_judges_the_hits_of_the_keys_tenant_alone(
    serve: Serve, add_key: AddKey
) -> None:
    ours, theirs = [bearer(await add_key(tenant, operator=True)) for tenant in ("acme", "other")]
    async with serve(**KEYS) as house:
        hit = await semantic_hit(house, ours)
        assert await hits_of(house, theirs) == []
        answers = [await judge(house, hit, same=True, headers={**MARKED, **key}) for key in (theirs, ours)]
    assert [answer.status_code for answer in answers] == [409, 200]


async def test_users_that_a_header_names_see_their_own_hits(serve: Serve) -> None:
    async with serve(gateway={"user_header": "x-user"}, cache={"audit_share": 0}) as house:
        await semantic_hit(house, {"x-user": "ann"})
        assert await hits_of(house, {"x-user": "bob"}) == await hits_of(house) == []


async def test_a_key_for_other_models_sees_no_fleet(serve: Serve, add_key: AddKey) -> None:
    key = bearer(await add_key("default", operator=True, models=("huge",)))
    async with serve(**KEYS) as house:
        assert (await house.http.get("/llmhost/gateway", headers=key)).json()["fleets"] == []
        assert (await house.http.get("/llmhost/overview", headers=key)).status_code == 404
