"""`llmhost serve` as a command: a static fleet, a real client over TCP and over a Unix socket."""

from __future__ import annotations

import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from doubles.certificates import Certified, certify
from doubles.free_port import free_port
from doubles.waiting import LONGEST, until
from plugins.commands import House

from llmhost.gateway.server import listen_on_path

pytestmark = pytest.mark.slow

ASKED: Any = {"model": "tiny", "messages": [{"role": "user", "content": "Say hello."}]}


@pytest.fixture
async def up(static_house: House) -> House:
    await static_house.ok("up")
    return static_house


@pytest.fixture
def port() -> int:
    return free_port()


async def test_it_answers_until_it_is_told_to_stop(up: House, port: int) -> None:
    serving = await up.start("serve", "--port", str(port))
    await serving.until("err", f"http://127.0.0.1:{port}/v1")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        seen = [await http.post("/v1/chat/completions", json=ASKED) for _ in range(2)]
    assert [answer.headers["x-llmhost-cache"] for answer in seen] == ["miss", "exact"]
    serving.process.send_signal(signal.SIGTERM)
    done = await serving.end()
    assert (done.code, done.err.strip()) == (0, "Stopped.")


async def test_what_it_answered_is_a_hit_for_ask_and_counted_by_stats(up: House, port: int) -> None:
    serving = await up.start("serve", "--port", str(port))
    await serving.until("err", "/v1")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        await http.post("/v1/chat/completions", json=ASKED)
    assert (await up.ok("ask", "Say hello."))["source"] == "exact"
    serving.interrupt()
    await serving.end()
    stats = await up.ok("stats")
    assert (stats["requests"], stats["misses"]) == (2, 1)


async def test_a_unix_socket_is_gone_when_it_has_stopped(up: House, tmp_path: Path) -> None:
    path = tmp_path / "s"
    serving = await up.start("serve", "--socket", str(path))
    await serving.until("err", "/v1")
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://llmhost", timeout=LONGEST) as http:
        assert (await http.get("/v1/models")).json()["data"][0]["id"] == "tiny"
    serving.interrupt()
    assert ((await serving.end()).code, path.exists()) == (0, False)


async def test_a_path_that_is_taken_is_one_line_and_what_is_there_stays(up: House, tmp_path: Path) -> None:
    file, path = tmp_path / "notes.txt", tmp_path / "s"
    file.write_text("mine")
    with listen_on_path(path):
        for taken in (file, path):
            done = await up.run("serve", "--socket", str(taken))
            assert (done.code, done.error) == (2, f"error: cannot listen on {taken}: Address already in use")
        assert (file.read_text(), path.is_socket()) == ("mine", True)


async def test_a_port_that_is_taken_is_one_line(up: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await up.run("serve", "--port", str(port))
    assert (done.code, done.error) == (2, f"error: cannot listen on 127.0.0.1:{port}: Address already in use")


def with_certificate(house: House) -> Certified:
    """The gateway's certificate, which is in the configuration from now on."""
    certified = certify("the gateway")
    certified.server_context(Path())
    (pem,) = Path().glob("*.pem")
    config = yaml.safe_load(Path("llmhost.yaml").read_text())
    house.configure(**config, gateway={"tls_certificate": str(pem), "autostart": False})
    return certified


async def test_other_machines_need_a_key_and_tls_in_every_process(up: House, port: int) -> None:
    certified = with_certificate(up)
    command = ("serve", "--host", "0.0.0.0", "--port", str(port), "--workers", "2")  # noqa: S104
    refused = await up.run(*command)
    assert (refused.code, "no API key" in refused.error) == (2, True)
    key = (await up.ok("keys", "add", "--tenant", "acme"))["key"]
    serving = await up.start(*command)
    await serving.until("err", f"https://0.0.0.0:{port}/v1")
    trust = ssl.create_default_context(cadata=certified.pem)
    trust.check_hostname = False
    async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=60) as http:
        for headers, status in (({}, 401), ({"authorization": f"Bearer {key}"}, 200)) * 3:
            answer = await http.post(
                "/v1/chat/completions", json=ASKED, headers={**headers, "connection": "close"}
            )
            assert answer.status_code == status
    serving.interrupt()
    done = await serving.end()
    assert (done.code, key in done.err) == (0, False)
    (row,) = (await up.ok("keys", "ls"))["keys"]
    assert row["today"]["requests"] == 3


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com"])  # noqa: S104
async def test_it_listens_on_this_machine_alone(up: House, host: str) -> None:
    done = await up.run("serve", "--host", host)
    assert done.code == 2
    assert "`gateway.host`" in done.err


async def test_several_processes_serve_on_one_port_and_end_together(up: House, port: int) -> None:
    serving = await up.start("serve", "--port", str(port), "--workers", "2")
    await serving.until("err", "/v1")
    parent = psutil.Process(serving.process.pid)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        assert (await http.post("/v1/chat/completions", json=ASKED)).status_code == 200
    children = parent.children()
    assert len(children) == 2
    serving.interrupt()
    assert (await serving.end()).code == 0
    assert not any(child.is_running() for child in children)


async def test_what_would_end_each_of_several_processes_ends_the_command(up: House, port: int) -> None:
    config = yaml.safe_load(Path("llmhost.yaml").read_text())  # noqa: ASYNC240
    for gateway, error in (
        ({"aliases": {"gpt-4o": "huge"}}, "no fleet serves huge"),
        ({"log": "/nowhere/requests.jsonl"}, "the request log cannot be opened"),
    ):
        up.configure(**config, gateway=gateway)
        done = await up.run("serve", "--port", str(port), "--workers", "2")
        assert (done.code != 0, error in done.error) == (True, True)


async def test_a_process_that_dies_is_replaced_while_the_others_serve(up: House, port: int) -> None:
    serving = await up.start("serve", "--port", str(port), "--workers", "2")
    await serving.until("err", "/v1")
    parent = psutil.Process(serving.process.pid)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        await http.post("/v1/chat/completions", json=ASKED)
        before = parent.children()
        before[0].kill()
        await serving.until("err", "is started again")

        async def are_two() -> bool:
            return len(parent.children()) == 2

        await until(are_two)
        assert (await http.post("/v1/chat/completions", json=ASKED)).headers["x-llmhost-cache"] == "exact"
    serving.interrupt()
    await serving.end()


async def test_processes_whose_parent_was_killed_end(up: House, port: int) -> None:
    serving = await up.start("serve", "--port", str(port), "--workers", "2")
    await serving.until("err", "/v1")
    parent = psutil.Process(serving.process.pid)

    async def are_there() -> bool:
        return len(parent.children()) == 2

    await until(are_there)
    children = parent.children()
    serving.process.kill()
    await serving.process.wait()

    async def are_gone() -> bool:
        return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)

    await until(are_gone)


async def test_several_fleets_are_served_by_their_models(up: House, port: int, tmp_path: Path) -> None:
    first = yaml.safe_load(Path("llmhost.yaml").read_text())  # noqa: ASYNC240
    second = {**first, "engine": {**first["engine"], "model": "large"}}
    second["fleet"] = {**first["fleet"], "name": "second"}
    paths = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    for path, document in zip(paths, (first, second), strict=True):
        path.write_text(yaml.safe_dump(document))
    serving = await up.start("serve", "--port", str(port), "-c", str(paths[0]), "-c", str(paths[1]))
    await serving.until("err", "large of fleet second")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        listed = (await http.get("/v1/models")).json()["data"]
    assert {"tiny", "large"} <= {model["id"] for model in listed}
    serving.interrupt()
    await serving.end()
