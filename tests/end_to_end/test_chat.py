"""`llmhost chat` and `ask --continue` as a user runs them; the worker is a double on a real socket."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from doubles.chat_server import Fault
from doubles.openai_server import OpenAIServer
from doubles.terminal import Terminal
from plugins.commands import House

ANSWER = "Hello, Wörld!"


def sent(worker: OpenAIServer) -> list[tuple[str, str]]:
    """Role and text of each message of the last question that the worker was asked."""
    chats = [request.json for request in worker.requests if request.path == worker.chat_path]
    return [(message["role"], message["content"]) for message in chats[-1]["messages"]]


def kept(state_folder: Path) -> Path:
    """The file of the one conversation that is kept."""
    (path,) = (state_folder / "conversations").iterdir()
    return path


# From a pipe


async def test_each_line_of_a_pipe_is_a_question_with_those_before_it(
    static_house: House, openai_server: OpenAIServer
) -> None:
    done = await static_house.run("chat", stdin="\ufeffWhat is Redis?\n\n Who made it? ".encode())
    assert (done.code, done.out) == (0, f"{ANSWER}\n{ANSWER}\n")
    assert done.err.count("answered by static-") == 2
    assert sent(openai_server) == [
        ("user", "What is Redis?"),
        ("assistant", ANSWER),
        ("user", "Who made it?"),
    ]


async def test_json_is_a_line_for_each_question_as_ask_prints_it(static_house: House) -> None:
    done = await static_house.run("chat", "--json", stdin=b"What is Redis?\nWho made it?\n")
    first, second = map(json.loads, done.out.splitlines())
    asked = await static_house.ok("ask", "What is Redis?")
    assert first.keys() == second.keys() == asked.keys()
    assert (asked["source"], asked["entry"]) == ("exact", first["entry"])
    assert first["entry"] != second["entry"]


async def test_the_same_conversation_is_answered_from_the_cache(static_house: House) -> None:
    lines = b"What is Redis?\nWho made it?\n"
    await static_house.run("chat", stdin=lines)
    done = await static_house.run("chat", "--json", stdin=lines)
    assert [json.loads(line)["source"] for line in done.out.splitlines()] == ["exact", "exact"]


async def test_a_line_that_cannot_be_asked_does_not_end_the_chat(
    static_house: House, openai_server: OpenAIServer
) -> None:
    lines = b"What is Redis?\n\xff\xfe\n" + b"x" * 200_000 + b"\nWho made it?\n"
    done = await static_house.run("chat", "--json", stdin=lines)
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 3
    assert ["error" in answer for answer in answers] == [False, True, True, False]
    assert "line 2 of standard input is not text" in done.err
    assert [text for _, text in sent(openai_server)] == ["What is Redis?", ANSWER, "Who made it?"]


@pytest.mark.parametrize("stdin", [None, b"", b"\n \n"])
async def test_no_question_at_all_is_an_error(static_house: House, stdin: bytes | None) -> None:
    done = await static_house.run("chat", stdin=stdin)
    assert (done.code, "no question given" in done.err) == (2, True)


async def test_where_nothing_is_answered_the_exit_code_says_why(house: House) -> None:
    done = await house.run("chat", stdin=b"What is Redis?\nWho made it?\n")
    assert (done.code, done.err.count("run `llmhost up`")) == (5, 2)


async def test_a_line_of_a_pipe_is_never_a_command(
    static_house: House, openai_server: OpenAIServer, tmp_path: Path
) -> None:
    await static_house.run("chat", stdin=f"What is Redis?\n/save {tmp_path}/file\n".encode())
    assert sent(openai_server)[-1] == ("user", f"/save {tmp_path}/file")
    assert not (tmp_path / "file").exists()


async def test_ctrl_c_ends_a_chat_without_a_user(static_house: House, openai_server: OpenAIServer) -> None:
    openai_server.fail(Fault.HANGS, after=1)
    chatting = await static_house.start("chat", stdin=b"What is Redis?\nWho made it?\n")
    await chatting.until("out", "Hello")
    chatting.interrupt()
    assert (await chatting.end()).code == 130


async def test_of_a_long_conversation_the_oldest_questions_are_left_out_and_the_user_is_told(
    static_house: House, openai_server: OpenAIServer
) -> None:
    limit = {"LLMHOST_LIMITS__MAX_PROMPT_CHARS": "50"}
    done = await static_house.run("chat", stdin=b"What is Redis?\nWho made it?\nAnd why?\n", **limit)
    assert sent(openai_server) == [("user", "Who made it?"), ("assistant", ANSWER), ("user", "And why?")]
    assert done.err.count("without the first 2 messages, for its length") == 1


# At a terminal


Chat = Callable[..., Awaitable[Terminal]]


@pytest.fixture
async def chat(static_house: House) -> AsyncIterator[Chat]:
    """Starts a command on a terminal; `chat` by default, which has shown what it shows first."""
    started: list[Terminal] = []

    async def start(*args: str, **environ: str) -> Terminal:
        command = [sys.executable, "-m", "llmhost", *(args or ("chat",))]
        terminal = await Terminal.run(command, {**os.environ, **environ})
        started.append(terminal)
        if not args or args[0] == "chat":
            await terminal.until("> ")
        return terminal

    yield start
    for terminal in started:
        terminal.close()


async def say(terminal: Terminal, text: str, *shown: str, ends: bool = True) -> None:
    """Types a line, and returns when all of this was shown after it, and, if it `ends`, a prompt: what is
    typed before that is read by the terminal's own rules."""
    before, terminal.shown = terminal.shown, ""
    terminal.type(f"{text}\n")
    for words in (*shown, "> ") if ends else shown:
        await terminal.until(words)
    terminal.shown = before + terminal.shown


