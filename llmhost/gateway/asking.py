"""A chat on the one path of a question, and its answer to the client: whole, or as it comes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import orjson

from llmhost.answering.question import (
    Event,
    Question,
    QuestionOptions,
    Reply,
    Started,
    Text,
    make_completion,
    make_question,
)
from llmhost.engines.engine import CHARACTERS_A_TOKEN, Thought, ToolCall
from llmhost.gateway.chat import Chat, ChatWriter, Choice
from llmhost.gateway.exchange import Account, Caller, ClientGone, Exchange
from llmhost.gateway.fleets import ServedFleet

__all__ = ["CacheControl", "Questions", "ask_streamed", "ask_whole", "questions_of", "read_cache_control"]

OnMiss = Callable[[], Awaitable[None]] | None

#: seconds of silence after which a client is shown that its request is still worked on
PING_PERIOD = 10.0
#: requests whose questions are remembered, and the bytes of the longest of them
_REMEMBERED, _REMEMBERED_BYTES = 1000, 4096
#: tokens a second: no worker that is worth its price is slower
_SLOW = 10
#: events of several answers that wait for a slow client
_MOST_WAITING = 64


@dataclass(frozen=True, slots=True)
class CacheControl:
    """What a client's Cache-Control header asks for; `max_age` in seconds."""

    no_cache: bool = False
    no_store: bool = False
    only_cached: bool = False
    max_age: float | None = None


def read_cache_control(header: str) -> CacheControl:
    """Directives that are not known are ignored, as HTTP has it."""
    if not header:
        return CacheControl()
    directives = {part.strip().lower() for part in header.split(",")}
    ages = [int(match[1]) for part in directives if (match := re.fullmatch(r"max-age=(\d{1,10})", part))]
    max_age = min(ages, default=None)
    return CacheControl(
        no_cache="no-cache" in directives or max_age == 0,
        no_store="no-store" in directives,
        only_cached="only-if-cached" in directives,
        max_age=max_age,
    )


class Questions:
    """Makes questions of chats, and remembers them: what is asked again, as hits are, is not read again."""

    def __init__(self) -> None:
        #: by everything that they depend on, oldest first
        self._made: dict[object, Sequence[Question]] = {}

    async def of(
        self, chats: Sequence[Chat], fleet: ServedFleet, control: CacheControl, caller: Caller
    ) -> Sequence[Question]:
        """As `questions_of`. What may be long is read in a thread, as other requests go on meanwhile."""
        written = _written(chats)
        if not 0 < len(written) <= _REMEMBERED_BYTES:
            return await asyncio.to_thread(questions_of, chats, fleet, control, caller)
        key = (written, fleet.model, control, caller.tenant, caller.user)
        questions = self._made.get(key)
        if questions is None:
            questions = self._made[key] = questions_of(chats, fleet, control, caller)
            if len(self._made) > _REMEMBERED:
                del self._made[next(iter(self._made))]
        return questions


def _written(chats: Sequence[Chat]) -> bytes:
    """The chats, where they are nothing but texts, so that no other chats are written so; else nothing."""
    plain = all(
        not chat.fields
        and chat.completion is None
        and all(isinstance(message.content, str) and not message.fields for message in chat.messages)
        for chat in chats
    )
    return orjson.dumps(chats) if plain else b""


def questions_of(
    chats: Sequence[Chat], fleet: ServedFleet, control: CacheControl, caller: Caller
) -> Sequence[Question]:
    """A question for each answer that is wanted. Raises UsageError as `make_question`."""
    return [
        _question(chat, fleet, control, caller, number) for chat in chats for number in range(chat.choices)
    ]


def _question(chat: Chat, fleet: ServedFleet, control: CacheControl, caller: Caller, number: int) -> Question:
    """The question of the choice with this number: where several are wanted, each is to be another."""
    several = chat.choices > 1
    bypass = several or not chat.cacheable or bool(chat.unknown) or (control.no_cache and control.no_store)
    sampling = chat.sampling
    if several and sampling.seed is not None:
        sampling = replace(sampling, seed=sampling.seed + number)
    options: QuestionOptions = {
        "user": caller.user,
        "store": not control.no_store,
        "max_age": control.max_age,
        "only_cached": control.only_cached,
        "sticky": chat.sticky,
    }
    if chat.completion is not None:
        return make_completion(
            fleet.config,
            chat.completion,
            model=fleet.model,
            sampling=sampling,
            fields=chat.fields,
            tenant=caller.tenant,
            **options,
        )
    question = make_question(
        fleet.config,
        chat.messages,
        model=fleet.model,
        system=chat.system,
        sampling=sampling,
        fields=chat.fields,
        use_cache=False if bypass else None,
        tenant=caller.tenant,
        **options,
    )
    return replace(question, refresh=True) if control.no_cache and question.use_cache else question


