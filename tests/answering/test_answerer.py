"""The one path of a question, on a real Redis; only the engines play a part."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from doubles.answering_house import ASKED, DONE, REWORDED, House
from doubles.embedders import WordEmbedder
from doubles.scripted_pool import ScriptedEngine
from doubles.waiting import LONGEST
from plugins.cache import MakeCache
from redis.asyncio import Redis, UnixDomainSocketConnection

from llmhost.answering.answerer import Answerer
from llmhost.answering.cache_session import Weights
from llmhost.answering.question import Question, Reply, Started, Text
from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.policy import ThresholdPolicy
from llmhost.cache.stored import decode_entry
from llmhost.config.models import RedisConfig
from llmhost.engines.engine import Completion, Done, Message, Sampling
from llmhost.engines.load import LocalLoad
from llmhost.engines.pool import Pool, Upstream
from llmhost.errors import EngineUnavailable, ModelError, NotCachedError, NoWorkerError, StreamBroken
from llmhost.ledger.events import Outcome
from llmhost.store.client import connect
from llmhost.store.keys import NamespaceKeys


def engine(text: str = "an answer") -> ScriptedEngine:
    return ScriptedEngine(text, DONE)


async def test_a_new_question_is_streamed_from_a_worker(house: House) -> None:
    texts, reply = await house.events(ASKED, ScriptedEngine("an ", "answer", DONE))
    assert texts == ["an ", "answer"]
    facts = (
        reply.answer.text,
        reply.source,
        reply.worker,
        reply.answer.prompt_tokens,
        reply.answer.completion_tokens,
    )
    assert facts == ("an answer", "engine", "w0", 7, 3)


async def test_the_same_question_again_asks_no_worker(house: House) -> None:
    first = await house.ask(ASKED, engine())
    texts, reply = await house.events(ASKED)
    assert (texts, reply.source, reply.entry) == (["an answer"], "exact", first.entry)


async def test_the_first_question_of_a_scope_is_embedded_after_its_first_text(
    house: House, embedder: WordEmbedder
) -> None:
    events = house.answerer(ScriptedEngine("a", DONE)).answer(ASKED)
    async for event in events:
        if isinstance(event, Text):
            assert embedder.calls == 0
    assert embedder.calls == 1
    _, reply = await house.events(replace(ASKED, prompt=f"{ASKED.prompt} please"))
    assert reply.source == "semantic"


async def test_another_wording_asks_no_worker(house: House) -> None:
    first = await house.ask(ASKED, engine())
    reply = await house.ask(REWORDED)
    assert (reply.answer.text, reply.source, reply.entry) == ("an answer", "semantic", first.entry)
    assert reply.lookup.served is not None
    assert reply.lookup.served.question == ASKED.prompt
    assert reply.lookup.served.similarity == pytest.approx(0.935, abs=0.01)


@pytest.mark.parametrize(
    "changes", [{"system": "s"}, {"model": "other"}, {"tenant": "other"}], ids=["system", "model", "tenant"]
)
async def test_another_scope_is_asked_for_itself(house: House, changes: dict[str, Any]) -> None:
    await house.ask(ASKED, engine("first"))
    reply = await house.ask(replace(ASKED, **changes), engine("second"))
    assert (reply.answer.text, reply.source) == ("second", "engine")


async def test_an_answer_is_served_to_every_limit_of_tokens_that_it_keeps(house: House) -> None:
    def limited(question: Question, most: int | None) -> Question:
        return replace(question, sampling=Sampling(max_tokens=most))

    await house.ask(limited(ASKED, 9), engine())
    sources = [(await house.ask(limited(ASKED, most), engine())).source for most in (None, 3, 2)]
    reworded = [(await house.ask(limited(REWORDED, most), engine())).source for most in (3, 2)]
    assert sources == ["exact", "exact", "engine"]
    assert reworded == ["semantic", "engine"]


async def test_without_the_cache_nothing_is_read_or_stored(house: House, redis_client: Redis) -> None:
    await house.ask(ASKED, engine("old"))
    before = set(await redis_client.keys("test:*"))
    reply = await house.ask(replace(ASKED, use_cache=False), engine("new"))
    assert (reply.answer.text, reply.entry) == ("new", None)
    assert set(await redis_client.keys("test:*")) == before
    assert (await house.ask(ASKED)).answer.text == "old"


async def test_a_refresh_replaces_the_answer(house: House) -> None:
    await house.ask(ASKED, engine("old"))
    reply = await house.ask(replace(ASKED, refresh=True), engine("new"))
    assert (reply.answer.text, reply.source) == ("new", "engine")
    assert (await house.ask(ASKED)).answer.text == "new"
    assert (await house.ask(REWORDED)).answer.text == "new"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("half an", "length"), ("half an", "content_filter"), ("half an", "tool_calls"), (" ", "stop")],
)
async def test_an_incomplete_or_empty_answer_is_shown_but_not_stored(
    house: House, text: str, reason: str
) -> None:
    reply = await house.ask(ASKED, ScriptedEngine(text, Done(reason, 1, 1)))
    assert (reply.answer.text, reply.answer.finish_reason, reply.entry) == (text, reason, None)
    assert (await house.ask(ASKED, engine("whole"))).answer.text == "whole"


async def test_a_stream_that_breaks_is_an_error_and_is_not_stored(house: House, redis_client: Redis) -> None:
    with pytest.raises(StreamBroken):
        await house.ask(ASKED, ScriptedEngine("half", StreamBroken("broke")), engine("never asked"))
    assert await redis_client.keys("test:*") == []


async def test_without_a_worker_a_hit_is_served_and_a_miss_names_the_command(house: House) -> None:
    await house.ask(ASKED, engine())
    assert (await house.ask(REWORDED)).source == "semantic"
    with pytest.raises(NoWorkerError) as caught:
        await house.ask(replace(ASKED, prompt="something else entirely"))
    assert str(caught.value.hint).startswith("run `llmhost up`")


async def test_an_answer_given_up_half_way_is_not_stored(house: House, redis_client: Redis) -> None:
    async with aclosing(
        house.answerer(ScriptedEngine("half", asyncio.Event(), DONE)).answer(ASKED)
    ) as events:
        assert await anext(events) == Started("engine", "w0", usd_per_second=1.0)
        assert await anext(events) == Text("half")
    assert await redis_client.keys("test:*") == []


async def test_a_cancelled_question_stores_nothing_and_frees_its_flight(
    house: House, redis_client: Redis
) -> None:
    started = asyncio.Event()

    class Endless(ScriptedEngine):
        async def chat(self, request: object) -> Any:
            from llmhost.engines.engine import Delta

            yield Delta("half")
            started.set()
            await asyncio.Event().wait()

    asking = asyncio.create_task(house.ask(ASKED, Endless()))
    await started.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await redis_client.keys("test:*") == []


async def test_a_question_that_begins_while_its_process_ends_does_not_wait_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Answerer._begin

    def ended_at_once(*args: Any) -> asyncio.Task[None]:
        task = begin(*args)
        task.cancel()
        return task

    monkeypatch.setattr(Answerer, "_begin", ended_at_once)
    with pytest.raises(EngineUnavailable, match="being stopped"):
        await asyncio.wait_for(house.ask(ASKED, engine()), LONGEST)


async def test_of_several_that_ask_the_same_at_once_one_asks_a_worker(house: House) -> None:
    worker = engine()
    replies = await asyncio.gather(*(house.ask(ASKED, worker) for _ in range(5)))
    assert len(worker.requests) == 1
    assert {reply.answer.text for reply in replies} == {"an answer"}


async def test_where_the_first_fails_the_next_in_line_asks(house: House) -> None:
    broken, working = ScriptedEngine("half", StreamBroken("broke")), engine()
    replies = await asyncio.gather(
        house.ask(ASKED, broken), house.ask(ASKED, working), return_exceptions=True
    )
    answers = [reply.answer.text for reply in replies if isinstance(reply, Reply)]
    assert set(answers) == {"an answer"}


# The order of events


async def test_headers_can_be_sent_before_the_first_text_of_a_worker(house: House) -> None:
    broken = ScriptedEngine(EngineUnavailable("down"))
    first, *_ = [event async for event in house.answerer(broken, engine()).answer(ASKED)]
    assert first == Started("engine", "w1", usd_per_second=1.0)


async def test_headers_can_be_sent_before_the_text_of_a_hit(house: House) -> None:
    await house.ask(ASKED, engine())
    cases: list[tuple[Question, Any]] = [(ASKED, "exact"), (REWORDED, "semantic")]
    for question, source in cases:
        started, text, reply = [event async for event in house.answerer().answer(question)]
        assert isinstance(reply, Reply)
        assert [started, text] == [Started(source, None, reply), Text("an answer")]


async def test_an_empty_answer_has_started_too(house: House) -> None:
    first, reply = [event async for event in house.answerer(ScriptedEngine(DONE)).answer(ASKED)]
    assert (first, type(reply)) == (Started("engine", "w0", usd_per_second=1.0), Reply)


async def test_a_text_is_continued_by_the_next_worker_where_one_fails_and_is_counted(house: House) -> None:
    gap = Completion("def add(", "return")
    failing, working = ScriptedEngine(EngineUnavailable("away")), engine("a, b")
    asked = replace(ASKED, prompt="", completion=gap, use_cache=False)
    reply = await house.ask(asked, failing, working)
    assert (reply.answer.text, reply.worker, reply.entry) == ("a, b", "w1", None)
    assert working.requests[0].completion == gap
    totals = await house.totals()
    assert (totals.outcomes, totals.completion_tokens) == ({Outcome.BYPASS: 1}, 3)


async def test_what_the_cache_does_not_understand_bypasses_it_and_reaches_the_worker(house: House) -> None:
    parts = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    message = Message("user", parts, {"name": "ann"})
    question = replace(ASKED, prompt="", last=message, fields={"tools": [{"type": "function"}]})
    worker = engine()
    for _ in range(2):
        assert (await house.ask(question, worker)).entry is None
    request = worker.requests[1]
    assert (request.messages, request.fields) == ((message,), question.fields)
    assert (await house.totals()).outcomes == {Outcome.BYPASS: 2}


# The ledger


async def test_every_question_is_counted_once_for_what_became_of_it(house: House) -> None:
    await house.ask(ASKED, engine())
    await house.ask(ASKED)
    await house.ask(REWORDED)
    await house.ask(replace(ASKED, use_cache=False), engine())
    await house.ask(replace(ASKED, refresh=True), engine())
    await house.ask(ASKED, engine(), cached=False)
    with pytest.raises(NoWorkerError):
        await house.ask(replace(ASKED, prompt="something else entirely"))
    assert (await house.totals()).outcomes == {
        Outcome.MISS: 1,
        Outcome.EXACT: 1,
        Outcome.SEMANTIC: 1,
        Outcome.BYPASS: 3,
        Outcome.ERROR: 1,
    }


async def test_a_question_whose_user_left_has_not_failed(house: House) -> None:
    events = house.answerer(ScriptedEngine("Hello", asyncio.Event())).answer(ASKED)
    async for event in events:
        if isinstance(event, Text):
            break
    await events.aclose()
    assert (await house.totals()).outcomes == {Outcome.LEFT: 1}


async def test_a_question_that_takes_only_a_cached_answer_has_not_failed(house: House) -> None:
    with pytest.raises(NotCachedError):
        await house.ask(replace(ASKED, only_cached=True))
    assert (await house.totals()).outcomes == {Outcome.LEFT: 1}


async def test_whose_question_it_was_and_what_took_how_long_is_counted(house: House) -> None:
    await house.ask(ASKED, engine())
    await house.ask(ASKED)
    totals = await house.totals()
    assert set(totals.by["tenant"]) == {"t"}
    assert set(totals.by["model"]) == {"m"}
    assert set(totals.by["worker"]) == {"w0"}
    assert {"lookup", "engine"} <= set(totals.steps)
    assert totals.served_completion_tokens == 2 * totals.completion_tokens


async def test_a_process_that_goes_on_has_counted_everything_when_it_ends(
    house: House, redis_client: Redis
) -> None:
    entry = (await house.ask(ASKED, engine())).entry
    answerer = replace(house.answerer(), counts_later=True)
    for _ in range(20):
        async for _ in answerer.answer(ASKED):
            pass
    await answerer.aclose()
    assert (await house.totals()).outcomes[Outcome.EXACT] == 20
    assert await redis_client.hget(f"test:metadata:{entry}", "hit_count") == b"20"


async def test_tokens_and_costs_of_an_engine_are_counted_and_savings_on_hits(
    house: House,
) -> None:
    first = await house.ask(ASKED, engine())
    assert (await house.ask(ASKED)).saved_usd == pytest.approx(first.cost_usd, abs=1e-9)
    assert first.cost_usd > 0
    totals = await house.totals()
    assert (totals.prompt_tokens, totals.completion_tokens) == (7, 3)
    assert [totals.cost_usd, totals.saved_usd] == pytest.approx([first.cost_usd] * 2)


# How it degrades


MakeHouse = Callable[..., House]


@pytest.fixture
async def house_on(make_cache: MakeCache, keys: NamespaceKeys) -> AsyncIterator[MakeHouse]:
    """A house on a Redis of which only the port is known to work."""
    clients = []

    def make(port: int, **config: object) -> House:
        clients.append(connect(RedisConfig.model_validate({"host": "127.0.0.1", "port": port, **config})))
        return House(clients[-1], make_cache(client=clients[-1]), keys)

    yield make
    for client in clients:
        await client.aclose()


async def test_redis_refusing_leaves_the_answer_and_is_told_once(
    refusing_port: int, house_on: MakeHouse
) -> None:
    house = house_on(refusing_port)
    for _ in range(2):
        assert (await house.ask(ASKED, engine())).answer.text == "an answer"
    assert len(house.told) == 1
    assert house.told[0].startswith("the cache is off: Redis")


async def test_redis_hanging_leaves_the_answer_after_one_wait(hanging_port: int, house_on: MakeHouse) -> None:
    house = house_on(hanging_port, timeout="200ms")
    reply = await house.ask(ASKED, engine())
    assert (reply.answer.text, reply.entry) == ("an answer", None)
    assert house.told == ["the cache is off: Redis does not answer in time"]


async def test_redis_asking_for_a_password_leaves_the_answer(
    redis_port_server: Callable[..., Any], house_on: MakeHouse
) -> None:
    server = redis_port_server("--requirepass", "secret")
    house = house_on(server.port)
    assert (await house.ask(ASKED, engine())).answer.text == "an answer"
    assert len(house.told) == 1


@pytest.mark.parametrize("kind", ["read_only_redis", "full_redis"])
async def test_redis_that_takes_no_writes_leaves_the_answer(
    request: pytest.FixtureRequest, kind: str, house_on: MakeHouse
) -> None:
    server = request.getfixturevalue(kind)
    house = house_on(server.port)
    reply = await house.ask(ASKED, engine())
    assert (reply.answer.text, reply.entry) == ("an answer", None)
    assert len(house.told) == 1


async def test_redis_dying_while_the_answer_streams_leaves_the_answer(
    redis_port_server: Callable[..., Any], house_on: MakeHouse
) -> None:
    server = redis_port_server()
    house = house_on(server.port)
    reply = await house.ask(ASKED, ScriptedEngine("an ", server.kill, "answer", DONE))
    assert (reply.answer.text, reply.entry) == ("an answer", None)
    assert len(house.told) == 1


async def test_without_an_embedding_model_the_same_question_still_hits(
    house: House, embedder: WordEmbedder
) -> None:
    def fail(text: str) -> None:
        raise ModelError("the model is gone")

    embedder.embed = fail  # type: ignore[method-assign]
    await house.ask(ASKED, engine())
    assert (await house.ask(ASKED)).source == "exact"
    assert (await house.ask(REWORDED, engine("new"))).answer.text == "new"
    assert house.told == ["only identical questions are answered from the cache: the model is gone"]


@pytest.mark.parametrize("error", [ImportError("half imported"), RuntimeError("can't start new thread")])
async def test_an_error_of_the_models_that_nobody_foresaw_is_a_miss_with_a_warning(
    house: House, embedder: WordEmbedder, error: Exception
) -> None:
    def fail(text: str) -> None:
        raise error

    embedder.embed = fail  # type: ignore[method-assign]
    assert (await house.ask(ASKED, engine())).answer.text == "an answer"
    assert house.told == [f"only identical questions are answered from the cache: {error}"]


async def test_the_models_work_beside_the_loop_while_several_questions_are_under_way(
    house: House, embedder: WordEmbedder
) -> None:
    threads, embed = [], embedder.embed

    def watched(text: str) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return embed(text)

    await house.ask(replace(ASKED, prompt="the first of its scope"), ScriptedEngine("a", DONE))
    embedder.embed = watched  # type: ignore[method-assign]
    answerer = house.answerer(ScriptedEngine("a", "b", DONE))
    first = answerer.answer(ASKED)
    assert await anext(first) == Started("engine", "w0", usd_per_second=1.0)
    async for _ in answerer.answer(replace(ASKED, prompt="something else entirely")):
        pass
    await first.aclose()
    assert threads == [True, False]


# Why


async def test_a_reply_says_why_each_candidate_was_served_or_not(house: House) -> None:
    await house.ask(ASKED, engine())
    hit = await house.ask(REWORDED)
    miss = await house.ask(replace(REWORDED, threshold=0.99), engine())
    assert [(one.candidate.question, one.taken) for one in hit.lookup.verdicts] == [(ASKED.prompt, True)]
    assert [(one.taken, one.words) for one in miss.lookup.verdicts] == [(False, miss.lookup.reason)]
    assert "< 0.99" in miss.lookup.reason


# Which weights an answer is of, and who gave it


class Named(Weights):
    """What the fleet is known to serve; remembers what was seen."""

    def __init__(self, digest: str) -> None:
        self.known = digest

    async def digest(self, model: str) -> str:
        return self.known

    async def seen(self, model: str, digest: str) -> None:
        self.known = digest


def of(digest: str | None) -> ScriptedEngine:
    return ScriptedEngine(f"from {digest}", replace(DONE, digest=digest))


async def test_the_answer_of_other_weights_under_the_same_name_is_not_served(house: House) -> None:
    house.sessions.weights = Named("a")
    await house.ask(ASKED, of("a"))
    house.sessions.weights = Named("b")
    with pytest.raises(NoWorkerError):
        await house.ask(ASKED)
    with pytest.raises(NoWorkerError):
        await house.ask(REWORDED)
    house.sessions.weights = Named("a")
    assert (await house.ask(ASKED)).answer.text == "from a"


async def test_an_answer_is_kept_for_the_weights_that_gave_it_not_for_those_that_were_expected(
    house: House,
) -> None:
    house.sessions.weights = weights = Named("a")
    reply = await house.ask(ASKED, of("b"))
    assert weights.known == "b"
    assert (await house.ask(ASKED)).entry == reply.entry
    weights.known = "a"
    with pytest.raises(NoWorkerError):
        await house.ask(ASKED)


async def test_an_answer_of_weights_that_nobody_told_is_not_stored(house: House) -> None:
    assert (await house.ask(ASKED, of(None))).entry is None
    assert (await house.ask(ASKED, of("b"))).source == "engine"


async def test_an_answer_to_a_part_of_the_prompt_is_shown_but_not_stored(house: House) -> None:
    reply = await house.ask(ASKED, ScriptedEngine("half", Done("prompt_cut", 4096, 3)))
    assert (reply.answer.text, reply.entry) == ("half", None)


async def test_an_entry_says_which_worker_on_which_machine_gave_the_answer(house: House) -> None:
    async def upstreams(model: str) -> Sequence[Upstream]:
        return [Upstream("vast-7", engine(), 1.0, machine="m1", digest="a")]

    answerer = house.answerer()
    answerer.pool = lambda: Pool(upstreams, LocalLoad(), 1)
    async for _ in answerer.answer(ASKED):
        pass
    house.sessions.weights = Named("a")
    stored = (await house.ask(ASKED)).answer
    assert (stored.worker, stored.machine) == ("vast-7", "m1")


# Errors that nobody foresaw


class Broken:
    """Stands in a part's place and fails at whatever it is asked to do."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise self.error

    def __call__(self, *_: object, **__: object) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "part",
    ["cache", "flights", "weights", "exact", "semantic", "store", "touch", "embed", "ledger", "restore"],
)
@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), ImportError("half"), KeyError("x")]
)
async def test_whatever_fails_on_the_caches_way_a_worker_answers_and_one_warning_is_given(
    house: House, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception
) -> None:
    broken = Broken(error)
    if part == "ledger":
        monkeypatch.setattr(house.ledger, "record", broken)
    elif part == "restore":
        house.sessions.restore, house.sessions.sure = broken, False
    elif part in ("cache", "flights", "weights"):
        monkeypatch.setattr(house.sessions, part, broken)
    else:
        monkeypatch.setattr(house.sessions.cache, part, broken)
    for asked in (ASKED, replace(ASKED, refresh=True), ASKED):
        before = len(house.told)
        assert (await house.ask(asked, engine())).answer.text == "an answer"
        assert len(house.told) - before <= 1
    assert house.told