async def test_ctrl_c_stops_an_answer_and_not_the_chat(chat: Chat, openai_server: OpenAIServer) -> None:
    terminal = await chat()
    openai_server.fail(Fault.HANGS, after=2)
    await say(terminal, "What is Redis?", "Hello,", ends=False)
    await say(terminal, "\x03", "stopped")
    openai_server.heal()
    await say(terminal, "Go on.", "Wörld!", "answered by")
    terminal.type("\x04")
    assert await terminal.end() == 0
    assert sent(openai_server) == [
        ("user", "What is Redis?"),
        ("assistant", "Hello, "),
        ("user", "Go on."),
    ]


async def test_ctrl_c_at_the_prompt_drops_the_line_and_says_how_to_leave(chat: Chat) -> None:
    terminal = await chat()
    terminal.type("half a line\x03")
    await terminal.until("Ctrl-D or /quit ends the chat")
    terminal.type("/quit\n")
    assert await terminal.end() == 0


async def test_sigterm_ends_the_chat_during_an_answer_too(chat: Chat, openai_server: OpenAIServer) -> None:
    terminal = await chat()
    openai_server.fail(Fault.HANGS, after=2)
    await say(terminal, "What is Redis?", "Hello,", ends=False)
    terminate(terminal)
    assert await terminal.end() == 130


async def test_sigterm_ends_the_chat_at_the_prompt(chat: Chat) -> None:
    terminal = await chat()
    terminate(terminal)
    assert await terminal.end() == 130


def terminate(terminal: Terminal) -> None:
    psutil.Process(terminal.pid).send_signal(signal.SIGTERM)


async def test_an_error_does_not_end_the_chat_and_leaves_no_trace_in_it(
    chat: Chat, openai_server: OpenAIServer
) -> None:
    terminal = await chat()
    openai_server.refuse(500)
    await say(terminal, "What is Redis?", "error:")
    openai_server.heal()
    await say(terminal, "Who made it?", "answered by")
    assert sent(openai_server) == [("user", "Who made it?")]


