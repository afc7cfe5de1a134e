"""The one path of a question: key, exact tier, semantic tier, single flight, pool.

Nothing is cached, counted or routed outside it. Where Redis fails, its steps are skipped and an engine
still answers the question.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from llmhost.answering.asked import Asked, event_of
from llmhost.answering.audits import AuditSampler
from llmhost.answering.cache_session import CacheSession, CacheSessions, WarnOnce
from llmhost.answering.flight import Flight, piece_of
from llmhost.answering.question import Event, Question, Reply, Started, Text
from llmhost.answering.renewals import Renewals
from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer
from llmhost.cache.single_flight import Follow, Lead
from llmhost.engines.engine import Delta, Done
from llmhost.engines.pool import Assigned, Collected, Pool
from llmhost.errors import EngineUnavailable, NotCachedError, StoreError, StreamBroken
from llmhost.ledger.cost import answer_cost
from llmhost.ledger.events import QuestionEvent
from llmhost.ledger.ledger import Ledger

__all__ = ["Answerer", "engine_answer"]


#: seconds; by so much later than it is answered a question is counted
_TOGETHER = 0.1


@dataclass(slots=True, kw_only=True)
class Answerer:
    """Answers questions. `sessions` None switches the cache off; without a `ledger` nothing is counted, and
    without `audits` no hit is audited. With a `shadow` no hit is served: an engine answers, and the shadow
    gets the question, the hit and that answer, to compare them. For `stale_for` seconds after its time, an
    answer is served while a new one is asked for, of `max_tokens` at least, None for any number. `pool` and
    `audits` are made when they are first needed: an exact hit needs neither. `slots` is how many requests a
    worker serves at once: they share its price. `counts_later`: questions are counted in the background; for
    a process that goes on.
    """

    pool: Callable[[], Pool]
    slots: int
    sessions: CacheSessions | None
    ledger: Ledger | None
    warn_once: WarnOnce
    audits: Callable[[], AuditSampler | None] = lambda: None
    shadow: Callable[[Question, Reply, Reply], Awaitable[None]] | None = None
    stale_for: float = 0.0
    max_tokens: int | None = None
    clock: Callable[[], float] = time.time
    counts_later: bool = False
    under_way: int = field(default=0, init=False)
    #: the answers that are made now, by flight, and the tasks that make them
    _flights: dict[str, Flight] = field(default_factory=dict, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _finishing: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _uncounted: list[tuple[Asked, QuestionEvent]] = field(default_factory=list, init=False)
    renewals: Renewals = field(default_factory=Renewals, init=False)

    def __post_init__(self) -> None:
        self.pool, self.audits = cache(self.pool), cache(self.audits)

    async def answer(
        self,
        question: Question,
        *,
        waited: float = 0.0,
        on_worker: Callable[[str], None] = lambda _: None,
        on_miss: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[Event]:
        """Streams the answer: `Started`, its text, and last its `Reply`.

        `waited` is how many seconds the user has waited already; `on_worker` gets each worker that is asked.
        `on_miss` is awaited before a worker is asked: where the cache has no answer, and before a question is
        condensed. It may raise; then nothing is condensed.

        Raises:
            NoWorkerError: the cache has no answer and there is no worker to ask.
            EngineUnavailable, EngineRefused, StreamBroken: no worker gave a whole answer.
        """
        began = time.perf_counter()
        asked = Asked(question, None, began, before=waited, on_worker=on_worker, on_miss=on_miss)
        if self.sessions is not None and question.use_cache:
            asked.session = await self.sessions.open(question)
        self.under_way += 1
        try:
            hit = await self._look_up(asked)
            asked.shadow, asked.reply = (None, hit) if self.shadow is None else (hit, None)
            if asked.reply is not None:
                if asked.reply.stale:
                    self._renew(asked, asked.reply)
                yield Started(asked.reply.source, None, asked.reply, found=asked.found)
                yield Text(asked.reply.answer.text)
                yield asked.reply
            else:
                asked.unwanted = True  # until it may be asked: that it may not is no failure
                if question.only_cached:
                    raise NotCachedError("the cache has no answer to this question")
                if on_miss is not None:
                    await on_miss()
                asked.unwanted = False
                async with aclosing(self._ask(asked)) as events:
                    async for event in events:
                        yield event
        except (GeneratorExit, asyncio.CancelledError):
            asked.unwanted = True
            raise
        finally:
            self.under_way -= 1
            if not asked.leads:
                await self._count(asked)

    async def usd_per_second(self, model: str) -> float:
        """What a second of a worker's time costs, of the dearest that could be asked."""
        return answer_cost(1.0, await self.pool().highest_price(model), self.slots)

    async def aclose(self) -> None:
        """Ends the answers that are still made for other processes; finishes what is compared and counted."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._finishing, return_exceptions=True)

    async def _look_up(self, asked: Asked) -> Reply | None:
        """The cached reply, or None."""
        session = asked.session
        if session is None or asked.question.refresh:
            return None
        if (hit := await self._exact(asked, session)) is not None:
            return hit
        if not asked.question.exact_only:
            await self._condense(asked, session)
            found_by = asked.standalone or session
            asked.lookup = await found_by.semantic(
                asked.question.threshold,
                alone=self.under_way == 1,
                usable=lambda answer: (
                    self._is_usable(answer, asked.question)
                    and self._is_usable(answer, found_by.question)
                    # A conversation renews no answer of others, and who is served a stale one has to.
                    and (found_by is session or not self._is_stale(answer))
                ),
            )
            session.available, session.has_redis = found_by.available, found_by.has_redis
            asked.settle(found_by)
        served = asked.lookup.served
        if served is None:
            return None
        stale = self._is_stale(served.answer)
        return Reply(
            served.answer,
            "semantic",
            asked.latency(),
            entry=served.entry,
            lookup=asked.lookup,
            stale=stale,
            condensed=asked.condensed,
            found=asked.found,
        )

    async def _condense(self, asked: Asked, session: CacheSession) -> None:
        """Finds out what a follow-up question asks by itself, where that is wanted and may ask a worker."""
        if not session.condenses:
            return
        began = time.perf_counter()
        try:
            if asked.on_miss is not None:
                await asked.on_miss()
        except Exception:  # noqa: BLE001 - it may still be a hit; where it is none, this is raised again
            return
        asked.standalone = await session.standalone()
        asked.condense_ms = (time.perf_counter() - began) * 1000

    async def _ask(self, asked: Asked) -> AsyncGenerator[Event]:
        """The answer of an engine. The first asker asks it; the others, of all processes, follow that one.
        With a shadow each one asks: following would be a hit.
        """
        asks_for_itself = asked.question.refresh or self.shadow is not None
        session = None if asks_for_itself else asked.session
        flight = self._flights.get(session.flight_name) if session is not None else None
        asked.waited = flight is not None
        if flight is None:
            flight = Flight()
            self._begin(flight, asked, session)
        started = False
        try:
            async with aclosing(flight.stream()) as pieces:
                async for piece in pieces:
                    if not started:
                        started = True
                        yield self._started(flight, asked)
                    yield Text(piece.text, piece.logprobs) if isinstance(piece, Delta) else piece
            if not started:
                yield self._started(flight, asked)
            asked.reply = flight.reply if asked.leads else self._followed(flight, asked)
            assert asked.reply is not None  # noqa: S101 - a stream without a failure ends with it
            yield asked.reply
        finally:
            await self._leave(flight, asked)

    def _begin(self, flight: Flight, asked: Asked, session: CacheSession | None) -> asyncio.Task[None]:
        asked.leads = True
        if session is not None:
            self._flights[session.flight_name] = flight
        flight.task = task = asyncio.create_task(self._fill(flight, asked, session))
        # A command that ends waits for what it renews.
        tasks = self._finishing if asked.renews and not self.counts_later else self._tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: self._end(flight))
        return task

    def _end(self, flight: Flight) -> None:
        """No request waits for a flight whose task was cancelled, also before its first step."""
        self._forget(flight)
        if not flight.over:
            flight.fail(EngineUnavailable("the answer was given up, as llmhost is being stopped"))

    def _renew(self, asked: Asked, hit: Reply) -> None:
        """Begins to ask an engine again what a stale answer was given to. Of all processes one does; those
        that ask meanwhile, and may not have a stale answer, wait for the new one as always."""
        question, session = asked.question, asked.session
        if session is None or hit.entry is None or question.only_cached or not question.store:
            return
        if hit.source == "semantic" and hit.lookup.served is not None:
            question = replace(question, prompt=hit.lookup.served.question)
        # One that is cut off at the few tokens that this asker wants would not be stored.
        longest = self.max_tokens and max(self.max_tokens, question.sampling.max_tokens or 0)
        sampling = replace(question.sampling, max_tokens=longest)
        question = replace(question, max_age=None, lifetime=None, sampling=sampling)
        own = CacheSession(
            session.sessions, question, CacheKey(session.key.scope, hit.entry, question.prompt)
        )
        if own.flight_name in self._flights or not self.renewals.begin(hit.entry):
            return
        flight = Flight(kept=True)
        task = self._begin(flight, Asked(question, own, time.perf_counter(), renews=True), own)
        task.add_done_callback(lambda task: self._renewal_ended(flight, task))

    def _renewal_ended(self, flight: Flight, task: asyncio.Task[None]) -> None:
        self.renewals.end()
        if flight.failure is not None and not task.cancelled():
            self.warn_once.warn("a stale answer is not renewed", flight.failure)

    async def _leave(self, flight: Flight, asked: Asked) -> None:
        """One asker has its answer, or has left. The one that began the flight waits until it is counted."""
        assert flight.task is not None  # noqa: S101 - `_begin` has set it
        if not flight.wanted and not flight.over:
            self._forget(flight)
            flight.abandon()
        if (flight.over and asked.leads) or not flight.wanted:
            await asyncio.wait([flight.task])

    def _forget(self, flight: Flight) -> None:
        """The next one that asks begins another flight."""
        for name in [name for name, other in self._flights.items() if other is flight]:
            del self._flights[name]

    def _started(self, flight: Flight, asked: Asked) -> Started:
        """Those that follow get an exact hit, as all that ask later do."""
        asks = asked.leads and flight.worker is not None
        if not asks:
            return Started("exact", None)
        cost = flight.usd_per_second
        return Started("engine", flight.worker, shadow=asked.shadow, usd_per_second=cost, found=asked.found)

    def _followed(self, flight: Flight, asked: Asked) -> Reply:
        assert flight.reply is not None  # noqa: S101 - a stream without a failure ends with it
        reply = flight.reply
        return Reply(reply.answer, "exact", asked.latency(), entry=reply.entry, lookup=asked.lookup)

    async def _fill(self, flight: Flight, asked: Asked, session: CacheSession | None) -> None:
        """Asks an engine, or follows another process that does; counts the question of the first asker."""
        try:
            while flight.reply is None:
                async with nullcontext() if session is None else session.flight() as place:
                    if session is not None and isinstance(place, Follow):
                        await self._follow(flight, asked, session, place)
                    else:
                        await self._lead(flight, asked, session, place)
            asked.reply = flight.reply
        except asyncio.CancelledError:
            asked.unwanted = not flight.wanted
            raise
        except Exception as error:  # noqa: BLE001 - raised to everyone who asks
            flight.fail(error)
        finally:
            self._forget(flight)
            if not asked.renews or (asked.reply is not None and asked.reply.source == "engine"):
                await self._count(asked)

    async def _lead(
        self, flight: Flight, asked: Asked, session: CacheSession | None, lead: Lead | Follow | None
    ) -> None:
        lead = lead if isinstance(lead, Lead) else None
        stored = None if session is None or lead is None else self._hit(asked, session, lead.stored)
        if stored is not None:
            flight.add(Delta(stored.answer.text))
            flight.finish(stored)
            return
        asked.waited = False
        collected = Collected()
        question = asked.question
        answer = self.pool().stream(
            question.request(), conversation=question.conversation, tenant=question.tenant
        )
        async with flight.told_by(lead), aclosing(answer) as events:
            async for event in events:
                collected.add(event)
                if isinstance(event, Assigned):
                    flight.worker = event.worker_id
                    flight.usd_per_second = answer_cost(1.0, event.price_per_hour, self.slots)
                    asked.on_worker(event.worker_id)
                elif not isinstance(event, Done):
                    flight.add(event)
        reply = await self._finish(asked, collected)
        if lead is not None:
            lead.answer = reply.answer
        flight.finish(reply)

    async def _follow(self, flight: Flight, asked: Asked, session: CacheSession, place: Follow) -> None:
        """Gives what the process that leads tells. Where that fails before its first text, nothing is given.

        Raises StreamBroken where it fails later.
        """
        asked.waited = True
        try:
            async with aclosing(place.pieces()) as told:
                async for one in told:
                    if (piece := piece_of(one)) is not None:
                        flight.add(piece)
        except StoreError as error:
            session.degrade(error)
        given = "".join(piece.text for piece in flight.pieces if isinstance(piece, Delta))
        reply = await self._exact(asked, session)
        if place.answer is not None and (reply is None or not reply.answer.text.startswith(given)):
            reply = Reply(place.answer, "exact", asked.latency(), lookup=asked.lookup)
        if reply is not None and reply.answer.text.startswith(given):
            if rest := reply.answer.text[len(given) :]:
                flight.add(Delta(rest))
            flight.finish(reply)
        elif flight.pieces:
            raise StreamBroken("the process that asked the worker for this answer has failed")

    async def _exact(self, asked: Asked, session: CacheSession) -> Reply | None:
        began = time.perf_counter()
        answer = await session.exact()
        asked.exact_ms += (time.perf_counter() - began) * 1000
        return self._hit(asked, session, answer)

    def _hit(self, asked: Asked, session: CacheSession, answer: Answer | None) -> Reply | None:
        """The reply with this stored answer; None where there is none, or none that is usable."""
        if answer is None or not self._is_usable(answer, asked.question):
            return None
        stale = self._is_stale(answer)
        if stale and asked.renews:
            return None
        return Reply(
            answer, "exact", asked.latency(), entry=session.key.entry, lookup=asked.lookup, stale=stale
        )

    def _is_usable(self, answer: Answer, question: Question) -> bool:
        """Whether the answer is not too old, for the question, its kind or this configuration, and not too
        long. What was stored for a question of another kind may be older than this one's kind allows."""
        ages = [age for age in (question.max_age, question.lifetime) if age is not None]
        age_allowed = not ages or self.clock() - answer.timestamp <= min(ages)
        until = answer.fresh_until
        is_young = until is None or self.clock() <= until + self.stale_for
        return age_allowed and is_young and question.allows(answer)

    def _is_stale(self, answer: Answer) -> bool:
        return answer.fresh_until is not None and self.clock() > answer.fresh_until

    async def _finish(self, asked: Asked, collected: Collected) -> Reply:
        """The reply of an engine. A complete answer is stored."""
        answer = engine_answer(collected, asked.question.model, self.clock(), self.slots)
        latency, session = asked.latency(answer.engine_seconds), asked.session
        complete = answer.finish_reason == "stop" and bool(answer.text.strip()) and not collected.calls_tools
        # An answer that would have been served is left to expire when it would have.
        known = asked.shadow is not None and asked.shadow.source == "exact"
        stored = (
            complete
            and not known
            and asked.question.store
            and session is not None
            and collected.digest is not None  # without it, the answer would pass for one of other weights
            and await self._store(asked, session, answer, collected.digest)
        )
        if session is not None:
            asked.settle(session)
        return Reply(
            answer,
            "engine",
            latency,
            worker=collected.worker,
            entry=session.key.entry if stored and session is not None else None,
            lookup=asked.lookup,
            digest=collected.digest,
            shadow=asked.shadow,
            condensed=asked.condensed,
            found=asked.found,
        )

    async def _store(self, asked: Asked, session: CacheSession, answer: Answer, digest: str) -> bool:
        """Keeps the answer; that to a follow-up question that was looked up as what it asks by itself for the
        same conversation alone: who writes the turns before decides what it says, and others are not to read
        that."""
        if asked.standalone is None:
            return await session.store(answer, asked.lookup.vector, digest)
        return await session.store(answer, None, digest, exact_only=True)

    async def _count(self, asked: Asked) -> None:
        event = event_of(asked, self.clock())
        if asked.reply is not None and asked.reply.shadow is not None:
            self._compare(asked.question, asked.reply.shadow, asked.reply)
        if not self.counts_later:
            await self._record([(asked, event)])
            return
        self._uncounted.append((asked, event))
        if len(self._uncounted) == 1:
            self._finish_later(self._record_together())

    async def _record_together(self) -> None:
        """Counts what comes within a moment: a hit is cheaper than to count it by itself."""
        await asyncio.sleep(_TOGETHER)
        counted, self._uncounted = self._uncounted, []
        await self._record(counted)

    async def _record(self, counted: Sequence[tuple[Asked, QuestionEvent]]) -> None:
        """Counts questions, and the hits on their entries. Where Redis is away, this only warns."""
        counted = [
            (asked, event) for asked, event in counted if asked.session is None or asked.session.has_redis
        ]
        if self.ledger is not None and counted:
            try:
                await self.ledger.record(*(event for _, event in counted))
            except Exception as error:  # noqa: BLE001 - foreseen or not, the questions were answered
                self.warn_once.warn("this question is not counted", error)
        hits = [(asked, hit) for asked, event in counted if (hit := asked.hit(event.at)) is not None]
        if self.sessions is None or not hits or not await self.sessions.touch(*(hit for _, hit in hits)):
            return
        for asked, hit in hits:
            semantic = asked.reply is not None and asked.reply.source == "semantic"
            if semantic and asked.question.store and (audits := self.audits()) is not None:
                condensed = asked.standalone is not None
                await audits.served(asked.question, asked.lookup, hit.at, condensed=condensed)

    def _compare(self, question: Question, hit: Reply, reply: Reply) -> None:
        """Compares them in a task, so that no user waits for it."""

        async def compare() -> None:
            try:
                if self.shadow is not None:
                    await self.shadow(question, hit, reply)
            except Exception as error:  # noqa: BLE001 - foreseen or not, the question was answered
                self.warn_once.warn("a hit that was not served is not compared", error)

        self._finish_later(compare())

    def _finish_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)


def engine_answer(collected: Collected, model: str, now: float, slots: int) -> Answer:
    """What an engine has given so far as an answer, with what it cost; `slots` as in `Answerer`."""
    seconds, done = collected.seconds, collected.done
    price = collected.assigned.price_per_hour if collected.assigned else 0.0
    return Answer(
        text=collected.text,
        model=model,
        timestamp=now,
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.completion_tokens,
        finish_reason=done.finish_reason,
        engine_seconds=seconds,
        cost_usd=answer_cost(seconds, price, slots),
        worker=collected.worker or "",
        machine=collected.assigned.machine if collected.assigned else "",
    )
