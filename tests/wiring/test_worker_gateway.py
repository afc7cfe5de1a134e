"""The gateway of a rented worker: what it is sent, and what it does with the rights of docs/worker.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import yaml
from doubles.chat_server import Fault
from doubles.ollama_server import OllamaServer
from plugins.redis_servers import PortServer, RedisServer
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

from llmhost import cache
from llmhost.answering.answerer import Answerer
from llmhost.answering.question import Event, Reply, Started, Text, make_question
from llmhost.cache.indexes.vector_set import VectorSetIndex
from llmhost.config.gateway import GatewayConfig
from llmhost.config.load import load_config
from llmhost.config.models import Config, RedisConfig
from llmhost.doctor.checks import Check
from llmhost.doctor.gather import check_worker_user, probes
from llmhost.engines.engine import Message
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys, GatewayKeys, NamespaceKeys
from llmhost.wiring import Wiring
from llmhost.wiring.worker_gateway import worker_gateway

FLEET = "shared"
KEYS, CACHE = FleetKeys(FLEET), NamespaceKeys("cache")
USER, PASSWORD = "llmhost-worker", "its-own-password"
DOCS = Path(__file__).parents[2] / "docs" / "worker.md"

QUESTION = "What is the capital of France?"
REWORDED = "Which city is the capital of France?"

VARIABLES = {"LLMHOST_ENGINE_URL": "http://127.0.0.1:1", "LLMHOST_WORKER": "vast-7", "LLMHOST_PRICE": "0.4"}


@dataclass(frozen=True, slots=True)
class Asker:
    """The path of a question with one configuration."""

    config: Config
    answerer: Answerer

    def events(self, text: str) -> AsyncGenerator[Event]:
        return self.answerer.answer(make_question(self.config, [Message("user", text)]))

    async def __call__(self, text: str) -> Reply:
        *_, reply = [event async for event in self.events(text)]
        assert isinstance(reply, Reply)
        return reply


#: the servers on which a key can be granted for reading alone, and how many lines of the page they know
SERVERS = {"system": 1, "redis-8.2": 2}


def granted(lines: int) -> list[list[str]]:
    """So many of the lines of docs/worker.md, for this fleet."""
    found = re.findall(r"^ACL SETUSER .*", DOCS.read_text(), re.MULTILINE)
    assert len(found) == max(SERVERS.values())
    text = [line.replace(">SECRET", f">{PASSWORD}").replace("FLEET", FLEET) for line in found[:lines]]
    return [shlex.split(line) for line in text]


def rented(**sections: Any) -> Config:
    values: dict[str, Any] = {
        "fleet": {"name": FLEET, "provider": "vast", "gateway_on_worker": True},
        "engine": {"kind": "ollama", "model": "tiny"},
        "redis": {
            "url": "rediss://operator:operators-password@10.0.0.5",
            "worker_url": f"rediss://{USER}:{PASSWORD}@redis.example.com:6380/0",
        },
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    return Config.model_validate(values)


def sent(config: Config) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(worker_gateway(config).files()["llmhost.yaml"])
    return read


def chats(engine: OllamaServer) -> int:
    """How many questions it was asked."""
    return sum(request.path == "/api/chat" for request in engine.requests)


@pytest.fixture
async def engine() -> AsyncIterator[OllamaServer]:
    async with OllamaServer() as server:
        yield server


@pytest.fixture(params=SERVERS)
def server(redis_port_server: PortServer, request: pytest.FixtureRequest) -> RedisServer:
    """It knows the user of workers."""
    server = redis_port_server(name=request.param)
    with redis.Redis(port=server.port) as admin:
        if int(admin.info()["redis_version"].split(".")[0]) < 7:
            pytest.skip("rights to read a key alone came with Redis 7")
        for line in granted(SERVERS[request.param]):
            admin.execute_command(*line)
    return server


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port, decode_responses=True) as client:
        yield client


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
async def operator(engine: OllamaServer, server: RedisServer, warnings: list[str]) -> AsyncIterator[Asker]:
    """Asks where the operator is, who may do all; the fleet has a worker."""
    config = Config.model_validate(
        {
            "fleet": {"name": FLEET, "provider": "static", "workers": [{"url": engine.url}]},
            "engine": {"kind": "ollama", "model": "tiny"},
            "redis": {"host": "127.0.0.1", "port": server.port},
        }
    )
    async with answering(config, warnings, up=True) as asker:
        engine.requests.clear()
        yield asker


@pytest.fixture
async def worker(
    operator: Asker, engine: OllamaServer, server: RedisServer, warnings: list[str], tmp_path: Path
) -> AsyncIterator[Asker]:
    """Asks the gateway of a worker."""
    config = at_worker(rented(), engine.url, server.port, tmp_path / "llmhost.yaml")
    async with answering(config, warnings) as asker:
        yield asker


def at_worker(config: Config, engine: str, redis_port: int, file: Path) -> Config:
    """What a worker is sent, as it reads that, but for the address of Redis."""
    text = worker_gateway(config).files()["llmhost.yaml"].replace("rediss://", "redis://")
    file.write_text(text.replace("redis.example.com:6380", f"127.0.0.1:{redis_port}"))
    return load_config(file, environ=VARIABLES | {"LLMHOST_ENGINE_URL": engine}).config


@asynccontextmanager
async def answering(config: Config, warnings: list[str], *, up: bool = False) -> AsyncIterator[Asker]:
    async with Wiring(config, warn=warnings.append, note=lambda _: None) as wiring:
        if up:
            await (await wiring.fleet()).up(1)
        answerer = (await wiring.served_fleet()).answerer

        yield Asker(config, answerer)


async def test_with_these_rights_it_answers_stores_and_finds_by_meaning(
    worker: Asker, engine: OllamaServer, warnings: list[str]
) -> None:
    replies = [await worker(text) for text in (QUESTION, QUESTION, REWORDED)]
    assert [reply.source for reply in replies] == ["engine", "exact", "semantic"]
    assert chats(engine) == 1
    assert warnings == []


async def test_it_finds_what_the_operator_asked_and_the_operator_what_it_asked(
    worker: Asker, operator: Asker, engine: OllamaServer, warnings: list[str]
) -> None:
    await operator(QUESTION)
    assert (await worker(QUESTION)).source == "exact"
    assert (await worker("What is Redis?")).source == "engine"
    assert (await operator("What is Redis?")).source == "exact"
    assert chats(engine) == 2
    assert warnings == []


async def test_what_it_stores_bears_the_workers_name_and_cost(worker: Asker, admin: redis.Redis) -> None:
    reply = await worker(QUESTION)
    assert (reply.worker, reply.answer.worker) == ("vast-7", "vast-7")
    assert reply.answer.cost_usd > 0
    assert admin.exists(CACHE.response(reply.entry or ""))


@pytest.mark.parametrize("leads", ["operator", "worker"])
async def test_one_of_both_asks_the_engine_and_the_other_reads_along(
    leads: str, worker: Asker, operator: Asker, engine: OllamaServer, warnings: list[str]
) -> None:
    first, second = (operator, worker) if leads == "operator" else (worker, operator)
    engine.fail(Fault.HANGS, after=2)
    async with aclosing(first.events(QUESTION)) as leading, aclosing(second.events(QUESTION)) as following:
        for events in (leading, following):
            assert isinstance(await anext(events), Started)
            assert await anext(events) == Text("Hello")
        assert chats(engine) == 1
    assert warnings == []


@pytest.mark.parametrize("recorded", [None, "another"], ids=["nothing", "others"])
async def test_whatever_weights_are_on_record_it_finds_again_what_its_engine_answered(
    recorded: str | None, worker: Asker, admin: redis.Redis, warnings: list[str]
) -> None:
    admin.delete(KEYS.weights)
    if recorded is not None:
        admin.hset(KEYS.weights, "tiny", recorded)
    assert [(await worker(QUESTION)).source for _ in range(2)] == ["engine", "exact"]
    assert admin.hget(KEYS.weights, "tiny") == recorded
    assert warnings == []


async def test_it_keeps_the_limits_of_the_cache(
    engine: OllamaServer, server: RedisServer, admin: redis.Redis, warnings: list[str], tmp_path: Path
) -> None:
    limited = rented(cache={"max_entries": 1})
    config = at_worker(limited, engine.url, server.port, tmp_path / "llmhost.yaml")
    async with answering(config, warnings) as worker:
        for text in (QUESTION, QUESTION, "What is Redis?"):
            await worker(text)
    assert len(list(admin.scan_iter("cache:response:*"))) == 1
    assert warnings == []


async def test_it_keeps_to_the_threshold_that_audits_have_raised(
    worker: Asker, admin: redis.Redis, warnings: list[str]
) -> None:
    await worker(QUESTION)
    admin.hset(KEYS.trust("verified"), "raised", 8)
    assert (await worker(REWORDED)).source == "engine"
    assert warnings == []


async def test_nothing_outside_the_cache_changes_by_what_it_is_asked(
    worker: Asker, server: RedisServer
) -> None:
    def others() -> dict[str, bytes | None]:
        with redis.Redis(port=server.port) as client:
            return {repr(name): client.dump(name) for name in sorted(client.keys("llmhost:*"))}

    before = others()
    for text in (QUESTION, QUESTION, REWORDED, "What is Redis?"):
        await worker(text)
    assert others() == before
    assert before


@pytest.mark.parametrize(
    "command",
    [
        ("SMEMBERS", KEYS.workers),
        ("HGETALL", KEYS.worker("vast-7")),
        ("HGETALL", KEYS.rentals),
        ("HGETALL", KEYS.ledger_sums("day", 0)),
        ("HGETALL", KEYS.scale),
        ("HGETALL", KEYS.traffic),
        ("HGETALL", GatewayKeys.key("3f9a1c2d4e5b")),
        ("GET", KEYS.audits("verified")),
        ("HSET", KEYS.trust("verified"), "raised", "0"),
        ("HSET", KEYS.weights, "tiny", "another"),
        ("DEL", KEYS.trust("verified")),
        ("HGETALL", FleetKeys("another").trust("verified")),
        ("SET", KEYS.draining, "1"),
        ("SCAN", "0"),
        ("KEYS", "*"),
        ("RANDOMKEY",),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
        ("ACL", "LIST"),
        ("PUBLISH", "llmhost:shared", "x"),
        ("EVAL", "return 1", "0"),
    ],
)
def test_everything_else_is_refused(server: RedisServer, command: tuple[str, ...]) -> None:
    with (
        redis.Redis(port=server.port, username=USER, password=PASSWORD) as client,
        pytest.raises(NoPermissionError),
    ):
        client.execute_command(*command)


def test_each_command_of_a_script_that_it_runs_is_granted() -> None:
    """The others are of labels, audits and `llmhost cache`."""
    others = {"audited", "label", "labels", "move_bar", "drop_orphans", "renew_entry", "switch_index"}
    scripts = [path for path in (Path(cache.__file__).parent / "lua").iterdir() if path.stem not in others]
    called = {name for path in scripts for name in re.findall(r"call\('(\w+)'", path.read_text())}
    assert {f"+{name.lower()}" for name in called} <= set(granted(1)[0])
    assert len(called) > 10


async def test_a_scope_grows_into_a_vector_set_with_these_rights(redis_port_server: PortServer) -> None:
    server = redis_port_server(name="redis-8.2")
    with redis.Redis(port=server.port) as owner:
        for line in granted(2):
            owner.execute_command(*line)
    login = RedisConfig(host="127.0.0.1", port=server.port, username=USER, password=SecretStr(PASSWORD))
    async with connect(login) as client:
        index = VectorSetIndex(client, CACHE, embedder="e", dimensions=3, lifetime=60.0, most_in_log=1)
        for number, vector in enumerate(np.eye(3, dtype=np.float32)):
            await index.prepare("s")
            await index.add("s", f"{number:032x}", vector)
        await index.prepare("s")
        (found,) = await index.search("s", np.eye(3, dtype=np.float32)[2], 1)
        assert found.entry == f"{2:032x}"
        assert await client.exists(CACHE.vectors("e", "s"))


def test_a_script_of_it_cannot_reach_further(server: RedisServer) -> None:
    """Whether the key is named or not."""
    with redis.Redis(port=server.port, username=USER, password=PASSWORD) as client:
        for number, keys in ((1, [KEYS.scale]), (0, [])):
            read = client.script_load(f"return redis.call('HGETALL', '{KEYS.scale}') -- {number}")
            with pytest.raises(redis.ResponseError, match=r"permissions|can.t access"):
                client.evalsha(read, number, *keys)


async def doctors(server: RedisServer, **login: Any) -> Sequence[Check]:
    """What `doctor` says of a user of workers."""
    there = {"host": "127.0.0.1", "port": server.port}
    user = {"username": USER, "password": PASSWORD} | login
    async with connect(RedisConfig(**there)) as client, connect(RedisConfig(**there, **user)) as worker:
        return await check_worker_user(client, worker, rented())


async def test_doctor_says_that_these_rights_are_right(server: RedisServer, admin: redis.Redis) -> None:
    assert [check.level for check in await doctors(server)] == ["ok"]
    assert list(admin.scan_iter()) == []


@pytest.mark.parametrize(
    ("right", "detail"),
    [
        ("~llmhost:*", "can use llmhost:shared:"),
        ("%R~llmhost:*", "can use llmhost:shared:"),
        ("~llmhost:shared:trust", "can use llmhost:shared:trust"),
        ("+scan", "can use SCAN"),
        ("resetchannels", "is refused PUBLISH, SUBSCRIBE"),
        ("-evalsha", "is refused scripts"),
    ],
)
async def test_doctor_names_a_right_too_many_or_too_few(
    server: RedisServer, admin: redis.Redis, right: str, detail: str
) -> None:
    admin.execute_command("ACL", "SETUSER", USER, right)
    (check,) = await doctors(server)
    assert (check.ok, detail in check.detail) == (False, True)


async def test_doctor_asks_no_more_of_a_user_who_reaches_the_cache_alone(
    engine: OllamaServer, server: RedisServer
) -> None:
    there = {"host": "127.0.0.1", "port": server.port, "username": USER, "password": PASSWORD}
    config = Config.model_validate(
        {
            "fleet": {"name": FLEET, "provider": "static", "workers": [{"url": engine.url}]},
            "engine": {"kind": "ollama", "model": "tiny"},
            "redis": {**there, "cache_only": True},
        }
    )
    async with Wiring(config, warn=lambda _: None, note=lambda _: None) as wiring:
        (probe,) = (probe for probe in probes(wiring, config) if probe.name == "redis")
        assert [(check.name, check.level) for check in await probe.run()] == [
            ("redis", "ok"),
            ("index", "ok"),
        ]


@pytest.mark.parametrize("server", ["redis-8.2"], indirect=True)
async def test_doctor_notices_another_index(server: RedisServer, admin: redis.Redis) -> None:
    admin.execute_command("ACL", "SETUSER", USER, "-vadd")
    (check,) = await doctors(server)
    assert (check.level, "may not use the index vector_set" in check.detail) == ("warn", True)


async def test_doctor_notices_another_database(server: RedisServer) -> None:
    (check,) = await doctors(server, db=1)
    assert (check.ok, "another database" in check.detail) == (False, True)


def test_the_operators_credentials_stay_at_home(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\n")
    files = worker_gateway(
        rented(
            fleet={"signing_key": "the key of the signatures"},
            vast={"api_key": "the key of the account"},
            redis={"password": "operators-other-password", "ca_file": str(authority)},
        )
    ).files()
    assert set(files) == {"llmhost.yaml", "redis-ca.pem"}
    text = "".join(files.values())
    for secret in ("operators-password", "operators-other", "signatures", "account", "10.0.0.5"):
        assert secret not in text
    assert PASSWORD in text


def test_what_shapes_an_answer_is_the_operators_and_no_text_is_a_variable(
    tmp_path: Path,
) -> None:
    config = rented(
        engine={"system": "Say ${HOME} 🙂\x85 $${x}", "temperature": 0.5, "slots": 3, "keep_alive": 60},
        cache={"namespace": "{other}", "tenant": "acme", "judge": True, "confidence": 0.9},
        limits={"max_prompt_chars": 777},
        gateway={"aliases": {"gpt": "tiny"}, "host": "10.0.0.7", "tls_certificate": "/x", "log": "/y"},
    )
    file = tmp_path / "sent.yaml"
    file.write_text(worker_gateway(config).files()["llmhost.yaml"])
    variables = {
        "LLMHOST_ENGINE_URL": "http://127.0.0.1:1",
        "LLMHOST_WORKER": "vast-7",
        "LLMHOST_PRICE": "0.4",
    }
    there = load_config(file, environ=variables).config
    unsent = {"keep_alive"}
    assert there.requests.model_dump(exclude=unsent) == config.requests.model_dump(exclude=unsent)
    assert there.cache == config.cache.model_copy(update={"judge": False})
    assert there.limits == config.limits
    assert there.gateway == GatewayConfig(aliases={"gpt": "tiny"})


def test_another_package_can_be_named() -> None:
    assert re.fullmatch(r"llmhost==\d+\.\d+\.\d+\S*", worker_gateway(rented()).package)
    assert worker_gateway(rented(fleet={"gateway_package": "/w.whl"})).package == "/w.whl"


def test_the_package_brings_the_verifier_that_is_configured() -> None:
    assert worker_gateway(rented(cache={"verifier": "large"})).package.startswith("llmhost[verifier]==")
