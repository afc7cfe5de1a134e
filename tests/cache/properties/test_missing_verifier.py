"""A verifier that cannot be had, through the parts as wired: identical questions only, and never the
threshold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from doubles.embedders import WordEmbedder
from doubles.scripted_pool import ScriptedEngine, pool_of
from doubles.scripted_verifier import ScriptedVerifier

from llmhost.answering.answerer import Answerer
from llmhost.answering.cache_session import WarnOnce
from llmhost.answering.question import Question, Reply
from llmhost.cache.verifiers import load as loading
from llmhost.cache.verifiers.manifest import MANIFEST
from llmhost.config.models import Config
from llmhost.engines.engine import Done
from llmhost.wiring.questions import CacheParts

if TYPE_CHECKING:
    from redis.asyncio import Redis

ASKED = "what is artificial intelligence in simple words"
REWORDED = "what is artificial intelligence in plain simple words"

Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def new_process(redis_client: Redis, told: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ask]:
    """What asks questions in a process of its own, with these settings of the cache."""
    embedders = "llmhost.cache.embedders.load.load_embedder"
    monkeypatch.setattr(embedders, lambda name, on_progress: WordEmbedder())

    def start(**cache: object) -> Ask:
        static = {"provider": "static", "workers": [{"url": "http://127.0.0.1:9"}]}
        settings = {"cache": cache, "fleet": static, "engine": {"kind": "openai", "model": "m"}}
        parts = CacheParts(Config.model_validate(settings), told.append)
        warn_once = WarnOnce(told.append)
        answerer = Answerer(
            pool=lambda: pool_of(ScriptedEngine("an answer", Done("stop", 1, 1))),
            slots=1,
            sessions=parts.sessions(redis_client, warn_once),
            ledger=None,
            warn_once=warn_once,
        )

        async def ask(prompt: str, threshold: float | None = None) -> Reply:
            question = Question(prompt, "m", "t", threshold=threshold)
            *_, reply = [event async for event in answerer.answer(question)]
            assert isinstance(reply, Reply)
            return reply

        return ask

    return start


def no_folder(folder: Path) -> None:
    """Leaves it out."""


def damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / MANIFEST).write_text("{")


@pytest.fixture(params=[no_folder, damaged])
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a built-in verifier that cannot be loaded."""
    folder = tmp_path / "builtin"
    request.param(folder)
    monkeypatch.setattr(loading, "FOLDER", folder)
    return folder


async def test_only_identical_questions_are_served_and_that_is_told_once(
    new_process: Callable[..., Ask], told: list[str], broken: Path
) -> None:
    ask = new_process()
    await ask(ASKED)
    assert (await ask(ASKED)).source == "exact"
    assert (await ask(REWORDED)).source == "engine"
    assert (await ask(f"{REWORDED} please", threshold=-1.0)).source == "engine"
    effect = "only identical questions are answered from the cache"
    assert told == [f"{effect}: the verifier in {broken} is missing or damaged"]


async def test_what_is_answered_meanwhile_is_found_later(
    new_process: Callable[..., Ask], broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await new_process()(ASKED)
    whole = ScriptedVerifier(others=0.99)
    monkeypatch.setattr(loading, "load_verifier", lambda name, on_progress: whole)
    reply = await new_process()(REWORDED)
    assert reply.lookup.served is not None
    assert (reply.source, reply.lookup.served.question, reply.confidence) == ("semantic", ASKED, 0.99)


async def test_a_verifier_of_ones_own_that_is_not_there_is_told_by_its_name(
    new_process: Callable[..., Ask], told: list[str]
) -> None:
    ask = new_process(verifier="/nowhere/at-all")
    await ask(ASKED)
    assert (await ask(REWORDED)).source == "engine"
    assert told[-1].endswith("the verifier's folder /nowhere/at-all holds no model")


async def test_the_threshold_policy_needs_no_verifier(
    new_process: Callable[..., Ask], told: list[str], broken: Path
) -> None:
    ask = new_process(policy="threshold")
    await ask(ASKED)
    assert ((await ask(REWORDED)).source, told) == ("semantic", [])
