"""Notifications."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from doubles.http_server import HttpServer, Reply, Request
from pydantic import SecretStr

from llmhost.autoscale.models import Blocked, Observed, ScaleAction, ScaleDecision, StepResult
from llmhost.autoscale.notify import Notice, Notifier, SentNotices, notices_of
from llmhost.autoscale.notify import test_notice as make_test_notice
from llmhost.config.notify import NotifyConfig
from llmhost.fleet.budget import Limits, Spent

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_700_000_000.0
DAY = 86_400.0
QUIET = StepResult(ScaleDecision("hold", 1, 1, "the demand is met", Observed()))
NOTICE = Notice("budget:day:1:80", "budget", "llmhost blue: 80 % of the day's budget", "$8.00 of $10.00.")


def ids(
    result: StepResult = QUIET, limits: Limits | None = None, spent: Spent | None = None, **known: Any
) -> list[str]:
    raised = known.get("threshold_raised")
    found = notices_of("blue", result, limits or Limits(), spent or Spent(), raised, known.get("now", NOW))
    return [notice.id.split(":")[0] + ":" + notice.id.rsplit(":", 1)[1] for notice in found]


def held(reason: str, blocked: Blocked | None = None, *actions: ScaleAction) -> StepResult:
    return StepResult(ScaleDecision("hold", 1, 1, reason, Observed(), blocked=blocked), actions)


# What is told


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        (Spent(day=7.9, month=70), []),
        (Spent(day=8.0, month=70), ["budget:80"]),
        (Spent(day=10.0, month=70), ["budget:100"]),
        (Spent(day=12.0, month=85), ["budget:100", "budget:80"]),
        (Spent(hour=5.0), []),  # an hour's limit is there to be used
    ],
)
def test_a_budget_is_told_of_at_80_percent_and_when_it_is_used_up(spent: Spent, expected: list[str]) -> None:
    assert ids(limits=Limits(per_hour=1, per_day=10, per_month=100), spent=spent) == expected


def test_the_next_day_has_a_budget_of_its_own() -> None:
    one, other = (
        notices_of("blue", QUIET, Limits(per_day=10), Spent(day=9), None, now) for now in (NOW, NOW + DAY)
    )
    assert one[0].id != other[0].id


def test_a_worker_that_was_lost_is_told_with_the_reason() -> None:
    repair = ScaleAction("repair", "vast-1", "outbid", done=True)
    (notice,) = notices_of("blue", held("", None, repair), Limits(), Spent(), None, NOW)
    assert (notice.event, notice.title) == ("worker_lost", "llmhost blue: lost vast-1")
    assert notice.text == "outbid; it was destroyed."


def test_a_server_that_is_lost_again_on_another_day_is_told_again() -> None:
    lost = held("", None, ScaleAction("repair", "static-1", "no answer", done=True))
    days = [notices_of("blue", lost, Limits(), Spent(), None, NOW + hours * 3600) for hours in (0, 1, 24)]
    first, later, next_day = (notice.id for (notice,) in days)
    assert (first == later, first == next_day) == (True, False)


def test_other_things_that_a_step_does_are_not_told() -> None:
    actions = [ScaleAction(kind, "vast-1", "", done=True) for kind in ("buy", "drain", "end")]  # type: ignore[arg-type]
    assert notices_of("blue", held("", None, *actions), Limits(), Spent(), None, NOW) == []


def test_autoscaling_that_is_paused_is_told_once_for_each_pause() -> None:
    failures = Blocked("failures", "3 purchases failed within an hour; no purchases until 12:00 UTC")
    pause = "paused since 2026-11-29 12:00 UTC by `llmhost down`"
    for result in (held("the demand is met", failures), replace(held(pause), pause=pause)):
        (notice,) = notices_of("blue", result, Limits(), Spent(), None, NOW)
        assert notice.event == "autoscaling_paused"
    assert ids(held("the demand is met", Blocked("budget", "the budget allows 1 of 2 workers"))) == []


def test_a_pause_is_told_once_whatever_else_a_step_says_of_it() -> None:
    pause = "paused since 2026-11-29 12:00 UTC by `llmhost down`"
    steps = [
        replace(held(reason, Blocked("budget", "why")), pause=pause)
        for reason in (f"1 worker failed; {pause}", f"{pause}; $1.00 spent", f"{pause}; $1.10 spent")
    ]
    told = [notices_of("blue", step, Limits(), Spent(), None, NOW) for step in steps]
    assert {(notice.id, notice.text) for notices in told for notice in notices} == {
        (f"autoscaling_paused:{pause}", f"P{pause[1:]}.")
    }
    assert all(told)


def test_a_threshold_that_audits_raised_is_told_once_for_each_time() -> None:
    assert ids(threshold_raised=NOW) == [f"cache_error:{NOW:.0f}"]
    assert ids(threshold_raised=None) == []


# How it gets there


class Receiver(HttpServer):
    """Keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Request] = []
        self.status = 200

    async def answer(self, request: Request, reply: Reply) -> None:
        self.got.append(request)
        await reply.json({}, self.status)


