"""TLS with a certificate of one's own, and a proxy in front: real sockets, real handshakes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from doubles.certificates import Certified, certify
from doubles.gateway_house import AddKey, Serve, bearer
from doubles.waiting import LONGEST
from pydantic import ValidationError

from llmhost.config.gateway import GatewayConfig
from llmhost.config.models import Config
from llmhost.errors import ConfigError
from llmhost.gateway.server import GatewayServer, listen, listen_on_path, may_connect
from llmhost.gateway.tls import Certificate, certificate_of


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate and its key in one file."""
    return written(certify("the gateway"), tmp_path / "gateway.pem")


def written(certified: Certified, path: Path) -> Path:
    folder = path.parent / "made"
    folder.mkdir(exist_ok=True)
    certified.server_context(folder)
    (made,) = folder.iterdir()
    return made.replace(path)


def mix(key: Path, certificate: Path) -> None:
    """The file with the key now holds it and the certificate of another."""
    begin = "-----BEGIN CERTIFICATE"
    key.write_text(key.read_text().partition(begin)[0] + begin + certificate.read_text().partition(begin)[2])


def trusting(certificate: Path) -> ssl.SSLContext:
    """Of a client that accepts this certificate alone, whatever name it has."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    return context


async def shown(port: int) -> bytes:
    """The certificate that is shown to a client."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    seen: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return seen


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application that says who its client is."""
    client = scope["client"][0] if scope["client"] else "no address"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": client.encode()})


@asynccontextmanager
async def serving(
    certificate: Certificate | None = None, *local: socket.socket, behind: str | None = None
) -> AsyncIterator[int]:
    """The port on which `hello` is served."""
    with listen("127.0.0.1", 0) as listener:
        server = GatewayServer(hello, [listener, *local], certificate=certificate, behind=behind)
        running = asyncio.create_task(server.run())
        yield listener.getsockname()[1]
        server.stop()
        await running


async def test_answers_and_streams_come_over_tls(serve: Serve, add_key: AddKey, certificate: Path) -> None:
    gateway = {"keys": "always", "tls_certificate": str(certificate)}
    headers = bearer(await add_key())
    async with serve(gateway=gateway, verify=trusting(certificate)) as house:
        assert (await house.chat(headers=headers)).headers["x-llmhost-cache"] == "miss"
        body = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "Say hello."}]}
        async with house.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            assert "data: [DONE]" in [line async for line in answer.aiter_lines()]
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient(timeout=LONGEST) as plain:
                await plain.get(house.url.replace("https", "http") + "/healthz")


async def test_a_client_without_trust_in_the_certificate_sends_nothing(
    serve: Serve, certificate: Path
) -> None:
    async with serve(gateway={"tls_certificate": str(certificate)}, verify=trusting(certificate)) as house:
        with pytest.raises(httpx.ConnectError, match="certificate"):
            async with httpx.AsyncClient(timeout=LONGEST) as client:
                await client.get(house.url + "/healthz")


async def test_tls_1_1_is_refused(serve: Serve, certificate: Path) -> None:
    old = trusting(certificate)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serve(gateway={"tls_certificate": str(certificate)}, verify=trusting(certificate)) as house:
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(verify=old, timeout=LONGEST) as client:
                await client.get(house.url + "/healthz")


async def test_a_new_certificate_is_shown_to_the_next_connection(certificate: Path) -> None:
    kept = Certificate(str(certificate), None)
    async with serving(kept) as port:
        old = await shown(port)
        written(certify("the gateway, renewed"), certificate)
        assert kept.reload_if_changed()
        assert await shown(port) != old
        assert not kept.reload_if_changed()


async def test_a_new_certificate_without_its_key_changes_nothing(certificate: Path, tmp_path: Path) -> None:
    kept = Certificate(str(certificate), None)
    other = written(certify("another"), tmp_path / "other.pem")
    async with serving(kept) as port:
        old = await shown(port)
        mix(certificate, other)
        with pytest.raises(ConfigError, match="no pair"):
            kept.reload_if_changed()
        assert await shown(port) == old


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "gateway.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"`gateway\.tls_certificate` .* cannot be used"):
        certificate_of(GatewayConfig(tls_certificate=str(path)))


async def test_a_unix_socket_beside_it_needs_no_tls(tmp_path: Path, certificate: Path) -> None:
    path = tmp_path / "s"
    with listen_on_path(path) as local:
        async with serving(Certificate(str(certificate), None), local) as port:
            async with httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(path)), timeout=LONGEST
            ) as client:
                assert (await client.get("http://llmhost/")).text == "no address"
            async with httpx.AsyncClient(verify=trusting(certificate), timeout=LONGEST) as client:
                assert (await client.get(f"https://127.0.0.1:{port}/")).text == "127.0.0.1"


# A proxy


async def test_behind_a_proxy_a_key_is_needed_on_loopback_too(serve: Serve, add_key: AddKey) -> None:
    key = await add_key()
    async with serve(gateway={"behind_proxy": "127.0.0.1"}) as house:
        assert (await house.chat()).status_code == 401
        headers = bearer(key) | {"host": "llm.example.com", "x-forwarded-for": "203.0.113.9"}
        assert (await house.chat(headers=headers)).status_code == 200


async def test_only_the_proxy_may_connect(serve: Serve, add_key: AddKey) -> None:
    await add_key()
    async with serve(gateway={"behind_proxy": "10.0.0.0/8"}) as house:
        with pytest.raises(httpx.TransportError):
            await house.http.get("/healthz", headers={"x-forwarded-for": "10.0.0.1"})


@pytest.mark.parametrize(
    ("client", "family", "peers", "may"),
    [
        (("10.0.0.5", 1), socket.AF_INET, None, True),
        (("10.0.0.5", 1), socket.AF_INET, "10.0.0.5", True),
        (("::ffff:10.0.0.5", 1), socket.AF_INET6, "10.0.0.0/24", True),
        (("fe80::1%eth0", 1), socket.AF_INET6, "fe80::/64", True),
        (("10.0.1.5", 1), socket.AF_INET, "10.0.0.0/24", False),
        (("::1", 1), socket.AF_INET6, "127.0.0.1", False),
        (None, socket.AF_UNIX, "10.0.0.5", True),
        (None, socket.AF_UNIX, None, True),
        (None, socket.AF_INET, None, False),
        (None, socket.AF_INET6, "10.0.0.5", False),
    ],
)
def test_a_connection_without_an_address_is_one_of_a_unix_socket_or_none(
    client: tuple[str, int] | None, family: int, peers: str | None, may: bool
) -> None:
    assert may_connect(client, family, ip_network(peers) if peers else None) is may


@pytest.mark.parametrize(
    ("behind", "forwarded", "seen"),
    [
        ("127.0.0.0/8", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (None, "203.0.113.9", "127.0.0.1"),
    ],
)
async def test_the_client_is_whom_the_proxy_names(behind: str | None, forwarded: str, seen: str) -> None:
    async with serving(behind=behind) as port, httpx.AsyncClient(timeout=LONGEST) as client:
        url = f"http://127.0.0.1:{port}/"
        assert (await client.get(url, headers={"x-forwarded-for": forwarded})).text == seen


# What the configuration allows


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "llm.example.com"])  # noqa: S104
def test_an_address_that_others_reach_needs_tls_or_a_proxy(host: str) -> None:
    with pytest.raises(ValidationError, match="needs TLS"):
        Config.model_validate({"gateway": {"host": host}})
    for secured in ({"tls_certificate": "/c.pem"}, {"behind_proxy": "10.0.0.5"}):
        assert GatewayConfig.model_validate({"host": host, **secured}).is_public


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_neither(host: str) -> None:
    assert not GatewayConfig(host=host).is_public
