"""Why a stored question was served or not, as people read it; and what several questions share."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from doubles.scripted_verifier import DOUBT, REFUSAL
from plugins.cli import Ran
from plugins.redis_servers import RedisServer

from llmhost.answering.document import reply_document
from llmhost.answering.question import Latency, Question, Reply
from llmhost.cache.contracts import TextEmbedder
from llmhost.cache.embedders import load
from llmhost.cache.models import Answer, Candidate, SemanticLookup, Verdict
from llmhost.cli.asking import show_explanation
from llmhost.cli.output import Output, plain

ASKED = Question("how many cups?", "m", "t", kind="changing", because="how many\x1b")
ANSWER = Answer("text", "m", 1.0, 1, 1, "stop", 1.0, 0.0)
REFUSED = Verdict(Candidate("a", "5 cups", 0.9512, ANSWER), False, "numbers: 5, 6", objections=(REFUSAL,))
SERVED = Verdict(Candidate("b", "cups\x1b[31m", 0.8, ANSWER), True, "sure", 0.97, 0.96, (DOUBT,))
REPLY = Reply(ANSWER, "semantic", Latency(1.0), lookup=SemanticLookup(verdicts=(REFUSED, SERVED)))


def shown(reply: Reply, capsys: pytest.CaptureFixture[str], *, quiet: bool = False) -> str:
    show_explanation(Output(quiet=quiet), reply_document(reply, ASKED, explain=True))
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_each_candidate_has_a_row_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    kind, head, _, refused, served = shown(REPLY, capsys).splitlines()
    assert kind == "· changing question: “how many”"
    assert head.split() == ["similarity", "confidence", "reason", "stored", "question"]
    assert refused.split() == ["0.951", "numbers:", "5,", "6", "5", "cups"]
    assert served.split() == ["served", "0.800", "0.970", "sure", "cups"]


def test_a_confidence_beside_its_threshold_stays_on_one_line_of_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    asks = replace(SERVED.candidate, question="What is artificial intelligence?")
    sure = replace(SERVED, candidate=asks, words="confidence 0.979 ≥ 0.800")
    lines = shown(replace(REPLY, lookup=SemanticLookup(verdicts=(sure,))), capsys).splitlines()
    assert any("confidence 0.979 ≥ 0.800" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_json_has_all_that_is_known() -> None:
    refused, served = plain(reply_document(REPLY, ASKED, explain=True))["explain"]
    assert refused == {
        "question": "5 cups",
        "similarity": 0.9512,
        "taken": False,
        "confidence": None,
        "why": "numbers: 5, 6",
        "objections": [plain(REFUSAL)],
    }
    assert (served["taken"], served["confidence"], served["objections"]) == (True, 0.97, [plain(DOUBT)])


def test_what_a_follow_up_question_was_looked_up_as_stands_above_the_candidates(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(replace(REPLY, condensed="how many cups\x1b[31m of tea?"), capsys).splitlines()
    assert lines[1] == "· looked up as “how many cups of tea?”"
    assert not [line for line in shown(REPLY, capsys).splitlines() if "looked up" in line]


def test_an_exact_hit_says_so_and_names_no_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    exact = replace(REPLY, source="exact")
    assert reply_document(exact, ASKED, explain=True)["explain"] == []
    assert shown(exact, capsys).endswith("· exact match: the same question is stored\n")


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("no similar question is stored", "no similar question is stored"),
        ("", "no stored question was considered"),
    ],
)
def test_without_candidates_the_reason_is_said(
    capsys: pytest.CaptureFixture[str], reason: str, says: str
) -> None:
    reply = replace(REPLY, source="engine", lookup=SemanticLookup(reason=reason))
    assert says in shown(reply, capsys)


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(REPLY, capsys, quiet=True) == ""


def test_a_chat_without_a_gateway_loads_the_models_once(
    cli: Callable[..., Ran], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load_embedder = load.load_embedder

    def counted(name: str, *, on_progress: Callable[[str], None]) -> TextEmbedder:
        loaded.append(name)
        return load_embedder(name, on_progress=on_progress)

    monkeypatch.setattr(load, "load_embedder", counted)
    monkeypatch.setenv("LLMHOST_REDIS__URL", f"unix://{redis_server.socket}")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"What is Redis?\nWho made it?\n")))
    ran = cli("chat")
    assert ran.stderr.count("run `llmhost up`") == 2  # each was looked for, and there is no worker
    assert len(loaded) == 1