async def test_commands_change_how_the_next_question_is_asked(
    chat: Chat, openai_server: OpenAIServer
) -> None:
    openai_server.known = {"other"}
    terminal = await chat()
    await say(terminal, "/system Be brief.", "system prompt: Be brief.")
    await say(terminal, "/model other", "model: other")
    await say(terminal, "/cache off", "cache: off")
    for _ in range(2):
        await say(terminal, "What is Redis?", "answered by", "other")
        await say(terminal, "/new", "a new conversation")
    assert sent(openai_server) == [("system", "Be brief."), ("user", "What is Redis?")]
    await say(terminal, '/system ""', "system prompt: none")
    await say(terminal, "/cache auto", "cache: auto")
    await say(terminal, "What is Redis?", "answered by")
    assert sent(openai_server) == [("user", "What is Redis?")]


async def test_the_conversation_is_shown_and_saved_but_over_no_other_file(chat: Chat, tmp_path: Path) -> None:
    terminal = await chat()
    await say(terminal, "/save early.md", "error: nothing was asked yet")
    await say(terminal, "What is \\\nRedis?", "answered by")
    await say(terminal, "/history", "What is", "Redis?", "Wörld!")
    await say(terminal, f"/save {tmp_path}/it.md", "wrote 2 messages")
    await say(terminal, f"/save {tmp_path}/it.json", "wrote 2 messages")
    await say(terminal, f"/save {tmp_path}/it.md", "File", "exists")
    assert (tmp_path / "it.md").read_text() == f"> What is \n> Redis?\n\n{ANSWER}\n"
    turns: Any = json.loads((tmp_path / "it.json").read_text())
    assert [turn["content"] for turn in turns] == ["What is \nRedis?", ANSWER]


async def test_what_is_no_command_is_an_error_or_a_question(chat: Chat, openai_server: OpenAIServer) -> None:
    terminal = await chat()
    await say(terminal, "/sytem x", "there is no command /sytem", "/help lists them")
    await say(terminal, "/cache maybe", "the cache cannot be 'maybe'")
    await say(terminal, "/help", "/save FILE")
    for question in ("/etc/hosts is what?", " /new york"):
        await say(terminal, question, "answered by")
        assert sent(openai_server)[-1] == ("user", question)


async def test_lines_of_an_earlier_chat_are_called_back_with_the_arrow_keys(
    chat: Chat, state_folder: Path, openai_server: OpenAIServer
) -> None:
    first = await chat()
    await say(first, "What is Redis?", "answered by")
    first.type("\x04")
    await first.end()
    second = await chat()
    await say(second, "\x1b[A", "exact hit")
    assert stat.S_IMODE((state_folder / "chat_history").stat().st_mode) == 0o600


async def test_lines_that_are_pasted_together_are_one_question(
    chat: Chat, openai_server: OpenAIServer
) -> None:
    terminal = await chat()
    await say(terminal, "\x1b[200~What does\nthis do?\x1b[201~", "answered by")
    assert sent(openai_server) == [("user", "What does\nthis do?")]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({"NO_COLOR": ""}, "• \x1b[1mtwo\x1b[0m \x1b[1mwords\x1b[0m"), ({"NO_COLOR": "1"}, "- **two words**")],
)
async def test_on_a_terminal_an_answer_is_markdown_wrapped_between_words(
    chat: Chat, openai_server: OpenAIServer, environ: dict[str, str], expected: str
) -> None:
    openai_server.pieces = ("- **two", " words** ", "and many " * 10, "more")
    terminal = await chat("ask", "What is Redis?", **environ)
    assert await terminal.end() == 0
    assert expected in terminal.shown
    assert re.search(r" (and|many)\r\n  (and|many) ", terminal.shown)


async def test_in_a_pipe_an_answer_is_as_it_came(static_house: House, openai_server: OpenAIServer) -> None:
    openai_server.pieces = ("- **two", " words** ", "and many " * 10, "more")
    done = await static_house.run("ask", "What is Redis?", FORCE_COLOR="1")
    assert done.out == "".join(openai_server.pieces) + "\n"