class TogetherReceiver(HttpServer):
    """Answers nothing before it has got everything."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.barrier = asyncio.Barrier(count)

    async def answer(self, request: Request, reply: Reply) -> None:
        await self.barrier.wait()
        await reply.json({})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as server:
        yield server


async def test_a_webhook_gets_json(receiver: Receiver) -> None:
    config = NotifyConfig(webhook=f"{receiver.url}/hook?key=1")  # type: ignore[arg-type]  # pydantic converts it
    assert await Notifier("blue", config).send(NOTICE, NOW) == {"webhook": None}
    (request,) = receiver.got
    assert request.path == "/hook?key=1"
    assert request.json == {
        "fleet": "blue",
        "id": NOTICE.id,
        "event": "budget",
        "title": NOTICE.title,
        "text": NOTICE.text,
        "at": NOW,
    }


async def test_a_receiver_may_take_as_long_as_is_configured(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[Any] = []
    send = httpx.AsyncHTTPTransport.handle_async_request

    async def spied(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        allowed.extend(request.extensions["timeout"].values())
        return await send(transport, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", spied)
    config = NotifyConfig(webhook=SecretStr(receiver.url), timeout=60)
    assert await Notifier("blue", config).send(NOTICE, NOW) == {"webhook": None}
    assert set(allowed) == {None}


async def test_slack_and_ntfy_get_what_they_understand(receiver: Receiver) -> None:
    config = NotifyConfig(
        slack=f"{receiver.url}/slack",  # type: ignore[arg-type]
        ntfy=f"{receiver.url}/topic",  # type: ignore[arg-type]
        ntfy_token="tk_1",  # type: ignore[arg-type]
    )
    await Notifier("blue", config).send(NOTICE, NOW)
    by_path = {request.path: request for request in receiver.got}
    assert by_path["/slack"].json == {"text": f"*{NOTICE.title}*\n{NOTICE.text}"}
    assert by_path["/topic"].body.decode() == NOTICE.text
    headers = by_path["/topic"].headers
    assert (headers["title"], headers["authorization"]) == (NOTICE.title, "Bearer tk_1")


async def test_a_command_gets_json_on_stdin_and_no_key_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "secret")
    program, out = tmp_path / "page me.py", tmp_path / "out.json"
    program.write_text(
        "import json, os, sys\n"
        "text = json.dumps([json.load(sys.stdin), sys.argv[1:], 'VAST_API_KEY' in os.environ])\n"
        f"open({str(out)!r}, 'w').write(text)\n"
    )
    config = NotifyConfig(command=SecretStr(f"{sys.executable} '{program}' --team 'a b'"))
    assert await Notifier("blue", config).send(NOTICE, NOW) == {"command": None}
    document, arguments, has_key = json.loads(out.read_text())
    assert (document["title"], arguments, has_key) == (NOTICE.title, ["--team", "a b"], False)


async def test_a_program_that_is_none_is_not_quoted() -> None:
    config = NotifyConfig(command=SecretStr("TOKEN=hush curl https://example.com"))
    error = (await Notifier("blue", config).send(NOTICE, NOW))["command"]
    assert error is not None
    assert error.message == "it cannot be started: No such file or directory"


@pytest.mark.parametrize(
    "command", ["/no/such/program", "'unclosed", f"{sys.executable} -c 'raise SystemExit(3)'"]
)
async def test_a_command_that_fails_is_named(command: str) -> None:
    error = (await Notifier("blue", NotifyConfig(command=SecretStr(command))).send(NOTICE, NOW))["command"]
    assert error is not None
    assert error.message.startswith(("it cannot be started", "it exits with 3"))


async def test_a_command_that_hangs_is_ended() -> None:
    hangs = f"{sys.executable} -c 'import time; time.sleep(600)'"
    config = NotifyConfig(command=SecretStr(hangs), timeout=0.2)
    error = (await Notifier("blue", config).send(NOTICE, NOW))["command"]
    assert error is not None
    assert error.message == "no answer within 0.2 s"


async def test_what_a_command_that_hangs_has_started_ends_with_it(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = f"(echo begun; sleep 600) > {fifo} & sleep 600"
    config = NotifyConfig(command=SecretStr(f"sh -c '{program}'"), timeout=1)
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    await Notifier("blue", config).send(NOTICE, NOW)
    async with asyncio.timeout(10):
        assert await reader.read() == b"begun\n"  # to the end: nothing holds the pipe any more
    transport.close()


async def test_an_error_does_not_show_a_url_that_may_be_secret(
    receiver: Receiver, refusing_port: int
) -> None:
    receiver.status = 404
    config = NotifyConfig(
        webhook=f"{receiver.url}/secret",  # type: ignore[arg-type]
        slack=f"http://127.0.0.1:{refusing_port}/secret",  # type: ignore[arg-type]
    )
    errors = await Notifier("blue", config).send(NOTICE, NOW)
    messages = [error.message for error in errors.values() if error is not None]
    assert messages == ["127.0.0.1 answers with status 404", "127.0.0.1 cannot be reached: ConnectError"]


# Once


async def test_each_thing_is_told_once_whoever_looks(receiver: Receiver, redis_client: Redis) -> None:
    config = NotifyConfig(webhook=receiver.url)  # type: ignore[arg-type]
    for _ in range(2):
        notifier, sent = Notifier("blue", config), SentNotices(redis_client, "blue")
        assert await notifier.send_new([NOTICE], sent, NOW) == []
    assert len(receiver.got) == 1


async def test_what_reached_nobody_is_sent_again(receiver: Receiver, redis_client: Redis) -> None:
    config = NotifyConfig(webhook=receiver.url)  # type: ignore[arg-type]
    notifier, sent = Notifier("blue", config), SentNotices(redis_client, "blue")
    receiver.status = 500
    assert await notifier.send_new([NOTICE], sent, NOW) == [
        "webhook got no notification: 127.0.0.1 answers with status 500"
    ]
    receiver.status = 200
    assert await notifier.send_new([NOTICE], sent, NOW) == []
    assert len(receiver.got) == 2


async def test_all_are_sent_at_once(redis_client: Redis) -> None:
    notices = [Notice(f"worker_lost:vast-{number}", "worker_lost", "", "") for number in range(8)]
    async with TogetherReceiver(len(notices)) as receiver:
        config = NotifyConfig(webhook=receiver.url)  # type: ignore[arg-type]
        assert await Notifier("blue", config).send_new(notices, SentNotices(redis_client, "blue"), NOW) == []


async def test_a_receiver_that_is_gone_is_named_once(redis_client: Redis, refusing_port: int) -> None:
    notices = [Notice(f"worker_lost:vast-{number}", "worker_lost", "", "") for number in range(8)]
    config = NotifyConfig(webhook=f"http://127.0.0.1:{refusing_port}/")  # type: ignore[arg-type]
    assert await Notifier("blue", config).send_new(notices, SentNotices(redis_client, "blue"), NOW) == [
        "webhook got no notification: 127.0.0.1 cannot be reached: ConnectError"
    ]


async def test_what_was_told_long_ago_is_forgotten(redis_client: Redis, receiver: Receiver) -> None:
    sent = SentNotices(redis_client, "blue")
    old = Notice("worker_lost:vast-1", "worker_lost", "", "")
    assert await sent.claim(old, NOW - 50 * DAY)
    config = NotifyConfig(webhook=receiver.url)  # type: ignore[arg-type]
    await Notifier("blue", config).send_new([NOTICE], sent, NOW)
    assert set(await redis_client.hgetall("llmhost:blue:notices")) == {NOTICE.id.encode()}


def test_the_test_is_about_the_fleet() -> None:
    assert make_test_notice("blue").title == "llmhost blue: a test"
