"""Notifications: what an operator should know without looking, each once, and how it gets there."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from llmhost.autoscale.models import StepResult
from llmhost.errors import LlmhostError, UnreachableError
from llmhost.fleet.budget import Limits, Spent, period_starts
from llmhost.machine.child import bare_environment
from llmhost.store.client import is_sharded, translate_errors
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.config.notify import NotifyConfig

__all__ = ["Notice", "Notifier", "SentNotices", "notices_of", "test_notice"]

#: of a budget; who hears of it then can still do something
_NEARLY = 0.8

#: seconds; what was told so long ago is another time: a budget's month is over
_REMEMBERED = 40 * 86_400.0

Event = Literal["budget", "worker_lost", "autoscaling_paused", "cache_error", "test"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification. `id` names what happened: of one thing, there is one. `text` is a sentence or two."""

    id: str
    event: Event
    title: str
    text: str


def test_notice(fleet: str) -> Notice:
    """What `llmhost notify test` sends."""
    return Notice("test", "test", f"llmhost {fleet}: a test", "Notifications of this fleet arrive.")


def notices_of(
    fleet: str,
    result: StepResult,
    limits: Limits,
    spent: Spent,
    threshold_raised: float | None,
    now: float,
) -> Sequence[Notice]:
    """What a step of the autoscaler shows that needs attention. Pure. `threshold_raised` is when audits last
    raised the cache's threshold, None: it is not raised; Unix seconds."""
    found = [*_budget(fleet, limits, spent, now), *_lost(fleet, result, now), *_paused(fleet, result)]
    if threshold_raised is not None:
        found.append(
            Notice(
                f"cache_error:{threshold_raised:.0f}",
                "cache_error",
                f"llmhost {fleet}: wrong hits",
                "Audits found more wrong semantic hits than `cache.max_error` allows: the cache now answers "
                "fewer questions. `llmhost cache tune show` has the figures.",
            )
        )
    return found


def _budget(fleet: str, limits: Limits, spent: Spent, now: float) -> list[Notice]:
    """Of a day and a month: an hour's limit is reached each hour by a fleet that uses it."""
    _, day, month = period_starts(now)
    found = []
    periods = (("day", limits.per_day, spent.day, day), ("month", limits.per_month, spent.month, month))
    for period, limit, used, start in periods:
        if limit is None or limit <= 0 or used < _NEARLY * limit:
            continue
        share = 100 if used >= limit else 80
        found.append(
            Notice(
                f"budget:{period}:{start:.0f}:{share}",
                "budget",
                f"llmhost {fleet}: {share} % of the {period}'s budget",
                f"${used:.2f} of ${limit:.2f} is spent (`fleet.budget.per_{period}`).",
            )
        )
    return found


def _lost(fleet: str, result: StepResult, now: float) -> list[Notice]:
    """Once a day (UTC): a static server keeps its name, and may be lost again."""
    _, day, _ = period_starts(now)
    found = []
    for action in result.actions:
        if action.kind == "repair" and action.worker is not None:
            ended = "was destroyed" if action.done else "still exists"
            text = f"{action.detail or 'it does not work'}; it {ended}."
            title = f"llmhost {fleet}: lost {action.worker}"
            found.append(Notice(f"worker_lost:{action.worker}:{day:.0f}", "worker_lost", title, text))
    return found


def _paused(fleet: str, result: StepResult) -> list[Notice]:
    """After failed purchases, or by `llmhost down`."""
    blocked = result.decision.blocked
    reason = blocked.message if blocked is not None and blocked.kind == "failures" else result.pause
    if reason is None:
        return []
    return [
        Notice(
            f"autoscaling_paused:{reason}",
            "autoscaling_paused",
            f"llmhost {fleet}: autoscaling is paused",
            f"{reason[:1].upper()}{reason[1:]}.",
        )
    ]


class SentNotices:
    """Which notices were sent, in Redis: of several machines that run a step, one tells. Every method raises
    StoreError."""

    def __init__(self, client: Redis, fleet: str) -> None:
        self._client = client
        self._key = FleetKeys(fleet, is_sharded(client)).notices

    async def claim(self, notice: Notice, now: float) -> bool:
        """Whether it is this process that is to send it."""
        with translate_errors():
            return bool(await self._client.hsetnx(self._key, notice.id, f"{now:.0f}"))

    async def release(self, notice: Notice) -> None:
        """It could not be sent: the next step tries again."""
        with translate_errors():
            await self._client.hdel(self._key, notice.id)

    async def forget_old(self, now: float) -> None:
        """Removes what was sent long ago."""
        with translate_errors():
            sent = await self._client.hgetall(self._key)
            old = [name for name, at in sent.items() if not _is_recent(at, now)]
            if old:
                await self._client.hdel(self._key, *old)