# To be continued


async def test_ask_continues_the_last_conversation(
    static_house: House, openai_server: OpenAIServer, state_folder: Path
) -> None:
    await static_house.ok("ask", "What is Redis?", "--system", "Be brief.")
    done = await static_house.run("ask", "-c", "Who made it?")
    assert "continuing after “What is Redis?”" in done.err
    await static_house.ok("ask", "And why?", "--continue", "--system", "Be kind.")
    assert sent(openai_server) == [
        ("system", "Be kind."),
        ("user", "What is Redis?"),
        ("assistant", ANSWER),
        ("user", "Who made it?"),
        ("assistant", ANSWER),
        ("user", "And why?"),
    ]
    path = kept(state_folder)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o600, 0o700]


async def test_a_question_that_continues_nothing_begins_another_conversation(
    static_house: House, openai_server: OpenAIServer
) -> None:
    await static_house.ok("ask", "What is Redis?")
    await static_house.ok("ask", "Who was Cleopatra?")
    await static_house.ok("ask", "-c", "And then?")
    assert [text for _, text in sent(openai_server)] == ["Who was Cleopatra?", ANSWER, "And then?"]


async def test_chat_continues_what_another_terminal_asked(chat: Chat, openai_server: OpenAIServer) -> None:
    asked = await chat("ask", "What is Redis?")
    await asked.end()
    terminal = await chat("chat", "-c")
    await terminal.until("continuing after “What is Redis?”")
    await say(terminal, "Who made it?", "answered by")
    assert [text for _, text in sent(openai_server)] == ["What is Redis?", ANSWER, "Who made it?"]


async def test_a_terminal_continues_its_own_conversation_and_not_a_newer_one(
    chat: Chat, static_house: House, openai_server: OpenAIServer
) -> None:
    await static_house.ok("ask", "What is Redis?")
    elsewhere = await chat("ask", "Who was Cleopatra?")
    await elsewhere.end()
    await static_house.ok("ask", "-c", "Who made it?")
    assert [text for _, text in sent(openai_server)] == ["What is Redis?", ANSWER, "Who made it?"]


async def test_without_a_conversation_there_is_nothing_to_continue(static_house: House) -> None:
    done = await static_house.run("ask", "-c", "And then?")
    assert (done.code, done.err.count("there is no conversation to continue")) == (2, 1)


@pytest.mark.parametrize("content", ["", "[]", '{"messages": 3}', '{"messages": [], "model": 1}'])
async def test_a_file_that_is_damaged_is_no_conversation(
    static_house: House, state_folder: Path, content: str
) -> None:
    await static_house.ok("ask", "What is Redis?")
    kept(state_folder).write_text(content)
    assert (await static_house.run("ask", "-c", "And then?")).code == 2


async def test_the_newest_conversations_are_kept_and_those_of_open_terminals(
    static_house: House, state_folder: Path
) -> None:
    folder = state_folder / "conversations"
    folder.mkdir()
    ended = [5_000_000 + number for number in range(30)]  # no process has such an id
    for age, session in enumerate([*ended, os.getpid()]):
        (folder / f"{session}.json").write_text("{}")
        os.utime(folder / f"{session}.json", (1000 - age, 1000 - age))
    await static_house.ok("ask", "What is Redis?")
    names = {int(path.stem) for path in folder.iterdir()}
    assert names == {os.getsid(0), *ended[:19], os.getpid()}


async def test_an_answer_does_not_need_to_be_kept(static_house: House, state_folder: Path) -> None:
    (state_folder / "conversations").write_text("a file where the folder should be")
    done = await static_house.run("ask", "What is Redis?")
    assert (done.code, done.out, "conversation" in done.err) == (0, f"{ANSWER}\n", False)
