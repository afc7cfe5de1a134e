"""`llmhost logs`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.openai_server import OpenAIServer
from plugins.cli import Ran
from plugins.commands import House

from llmhost.cli.commands.logs import appended

Cli = Callable[..., Ran]

#: A local worker that is gone; its provider keeps its log so that one can read why.
GONE = "local-0a1b2c"


@pytest.fixture
def log(state_folder: Path) -> Path:
    path = state_folder / "fleets" / "local" / "logs" / f"{GONE}.log"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"line {number}\n" for number in range(1, 201)))
    return path


def test_the_last_lines_are_shown(cli: Cli, log: Path) -> None:
    assert cli("logs", GONE, "--lines", "2").stdout == "line 199\nline 200\n"
    assert cli("logs", GONE, "--lines", "2", "--json").json == {
        "worker": GONE,
        "lines": ["line 199", "line 200"],
    }
    assert len(cli("logs", GONE).stdout.splitlines()) == 100


def test_a_long_line_is_not_broken_and_nothing_is_shown_that_a_terminal_would_obey(
    cli: Cli, log: Path
) -> None:
    log.write_text("x" * 1000 + " \x1b[31m" + "y" * 1000 + "\x1b]0;title\x07\n")
    assert cli("logs", GONE).stdout == "x" * 1000 + " " + "y" * 1000 + "\n"


async def test_follow_goes_on_with_what_is_added_and_ctrl_c_ends_it_cleanly(log: Path, house: House) -> None:
    following = await house.start("logs", "-f", GONE, "--lines", "1")
    await following.until("out", "line 200\n")
    with log.open("a") as file:
        file.write("line 201\n")
    await following.until("out", "line 201\n")
    assert following.seen.decode().splitlines() == ["line 200", "line 201"]
    following.interrupt()
    done = await following.end()
    assert (done.code, done.out, "error" in done.err) == (0, "", False)


def test_follow_is_not_for_json(cli: Cli, log: Path) -> None:
    assert cli("logs", "-f", GONE, "--json").code == 2


@pytest.mark.parametrize(
    ("seen", "now", "added"),
    [
        ("", "ab", "ab"),
        ("ab", "ab", ""),
        ("ab", "abc", "c"),
        ("abc", "bcd", "d"),
        ("abc", "xyz", "xyz"),
        ("abc", "", ""),
    ],
)
def test_what_was_added_to_a_log_is_found_where_its_end_alone_is_known(
    seen: str, now: str, added: str
) -> None:
    assert list(appended(list(seen), list(now))) == list(added)


def test_a_line_that_has_grown_is_shown_in_full() -> None:
    assert appended(["one", "two and"], ["one", "two and three", "four"]) == ["two and three", "four"]


@pytest.mark.parametrize("lines", ["0", "-1", "many", "100001"])
def test_a_number_of_lines_that_cannot_be_is_refused(cli: Cli, log: Path, lines: str) -> None:
    assert cli("logs", GONE, "--lines", lines).code == 2


@pytest.mark.parametrize("worker", ["local-ffffff", "../../secret", ""])
def test_an_unknown_worker_is_refused(cli: Cli, log: Path, worker: str) -> None:
    ran = cli("logs", worker, "--json")
    assert ran.code == 2
    assert "this fleet has: none" in ran.json["error"]["message"]


async def test_a_server_of_somebody_else_has_neither_log_nor_shell_here(
    openai_server: OpenAIServer, refusing_port: int
) -> None:
    house = House()
    house.configure(
        fleet={"provider": "static", "workers": [{"url": openai_server.url, "token": openai_server.token}]},
        engine={"kind": "openai", "model": "tiny"},
        cache={"enabled": False},
        redis={"host": "127.0.0.1", "port": refusing_port},
    )
    worker = (await house.ok("up"))["workers"][0]["id"]
    done = await house.run("logs", worker)
    assert (done.code, done.out) == (0, "")
    assert "its operator keeps it" in done.err
    unknown = await house.run("logs", "nobody")
    assert (unknown.code, worker in unknown.error) == (2, True)
    shell = await house.run("ssh", worker)
    assert (shell.code, "workers of provider static are not rented" in shell.error) == (2, True)