async def test_a_question_is_counted_although_the_cache_failed_as_long_as_redis_is_there(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.sessions.cache, "exact", Broken(RuntimeError("can't start new thread")))
    await house.ask(ASKED, engine())
    assert (await house.totals()).outcomes == {Outcome.MISS: 1}


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (FlatIndex, "search"),
        (FlatIndex, "prepare"),
        (ThresholdPolicy, "decide"),
        (ThresholdPolicy, "floor"),
        (UnixDomainSocketConnection, "send_command"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_an_index_a_verifier_or_a_client_of_redis_that_breaks_is_a_miss_with_a_warning(
    house: House, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    await house.ask(ASKED, engine())
    assert (await house.ask(REWORDED)).source == "semantic"
    monkeypatch.setattr(owner, method, Broken(MemoryError("no room")))
    reply = await house.ask(REWORDED, engine("a new answer"))
    assert (reply.answer.text, reply.source) == ("a new answer", "engine")
    assert house.told
    assert all("no room" in warning for warning in house.told)


async def test_a_creative_request_is_answered_by_the_same_text_and_by_no_other_wording(house: House) -> None:
    poem = replace(ASKED, exact_only=True)
    await house.ask(poem, engine("first"))
    assert (await house.ask(replace(REWORDED, exact_only=True), engine("second"))).answer.text == "second"
    assert (await house.ask(poem)).source == "exact"


# What may be kept, by the kind of the question


async def test_a_question_for_the_exact_tier_alone_is_not_embedded(
    house: House, redis_client: Redis, keys: NamespaceKeys
) -> None:
    alone = replace(ASKED, exact_only=True)
    first = await house.ask(alone, engine())
    assert first.entry is not None
    stored = decode_entry(await redis_client.get(keys.response(first.entry)))
    assert stored is not None
    assert (stored.embedder, stored.dimensions) == ("", 0)
    assert (await house.ask(alone)).source == "exact"
    assert (await house.ask(REWORDED, engine("its own"))).source == "engine"


async def test_an_answer_is_kept_for_the_lifetime_of_its_question(
    house: House, redis_client: Redis, keys: NamespaceKeys
) -> None:
    reply = await house.ask(replace(ASKED, lifetime=600.0), engine())
    assert reply.entry is not None
    assert 500_000 < await redis_client.pttl(keys.response(reply.entry)) <= 600_000


@pytest.mark.parametrize("kind", ["plain", "changing"])
async def test_the_ledger_counts_each_question_by_its_kind(house: House, kind: Any) -> None:
    await house.ask(replace(ASKED, kind=kind), engine())
    await house.ask(replace(ASKED, kind=kind))
    totals = await house.totals()
    assert totals.kinds == {kind: 2}