async def ask_whole(
    exchange: Exchange, fleet: ServedFleet, questions: Sequence[Question], writer: ChatWriter
) -> None:
    """Answers with one JSON value."""
    choices = [Choice() for _ in questions]
    async with exchange.cancelled_if_gone(), aclosing(_charged(exchange, fleet, questions)) as events:
        async for index, event in events:
            exchange.record.saw(event)
            choices[index].add(event)
    replies = [choice.reply for choice in choices if choice.reply is not None]
    first = replies[0]
    started = Started(first.source, first.worker, first, first.shadow, found=first.found)
    headers = _headers(questions[0], started)
    headers["x-llmhost-cost-usd"] = f"{sum(reply.cost_usd for reply in replies):.8f}"
    await exchange.reply(200, writer.whole(choices), headers)


async def ask_streamed(
    exchange: Exchange, fleet: ServedFleet, questions: Sequence[Question], writer: ChatWriter
) -> None:
    """Streams the answer. An error before its first event is raised, and a later one is written into it."""
    stream = _Stream(exchange, questions[0], writer)
    try:
        async with (
            exchange.cancelled_if_gone(),
            stream.pinging(),
            aclosing(_charged(exchange, fleet, questions)) as events,
        ):
            async for index, event in events:
                exchange.record.saw(event)
                await stream.write(index, event)
            await stream.end()
    except ClientGone:
        raise
    except Exception as error:
        if not exchange.started:
            raise
        fault = exchange.fault_of(error)
        exchange.record.error = fault.status
        await exchange.write(writer.broken(fault))
        await exchange.end()


class _Stream:
    """The answer to one request as it is written."""

    def __init__(self, exchange: Exchange, question: Question, writer: ChatWriter) -> None:
        self._exchange = exchange
        self._question = question
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()

    async def write(self, index: int, event: Event) -> None:
        writer = self._writer
        if isinstance(event, Text):
            data = writer.text(index, event.text, event.logprobs)
        elif isinstance(event, Started):
            if not self._exchange.started:
                await self._start(event)
            data = writer.started(index)
        elif isinstance(event, Thought):
            data = writer.thought(index, event.text)
        elif isinstance(event, ToolCall):
            data = writer.call(index, event)
        else:
            data = writer.finish(index, event)
        await self._write(data)

    async def end(self) -> None:
        await self._write(self._writer.end())
        await self._exchange.end()

    @asynccontextmanager
    async def pinging(self) -> AsyncIterator[None]:
        """Writes a ping whenever nothing was written for a while."""
        pinging = asyncio.create_task(self._ping())
        try:
            yield
        finally:
            pinging.cancel()

    async def _ping(self) -> None:
        while True:
            silent = self._loop.time() - self._last
            if silent < PING_PERIOD:
                await asyncio.sleep(PING_PERIOD - silent)
                continue
            if not self._exchange.started:
                await self._start(Started("engine", None))
            await self._write(self._writer.ping())

    async def _start(self, started: Started) -> None:
        headers = _headers(self._question, started)
        headers |= {"content-type": self._writer.media_type, "cache-control": "no-store"}
        await self._exchange.start(200, headers)
        await self._write(self._writer.begin())

    async def _write(self, data: bytes) -> None:
        if data:
            self._last = self._loop.time()
            await self._exchange.write(data)


class _Unfinished:
    """What an answer has used until now that does not come to its end: its client leaves, or it breaks.

    No engine has counted its tokens then. A piece is one, or some four characters each.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._began: float | None = None
        self._usd_per_second = 0.0
        self._pieces = 0
        self._characters = 0

    def add(self, event: Event, now: float) -> None:
        if isinstance(event, Started):
            self._began, self._usd_per_second = now, event.usd_per_second
        elif isinstance(event, Text | Thought):
            self._pieces += 1
            self._characters += len(event.text)
        else:
            self._pieces += 1

    def used(self, now: float) -> tuple[int, float]:
        """Tokens and USD; nothing before its first piece."""
        if self._began is None:
            return 0, 0.0
        answer = max(self._pieces, self._characters // CHARACTERS_A_TOKEN)
        return self._question.request().prompt_tokens + answer, (now - self._began) * self._usd_per_second


def _charged(
    exchange: Exchange, fleet: ServedFleet, questions: Sequence[Question]
) -> AsyncGenerator[tuple[int, Event]]:
    """As `_events`, and the caller's key is charged where there is one."""
    account = exchange.caller.account
    return _events(fleet, questions) if account is None else _charging(account, fleet, questions)


