"""What every engine promises, on every engine. A new one joins by adding its fixture to `SIDES`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmhost.engines.engine import Delta, Done, EmbedRequest, Message
from llmhost.errors import ContextExceeded, EngineRefused, EngineUnavailable

SIDES = ["openai_side", "ollama_side", pytest.param("llama_cpp_side", marks=pytest.mark.slow)]


@pytest.fixture(params=SIDES)
def side(request):
    return request.getfixturevalue(request.param)


async def test_an_answer_is_pieces_and_then_one_end_mark(side, question):
    events = [
        event
        async for event in side.engine().chat(question(model=side.model, max_tokens=20, temperature=0.0))
    ]
    *pieces, last = events
    assert isinstance(last, Done)
    assert all(isinstance(piece, Delta) and piece.text for piece in pieces)
    assert pieces


async def test_an_answer_that_the_model_ended_has_finish_reason_stop(side, question, ask):
    request = question("Reply with one word: yes.", model=side.model, max_tokens=200, temperature=0.0)
    _, done = await ask(side.engine(), request)
    assert done.finish_reason == "stop"


async def test_an_answer_cut_off_at_max_tokens_has_finish_reason_length(side, question, ask):
    _, done = await ask(side.engine(), question("Write a long story.", model=side.model, max_tokens=2))
    assert done.finish_reason == "length"
    assert done.completion_tokens == 2


async def test_the_tokens_of_the_prompt_are_counted(side, question, ask):
    _, done = await ask(side.engine(), question(model=side.model, max_tokens=2))
    assert done.prompt_tokens > 0


async def test_a_text_is_continued_without_a_template(side, question, completion, ask):
    texts = {"model": side.model, "max_tokens": 2, "temperature": 0.0}
    text, done = await ask(side.engine(), completion("One, two, three,", **texts))
    assert text
    assert (done.finish_reason, done.completion_tokens) == ("length", 2)
    if side.server is None:  # a double counts the same for each prompt
        _, chat = await ask(side.engine(), question("One, two, three,", **texts))
        assert done.prompt_tokens < chat.prompt_tokens


async def test_a_text_that_does_not_fit_is_refused(side, completion, ask):
    with pytest.raises(ContextExceeded, match="exceeds"):
        await ask(side.engine(), completion("word " * 11_000, model=side.model))


async def test_a_model_that_cannot_fill_a_gap_is_refused(side, completion, ask):
    if side.server is not None:
        side.server.capabilities = ["completion"]  # of Ollama
        side.server.infill = False  # of llama.cpp
    with pytest.raises(EngineRefused, match=r"does not support insert|Infill is not supported by this model"):
        await ask(side.engine(), completion("def add(", "return a + b", model=side.model))


async def test_an_engine_that_gives_no_embeddings_is_refused(side):
    if side.server is not None:
        side.server.embeds = False
    with pytest.raises(EngineRefused, match="does not support embeddings"):
        await side.engine().embed(EmbedRequest(side.model, ("Hi",)))


async def test_a_worker_that_is_not_there_gives_no_embeddings(side, refusing_port):
    engine = side.engine(url=f"http://127.0.0.1:{refusing_port}")
    with pytest.raises(EngineUnavailable, match="connection refused"):
        await engine.embed(EmbedRequest(side.model, ("Hi",)))


async def test_the_same_seed_gives_the_same_answer(side, question, ask):
    request = question("Name a colour.", model=side.model, max_tokens=8, seed=7, temperature=1.0, top_p=0.9)
    engine = side.engine()
    assert (await ask(engine, request))[0] == (await ask(engine, request))[0]


async def test_earlier_turns_and_a_system_prompt_are_taken(side, question, ask):
    request = question(model=side.model, max_tokens=4, temperature=0.0)
    turns = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"))
    text, _ = await ask(
        side.engine(),
        type(request)(request.model, turns + request.messages, request.sampling),
    )
    assert text


async def test_letters_beyond_ascii_arrive_whole(side, question, ask):
    request = question('Repeat: "Zürich 東京 🙂"', model=side.model, max_tokens=30, temperature=0.0)
    text, _ = await ask(side.engine(), request)
    assert "\ufffd" not in text


async def test_an_answer_left_early_leaves_the_engine_usable(side, question, ask):
    engine = side.engine()
    stream = engine.chat(question("Write a long story.", model=side.model, max_tokens=500))
    await anext(stream)
    await stream.aclose()
    text, _ = await ask(engine, question(model=side.model, max_tokens=3, temperature=0.0))
    assert text


async def test_a_cancelled_question_leaves_the_engine_usable(side, question, ask):
    engine = side.engine()

    async def read_some(started: asyncio.Event) -> None:
        async for _ in engine.chat(question("Write a long story.", model=side.model, max_tokens=500)):
            started.set()
            await asyncio.sleep(0)

    started = asyncio.Event()
    task = asyncio.create_task(read_some(started))
    await started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    text, _ = await ask(engine, question(model=side.model, max_tokens=3, temperature=0.0))
    assert text


async def test_questions_one_right_after_the_other_are_all_answered(side, question, ask):
    engine = side.engine()
    ends = [(await ask(engine, question(model=side.model, max_tokens=1)))[1] for _ in range(30)]
    assert {end.completion_tokens for end in ends} == {1}


async def test_one_engine_answers_several_questions_at_once(side, question, ask):
    engine = side.engine()
    answers = await asyncio.gather(
        *(ask(engine, question(model=side.model, max_tokens=3, temperature=0.0)) for _ in range(3))
    )
    assert all(text for text, _ in answers)


async def test_a_prompt_that_does_not_fit_is_refused(side, question, ask):
    with pytest.raises(ContextExceeded, match="exceeds"):
        await ask(side.engine(), question("word " * 11_000, model=side.model))


async def test_a_wrong_token_is_a_worker_that_cannot_be_used(side, question, ask):
    with pytest.raises(EngineUnavailable, match="token") as caught:
        await ask(side.engine(token="another-token"), question(model=side.model))
    assert "another-token" not in f"{caught.value} {caught.value.hint}"


async def test_a_worker_that_is_not_there_cannot_be_used(side, question, ask, refusing_port):
    with pytest.raises(EngineUnavailable, match="connection refused"):
        await ask(side.engine(url=f"http://127.0.0.1:{refusing_port}"), question(model=side.model))


async def test_a_model_that_is_there_is_present(side):
    assert (await side.engine().model_status(side.model)).present is True


async def test_a_model_that_is_not_there_is_not_present(side):
    assert (await side.engine().model_status("no-such-model:7b")).present is False


async def test_making_a_present_model_present_ends_with_all_of_it(side):
    steps: list[Any] = []
    await side.engine().ensure_model(side.model, steps.append)
    assert steps[-1].fraction == 1.0


async def test_a_model_that_nobody_can_fetch_is_refused(side):
    with pytest.raises(EngineRefused, match="no-such-model") as caught:
        await side.engine().ensure_model("no-such-model:7b", lambda _: None)
    assert "engine.model" in caught.value.hint


async def test_closing_twice_is_fine(side, question, ask):
    engine = side.engine()
    await ask(engine, question(model=side.model, max_tokens=2))
    await engine.aclose()
    await engine.aclose()
