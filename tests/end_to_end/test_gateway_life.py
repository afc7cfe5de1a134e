"""The gateway in the background: `up` starts it, `ask` goes through it, `down` stops it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from doubles.chat_server import Fault
from doubles.free_port import free_port
from doubles.openai_server import OpenAIServer
from doubles.terminal import Terminal
from doubles.waiting import until
from plugins.commands import House

pytestmark = pytest.mark.slow

ASKED: Any = {"model": "tiny", "messages": [{"role": "user", "content": "Say hello."}]}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def house(static_house: House, port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A static fleet whose `up` starts a gateway on `port`."""
    monkeypatch.setenv("LLMHOST_GATEWAY__AUTOSTART", "true")
    monkeypatch.setenv("LLMHOST_GATEWAY__PORT", str(port))
    yield static_house
    await static_house.run("down")
    assert gateway_pids() == set()


def gateway_pids() -> set[int]:
    """The gateways that run for this test's state folder."""
    found = set()
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        environ = process.info["environ"] or {}
        if "serve" in (process.info["cmdline"] or ()) and (
            environ.get("LLMHOST_STATE_DIR") == os.environ["LLMHOST_STATE_DIR"]
        ):
            found.add(process.pid)
    return found


async def test_up_ends_with_the_url_of_a_gateway_that_answers(house: House, port: int) -> None:
    done = await house.ok("up")
    assert done["endpoint"] == f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=done["endpoint"], timeout=60) as http:
        answer = await http.post("/v1/chat/completions", json=ASKED)
    assert answer.headers["x-llmhost-cache"] == "miss"


async def test_up_again_keeps_the_gateway_that_runs(house: House) -> None:
    await house.ok("up")
    before = gateway_pids()
    await house.ok("up")
    assert (len(before), gateway_pids()) == (1, before)


