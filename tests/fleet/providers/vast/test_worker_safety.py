"""What a stranger, and somebody with the token, can and cannot do at a worker's front door."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio
from doubles.vast.containers import RealContainers, command_line
from doubles.vast.rented import KEY, Rented, pinned, question
from doubles.waiting import LONGEST, until

from llmhost.fleet.providers.vast.identity import make_identity

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALLOWED = (
    ("POST", "/api/chat"),
    ("POST", "/api/embed"),
    ("POST", "/api/generate"),
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("GET", "/api/version"),
    ("GET", "/llmhost/progress"),
    ("GET", "/llmhost/metrics"),
)
FORBIDDEN = (
    ("DELETE", "/api/delete"),
    ("POST", "/api/pull"),
    ("POST", "/api/create"),
    ("POST", "/api/push"),
    ("POST", "/api/copy"),
    ("POST", "/api/show"),
    ("POST", "/api/embeddings"),
    ("HEAD", "/api/blobs/sha256:00"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/"),
    ("GET", "/api"),
    ("GET", "/api/"),
    ("GET", "/llmhost"),
    ("GET", "/llmhost/"),
    ("GET", "/llmhost/key"),
    ("GET", "/llmhost/conf"),
    ("GET", "/llmhost/progress/"),
    ("GET", "/llmhost/progress.new"),
    ("GET", "/llmhost/..%2fllmhost/key"),
    ("GET", "/etc/..%2fllmhost%2fconf"),
    ("GET", "/etc/passwd"),
    ("GET", "/api/tags%0a"),
    ("GET", "/api/tags%20HTTP/1.1%0d%0aX:%20y"),
    ("POST", "/api/chat/../pull"),
    ("POST", "/api/chat/..%2fpull"),
    ("POST", "/api/chat%2f..%2fpull"),
    ("POST", "/API/CHAT"),
    ("GET", "/api/chat"),
    ("POST", "/api/tags"),
    ("HEAD", "/api/tags"),
    ("OPTIONS", "/api/chat"),
    ("PUT", "/llmhost/progress"),
    ("DELETE", "/llmhost/progress"),
    ("PATCH", "/api/version"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rented(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rented]:
    containers = RealContainers(tmp_path_factory.mktemp("containers"))
    async with Rented(containers) as worker:
        await worker.until_stage("ready")
        yield worker


@pytest.mark.parametrize(("method", "path"), [*ALLOWED, *FORBIDDEN])
async def test_a_stranger_gets_401_on_every_path(rented: Rented, method: str, path: str) -> None:
    wrong = make_identity(time.time()).token
    for token in (None, wrong, f"{rented.identity.token}x", rented.identity.token[:-1], "x" * 5000):
        async with rented.connect(token) as stranger:
            assert (await raw(stranger, method, path)).status_code == 401


@pytest.mark.parametrize(
    "header", ["Bearer", "", "bearer {token}", "Basic {token}", "{token}", "Bearer {token} x"]
)
async def test_a_token_that_is_not_said_as_agreed_is_none(rented: Rented, header: str) -> None:
    async with rented.connect(None) as stranger:
        said = {"Authorization": header.format(token=rented.identity.token)}
        assert (await stranger.get("/llmhost/progress", headers=said)).status_code == 401


@pytest.mark.parametrize(("method", "path"), FORBIDDEN)
async def test_what_is_not_on_the_list_is_forbidden_with_the_token_too(
    rented: Rented, method: str, path: str
) -> None:
    assert (await raw(rented.client, method, path)).status_code == 403


@pytest.mark.parametrize("path", ["/api/tags%00", "/llmhost/..%2f..%2fetc/passwd", "/%zz"])
async def test_a_path_that_makes_no_sense_is_refused_to_everybody(rented: Rented, path: str) -> None:
    async with rented.connect(None) as stranger:
        for client in (stranger, rented.client):
            assert (await raw(client, "GET", path)).status_code == 400


@pytest.mark.parametrize(("method", "path"), ALLOWED)
async def test_what_is_on_the_list_works(rented: Rented, method: str, path: str) -> None:
    body = {**question(), "prompt": "Hello?", "input": "Hello?"} if method == "POST" else None
    assert (await rented.client.request(method, path, json=body)).status_code == 200


async def test_a_path_that_only_looks_odd_reaches_the_engine_in_its_plain_form(rented: Rented) -> None:
    assert (await raw(rented.client, "GET", "/x/..//api/%74ags")).json()["models"]


async def test_the_engine_listens_on_loopback_alone(rented: Rented) -> None:
    (engine,) = rented.container.processes("ollama", "serve")
    listening = [c.laddr for c in engine.net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(place.ip, place.port) for place in listening] == [("127.0.0.1", rented.container.engine_port)]


async def test_nothing_but_the_front_door_can_be_reached_from_outside(rented: Rented) -> None:
    listening = {
        connection.laddr.port
        for process in rented.container.processes()
        for connection in connections_of(process)
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip != "127.0.0.1"
    }
    assert listening == {rented.container.ports[8443]}


async def test_a_body_over_the_limit_is_refused(rented: Rented) -> None:
    fits, over = question("x" * 60_000), question("x" * 70_000)
    assert (await rented.client.post("/api/chat", json=fits)).status_code == 200
    assert (await rented.client.post("/api/chat", json=over)).status_code == 413


async def test_a_client_that_trusts_another_certificate_does_not_connect(rented: Rented) -> None:
    async with rented.connect(trusting=make_identity(time.time())) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get("/llmhost/progress")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_old_tls_is_refused(rented: Rented) -> None:
    context = pinned(rented.identity)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        await tls_version(rented, context)


async def test_plain_http_is_refused(rented: Rented) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=LONGEST) as client:
        url = f"http://127.0.0.1:{rented.container.ports[8443]}/api/tags"
        response = await client.get(url, headers=dict(rented.client.headers))
    assert response.status_code == 400


async def test_a_stranger_is_turned_away_before_the_body_is_looked_at(rented: Rented) -> None:
    async with rented.connect(None) as stranger:
        response = await stranger.post("/api/chat", content=b"x" * 100_000)
    assert response.status_code == 401


async def test_the_front_door_does_not_tell_its_version(rented: Rented) -> None:
    for path in ("/llmhost/progress", "/"):
        response = await rented.client.get(path)
        assert response.headers["server"] == "nginx"
        assert "nginx/" not in response.text


async def test_the_engine_does_not_hear_the_token_and_the_key(rented: Rented) -> None:
    (engine,) = rented.container.processes("ollama", "serve")
    said = " ".join(engine.environ().values())
    assert [secret for secret in secrets_of(rented) if secret in said] == []


async def test_nginx_does_not_get_them_in_its_environment(rented: Rented) -> None:
    said = " ".join(rented.container.processes("nginx", "master")[0].environ().values())
    assert [secret for secret in secrets_of(rented) if secret in said] == []


async def test_who_parses_requests_is_not_root(rented: Rented) -> None:
    workers = rented.container.processes("nginx: worker")
    assert workers
    if psutil.Process().uids().real == 0:
        assert {worker.username() for worker in workers} == {"nobody"}


async def test_files_with_secrets_are_for_root_alone(rented: Rented) -> None:
    assert {
        name: oct((rented.container.files / name).stat().st_mode & 0o777) for name in ("key", "conf", "cert")
    } == dict.fromkeys(("key", "conf", "cert"), "0o600")


async def test_neither_secrets_nor_prompts_are_in_any_file_that_is_not_meant_for_them(rented: Rented) -> None:
    prompt = "correct horse battery staple"
    await rented.client.post("/api/chat", json=question(prompt + "x" * 50_000))
    async with rented.connect("a token that somebody guessed") as stranger:
        await stranger.post("/api/chat", json=question(prompt))
    await rented.client.post("/api/pull", json={"model": prompt})
    looked_for = [*secrets_of(rented), prompt, "a token that somebody guessed"]
    found = {
        (path.name, words)
        for path in rented.container.root.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "key"
        for words in looked_for
        if words.encode() in path.read_bytes()
    }
    assert found == set()
    assert [words for words in looked_for if words in rented.container.printed()] == []


async def test_no_secret_is_in_a_command_line_while_it_comes_up(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    containers = RealContainers(tmp_path_factory.mktemp("containers"), pull_pause=0.02)
    seen: set[str] = set()
    async with Rented(containers) as worker:
        while "ready" not in worker.container.printed():
            seen |= {command_line(process) for process in worker.container.processes()}
            await asyncio.sleep(0)
    assert any("curl" in line for line in seen)
    assert [line for line in seen if any(secret in line for secret in secrets_of(worker))] == []


@pytest.mark.slow
async def test_too_many_requests_are_refused_and_later_ones_are_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    containers = RealContainers(tmp_path_factory.mktemp("containers"))
    async with Rented(containers, parallel=1) as worker:
        await worker.until_stage("ready")
        assert set(await worker.statuses("/api/version", 120)) == {200, 429}

        async def is_let_through() -> bool:
            return (await worker.client.get("/api/version")).status_code == 200

        await until(is_let_through, pause=0.1)


async def test_strangers_do_not_use_up_what_may_be_asked(tmp_path_factory: pytest.TempPathFactory) -> None:
    containers = RealContainers(tmp_path_factory.mktemp("containers"))
    async with Rented(containers, parallel=1) as worker:
        await worker.until_stage("ready")
        async with worker.connect(None) as stranger:
            many = await asyncio.gather(*(stranger.get("/api/version") for _ in range(120)))
        assert {response.status_code for response in many} == {401}
        assert (await worker.client.get("/api/version")).status_code == 200


async def raw(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    """Asks for a path as it is written; httpx would tidy it up."""
    url = client.base_url.copy_with(raw_path=path.encode())
    return await client.request(method, url)


async def tls_version(rented: Rented, context: ssl.SSLContext) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", rented.container.ports[8443], ssl=context)
    version: str = writer.get_extra_info("ssl_object").version()
    writer.close()
    await writer.wait_closed()
    return version


def secrets_of(rented: Rented) -> list[str]:
    pem = rented.identity.key.splitlines()
    return [rented.identity.token, KEY, rented.env["LLMHOST_KEY"], pem[1], rented.env["LLMHOST_KEY"][:64]]


def connections_of(process: psutil.Process) -> list[Any]:
    try:
        return process.net_connections()
    except psutil.NoSuchProcess:
        return []
