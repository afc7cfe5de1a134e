"""`llmhost ask` as a user runs it, against a worker that is a double on a real socket."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.chat_server import Fault
from doubles.forked_command import ForkedCommand
from doubles.openai_server import OpenAIServer
from doubles.terminal import Terminal
from plugins.commands import House, HouseMaker, Running
from plugins.redis_servers import RedisServer

ANSWER = "Hello, Wörld!"
FIELDS = {
    "answer",
    "source",
    "kind",
    "because",
    "similarity",
    "confidence",
    "matched_question",
    "condensed",
    "entry",
    "stale",
    "model",
    "worker",
    "finish_reason",
    "tokens",
    "latency_ms",
    "cost_usd",
    "saved_usd",
    "shadow",
}


async def test_a_new_question_is_answered_by_a_worker(static_house: House) -> None:
    done = await static_house.run("ask", "What is Redis?")
    assert (done.code, done.out) == (0, f"{ANSWER}\n")
    assert "answered by static-" in done.err


async def test_the_json_says_all_that_others_rely_on(static_house: House) -> None:
    said = await static_house.ok("ask", "What is Redis?")
    assert set(said) == FIELDS
    assert (said["answer"], said["source"], said["model"]) == (ANSWER, "engine", "tiny")
    assert said["tokens"] == {"prompt": 7, "completion": 4}
    latency = said["latency_ms"]
    assert set(latency) == {"total", "load", "condense", "embed", "lookup", "verify", "engine", "user"}
    assert latency["user"] > latency["total"]
    assert said["cost_usd"] > 0


async def test_the_same_question_is_an_exact_hit_that_saves_what_the_answer_cost(static_house: House) -> None:
    first = await static_house.ok("ask", "What is Redis?")
    again = await static_house.ok("ask", " What is Redis?\n")
    assert (again["answer"], again["source"], again["entry"]) == (ANSWER, "exact", first["entry"])
    assert (again["cost_usd"], again["saved_usd"]) == (0, pytest.approx(first["cost_usd"], abs=1e-9))


async def test_an_opposite_question_is_a_miss_that_explains_itself(static_house: House) -> None:
    await static_house.ok("ask", "How do I enable dark mode?")
    said = await static_house.ok("ask", "How do I disable dark mode?", "--explain")
    assert set(said) == {*FIELDS, "explain", "reason"}
    assert (said["source"], said["confidence"]) == ("engine", None)
    (refused,) = said["explain"]
    assert (refused["question"], refused["taken"], refused["confidence"]) == (
        "How do I enable dark mode?",
        False,
        None,
    )
    assert {"guard", "words", "refuses"} == set(refused["objections"][0])
    assert refused["objections"][0]["refuses"]
    assert refused["why"].startswith(refused["objections"][0]["guard"])


async def test_a_semantic_hit_says_how_sure_it_is(static_house: House) -> None:
    await static_house.ok("ask", "Explain machine learning briefly")
    rewording = ("ask", "What is machine learning in simple terms?", "--threshold", "0", "--explain")
    said = await static_house.ok(*rewording)
    (taken,) = said["explain"]
    assert (said["source"], taken["taken"]) == ("semantic", True)
    assert said["matched_question"] == "Explain machine learning briefly"
    assert said["similarity"] == pytest.approx(0.842, abs=0.01)
    assert 0 < said["confidence"] == taken["confidence"] < 1
    done = await static_house.run(*rewording)
    assert done.out == f"{ANSWER}\n"
    assert f"≥ {0:.3f}" in done.err
    assert "confidence " in done.err


async def test_options_that_lead_past_the_cache(static_house: House, openai_server: OpenAIServer) -> None:
    openai_server.known = {"other"}
    await static_house.ok("ask", "What is Redis?")
    for option in (("--no-cache",), ("--refresh",), ("--system", "Be brief."), ("--model", "other")):
        assert (await static_house.ok("ask", "What is Redis?", *option))["source"] == "engine", option


async def test_a_question_whose_answer_does_not_keep_is_cached_only_on_demand(static_house: House) -> None:
    for _ in range(2):
        done = await static_house.run("ask", "What time is it?")
        assert (done.code, "not cached: the answer changes with time" in done.err) == (0, True)
    first = await static_house.ok("ask", "What time is it?", "--cache")
    again = await static_house.ok("ask", "What time is it?", "--cache")
    assert (first["source"], again["source"], again["kind"]) == ("engine", "exact", "changing")
    assert (await static_house.ok("stats"))["kinds"] == {"changing": 4}


async def test_a_secret_is_never_shared_and_own_data_in_the_middle_of_a_long_question_never_kept(
    static_house: House,
) -> None:
    long = "What is this about? " + "lorem ipsum. " * 110
    for asked in ("Generate a strong password", f"{long} My card is 4111 1111 1111 1111. {long}"):
        for _ in range(2):
            assert (await static_house.ok("ask", asked))["source"] == "engine"
    assert (await static_house.ok("cache", "ls"))["total"] == 0


async def test_on_a_terminal_a_sign_of_life_names_the_worker_and_goes_with_the_first_word(
    static_house: House, openai_server: OpenAIServer
) -> None:
    openai_server.fail(Fault.HANGS)
    terminal = await Terminal.run([sys.executable, "-m", "llmhost", "ask", "What is Redis?"], os.environ)
    try:
        await terminal.until("waiting for static-")
        terminal.type("\x03")
        assert await terminal.end() == 130
    finally:
        terminal.close()
    *waiting, last = terminal.shown.split("\r\x1b[K")
    assert "waiting for static-" in waiting[-1]
    assert "interrupted" in last


async def test_a_question_comes_from_standard_input(static_house: House) -> None:
    done = await static_house.run("ask", "--json", stdin=b"What is Redis?\n")
    assert done.json["answer"] == ANSWER


def sent(worker: OpenAIServer) -> str:
    """The last question that the worker was asked."""
    chats = [request.json for request in worker.requests if request.path == worker.chat_path]
    text: str = chats[-1]["messages"][-1]["content"]
    return text


async def test_everything_that_was_given_is_in_the_question(
    static_house: House, openai_server: OpenAIServer, tmp_path: Path
) -> None:
    (tmp_path / "one.py").write_text("\ufeffone = 1\n", encoding="utf-8")
    (tmp_path / "two.py").write_text("  two = 2")
    files = ("-f", str(tmp_path / "one.py"), "--file", str(tmp_path / "two.py"))
    await static_house.run("ask", "Review this", *files, stdin="\ufeffthree = 3\n".encode())
    assert sent(openai_server) == "Review this\n\none = 1\n\n\n  two = 2\n\nthree = 3\n"


@pytest.mark.parametrize("prompt", [("Review this",), ()])
async def test_another_piped_text_is_another_question(static_house: House, prompt: tuple[str, ...]) -> None:
    await static_house.run("ask", *prompt, stdin=b"one = 1\n")
    again = await static_house.run("ask", *prompt, "--json", stdin=b"two = 2\n")
    assert again.json["source"] == "engine"


async def test_a_file_is_a_question_by_itself(
    static_house: House, openai_server: OpenAIServer, tmp_path: Path
) -> None:
    (tmp_path / "question").write_text("What is Redis?")
    await static_house.ok("ask", "-f", str(tmp_path / "question"))
    assert sent(openai_server) == "What is Redis?"


async def test_a_pipe_that_stays_silent_is_explained(
    static_house: House, openai_server: OpenAIServer
) -> None:
    command = ForkedCommand(("ask", "What is this?"), os.environ, has_stdin=True)
    await command.connect()
    running = Running(command)
    try:
        await running.until("err", "waiting for the end of standard input")
    finally:
        command.feed(b"a late line")
    assert (await running.end()).code == 0
    assert sent(openai_server) == "What is this?\n\na late line"


# Bad input


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("binary", "binary is not text"),
        ("missing", "missing: No such file"),
        ("folder", "folder: Is a directory"),
    ],
)
async def test_a_file_that_is_no_text_is_refused_by_its_name(
    house: House, tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "folder").mkdir()
    done = await house.run("ask", "Review this", "-f", str(tmp_path / name))
    assert (done.code, done.out) == (2, "")
    assert says in done.error


async def test_piped_bytes_beside_a_prompt_are_refused_and_not_dropped(house: House) -> None:
    done = await house.run("ask", "Review this", stdin=b"\xff\xfe\x00")
    assert (done.code, "standard input is not text" in done.error) == (2, True)


@pytest.mark.parametrize(
    ("stdin", "says"),
    [
        (b"", "the question is empty"),
        (b"\xff\xfe\x00\x01", "standard input is not text"),
        ("ü".encode() * 40_000, "the limit is 32,000"),
        (b"x" * 2_000_000, "the limit is 32,000"),
    ],
    ids=["empty", "binary", "long", "very long"],
)
async def test_standard_input_that_is_no_question_is_refused(house: House, stdin: bytes, says: str) -> None:
    done = await house.run("ask", stdin=stdin)
    assert (done.code, done.out) == (2, "")
    assert says in done.error


@pytest.mark.parametrize(
    "args",
    [
        ("",),
        ("x" * 32_001,),
        ("q", "--threshold", "nan"),
        ("q", "--no-cache", "--refresh"),
    ],
)
async def test_arguments_that_make_no_sense_are_refused(house: House, args: tuple[str, ...]) -> None:
    done = await house.run("ask", *args)
    assert (done.code, done.out) == (2, "")
    assert done.error


# Workers that fail


async def test_a_worker_that_fails_before_its_first_token_is_named(
    static_house: House, openai_server: OpenAIServer
) -> None:
    openai_server.fail(Fault.HANGS)
    done = await static_house.run("ask", "What is Redis?", LLMHOST_ENGINE__FIRST_TOKEN_TIMEOUT="1s")
    assert (done.code, done.out) == (5, "")
    assert openai_server.url in done.error


async def test_an_answer_that_breaks_off_is_an_error_and_is_not_cached(
    static_house: House, openai_server: OpenAIServer
) -> None:
    openai_server.fail(Fault.CLOSES, after=2)
    done = await static_house.run("ask", "What is Redis?")
    assert (done.code, done.out) == (5, "Hello, \n")
    assert "broke off" in done.error
    openai_server.heal()
    assert (await static_house.ok("ask", "What is Redis?"))["source"] == "engine"


async def test_an_answer_that_was_cut_off_is_shown_and_not_cached(
    static_house: House, openai_server: OpenAIServer
) -> None:
    openai_server.finish_reason = "length"
    done = await static_house.run("ask", "What is Redis?")
    assert (done.code, done.out) == (0, f"{ANSWER}\n")
    assert "not cached" in done.err
    assert (await static_house.ok("cache", "ls"))["entries"] == []


async def test_an_end_that_is_not_whole_is_one_warning_and_is_not_cached(
    static_house: House, openai_server: OpenAIServer
) -> None:
    openai_server.finish_reason = "content_filter"
    done = await static_house.run("ask", "What is Redis?")
    assert (done.code, done.err.count("warning"), "content_filter" in done.err) == (0, 1, True)
    openai_server.finish_reason = "eos"
    done = await static_house.run("ask", "What is Redis?")
    assert (done.code, done.err.count("warning")) == (0, 0)
    assert (await static_house.ok("ask", "What is Redis?"))["source"] == "exact"


@pytest.mark.parametrize(("reason", "says"), [("stop", "`engine.model`"), ("length", "`engine.max_tokens`")])
async def test_an_answer_without_a_text_is_an_error(
    static_house: House, openai_server: OpenAIServer, reason: str, says: str
) -> None:
    openai_server.pieces, openai_server.finish_reason = (), reason
    done = await static_house.run("ask", "What is Redis?")
    assert (done.code, done.err.count("warning")) == (5, 0)
    assert "gave an empty answer" in done.err
    assert says in done.err


async def test_before_there_is_a_worker_a_question_starts_nothing(house: House, state_folder: Path) -> None:
    done = await house.run("ask", "What is Redis?")
    assert (done.code, "run `llmhost up`" in done.err) == (5, True)
    assert not (state_folder / "redis").exists()


async def test_control_characters_of_a_model_do_not_reach_the_terminal(
    static_house: House, openai_server: OpenAIServer
) -> None:
    openai_server.pieces = ("safe\x1b[31", "m red\x1b]0;title\x07", "\x9b2J end")
    assert (await static_house.run("ask", "What is Redis?")).out == "safe red end\n"


async def test_ctrl_c_during_an_answer_ends_with_130_and_stores_nothing(
    static_house: House, openai_server: OpenAIServer
) -> None:
    openai_server.fail(Fault.HANGS, after=1)
    asking = await static_house.start("ask", "What is Redis?")
    await asking.until("out", "Hello")
    asking.interrupt()
    done = await asking.end()
    assert done.code == 130
    assert "interrupted" in done.err
    assert (await static_house.ok("cache", "ls"))["entries"] == []


# What is away


async def test_without_a_worker_hits_are_served_and_a_miss_names_the_command(static_house: House) -> None:
    await static_house.ok("ask", "What is Redis?")
    await static_house.ok("down")
    assert (await static_house.ok("ask", "What is Redis?"))["source"] == "exact"
    done = await static_house.run("ask", "Who was Cleopatra?")
    assert done.code == 5
    assert "run `llmhost up`" in done.err


@pytest.mark.parametrize("away", ["refusing_port", "hanging_port", "embedded"])
async def test_without_redis_the_question_is_answered_and_the_user_is_warned_once(
    request: pytest.FixtureRequest, house: House, static: HouseMaker, openai_server: OpenAIServer, away: str
) -> None:
    if away == "embedded":
        redis = {"server": "/nowhere/redis-server"}
    else:
        redis = {"host": "127.0.0.1", "port": request.getfixturevalue(away), "timeout": "300ms"}
    static(house, openai_server, redis=redis)
    await house.run("up", LLMHOST_CONFIG="llmhost.yaml")
    done = await house.run("ask", "What is Redis?", LLMHOST_CONFIG="llmhost.yaml")
    assert (done.code, done.out) == (0, f"{ANSWER}\n")
    assert done.err.count("the cache is off") == 1


async def test_a_password_of_redis_is_never_shown(
    house: House,
    static: HouseMaker,
    openai_server: OpenAIServer,
    redis_port_server: Callable[..., RedisServer],
) -> None:
    port = redis_port_server("--requirepass", "right-password").port
    redis = {"host": "127.0.0.1", "port": port, "password": "${REDIS_PASSWORD}"}
    static(house, openai_server, redis=redis)
    done = await house.run("--verbose", "ask", "What is Redis?", REDIS_PASSWORD="wrong-password")
    assert "the cache is off" in done.err
    assert "wrong-password" not in done.err + done.out
