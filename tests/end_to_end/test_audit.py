"""`llmhost cache audit` as a user runs it, and as `ask` starts it in the background."""

from __future__ import annotations

import asyncio

import psutil
import pytest
from doubles.openai_server import OpenAIServer
from plugins.commands import House, HouseMaker

from llmhost.cli.asking import start_auditing
from llmhost.cli.frame import Globals

#: The threshold policy, which takes these two for one question.
AUDITED = {"policy": "threshold", "threshold": 0.5, "audit_share": 1}
ASKED = "Explain machine learning briefly"
REWORDED = "What is machine learning in simple terms?"
#: seconds; a command takes one, on a busy machine some more
PATIENCE = 60


@pytest.fixture
async def audited(house: House, static: HouseMaker, openai_server: OpenAIServer) -> House:
    """A fleet that is up, with one semantic hit that waits to be audited."""
    static(house, openai_server, cache=AUDITED)
    await house.ok("up")
    openai_server.pieces = ("Learning from data.",)
    await house.ok("ask", ASKED)
    assert (await house.ok("ask", REWORDED))["source"] == "semantic"
    return house


async def test_a_hit_waits_for_a_worker_and_one_that_was_wrong_is_told_and_made_good(
    audited: House, openai_server: OpenAIServer
) -> None:
    openai_server.refuse(500)
    done = await audited.run("cache", "audit", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "engine_unavailable")
    openai_server.heal()
    openai_server.pieces = ("Chocolate.",)
    said = await audited.ok("cache", "audit")
    (found,) = said.pop("found")
    assert said == {"audited": 1, "right": 0, "wrong": 1, "unclear": 0, "left": 0}
    assert (found["question"], found["matched_question"]) == (REWORDED, ASKED)
    assert (found["served"], found["engine"]) == ("Learning from data.", "Chocolate.")
    again = await audited.ok("ask", REWORDED)
    assert (again["source"], again["answer"]) == ("exact", "Chocolate.")
    stats = await audited.ok("stats")
    assert (stats["requests"], stats["audits"]) == (3, 1)


@pytest.mark.slow
async def test_ask_starts_it_by_itself_and_does_not_wait(audited: House, openai_server: OpenAIServer) -> None:
    await audited.ok("ask", "How is machine learning explained in short?", LLMHOST_NO_BACKGROUND="")
    async with asyncio.timeout(PATIENCE):
        while (await audited.ok("stats"))["audits"] < 2:
            pass
    started = [process for process in psutil.process_iter() if _audits(process)]
    _, left = psutil.wait_procs(started, timeout=PATIENCE)
    assert left == []


def test_the_background_can_be_forbidden() -> None:
    assert start_auditing(Globals()) is None


def test_what_is_started_leads_a_session_of_its_own_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMHOST_NO_BACKGROUND")
    monkeypatch.setenv("LLMHOST_CONFIG", "/nowhere.yaml")
    process = start_auditing(Globals(fleet="blue"))
    assert process is not None
    assert list(process.args)[-4:] == ["--fleet", "blue", "cache", "audit"]  # type: ignore[arg-type]
    assert psutil.Process(process.pid).terminal() is None
    assert process.wait(PATIENCE) == 2


@pytest.mark.slow
async def test_with_a_real_worker_a_hit_is_audited_and_shown_in_the_statistics(house: House) -> None:
    house.configure(
        fleet={"name": "test"},
        cache=AUDITED,
        engine={"context": 512, "temperature": 0, "system": "Answer with one word.", "max_tokens": 64},
    )
    await house.ok("up")
    await house.ok("ask", "What is the capital of France?")
    assert (await house.ok("ask", "Which city is the capital of France?"))["source"] == "semantic"
    said = await house.ok("cache", "audit")
    assert (said["audited"], said["right"] + said["wrong"] + said["unclear"], said["left"]) == (1, 1, 0)
    assert (await house.ok("stats"))["audits"] == 1
    await house.ok("down", "--all")


def _audits(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[-2:] == ["cache", "audit"]
    except psutil.Error:
        return False
