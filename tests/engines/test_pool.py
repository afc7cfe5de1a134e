"""Which worker answers, and what happens when it does not."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.waiting import until

from llmhost.engines.breaker import Breakers
from llmhost.engines.engine import Delta, Done, Thought, ToolCall
from llmhost.engines.load import LocalLoad
from llmhost.engines.pool import Assigned, Pool, Upstream
from llmhost.engines.queue import FairQueue
from llmhost.engines.redis_traffic import RedisLoad, RedisTraffic
from llmhost.engines.traffic import Work
from llmhost.errors import (
    EngineRefused,
    EngineUnavailable,
    LlmhostError,
    NoWorkerError,
    QueueFull,
    StreamBroken,
    UnreachedWorker,
    UntrustedWorker,
    WorkersBusy,
    WorkersFailing,
)

DONE = Done("stop", 1, 2)


class ScriptedEngine:
    """Gives its events in turn; an exception among them is raised there. None waits for ever."""

    def __init__(self, *events):
        self.events = events
        self.asked = 0
        self.closed = False

    async def chat(self, request):
        self.asked += 1
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                if event is None:
                    await asyncio.Event().wait()
                yield event
        finally:
            self.closed = True


def free(name: str, engine: Any) -> Upstream:
    """A worker that costs nothing; of an engine the pool only needs `chat`."""
    return Upstream(name, engine, 0.0)


class WatchedLoad(LocalLoad):
    """Counts how many slots are out and what it is told. Workers that are `draining` get none."""

    def __init__(self):
        super().__init__()
        self.out = 0
        self.draining = set()
        self.asked_again = []
        self.works = []
        self.turned = 0

    async def acquire(self, workers, *, again=False, affine=False, tokens=0):
        self.asked_again.append(again)
        free = [worker for worker in workers if worker not in self.draining]
        if not free:
            return None
        self.out += 1
        return await super().acquire(free, affine=affine, tokens=tokens)

    async def release(self, slot, work=None):
        self.out -= 1
        self.works.append(work)
        await super().release(slot)

    async def record_rejected(self):
        self.turned += 1


@pytest.fixture
def load():
    return WatchedLoad()


@pytest.fixture
def make_pool(load):
    def make(*engines, max_attempts=3, **options):
        upstreams = [Upstream(f"w{n}", engine, n / 10) for n, engine in enumerate(engines)]

        async def listed(_model):
            return upstreams

        return Pool(listed, load, max_attempts, **options)

    return make


async def events_of(stream):
    """What came, and the error that ended it or None."""
    events = []
    try:
        async for event in stream:
            events.append(event)
    except (LlmhostError, RuntimeError) as error:
        return events, error
    return events, None


def broken(engine="it"):
    return EngineUnavailable(f"{engine} is broken")


async def test_an_answer_starts_with_who_gives_it(make_pool, question):
    pool = make_pool(ScriptedEngine(Delta("a"), Delta("b"), DONE))
    assert await events_of(pool.stream(question())) == (
        [Assigned("w0", 0.0), Delta("a"), Delta("b"), DONE],
        None,
    )


async def test_what_questions_may_read_and_write_decides_who_is_least_busy(make_pool, question):
    pool = make_pool(*(ScriptedEngine(None) for _ in range(2)))
    long, *short = question("word " * 4000), *[question("word") for _ in range(3)]
    streams, chosen = [], []
    for asked in (long, *short):
        streams.append(pool.stream(asked))
        chosen.append((await anext(streams[-1])).worker_id)
    for stream in streams:
        await stream.aclose()
    assert chosen == ["w0", "w1", "w1", "w1"]


async def test_a_worker_that_fails_before_its_first_token_is_left_for_another(make_pool, question):
    pool = make_pool(ScriptedEngine(broken()), ScriptedEngine(Delta("a"), DONE))
    assert await events_of(pool.stream(question())) == (
        [Assigned("w0", 0.0), Assigned("w1", 0.1), Delta("a"), DONE],
        None,
    )


async def test_a_worker_that_fails_after_its_first_token_is_the_end(make_pool, question):
    other = ScriptedEngine(Delta("a"), DONE)
    pool = make_pool(ScriptedEngine(Delta("a"), StreamBroken("it broke off")), other)
    events, error = await events_of(pool.stream(question()))
    assert events == [Assigned("w0", 0.0), Delta("a")]
    assert isinstance(error, StreamBroken)
    assert other.asked == 0


async def test_a_refused_request_is_not_asked_of_another(make_pool, question):
    other = ScriptedEngine(Delta("a"), DONE)
    _, error = await events_of(make_pool(ScriptedEngine(EngineRefused("no")), other).stream(question()))
    assert isinstance(error, EngineRefused)
    assert other.asked == 0


async def test_the_last_failure_is_raised_with_what_to_do(make_pool, question):
    pool = make_pool(ScriptedEngine(broken("w0")), ScriptedEngine(broken("w1")))
    _, error = await events_of(pool.stream(question()))
    assert isinstance(error, EngineUnavailable)
    assert (error.message, error.hint) == (
        "w1 is broken",
        "`llmhost status` shows the workers; where they are dead, run `llmhost up`",
    )


async def test_a_hint_of_the_engine_is_kept(make_pool, question):
    pool = make_pool(ScriptedEngine(EngineUnavailable("no token", hint="check the token")))
    _, error = await events_of(pool.stream(question()))
    assert (
        error.hint
        == "check the token; `llmhost status` shows the workers; where they are dead, run `llmhost up`"
    )


async def test_a_worker_that_is_not_itself_is_reported_although_another_one_answers(make_pool, question):
    told = []
    impostor = UntrustedWorker("w0 shows another certificate")
    pool = make_pool(
        ScriptedEngine(impostor),
        ScriptedEngine(Delta("a"), DONE),
        on_untrusted=lambda worker, error: told.append((worker, error)),
    )
    events, error = await events_of(pool.stream(question()))
    assert (events[-2:], error) == ([Delta("a"), DONE], None)
    assert told == [("w0", impostor)]


async def test_where_nobody_is_itself_the_error_says_so_and_is_not_said_twice(make_pool, question):
    told = []
    engines = [ScriptedEngine(UntrustedWorker(f"w{n} shows another certificate", hint="h")) for n in range(2)]
    pool = make_pool(*engines, on_untrusted=lambda worker, error: told.append(worker))
    _, error = await events_of(pool.stream(question()))
    assert (type(error), error.message, error.hint) == (UntrustedWorker, "w1 shows another certificate", "h")
    assert told == ["w0"]


@pytest.mark.parametrize(("workers", "max_attempts", "asked"), [(5, 3, 3), (2, 3, 2), (3, 1, 1)])
async def test_each_worker_is_asked_once_and_not_too_many(make_pool, question, workers, max_attempts, asked):
    engines = [ScriptedEngine(broken()) for _ in range(workers)]
    await events_of(make_pool(*engines, max_attempts=max_attempts).stream(question()))
    assert [engine.asked for engine in engines] == [1] * asked + [0] * (workers - asked)


async def test_without_workers_the_command_that_makes_some_is_named(make_pool, question):
    _, error = await events_of(make_pool().stream(question()))
    assert isinstance(error, NoWorkerError)
    assert error.hint == "run `llmhost up`; where `llmhost scale` runs, it has been told"


@pytest.mark.parametrize(("background", "rejected"), [(False, 1), (True, 0)])
async def test_a_users_question_without_workers_is_recorded_as_rejected(
    make_pool, load, question, background, rejected
):
    await events_of(make_pool(background=background).stream(question()))
    assert (load.turned, load.asked_again) == (rejected, [])


async def test_where_all_workers_are_being_ended_the_commands_that_bring_others_are_named(
    make_pool, load, question
):
    load.draining = {"w0", "w1"}
    events, error = await events_of(make_pool(ScriptedEngine(DONE), ScriptedEngine(DONE)).stream(question()))
    assert (events, type(error), load.turned) == ([], NoWorkerError, 0)
    assert "being ended" in error.message
    assert error.hint == "run `llmhost scale` or `llmhost up`, which bring others"


async def test_a_worker_that_is_being_ended_is_not_asked(make_pool, load, question):
    load.draining = {"w0"}
    pool = make_pool(ScriptedEngine(DONE), ScriptedEngine(DONE))
    assert await events_of(pool.stream(question())) == ([Assigned("w1", 0.1), DONE], None)


async def test_where_the_others_are_being_ended_the_failure_of_the_first_is_raised(make_pool, load, question):
    told = []
    load.draining = {"w1"}
    impostor = UntrustedWorker("w0 shows another certificate")
    pool = make_pool(
        ScriptedEngine(impostor), ScriptedEngine(DONE), on_untrusted=lambda *both: told.append(both)
    )
    events, error = await events_of(pool.stream(question()))
    assert (events, error, told, load.out) == ([Assigned("w0", 0.0)], impostor, [], 0)


async def test_a_question_is_new_to_the_first_worker_only(make_pool, load, question):
    pool = make_pool(ScriptedEngine(broken()), ScriptedEngine(broken()), ScriptedEngine(DONE))
    await events_of(pool.stream(question()))
    assert load.asked_again == [False, True, True]


class TimedEngine:
    """Takes so many seconds of a manual clock before each event."""

    def __init__(self, clock, *steps):
        self.clock = clock
        self.steps = steps

    async def chat(self, request):
        for seconds, event in self.steps:
            await self.clock.sleep(seconds)
            yield event


async def test_an_answer_took_what_the_engine_needed_and_not_what_its_reader_did(make_pool, load, question):
    clock = ManualClock()
    engine = TimedEngine(clock, (5, Delta("a")), (2, Delta("b")), (1, Done("stop", 7, 40)))
    async for _ in make_pool(engine, clock=clock.monotonic).stream(question()):
        await clock.sleep(100)
    assert load.works == [Work(40, 8.0, "tiny")]


async def test_where_an_engine_counts_no_tokens_its_pieces_are_counted(make_pool, load, question):
    clock = ManualClock()
    engine = TimedEngine(clock, (1, Thought("a")), (1, ToolCall(0)), (1, Delta("b")), (1, Done("stop", 0, 0)))
    await events_of(make_pool(engine, clock=clock.monotonic).stream(question()))
    assert load.works == [Work(3, 4.0, "tiny")]


async def test_only_the_worker_that_answered_is_measured(make_pool, load, question):
    await events_of(make_pool(ScriptedEngine(broken()), ScriptedEngine(Delta("a"), DONE)).stream(question()))
    assert [work and work.tokens for work in load.works] == [None, 2]


async def test_a_worker_that_was_started_meanwhile_is_asked_after_one_that_failed(load, question):
    upstreams: list[Any] = []

    class Failing(ScriptedEngine):
        async def chat(self, request):
            upstreams.append(free("late", ScriptedEngine(DONE)))
            raise broken()
            yield

    async def listed(_model):
        return list(upstreams)

    upstreams.append(free("early", Failing()))
    events, error = await events_of(Pool(listed, load, 3).stream(question()))
    assert (events, error) == ([Assigned("early", 0.0), Assigned("late", 0.0), DONE], None)


async def test_where_others_cannot_be_looked_up_the_failure_of_the_first_is_raised(load, question):
    answers: Any = [[free("only", ScriptedEngine(broken()))]]

    async def listed(_model):
        if not answers:
            raise NoWorkerError("the list is away")
        return answers.pop()

    _, error = await events_of(Pool(listed, load, 3).stream(question()))
    assert "is broken" in error.message


@pytest.mark.parametrize(
    "events",
    [
        (Delta("a"), DONE),
        (broken(),),
        (Delta("a"), StreamBroken("it broke off")),
        (EngineRefused("no"),),
        (Delta("a"), RuntimeError("a mistake of ours")),
    ],
)
async def test_the_slot_is_given_back_however_it_ends_and_only_a_whole_answer_is_measured(
    make_pool, load, question, events
):
    await events_of(make_pool(ScriptedEngine(*events)).stream(question()))
    assert load.out == 0
    assert [work is not None for work in load.works] == [events[-1] is DONE]


async def test_leaving_a_stream_gives_the_slot_back_and_closes_the_engines(make_pool, load, question):
    engine = ScriptedEngine(Delta("a"), None)
    stream = make_pool(engine).stream(question())
    assert [await anext(stream), await anext(stream)] == [Assigned("w0", 0.0), Delta("a")]
    await stream.aclose()
    assert (load.out, load.works, engine.closed) == (0, [None], True)


async def test_cancelling_gives_the_slot_back_and_closes_the_engines(make_pool, load, question):
    engine = ScriptedEngine(None)
    stream = make_pool(engine).stream(question())
    await anext(stream)
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (load.out, engine.closed) == (0, True)


async def test_what_a_worker_answered_is_forgotten_when_it_is_not_itself_whether_another_answers_or_not(
    make_pool, question
):
    forgotten = []

    async def forget(worker):
        forgotten.append(worker)

    impostors = [ScriptedEngine(UntrustedWorker("another certificate")) for _ in range(2)]
    await events_of(make_pool(*impostors, ScriptedEngine(broken()), forget=forget).stream(question()))
    assert sorted(forgotten) == ["w0", "w1"]


async def test_without_redis_too_questions_one_after_the_other_are_spread_over_all_workers():
    load, asked = LocalLoad(), Counter[str]()
    for _ in range(20):
        slot = await load.acquire(["a", "b", "c"])
        asked[slot.worker] += 1
        await load.release(slot)
    assert sorted(asked.values()) == [6, 7, 7]


# Conversations


async def test_a_conversation_stays_with_its_worker_and_single_questions_are_spread(make_pool, question):
    pool = make_pool(*(ScriptedEngine(DONE) for _ in range(4)))
    asked = [
        [event.worker_id for event in (await events_of(pool.stream(question(), conversation=name)))[0][:1]]
        for name in ["talk"] * 8 + [""] * 4
    ]
    assert len({worker for (worker,) in asked[:8]}) == 1
    assert sorted(worker for (worker,) in asked[8:]) == ["w0", "w1", "w2", "w3"]


async def test_a_conversation_whose_worker_fails_goes_on_with_another(make_pool, question):
    engines = [ScriptedEngine(DONE) for _ in range(3)]
    pool = make_pool(*engines)
    ((own, _), _) = await events_of(pool.stream(question(), conversation="talk"))
    engines[int(own.worker_id[1:])].events = (UnreachedWorker("connection refused"),)
    firsts = [(await events_of(pool.stream(question(), conversation="talk")))[0] for _ in range(3)]
    ends = {events[-2].worker_id for events in firsts}
    assert ([len(events) for events in firsts], len(ends)) == ([3, 2, 2], 1)
    assert own.worker_id not in ends


# Slots and the queue


class Kitchen:
    """A pool with a queue, whose engines answer when they are told to."""

    def __init__(self, *, length=10, timeout=60, slots=1, workers=1, load=None, **options):
        self.queue = FairQueue(length, timeout, period=0.01)
        self.engines = [HeldEngine() for _ in range(workers)]
        self.load = load or LocalLoad(slots)
        self.upstreams = [free(f"w{n}", engine) for n, engine in enumerate(self.engines)]
        self.pool = Pool(self.listed, self.load, 3, queue=self.queue, **options)
        self.tasks = []
        self.late: Any = None
        self.traffic: Any = None

    async def listed(self, _model):
        return list(self.upstreams)

    async def ask(self, question, tenant="t"):
        """A request that is under way, or waits: it returns once it does one of both."""
        task = asyncio.create_task(events_of(self.pool.stream(question, tenant=tenant)))
        before = self.under_way + len(self.queue)
        await until(lambda: task.done() or self.under_way + len(self.queue) > before)
        self.tasks.append(task)
        return task

    @property
    def under_way(self):
        return sum(len(engine.doors) for engine in self.engines)


class HeldEngine:
    """Answers each request once its door is opened."""

    def __init__(self):
        self.doors = []
        self.most = 0

    async def chat(self, request):
        door = asyncio.Event()
        self.doors.append(door)
        self.most = max(self.most, len(self.doors))
        try:
            await door.wait()
            yield DONE
        finally:
            self.doors.remove(door)


async def test_no_worker_gets_more_requests_than_it_has_slots_and_all_are_answered(question):
    kitchen = Kitchen(slots=2, workers=2)
    tasks = [await kitchen.ask(question()) for _ in range(9)]
    assert (kitchen.under_way, len(kitchen.queue)) == (4, 5)
    await open_all(kitchen, *tasks)
    assert [engine.most for engine in kitchen.engines] == [2, 2]


async def test_beyond_the_length_of_the_queue_a_request_is_refused_at_once(question):
    kitchen = Kitchen(length=1)
    first, second = await kitchen.ask(question()), await kitchen.ask(question())
    _, error = await (await kitchen.ask(question()))
    assert isinstance(error, QueueFull)
    await open_all(kitchen, first, second)


async def open_all(kitchen, *tasks):
    """All of them get their answers."""

    def opened():
        for door in [door for engine in kitchen.engines for door in engine.doors]:
            door.set()
        return all(task.done() for task in tasks)

    await until(opened, pause=0)
    assert [task.result()[1] for task in tasks] == [None] * len(tasks)


async def test_who_waits_for_too_long_is_told_so_and_the_others_go_on(question):
    kitchen = Kitchen(timeout=0.05)
    first = await kitchen.ask(question())
    _, error = await (await kitchen.ask(question()))
    assert isinstance(error, WorkersBusy)
    assert len(kitchen.queue) == 0
    third = await kitchen.ask(question())
    await open_all(kitchen, first, third)


async def test_who_leaves_while_it_waits_is_waited_for_no_more(redis_client, question):
    load = RedisLoad(redis_client, "test", 60)
    kitchen, traffic = Kitchen(load=load), RedisTraffic(redis_client, "test", 1)
    first, second = await kitchen.ask(question()), await kitchen.ask(question())
    await until(lambda: waiting_in(traffic))
    second.cancel()
    await asyncio.wait([second])
    assert (len(kitchen.queue), await waiting_in(traffic)) == (0, 0)
    await open_all(kitchen, first, await kitchen.ask(question()))


async def waiting_in(traffic):
    return (await traffic.read([])).waiting


async def test_tenants_take_turns_at_a_busy_worker(question):
    kitchen = Kitchen()
    order = []
    tasks = [await kitchen.ask(question())]
    for name in ("a", "a", "a", "b"):
        task = await kitchen.ask(question(), tenant=name)
        task.add_done_callback(lambda _, name=name: order.append(name))
        tasks.append(task)
    await open_all(kitchen, *tasks)
    await asyncio.sleep(0)  # the last one is told
    assert order == ["a", "a", "b", "a"]


async def test_a_worker_that_joins_takes_from_the_queue(question):
    kitchen = Kitchen(workers=2)
    late = kitchen.upstreams.pop()
    first, second = await kitchen.ask(question()), await kitchen.ask(question())
    kitchen.upstreams.append(late)
    await until(lambda: kitchen.engines[1].doors)
    kitchen.engines[1].doors[0].set()
    assert (await second)[0] == [Assigned("w1", 0.0), DONE]
    await open_all(kitchen, first)


async def test_the_requests_of_two_gateways_keep_to_the_slots_together(redis_client, question):
    one = Kitchen(load=RedisLoad(redis_client, "test", 60))
    other = Kitchen(load=RedisLoad(redis_client, "test", 60))
    other.engines, other.upstreams = one.engines, one.upstreams
    tasks = [await house.ask(question()) for house in (one, other, one, other)]
    assert one.engines[0].most == 1
    await open_all(one, *tasks)
    assert one.engines[0].most == 1


async def test_a_question_that_waits_is_counted_once(redis_client, question):
    kitchen, traffic = (
        Kitchen(load=RedisLoad(redis_client, "test", 60)),
        RedisTraffic(redis_client, "test", 1),
    )
    tasks = [await kitchen.ask(question()) for _ in range(3)]
    await open_all(kitchen, *tasks)
    read = await traffic.read([])
    assert (sum(read.asked.values()), read.waiting) == (3, 0)


# Workers that fail are left alone


@pytest.fixture
def breakers():
    return Breakers(ManualClock().monotonic)


async def test_a_worker_to_which_there_is_no_connection_is_not_asked_by_the_next_question(
    make_pool, question, breakers
):
    dead, sound = ScriptedEngine(UnreachedWorker("connection refused")), ScriptedEngine(DONE)
    pool = make_pool(dead, sound, breakers=breakers)
    for _ in range(5):
        assert (await events_of(pool.stream(question())))[1] is None
    assert (dead.asked, sound.asked) == (1, 5)


async def test_what_has_failed_is_not_forgotten_where_the_workers_cannot_be_listed(load, question, breakers):
    dead = ScriptedEngine(UnreachedWorker("connection refused"))
    away = NoWorkerError("the list is away")
    answers: list[Any] = [[free("only", dead)], away, [free("only", dead)]]

    async def listed(_model):
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    pool = Pool(listed, load, 3, breakers=breakers)
    await events_of(pool.stream(question()))
    assert isinstance((await events_of(pool.stream(question())))[1], WorkersFailing)
    assert dead.asked == 1


async def test_where_all_have_failed_a_question_fails_at_once_and_says_when_to_ask_again(
    make_pool, question, breakers
):
    engines = [ScriptedEngine(UnreachedWorker("connection refused")) for _ in range(2)]
    pool = make_pool(*engines, breakers=breakers)
    assert isinstance((await events_of(pool.stream(question())))[1], EngineUnavailable)
    events, error = await events_of(pool.stream(question()))
    assert (events, type(error), error.retry_after) == ([], WorkersFailing, 1.0)
    assert [engine.asked for engine in engines] == [1, 1]


async def test_a_worker_that_is_left_alone_is_tried_by_one_question_and_then_by_all(make_pool, question):
    clock = ManualClock()
    engine = ScriptedEngine(UnreachedWorker("connection refused"))
    pool = make_pool(engine, breakers=Breakers(clock.monotonic))
    await events_of(pool.stream(question()))
    await clock.sleep(1)
    engine.events = (DONE,)
    trying = pool.stream(question())
    await anext(trying)
    assert isinstance((await events_of(pool.stream(question())))[1], WorkersFailing)
    await events_of(trying)
    assert (await events_of(pool.stream(question())))[1] is None


@pytest.mark.parametrize(
    "events", [(EngineRefused("no"),), (Delta("a"), StreamBroken("it broke off")), (Delta("a"), DONE)]
)
async def test_only_what_happens_before_the_first_token_counts_against_a_worker(
    make_pool, question, breakers, events
):
    engine = ScriptedEngine(*events)
    pool = make_pool(engine, breakers=breakers)
    for _ in range(5):
        await events_of(pool.stream(question()))
    assert engine.asked == 5


async def test_those_who_leave_before_the_first_token_say_nothing_of_the_worker(
    make_pool, question, breakers
):
    engine = ScriptedEngine(None)
    pool = make_pool(engine, breakers=breakers)
    for _ in range(5):
        stream = pool.stream(question())
        await anext(stream)
        await stream.aclose()
    assert [event.worker_id for event in [await anext(pool.stream(question()))]] == ["w0"]


# From zero


class ScriptedWake:
    """Brings a worker when it is told to, or refuses."""

    def __init__(self, kitchen, timeout=60.0, refusal=None):
        self.timeout = timeout
        self.kitchen = kitchen
        self.refusal = refusal
        self.asked = self.doubted = 0
        self.waiting = []

    async def __call__(self):
        self.asked += 1
        self.waiting.append(await waiting_in(self.kitchen.traffic))
        if self.refusal is not None:
            raise NoWorkerError(self.refusal)

    def doubt(self):
        self.doubted += 1


@pytest.fixture
def asleep(redis_client):
    """A pool whose only worker has still to come."""

    def make(**options):
        kitchen = Kitchen(load=RedisLoad(redis_client, "test", 60))
        kitchen.traffic = RedisTraffic(redis_client, "test", 1)
        kitchen.late = kitchen.upstreams.pop()
        kitchen.pool._wake = ScriptedWake(kitchen, **options)
        return kitchen

    return make


async def test_a_question_without_a_worker_wakes_the_fleet_and_waits_for_one(asleep, question):
    kitchen = asleep()
    tasks = [await kitchen.ask(question()) for _ in range(2)]
    await until(lambda: kitchen.pool._wake.asked >= 2)
    assert kitchen.pool._wake.waiting[0] == 1, "it is demand before the autoscaler looks"
    kitchen.upstreams.append(kitchen.late)
    await open_all(kitchen, *tasks)
    read = await kitchen.traffic.read([])
    assert (sum(read.asked.values()), read.waiting) == (2, 0)


async def test_why_no_worker_is_started_is_told_at_once_and_nobody_waits(asleep, question):
    kitchen = asleep(refusal="the budget is spent")
    _, error = await (await kitchen.ask(question()))
    assert (type(error), error.message) == (NoWorkerError, "the budget is spent")
    read = await kitchen.traffic.read([])
    assert (sum(read.asked.values()), read.waiting, len(kitchen.queue)) == (1, 0, 0)


async def test_a_worker_that_does_not_come_in_time_is_an_error(asleep, question):
    kitchen = asleep(timeout=0.05)
    _, error = await (await kitchen.ask(question()))
    assert isinstance(error, NoWorkerError)
    assert "no worker became ready within 0.05 s" in error.message
    assert await waiting_in(kitchen.traffic) == 0


async def test_where_the_last_worker_drains_the_fleet_is_woken(asleep, question):
    kitchen = asleep()
    kitchen.upstreams.append(kitchen.late)
    await kitchen.traffic.drain(["w0"])
    task = await kitchen.ask(question())
    await until(lambda: kitchen.pool._wake.asked)
    await kitchen.traffic.revive(["w0"])
    await open_all(kitchen, task)


async def test_workers_that_all_fail_wake_nothing_but_it_is_looked_whether_they_are_there(asleep, question):
    kitchen = asleep()
    kitchen.upstreams.append(free("w0", ScriptedEngine(UnreachedWorker("connection refused"))))
    errors = [(await (await kitchen.ask(question())))[1] for _ in range(3)]
    assert [type(error) for error in errors] == [EngineUnavailable, WorkersFailing, WorkersFailing]
    assert (kitchen.pool._wake.asked, kitchen.pool._wake.doubted) == (0, 2)
