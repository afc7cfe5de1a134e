"""Who may ask the gateway, over real HTTP with real clients: keys, tenants, models and limits."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anthropic
import ollama
import openai
import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import AddKey, House, Serve, bearer
from doubles.held_server import HeldServer
from doubles.ollama_server import OllamaServer
from doubles.redis_relay import redis_relay
from doubles.waiting import until

from llmhost.answering.cache_session import WarnOnce
from llmhost.config.gateway import GatewayConfig
from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable, UsageError
from llmhost.gateway.access import Access, Bookkeeper, LastKnown, require_keys
from llmhost.gateway.api_keys import ApiKey, Limits, Use, key_in, make_key
from llmhost.gateway.key_store import KeyStore
from llmhost.store.client import connect
from llmhost.store.keys import GatewayKeys

if TYPE_CHECKING:
    from plugins.redis_servers import PortServer
    from redis.asyncio import Redis

ALWAYS = {"keys": "always"}
UNKNOWN = "llmhost-0a1b2c3d4e5f-" + "0123456789abcdef" * 4


async def today(client: Redis, key: str) -> Use:
    """What was used with the key, as far as it is booked."""
    presented = key_in([key])
    assert presented is not None
    admission = await KeyStore(client).admit(presented, asks=False)
    assert admission is not None
    return admission.today


async def until_used(client: Redis, key: str, requests: int) -> Use:
    async def is_booked() -> Use | None:
        use = await today(client, key)
        return use if use.requests >= requests and use.tokens else None

    use: Use = await until(is_booked)
    return use


# Keys


async def test_every_client_of_an_api_sends_its_key_in_its_own_way(serve: Serve, add_key: AddKey) -> None:
    key, asked = await add_key(), [{"role": "user", "content": "Hi"}]
    messages: Any = asked
    async with (
        serve(gateway=ALWAYS) as house,
        openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key=key) as of_openai,
        anthropic.AsyncAnthropic(base_url=house.url, api_key=key) as of_anthropic,
        anthropic.AsyncAnthropic(base_url=house.url, auth_token=key) as with_token,
        ollama.AsyncClient(house.url, headers=bearer(key)) as of_ollama,
    ):
        await of_openai.chat.completions.create(model="tiny", messages=messages)
        assert (await house.chat(headers={"api-key": key})).status_code == 200
        await of_openai.embeddings.create(model="all-minilm", input="Hi")
        for client in (of_anthropic, with_token):
            await client.messages.create(model="tiny", max_tokens=9, messages=messages)
        await of_ollama.chat("tiny", messages)
        assert (await of_ollama.list()).models[0].model == "tiny:latest"


async def test_without_a_key_every_client_gets_its_own_error(serve: Serve) -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    async with (
        serve(gateway=ALWAYS) as house,
        openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="none") as of_openai,
        anthropic.AsyncAnthropic(base_url=house.url, api_key=UNKNOWN) as of_anthropic,
        ollama.AsyncClient(house.url) as of_ollama,
    ):
        with pytest.raises(openai.AuthenticationError) as seen:
            await of_openai.chat.completions.create(model="tiny", messages=messages)
        assert (seen.value.code, seen.value.response.headers["www-authenticate"]) == (
            "invalid_api_key",
            "Bearer",
        )
        with pytest.raises(anthropic.AuthenticationError):
            await of_anthropic.messages.create(model="tiny", max_tokens=9, messages=messages)
        with pytest.raises(ollama.ResponseError, match="API key"):
            await of_ollama.chat("tiny", messages)
        assert house.engine.requests == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/messages/count_tokens"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/tiny"),
        ("POST", "/api/chat"),
        ("POST", "/api/generate"),
        ("POST", "/api/embed"),
        ("POST", "/api/embeddings"),
        ("POST", "/api/show"),
        ("GET", "/api/tags"),
        ("GET", "/api/ps"),
        ("GET", "/api/version"),
        ("GET", "/nothing"),
    ],
)
async def test_every_path_needs_a_key(serve: Serve, method: str, path: str) -> None:
    async with serve(gateway=ALWAYS) as house:
        answer = await house.http.request(method, path, json={})
        assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/metrics", "/health/backlog", "/llmhost/gateway", "/llmhost/overview"])
async def test_what_concerns_all_tenants_is_for_an_operator(serve: Serve, add_key: AddKey, path: str) -> None:
    tenant, operator = await add_key(), await add_key(operator=True)
    async with serve(gateway=ALWAYS) as house:
        statuses = [
            (await house.http.get(path, headers=headers)).status_code
            for headers in ({}, bearer(tenant), bearer(operator))
        ]
    assert statuses == [401, 403, 200]


async def test_what_tells_nothing_needs_no_key(serve: Serve) -> None:
    async with serve(gateway=ALWAYS) as house:
        assert (await house.http.get("/")).status_code == 200
        assert (await house.http.get("/healthz")).json() == {"status": "ok"}
        assert (await house.http.get("/llmhost/page.js")).status_code == 200
        ready = await house.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {})


async def test_on_loopback_no_key_is_needed_and_a_known_one_counts(house: House, add_key: AddKey) -> None:
    assert (await house.chat()).status_code == 200
    assert (await house.chat(headers=bearer("sk-anything"))).headers["x-llmhost-cache"] == "exact"
    assert (await house.chat(headers=bearer(await add_key("acme")))).headers["x-llmhost-cache"] == "miss"


async def test_on_loopback_a_key_of_llmhost_that_is_not_valid_is_refused(house: House) -> None:
    answer = await house.chat(headers=bearer(UNKNOWN))
    assert (answer.status_code, UNKNOWN in answer.text) == (401, False)


async def test_a_revoked_key_is_refused_by_the_next_request(
    serve: Serve, add_key: AddKey, redis_client: Redis
) -> None:
    key = await add_key()
    async with serve(gateway=ALWAYS) as one, serve(gateway=ALWAYS) as two:
        for house in (one, two):
            assert (await house.chat(headers=bearer(key))).status_code == 200
        presented = key_in([key])
        await KeyStore(redis_client).revoke(presented.id)
        for house in (one, two):
            assert (await house.chat(headers=bearer(key))).status_code == 401


async def test_an_expired_key_says_so(serve: Serve, add_key: AddKey) -> None:
    key = await add_key(expires=time.time() - 1)
    async with serve(gateway=ALWAYS) as house:
        answer = await house.chat(headers=bearer(key))
    assert (answer.status_code, "expired" in answer.text) == (401, True)


async def test_with_a_key_a_page_of_another_site_is_answered_and_cannot_read_it(
    serve: Serve, add_key: AddKey
) -> None:
    headers = bearer(await add_key()) | {"origin": "https://app.example", "host": "llm.example.com"}
    async with serve(gateway=ALWAYS) as house:
        answer = await house.chat(headers=headers)
    assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (200, False)


async def test_other_machines_are_let_in_only_if_there_is_a_key(redis_client: Redis, add_key: AddKey) -> None:
    public = GatewayConfig(host="0.0.0.0", behind_proxy="10.0.0.5")  # noqa: S104
    store = KeyStore(redis_client)
    await require_keys(GatewayConfig(), store, time.time())
    await add_key(expires=time.time() - 1)
    with pytest.raises(UsageError, match="no API key"):
        await require_keys(public, store, time.time())
    await add_key()
    await require_keys(public, store, time.time())


# Tenants


async def test_no_tenant_gets_what_another_was_answered(serve: Serve, add_key: AddKey) -> None:
    acme, other = await add_key("acme"), await add_key("other")
    second = await add_key("acme")
    async with serve() as house:
        asked = [
            (acme, "What is Redis?", "miss"),
            (acme, "What is Redis?", "exact"),
            (second, "what is redis?", "semantic"),
            (other, "What is Redis?", "miss"),
            (other, "what is redis?", "semantic"),
        ]
        for key, prompt, expected in asked:
            answer = await house.chat(prompt, headers=bearer(key))
            assert answer.headers["x-llmhost-cache"] == expected
        assert (await house.chat("What is Redis?")).headers["x-llmhost-cache"] == "miss"


async def test_two_tenants_that_ask_the_same_at_once_each_have_their_own_answer(
    serve: Serve, add_key: AddKey
) -> None:
    keys = [await add_key("acme"), await add_key("other")]
    async with serve() as house:
        await asyncio.gather(*(house.chat(headers=bearer(key)) for key in keys for _ in range(3)))
        assert len(house.engine.requests) == 2


async def test_users_of_a_tenant_are_apart_where_a_header_names_them(serve: Serve, add_key: AddKey) -> None:
    acme, other = await add_key("acme"), await add_key("other")
    async with serve(gateway={"user_header": "X-OpenWebUI-User-Id"}) as house:

        async def ask(key: str | None, user: str | None) -> str:
            headers = (bearer(key) if key else {}) | ({"x-openwebui-user-id": user} if user else {})
            return (await house.chat(headers=headers)).headers["x-llmhost-cache"]

        callers = [(acme, "ann"), (acme, "bob"), (acme, None), (other, "ann"), (None, "ann"), (None, None)]
        assert [await ask(*caller) for caller in callers] == ["miss"] * 6
        assert [await ask(*caller) for caller in callers] == ["exact"] * 6
        assert (await house.chat(headers={"x-openwebui-user-id": "x" * 201})).status_code == 400


async def test_a_header_that_is_not_configured_names_no_user(house: House) -> None:
    await house.chat()
    assert (await house.chat(headers={"x-openwebui-user-id": "ann"})).headers["x-llmhost-cache"] == "exact"


# Models


async def test_a_key_sees_and_asks_its_models_alone(serve: Serve, add_key: AddKey) -> None:
    aliases = {"gpt-4o": "tiny", "gpt-4o-mini": "tiny"}
    key = await add_key(models=("gpt-4o",))
    async with (
        serve(gateway=ALWAYS | {"aliases": aliases}) as house,
        openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key=key) as client,
    ):
        assert [model.id async for model in client.models.list()] == ["gpt-4o"]
        tags = (await house.http.get("/api/tags", headers=bearer(key))).json()
        assert [model["name"] for model in tags["models"]] == ["gpt-4o:latest"]
        assert (await house.chat(model="gpt-4o", headers=bearer(key))).status_code == 200
        for hidden in ("tiny", "gpt-4o-mini"):
            refused = await house.chat(model=hidden, headers=bearer(key))
            assert (refused.status_code, refused.json()["error"]["message"]) == (
                404,
                f"the model {hidden!r} does not exist here; served are: gpt-4o",
            )
            shown = await house.http.post("/api/show", json={"model": hidden}, headers=bearer(key))
            assert shown.status_code == 404
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="all-minilm", input="Hi")


async def test_a_key_for_embeddings_alone_asks_no_model(serve: Serve, add_key: AddKey) -> None:
    key = await add_key(models=("all-minilm",))
    async with serve(gateway=ALWAYS) as house:
        body = {"model": "all-MiniLM-L6-v2", "input": "Hi"}
        assert (await house.http.post("/v1/embeddings", json=body, headers=bearer(key))).status_code == 200
        assert (await house.chat(headers=bearer(key))).status_code == 404
        listed = (await house.http.get("/v1/models", headers=bearer(key))).json()["data"]
    assert [model["id"] for model in listed] == ["all-minilm"]


# Limits


async def test_requests_a_minute_hold_over_two_gateways(serve: Serve, add_key: AddKey) -> None:
    key = await add_key(requests_per_minute=5)
    async with serve(gateway=ALWAYS) as one, serve(gateway=ALWAYS) as two:
        answers = await asyncio.gather(
            *(house.chat(headers=bearer(key)) for house in (one, two) for _ in range(6))
        )
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 7
        refused = await one.chat(headers=bearer(key))
        assert "5 requests a minute" in refused.json()["error"]["message"]
        assert 50 <= int(refused.headers["retry-after"]) <= 61
        assert (await one.http.get("/v1/models", headers=bearer(key))).status_code == 200


async def test_a_limit_is_an_error_of_each_client_s_own(serve: Serve, add_key: AddKey) -> None:
    key = await add_key(requests_per_minute=1)
    messages: Any = [{"role": "user", "content": "Hi"}]
    async with (
        serve(gateway=ALWAYS) as house,
        openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as of_openai,
        anthropic.AsyncAnthropic(base_url=house.url, api_key=key, max_retries=0) as of_anthropic,
        ollama.AsyncClient(house.url, headers=bearer(key)) as of_ollama,
    ):
        await of_openai.chat.completions.create(model="tiny", messages=messages)
        with pytest.raises(openai.RateLimitError):
            await of_openai.embeddings.create(model="all-minilm", input="Hi")
        with pytest.raises(anthropic.RateLimitError):
            await of_anthropic.messages.create(model="tiny", max_tokens=9, messages=messages)
        with pytest.raises(ollama.ResponseError, match="1 request a minute"):
            await of_ollama.chat("tiny", messages)


async def test_tokens_of_answers_hits_and_embeddings_are_counted(
    serve: Serve, add_key: AddKey, redis_client: Redis
) -> None:
    key = await add_key()
    async with serve(gateway=ALWAYS) as house:
        answers = [await house.chat(headers=bearer(key)) for _ in range(2)]
        body = {"model": "all-minilm", "input": "Hi"}
        answers.append(await house.http.post("/v1/embeddings", json=body, headers=bearer(key)))
    use = await until_used(redis_client, key, 3)
    assert use.tokens == sum(answer.json()["usage"]["total_tokens"] for answer in answers)


async def test_a_day_s_tokens_end_on_every_gateway(
    serve: Serve, add_key: AddKey, redis_client: Redis
) -> None:
    key = await add_key(tokens_per_day=1)
    async with serve(gateway=ALWAYS) as one, serve(gateway=ALWAYS) as two:
        assert (await one.chat(headers=bearer(key))).status_code == 200
        await until_used(redis_client, key, 1)
        refused = await two.chat(headers=bearer(key))
    assert (refused.status_code, "1 token a day" in refused.text) == (429, True)
    assert 0 < int(refused.headers["retry-after"]) <= 86_400


async def test_what_an_engine_embeds_is_charged(serve: Serve, add_key: AddKey, redis_client: Redis) -> None:
    key = await add_key(tokens_per_day=3)
    body = {"model": "tiny", "input": "one two three"}
    async with serve() as house:
        house.engine.embeds = True
        assert (await house.http.post("/v1/embeddings", json=body, headers=bearer(key))).status_code == 200
        assert (await until_used(redis_client, key, 1)).tokens == 3
        refused = await house.http.post("/v1/embeddings", json=body, headers=bearer(key))
    assert (refused.status_code, "3 tokens a day" in refused.text) == (429, True)


async def test_a_hit_costs_no_dollars(serve: Serve, add_key: AddKey, redis_client: Redis) -> None:
    key = await add_key(usd_per_day=1000.0)
    async with serve() as house:
        fleet = {
            "provider": "static",
            "workers": [{"url": house.engine.url}],
            "price_per_hour": 360.0,
            "name": "dear",
        }
        async with serve(fleet=fleet) as dear:
            await dear.chat(headers=bearer(key))
            asked = (await until_used(redis_client, key, 1)).usd
            await dear.chat(headers=bearer(key))
    assert asked > 0
    assert (await until_used(redis_client, key, 2)).usd == asked


async def test_an_answer_that_its_client_leaves_is_charged_as_far_as_it_came(
    serve: Serve, add_key: AddKey, redis_client: Redis
) -> None:
    key = await add_key()
    async with serve() as house:
        house.engine.fail(Fault.HANGS, after=2)
        body: Any = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "x" * 400}]}
        async with house.http.stream(
            "POST", "/v1/chat/completions", json=body, headers=bearer(key)
        ) as answer:
            async for line in answer.aiter_lines():
                if '"content":"' in line and '"content":""' not in line:
                    break
        assert (await until_used(redis_client, key, 1)).tokens >= 101


async def test_a_bad_body_counts_as_a_request(serve: Serve, add_key: AddKey) -> None:
    key = await add_key(requests_per_minute=1)
    async with serve() as house:
        statuses = [
            (await house.http.post("/v1/chat/completions", content=b"{", headers=bearer(key))).status_code
            for _ in range(2)
        ]
    assert statuses == [400, 429]


@pytest.mark.parametrize("limits", [{"tokens_per_day": 2000}, {"usd_per_day": 0.01}])
async def test_many_requests_at_once_do_not_pass_a_limit_of_a_day_together(
    serve: Serve, add_key: AddKey, limits: dict[str, Any]
) -> None:
    key = bearer(await add_key(**limits))
    async with HeldServer() as engine:
        engine.open.set()
        worker = {"provider": "static", "workers": [{"url": engine.url}], "price_per_hour": 0.3}
        sections = {"fleet": worker, "gateway": ALWAYS, "cache": {"enabled": False}}
        sections["engine"] = {"kind": "openai", "model": "tiny", "slots": 1}
        async with serve(**sections) as one, serve(**sections) as other:
            engine.open.clear()
            asked = [
                asyncio.create_task((one, other)[number % 2].chat(f"Hi {number}", key, max_tokens=1000))
                for number in range(20)
            ]
            await until(lambda: sum(task.done() for task in asked) >= 18)
            engine.open.set()
            answers = await asyncio.gather(*asked)

            async def is_answered() -> bool:
                return (await one.chat("Hi again", key, max_tokens=1000)).status_code == 200

            await until(is_answered)  # once it is booked what the others used
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 18
    assert "requests under way" in refused[0].json()["error"]["message"]
    assert int(refused[0].headers["retry-after"]) < 60


@asynccontextmanager
async def one_under_way(
    serve: Serve, key: dict[str, str], **sections: Any
) -> AsyncIterator[tuple[House, HeldServer]]:
    """A gateway that has answered "What is Redis?", and while a worker answers a question for which as many
    tokens are wanted as agents want."""
    async with HeldServer() as engine:
        engine.open.set()
        worker = {"provider": "static", "workers": [{"url": engine.url}]}
        slots = {"kind": "openai", "model": "tiny", "slots": 2}
        async with serve(fleet=worker, engine=slots, gateway=ALWAYS, **sections) as house:
            await house.chat("What is Redis?", key)
            engine.open.clear()
            asked = asyncio.create_task(house.chat("What is a queue?", key, max_tokens=128_000))
            await until(lambda: engine.under_way == 1)
            yield house, engine
            engine.open.set()
            assert (await asked).status_code == 200


async def test_a_hit_is_served_while_requests_under_way_hold_what_is_left_of_a_limit(
    serve: Serve, add_key: AddKey
) -> None:
    key = bearer(await add_key(tokens_per_day=100_000))
    async with one_under_way(serve, key) as (house, _):
        hit = await house.chat("What is Redis?", key)
        miss = await house.chat("What is a stack?", key)
    assert (hit.status_code, hit.headers.get("x-llmhost-cache")) == (200, "exact")
    assert (miss.status_code, "requests under way" in miss.text) == (429, True)


async def test_what_a_request_held_is_free_for_the_next_one_as_soon_as_it_has_ended(
    serve: Serve, add_key: AddKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmhost.gateway.access._TOGETHER", 3600)  # what has ended is not booked yet
    key = bearer(await add_key(tokens_per_day=1000))
    async with serve(gateway=ALWAYS) as house:
        answers = [await house.chat(f"Hi {number}", key, max_tokens=600) for number in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4


async def test_no_more_is_held_than_an_answer_can_be_long(serve: Serve, add_key: AddKey) -> None:
    key = bearer(await add_key(tokens_per_day=5000))
    async with one_under_way(serve, key, limits={"max_answer_chars": 8000}) as (house, engine):
        asked = asyncio.create_task(house.chat("What is a stack?", key))
        await until(lambda: engine.under_way == 2 or asked.done())
        engine.open.set()
        assert (await asked).status_code == 200


async def test_what_is_held_lasts_as_long_as_a_request_can_take(
    serve: Serve, add_key: AddKey, redis_client: Redis
) -> None:
    text = await add_key(tokens_per_day=300_000)
    limits, waiting = {"max_attempts": 2}, {"queue_timeout": 500}
    async with HeldServer() as engine:
        sections = {
            "fleet": {"provider": "static", "workers": [{"url": engine.url}]},
            "engine": {"kind": "openai", "model": "tiny", "answer_timeout": 1000, "connect_timeout": 5},
            "gateway": ALWAYS | waiting,
            "limits": limits,
        }
        engine.open.set()
        async with serve(**sections) as house:
            engine.open.clear()
            asked = asyncio.create_task(house.chat(headers=bearer(text)))
            await until(lambda: engine.under_way == 1)
            presented = key_in([text])
            fields: Any = await redis_client.hgetall(GatewayKeys.key(presented.id))
            engine.open.set()
            await asked
    (held,) = (value for name, value in fields.items() if name.startswith(b"hold:"))
    began, expires, *_ = map(float, held.split())
    assert expires - began == 2 * (500 + 5 + 1000)


async def test_hits_at_once_do_not_pass_a_limit_of_a_day_together(
    serve: Serve, add_key: AddKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmhost.gateway.access._TOGETHER", 3600)  # what is used is not booked yet
    async with serve(gateway=ALWAYS) as house:
        first = await house.chat(headers=bearer(await add_key()))
        tokens = first.json()["usage"]["total_tokens"]
        key = bearer(await add_key(tokens_per_day=3 * tokens))
        answers = await asyncio.gather(*(house.chat(headers=key) for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 3, 429: 17}


@pytest.fixture
async def slow_access(redis_port_server: PortServer) -> AsyncIterator[SlowAccess]:
    """Limits behind a Redis whose answers can be kept back."""
    redis = redis_port_server()
    async with redis_relay(redis.port) as relay:
        clients = [
            connect(RedisConfig(host="127.0.0.1", port=port, timeout=timeout))
            for port, timeout in ((redis.port, 5.0), (relay.port, 0.3))
        ]
        _, made = make_key()
        key = ApiKey(made.id, "acme", Limits(tokens_per_day=1000), time.time(), made.digest)
        await KeyStore(clients[0]).add(key)
        access = Access(GatewayConfig(), KeyStore(clients[1]), WarnOnce(lambda _: None))
        slow = SlowAccess(access, key, relay.answers, clients[0])
        async with access.holding(key, Use(0, 1), 900.0):  # it is connected, and Redis knows the scripts
            pass
        await until(slow.is_free)
        relay.answers.clear()
        yield slow
        relay.answers.set()
        await access.aclose()
        for client in clients:
            await client.aclose()


@dataclass(frozen=True, slots=True)
class SlowAccess:
    access: Access
    key: ApiKey
    answers: asyncio.Event
    redis: Redis

    async def held(self) -> int:
        """Tokens, as Redis knows it."""
        fields: Any = await self.redis.hgetall(GatewayKeys.key(self.key.id))
        return sum(int(value.split()[-2]) for name, value in fields.items() if name.startswith(b"hold:"))

    async def is_free(self) -> bool:
        return not await self.held()

    async def hold(self) -> None:
        async with self.access.holding(self.key, Use(0, 900), 900.0):
            await asyncio.Event().wait()


async def test_what_is_held_is_free_again_where_its_client_leaves_before_redis_has_answered(
    slow_access: SlowAccess,
) -> None:
    asking = asyncio.create_task(slow_access.hold())
    await until(slow_access.held)
    asking.cancel()
    await asyncio.wait([asking])
    slow_access.answers.set()
    await until(slow_access.is_free)


async def test_what_is_held_is_free_again_where_redis_answers_too_late(slow_access: SlowAccess) -> None:
    async with slow_access.access.holding(slow_access.key, Use(0, 900), 900.0):
        slow_access.answers.set()
    await until(slow_access.is_free)


# What errors tell


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "more"), [("/v1/chat/completions", {}), ("/v1/messages", {"max_tokens": 9}), ("/api/chat", {})]
)
async def test_an_error_tells_the_operator_which_worker_failed_and_a_tenant_only_that_one_did(
    serve: Serve, add_key: AddKey, caplog: pytest.LogCaptureFixture, path: str, more: Any, stream: bool
) -> None:
    keys, told = [await add_key(), await add_key(operator=True)], []
    async with serve(cache={"enabled": False}, limits={"max_attempts": 1}) as house:
        address = house.engine.url.removesuffix("/v1")
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": stream, **more}
        house.engine.fail(Fault.CLOSES, after=1 if stream else None)
        for headers in (*map(bearer, keys), {}):
            told.append((await house.http.post(path, json=body, headers=headers)).text)
    assert [address in text for text in told] == [False, True, True]
    assert "worker" in told[0]
    assert address in caplog.text


async def test_what_an_engine_says_of_a_request_is_for_the_operator(
    serve: Serve, add_key: AddKey, caplog: pytest.LogCaptureFixture
) -> None:
    keys, told = [await add_key(), await add_key(operator=True)], []
    async with serve() as house:
        house.engine.model = "another"
        for headers in (*map(bearer, keys), {}):
            told.append(await house.chat(headers=headers))
    assert [answer.status_code for answer in told] == [400] * 3
    messages = [answer.json()["error"]["message"] for answer in told]
    assert messages[0] == "the engine refuses this request"
    assert all("`llmhost up`" in message for message in messages[1:])
    assert messages[1] in caplog.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/responses", {"input": "Hi"}),
        ("/v1/messages", {"max_tokens": 9}),
        ("/api/chat", {}),
    ],
)
async def test_a_tenant_is_told_that_the_prompt_is_longer_than_the_context(
    serve: Serve, add_key: AddKey, path: str, more: Any, stream: bool
) -> None:
    said = b'{"error": "gpu-7: request (9000 tokens) exceeds the available context size (4096 tokens)"}'
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": stream, **more}
    async with serve() as house:
        house.engine.refuse(400, said)
        answer = await house.http.post(path, json=body, headers=bearer(await add_key()))
    assert answer.status_code == 400
    assert "prompt is too long: 9000 tokens > 4096 maximum" in answer.text
    assert "gpu-7" not in answer.text
    error = answer.json()["error"]
    if path.startswith("/v1/") and path != "/v1/messages":
        assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")


async def test_a_prompt_over_the_gateways_own_limit_has_the_code_of_one_longer_than_the_context(
    serve: Serve,
) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi " * 20_000}]}
    async with serve() as house:
        answer = await house.http.post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["message"].startswith("the prompt is too long: 60,000 characters; the limit is 32,000")


@pytest.mark.parametrize("said", ["x does not support tools", "image input is not supported"])
async def test_a_tenant_is_told_what_the_model_does_not_support(
    serve: Serve, add_key: AddKey, said: str
) -> None:
    async with serve() as house:
        house.engine.refuse(400, f'{{"error": {{"message": "gpu-7: {said}"}}}}'.encode())
        answer = await house.chat(headers=bearer(await add_key()))
    told = answer.json()["error"]["message"]
    assert told in ("this model does not support tools", "this model does not support images")


async def test_a_tenant_is_told_which_field_the_engine_does_not_have(serve: Serve, add_key: AddKey) -> None:
    async with OllamaServer() as worker:
        fleet: Any = {"provider": "static", "workers": [{"url": worker.url}]}
        async with serve(fleet=fleet, engine={"kind": "ollama", "model": "tiny"}) as house:
            answer = await house.chat(headers=bearer(await add_key()), logit_bias={"1": 5})
    assert answer.json()["error"]["message"] == "the engine does not support `logit_bias`"


async def test_only_the_operator_is_told_which_worker_answered(serve: Serve, add_key: AddKey) -> None:
    """The name of one without a name is made of its address, so that a tenant could try addresses."""
    async with serve() as house:
        told = [
            "x-llmhost-worker" in (await house.chat(f"Hi {number}", headers=headers)).headers
            for number, headers in enumerate(
                (bearer(await add_key()), bearer(await add_key(operator=True)), {})
            )
        ]
    assert told == [False, True, True]


async def test_only_the_operator_is_told_why_no_worker_is_started(serve: Serve, add_key: AddKey) -> None:
    async with serve(workers=0, gateway={"user_header": "x-user"}) as house:
        told = [
            (await house.chat(headers=headers)).json()["error"]["message"]
            for headers in (bearer(await add_key()), {"x-user": "ann"}, {})
        ]
    assert told[:2] == ["no worker is ready to answer"] * 2
    assert "llmhost up" in told[2]


# Redis is away


async def test_where_redis_is_away_a_key_that_was_seen_is_believed_and_another_is_not(
    serve: Serve, redis_port_server: PortServer
) -> None:
    redis = redis_port_server()
    client = connect(RedisConfig(host="127.0.0.1", port=redis.port))
    keys = []
    for _ in range(2):
        text, made = make_key()
        keys.append(text)
        limits = Limits(requests_per_minute=3)
        await KeyStore(client).add(ApiKey(made.id, "acme", limits, time.time(), made.digest))
    await client.aclose()
    url = f"redis://127.0.0.1:{redis.port}"
    async with serve(gateway=ALWAYS, redis={"url": url}) as house:
        assert (await house.chat(headers=bearer(keys[0]))).status_code == 200
        redis.kill()
        statuses = [(await house.chat(headers=bearer(keys[0]))).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        unknown = await house.chat(headers=bearer(keys[1]))
        assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "5")
        assert str(redis.port) not in unknown.text
        wrong = keys[0][:-1] + ("0" if keys[0][-1] != "0" else "1")
        assert (await house.chat(headers=bearer(wrong))).status_code == 503


async def test_where_redis_is_away_requests_at_once_do_not_pass_a_limit_of_a_day_together(
    serve: Serve, redis_port_server: PortServer
) -> None:
    redis, (text, made) = redis_port_server(), make_key()
    client = connect(RedisConfig(host="127.0.0.1", port=redis.port))
    await KeyStore(client).add(ApiKey(made.id, "acme", Limits(tokens_per_day=1500), time.time(), made.digest))
    await client.aclose()
    async with HeldServer() as engine:
        engine.open.set()
        worker = {"provider": "static", "workers": [{"url": engine.url}]}
        url, slots = f"redis://127.0.0.1:{redis.port}", {"kind": "openai", "model": "tiny", "slots": 20}
        async with serve(fleet=worker, engine=slots, gateway=ALWAYS, redis={"url": url}) as house:
            assert (await house.chat(headers=bearer(text), max_tokens=9)).status_code == 200
            redis.kill()
            engine.open.clear()
            asked = [
                asyncio.create_task(house.chat(f"Hi {number}", bearer(text), max_tokens=1000))
                for number in range(10)
            ]
            await until(lambda: sum(task.done() for task in asked) >= 8)
            engine.open.set()
            statuses = Counter([(await task).status_code for task in asked])
    assert statuses == {200: 2, 429: 8}


def last_known(asked: int = 0, today: Use | None = None, **limits: Any) -> LastKnown:
    key = ApiKey("0a1b2c3d4e5f", "acme", Limits(**limits), 0.0, "digest")
    return LastKnown(key, at=100.0, asked=asked, day=1, today=today or Use())


def test_without_redis_requests_count_beside_those_that_it_counted_last() -> None:
    known = last_known(asked=2, requests_per_minute=3)
    seen = [known.reached(at, 86_500.0, Use()) for at in (100.0, 110.0, 159.0, 160.0, 161.0, 162.0)]
    limit = "requests_per_minute"
    assert seen == [None, (limit, 51), (limit, 2), None, None, None]
    assert known.reached(163.0, 86_500.0, Use()) == (limit, 58)


def test_without_redis_requests_with_a_key_that_has_no_limit_of_them_are_not_remembered() -> None:
    known = last_known(tokens_per_day=10)
    assert known.reached(100.0, 86_500.0, Use()) is None
    assert known.since == []


@pytest.mark.parametrize("limit", [{"tokens_per_day": 10}, {"usd_per_day": 1.0}])
def test_without_redis_a_day_s_use_is_what_redis_knew_and_what_is_not_booked(limit: dict[str, Any]) -> None:
    known, pending = last_known(today=Use(1, 6, 0.6), **limit), Use(1, 4, 0.4)
    (name,) = limit
    assert known.reached(100.0, 86_500.0, Use()) is None
    assert known.reached(100.0, 2 * 86_400 - 10.0, pending) == (name, 10)
    assert known.reached(100.0, 2 * 86_400.0, pending) is None


async def test_use_is_booked_when_redis_is_back(redis_client: Redis, add_key: AddKey) -> None:
    key, store = await add_key(), KeyStore(redis_client)
    book, failures = store.book, [StoreUnavailable("away")] * 2
    warnings: list[str] = []

    async def flaky(bookings: Any) -> Any:
        if failures:
            raise failures.pop()
        return await book(bookings)

    store.book = flaky  # type: ignore[method-assign]
    books = Bookkeeper(store, WarnOnce(warnings.append), pause=0.001)
    presented = key_in([key])
    books.used(presented.id, Use(1, 5, 0.1))
    books.used(presented.id, Use(1, 6, 0.2))
    use = await until_used(redis_client, key, 2)
    assert (use.requests, use.tokens, use.usd) == (2, 11, pytest.approx(0.3))
    assert (books.pending(presented.id), len(warnings)) == (Use(), 1)
    await books.aclose()


async def test_what_is_to_be_settled_at_once_while_redis_is_away_is_booked_later(
    redis_client: Redis, add_key: AddKey
) -> None:
    key, store = await add_key(), KeyStore(redis_client)
    book, failures = store.book, [StoreUnavailable("away")]

    async def flaky(bookings: Any) -> Any:
        if failures:
            raise failures.pop()
        return await book(bookings)

    store.book = flaky  # type: ignore[method-assign]
    books = Bookkeeper(store, WarnOnce(lambda _: None), pause=0.001)
    presented = key_in([key])
    books.used(presented.id, Use(1, 5))
    assert await books.settle(presented.id)
    assert (await until_used(redis_client, key, 1)).tokens == 5
    assert not await books.settle(presented.id)
    await books.aclose()


async def test_use_that_redis_refuses_is_kept_and_no_other_is_booked_twice(
    redis_client: Redis, add_key: AddKey
) -> None:
    damaged, sound = [key_in([await add_key()]) for _ in range(2)]
    await redis_client.hset(
        GatewayKeys.key(damaged.id), mapping={"day": int(time.time() // 86400), "tokens": "many"}
    )
    books = Bookkeeper(KeyStore(redis_client), WarnOnce(lambda _: None), pause=0.001)
    for key in (damaged, sound):
        books.used(key.id, Use(1, 5))

    async def is_booked() -> bool:
        return await redis_client.hget(GatewayKeys.key(sound.id), "tokens") == b"5"

    await until(is_booked)
    await books.aclose()
    assert (books.pending(damaged.id).tokens, await is_booked()) == (5, True)


async def test_a_gateway_that_stops_books_what_is_left(
    serve: Serve, add_key: AddKey, redis_client: Redis
) -> None:
    key = await add_key()
    async with serve() as house:
        await house.chat(headers=bearer(key))
    assert (await today(redis_client, key)).requests == 1


async def test_without_a_key_redis_is_not_asked_for_one(house: House, redis_client: Redis) -> None:
    async def commands() -> int:
        return int((await redis_client.info("stats"))["total_commands_processed"])

    async def asked_nothing() -> bool:
        before = await commands()
        await house.http.get("/v1/models", headers=bearer("none"))
        return await commands() == before + 1  # the count itself

    await until(asked_nothing)  # what the gateway does in the background may come between