async def _charging(
    account: Account, fleet: ServedFleet, questions: Sequence[Question]
) -> AsyncGenerator[tuple[int, Event]]:
    """The events. Each answer is charged for, also where it does not come to its end; what the answers may
    use at most is held until then, where the cache does not have all of them.

    A hit costs nothing. Its tokens count as its usage says: else one could ask for the same twice, end the
    request that pays, and have every answer for nothing.
    """
    clock = asyncio.get_running_loop().time
    unfinished = {index: _Unfinished(question) for index, question in enumerate(questions)}
    async with AsyncExitStack() as stack:
        hold = _Hold(account, fleet, questions, stack)
        events = await stack.enter_async_context(aclosing(_events(fleet, questions, hold.begin)))
        try:
            async for index, event in events:
                if isinstance(event, Started) and not hold.has_begun:
                    account.check()
                if isinstance(event, Reply):
                    answer = event.answer
                    account.charge(answer.prompt_tokens + answer.completion_tokens, event.cost_usd)
                    del unfinished[index]
                else:
                    unfinished[index].add(event, clock())
                yield index, event
        finally:
            for rest in unfinished.values():
                account.charge(*rest.used(clock()))


@dataclass(slots=True)
class _Hold:
    """Holds what the answers to a request may use at most, until its `stack` is closed."""

    account: Account
    fleet: ServedFleet
    questions: Sequence[Question]
    stack: AsyncExitStack
    has_begun: bool = False
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def begin(self) -> None:
        """For all of them, with the first that the cache does not have. Raises RateLimited."""
        async with self._turn:
            if self.has_begun or not self.account.is_limited:
                return
            tokens, usd = await _most(self.fleet, self.questions)
            lifetime = self.fleet.config.longest_request
            await self.stack.enter_async_context(self.account.holding(tokens, usd, lifetime))
            self.has_begun = True


async def _most(fleet: ServedFleet, questions: Sequence[Question]) -> tuple[int, float]:
    """The tokens that the answers may take at most, and about as many USD: clients write a `max_tokens` that
    no answer reaches."""
    tokens, usd = 0, 0.0
    longest = fleet.config.longest_answer
    for question in questions:
        answer = min(question.sampling.max_tokens or longest, longest)
        tokens += question.request().prompt_tokens + answer
        seconds = min(answer / _SLOW, fleet.config.engine.answer_timeout)
        usd += seconds * await fleet.answerer.usd_per_second(question.model)
    return tokens, usd


async def _events(
    fleet: ServedFleet, questions: Sequence[Question], on_miss: OnMiss = None
) -> AsyncGenerator[tuple[int, Event]]:
    """The events of all answers with the number of each; they come side by side. `on_miss` as in
    `Answerer.answer`."""
    if len(questions) == 1:
        async with aclosing(fleet.answerer.answer(questions[0], on_miss=on_miss)) as events:
            async for event in events:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Event] | Exception] = asyncio.Queue(_MOST_WAITING)
    tasks = [asyncio.create_task(_answer(fleet, *one, queue, on_miss)) for one in enumerate(questions)]
    try:
        remaining = len(tasks)
        while remaining:
            told = await queue.get()
            if isinstance(told, Exception):
                raise told
            remaining -= isinstance(told[1], Reply)
            yield told
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(
    fleet: ServedFleet,
    index: int,
    question: Question,
    queue: asyncio.Queue[tuple[int, Event] | Exception],
    on_miss: OnMiss,
) -> None:
    """Puts the events of one answer into the queue; the last is its reply, or why there is none."""
    try:
        async with aclosing(fleet.answerer.answer(question, on_miss=on_miss)) as events:
            async for event in events:
                await queue.put((index, event))
    except Exception as error:  # noqa: BLE001 - raised by what reads the queue
        await queue.put(error)


def _headers(question: Question, started: Started) -> dict[str, str]:
    """What happened, for those who want to see it."""
    question = started.found or question
    headers: dict[str, str] = {"x-llmhost-kind": question.kind}
    if started.source == "engine":
        headers["x-llmhost-cache"] = "bypass" if question.bypasses else "miss"
        if started.worker is not None:
            headers["x-llmhost-worker"] = started.worker
        if started.shadow is not None:
            headers |= {"x-llmhost-shadow": started.shadow.source, **_of_hit(started.shadow)}
        return headers
    headers |= {"x-llmhost-cache": started.source, "x-llmhost-cost-usd": "0"}
    return headers if started.reply is None else headers | _of_hit(started.reply)


def _of_hit(hit: Reply) -> dict[str, str]:
    headers = {}
    if hit.entry is not None:
        headers["x-llmhost-entry"] = hit.entry
    if (served := hit.lookup.served) is not None and hit.source == "semantic":
        headers["x-llmhost-similarity"] = f"{served.similarity:.4f}"
    if hit.confidence is not None:
        headers["x-llmhost-confidence"] = f"{hit.confidence:.4f}"
    if hit.stale:
        headers["x-llmhost-stale"] = "true"
    return headers
