"""The request log on a real file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from doubles.gateway_house import Serve

from llmhost.errors import StateError
from llmhost.gateway.record import RequestRecord
from llmhost.gateway.request_log import RequestLog


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_each_request_is_a_line_with_figures_and_without_words(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    async with serve(gateway={"log": str(path)}) as house:
        answer = await house.chat("A secret question?")
        await house.chat("A secret question?", stream=True)
    first, second = lines(path)
    assert (first["id"], first["api"], first["model"], first["tenant"]) == (
        answer.headers["x-request-id"],
        "openai.chat",
        "tiny",
        "default",
    )
    assert (first["outcome"], first["status"], first["worker"]) == (
        "miss",
        200,
        answer.headers["x-llmhost-worker"],
    )
    assert (first["kind"], answer.headers["x-llmhost-kind"]) == ("plain", "plain")
    assert first["tokens"] == {"prompt": 7, "completion": 4}
    assert first["latency_ms"] >= first["ttft_ms"] > 0
    assert (second["outcome"], second["entry"], second["confidence"]) == ("exact", first["entry"], 1.0)
    assert "secret" not in path.read_text()
    assert "Wörld" not in path.read_text()


async def test_what_a_client_sends_cannot_write_a_line(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    async with serve(gateway={"log": str(path)}) as house:
        await house.chat(model='x\n{"id": "forged"}\u2028')
        await house.http.get("/%0A%7B%22id%22%3A%22forged%22%7D")
    assert [line["status"] for line in lines(path)] == [404, 404]
    assert "forged" not in path.read_text()


def test_a_file_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    path, warnings = tmp_path / "log", list[str]()
    log = RequestLog(str(path), warnings.append)
    log.ended(RequestRecord(id="first"))
    log.reopen()  # nothing was moved: it goes on in the same file
    log.ended(RequestRecord(id="second"))
    log.close()
    log = RequestLog(str(path), warnings.append)
    path.rename(tmp_path / "log.1")
    log.reopen()
    log.ended(RequestRecord(id="third"))
    log.close()
    assert [line["id"] for line in lines(tmp_path / "log.1")] == ["first", "second"]
    assert [line["id"] for line in lines(path)] == ["third"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_loses_lines_and_says_so_once() -> None:
    warnings: list[str] = []
    log = RequestLog("/dev/full", warnings.append)
    for _ in range(3):
        log.ended(RequestRecord())
        log.reopen()  # so that each is written by itself
    log.close()
    assert log.dropped == 3
    assert warnings == ["lines of the request log are lost: No space left on device"]


async def test_a_full_disk_ends_no_answer(serve: Serve) -> None:
    async with serve(gateway={"log": "/dev/full"}) as house:
        assert [(await house.chat()).status_code for _ in range(2)] == [200, 200]


def test_a_line_that_was_cut_off_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    log = RequestLog(str(path), lambda _: None)
    real, full = os.write, iter([10])

    def write(file: int, data: bytes) -> int:
        if (room := next(full, None)) is not None:
            real(file, data[:room])
            monkeypatch.setattr(os, "write", fails)
            return room
        return real(file, data)

    def fails(_file: int, _data: bytes) -> int:
        monkeypatch.setattr(os, "write", real)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    log.ended(RequestRecord(id="torn"))
    log.reopen()
    log.ended(RequestRecord(id="whole"))
    log.close()
    last = path.read_text().splitlines()[-1]
    assert json.loads(last)["id"] == "whole"


def test_a_log_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="the request log cannot be opened"):
        RequestLog(str(tmp_path / "no" / "log"), lambda _: None)
    with pytest.raises(StateError, match="the home folder in ~no-such-user"):
        RequestLog("~no-such-user/log", lambda _: None)