async def test_up_replaces_a_gateway_that_would_answer_otherwise(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.ok("up")
    before = gateway_pids()
    monkeypatch.setenv("LLMHOST_ENGINE__MAX_TOKENS", "7")
    await house.ok("up")
    assert (len(gateway_pids()), gateway_pids() & before) == (1, set())


async def test_status_shows_it_and_down_stops_it(house: House, port: int) -> None:
    await house.ok("up")
    shown = await house.ok("status")
    assert (shown["endpoint"], shown["gateway"]["url"]) == (f"http://127.0.0.1:{port}",) * 2
    assert shown["gateway"]["uptime_s"] >= 0
    assert (await house.ok("down"))["gateways_stopped"] == [f"http://127.0.0.1:{port}"]
    assert (gateway_pids(), (await house.ok("status"))["endpoint"]) == (set(), None)


async def test_a_port_that_is_taken_is_replaced_by_another_and_said(house: House, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        done = await house.run("up", "--json")
        endpoint = done.json["endpoint"]
        assert endpoint != f"http://127.0.0.1:{port}"
        assert f"port {port} is in use" in done.err
        async with httpx.AsyncClient(timeout=60) as http:
            assert (await http.get(f"{endpoint}/healthz")).status_code == 200


async def test_why_it_does_not_start_is_said_and_the_fleet_is_there(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMHOST_GATEWAY__LOG", "/nowhere/requests.jsonl")
    done = await house.run("up", "--json")
    assert (done.code, done.json["endpoint"], len(done.json["workers"])) == (0, None, 1)
    assert "the gateway did not start: the request log cannot be opened: /nowhere/requests.jsonl" in done.err


async def test_ask_through_it_answers_as_without_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.ok("up")
    through = [await house.ok("ask", "Say hello."), await house.ok("ask", "Say hello.")]
    assert [answer["source"] for answer in through] == ["engine", "exact"]
    pids = gateway_pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await until_gone(pids)
    alone = await house.ok("ask", "Say hello.")
    changing = {"latency_ms": None}
    assert through[1] | changing == alone | changing


async def test_a_chat_through_it_is_one_conversation(house: House, openai_server: OpenAIServer) -> None:
    await house.ok("up")
    through = await house.run("chat", stdin=b"Say hello.\nAgain.\n")
    chats = [request.json for request in openai_server.requests if request.path == openai_server.chat_path]
    assert (through.code, "without the gateway" in through.err) == (0, False)
    assert [message["role"] for message in chats[-1]["messages"]] == ["user", "assistant", "user"]
    for pid in gateway_pids():
        os.kill(pid, signal.SIGKILL)
    alone = await house.run("chat", stdin=b"Say hello.\nAgain.\n")
    assert (alone.out, alone.err.count("exact hit")) == (through.out, 2)


async def test_errors_are_those_of_the_command_itself(house: House) -> None:
    await house.ok("up")
    refused = await house.run("ask", "Say hello.", "--model", "unknown-model")
    for pid in gateway_pids():
        os.kill(pid, signal.SIGKILL)
    alone = await house.run("ask", "Say hello.", "--model", "unknown-model")
    assert (refused.code, refused.error) == (alone.code, alone.error)


async def test_a_command_with_another_configuration_asks_by_itself(
    house: House, openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.ok("up")
    monkeypatch.setenv("LLMHOST_ENGINE__SYSTEM", "Answer in French.")
    done = await house.run("ask", "Say hello.")
    assert done.code == 0
    assert {"role": "system", "content": "Answer in French."} in openai_server.requests[-1].json["messages"]


async def test_where_everyone_needs_a_key_a_command_asks_by_itself_and_says_why(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMHOST_GATEWAY__KEYS", "always")
    await house.ok("up")
    done = await house.run("ask", "Say hello.")
    assert (done.code, "asked without the gateway: `gateway.keys: always`" in done.err) == (0, True)


async def test_a_command_that_asks_by_itself_after_all_still_says_what_it_waits_for(
    house: House, openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMHOST_GATEWAY__KEYS", "always")
    await house.ok("up")
    openai_server.fail(Fault.HANGS)
    terminal = await Terminal.run([sys.executable, "-m", "llmhost", "ask", "Say hello."], os.environ)
    try:
        await terminal.until("asked without the gateway")
        await terminal.until("waiting for static-")
        terminal.type("\x03")
        assert await terminal.end() == 130
    finally:
        terminal.close()


async def test_a_gateway_that_was_killed_leaves_nothing_that_stands_in_the_way(house: House) -> None:
    await house.ok("up")
    pids = gateway_pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await until_gone(pids)
    assert (await house.ok("ask", "Say hello."))["source"] == "engine"
    assert (await house.ok("up"))["endpoint"] is not None


async def until_gone(pids: set[int]) -> None:
    async def are_gone() -> bool:
        return not any(psutil.pid_exists(pid) and is_running(pid) for pid in pids)

    await until(are_gone)


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# Reading the configuration again, and several fleets


def change(house: House, change: Callable[[Any], None]) -> None:
    path = Path("llmhost.yaml")
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document))


async def test_sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing(
    house: House, port: int, state_folder: Path
) -> None:
    await house.ok("up")
    (pid,) = gateway_pids()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:

        async def models() -> list[str]:
            return [model["id"] for model in (await http.get("/v1/models")).json()["data"]]

        async def has_alias() -> bool:
            return "gpt-4o" in await models()

        async def is_refused(wrong: dict[str, Any]) -> bool:
            (log,) = state_folder.glob("fleets/*/gateway/gateway.log")  # noqa: ASYNC240
            refusals = [line for line in log.read_text().splitlines() if "was not read again" in line]
            return bool(refusals) and f"gateway.{next(iter(wrong))}" in refusals[-1]

        change(house, lambda document: document.update(gateway={"aliases": {"gpt-4o": "tiny"}}))
        os.kill(pid, signal.SIGHUP)
        await until(has_alias)
        for wrong in ({"max_body": "no size"}, {"host": "localhost", "aliases": {"other": "tiny"}}):
            change(house, partial(dict.update, gateway=wrong))
            os.kill(pid, signal.SIGHUP)
            await until(partial(is_refused, wrong))
        assert (await http.post("/v1/chat/completions", json=ASKED)).status_code == 200
        assert await has_alias()


async def test_sighup_opens_the_request_log_again_whatever_the_configuration_says(
    house: House, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "requests.jsonl"
    monkeypatch.setenv("LLMHOST_GATEWAY__LOG", str(log))
    await house.ok("up")
    (pid,) = gateway_pids()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        await http.post("/v1/chat/completions", json=ASKED)
        await until(lambda: '"outcome":"miss"' in log.read_text())
        log.rename(tmp_path / "old.jsonl")
        change(house, lambda document: document.update(gateway={"max_body": "no size"}))
        os.kill(pid, signal.SIGHUP)
        await until(log.exists)
        await http.post("/v1/chat/completions", json=ASKED)
        await until(lambda: '"outcome":"exact"' in log.read_text())


async def test_a_gateway_of_another_version_is_found_and_replaced(house: House, state_folder: Path) -> None:
    await house.ok("up")
    (record,) = state_folder.glob("fleets/*/gateway/gateway.json")  # noqa: ASYNC240
    kept = json.loads(record.read_text())
    record.write_text(
        json.dumps({name: kept[name] for name in ("pid", "url", "version", "started")} | {"x": 1})
    )
    before = gateway_pids()
    await house.ok("up")
    assert (len(gateway_pids()), gateway_pids() & before) == (1, set())


async def test_down_all_stops_the_gateway_of_a_fleet_that_has_no_workers(house: House, port: int) -> None:
    await house.ok("up")
    done = await house.ok("down", "--all", "--yes", LLMHOST_FLEET__NAME="another")
    assert (done["gateways_stopped"], gateway_pids()) == ([f"http://127.0.0.1:{port}"], set())