def _is_recent(raw: bytes | str, now: float) -> bool:
    try:
        return float(raw) > now - _REMEMBERED
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Notifier:
    """Sends notices of a fleet to everyone that is configured."""

    fleet: str
    config: NotifyConfig

    async def send_new(self, notices: Sequence[Notice], sent: SentNotices, now: float) -> Sequence[str]:
        """Sends those that were not sent before, all at once; returns what went wrong. What reached no one is
        sent again by the next step. Raises StoreError."""
        sendings = (self._send_once(notice, sent, now) for notice in notices)
        # One that fails ends no other: what was claimed must be sent or released.
        outcomes = await asyncio.gather(*sendings, return_exceptions=True)
        problems: dict[str, None] = {}  # a receiver that is gone is named once
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            problems |= dict.fromkeys(outcome)
        if notices:
            await sent.forget_old(now)
        return list(problems)

    async def _send_once(self, notice: Notice, sent: SentNotices, now: float) -> Sequence[str]:
        if not await sent.claim(notice, now):
            return []
        failures = await self.send(notice, now)
        if all(failures.values()):
            await sent.release(notice)
        return [f"{name} got no notification: {error.message}" for name, error in failures.items() if error]

    async def send(self, notice: Notice, now: float) -> Mapping[str, LlmhostError | None]:
        """Sends it to each; by name what went wrong, None where it arrived."""
        document = {"fleet": self.fleet, **asdict(notice), "at": now}
        ways = self._ways(notice, json.dumps(document))
        outcomes = await asyncio.gather(*(self._try(way) for way in ways.values()))
        return dict(zip(ways, outcomes, strict=True))

    async def _try(self, way: Callable[[], Awaitable[None]]) -> LlmhostError | None:
        try:
            async with asyncio.timeout(self.config.timeout):
                await way()
        except TimeoutError:
            return UnreachableError(f"no answer within {self.config.timeout:g} s")
        except LlmhostError as error:
            return error
        return None

    def _ways(self, notice: Notice, document: str) -> Mapping[str, Callable[[], Awaitable[None]]]:
        config, ways = self.config, dict[str, Callable[[], Awaitable[None]]]()
        as_json = {"content-type": "application/json"}
        if config.webhook is not None:
            url = config.webhook.get_secret_value()
            ways["webhook"] = lambda: _post(url, document, as_json)
        if config.slack is not None:
            slack, text = config.slack.get_secret_value(), f"*{notice.title}*\n{notice.text}"
            ways["slack"] = lambda: _post(slack, json.dumps({"text": text}), as_json)
        if config.ntfy is not None:
            topic, headers = config.ntfy.get_secret_value(), {"title": notice.title}
            if config.ntfy_token is not None:
                headers["authorization"] = f"Bearer {config.ntfy_token.get_secret_value()}"
            ways["ntfy"] = lambda: _post(topic, notice.text, headers)
        if config.command is not None:
            words = config.command.get_secret_value()
            ways["command"] = lambda: _run(words, document)
        return ways


async def _post(url: str, body: str, headers: Mapping[str, str]) -> None:
    """Raises UnreachableError, which does not show the URL: it may be a secret."""
    import httpx

    host = urlsplit(url).hostname
    try:
        # `_try` has the time limit; httpx has one of 5 s of its own.
        async with httpx.AsyncClient(follow_redirects=False, timeout=None) as client:  # noqa: S113
            answer = await client.post(url, content=body.encode(), headers=dict(headers))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise UnreachableError(f"{host} cannot be reached: {type(error).__name__}") from None
    if answer.status_code >= 300:
        raise UnreachableError(f"{host} answers with status {answer.status_code}")


async def _run(command: str, document: str) -> None:
    """Raises UnreachableError. The program gets none of our keys. If it is cancelled, what the program has
    started ends too."""
    try:
        words = shlex.split(command)
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=bare_environment(),
            start_new_session=True,
        )
    except OSError as error:  # whose text has the program's name
        raise UnreachableError(f"it cannot be started: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise UnreachableError(f"it cannot be started: {error}") from error
    try:
        await process.communicate(document.encode())
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode:
        raise UnreachableError(f"it exits with {process.returncode}")
