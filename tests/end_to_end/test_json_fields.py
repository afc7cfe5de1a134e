"""Every field that a command prints with --json is on docs/json.md, and no other.

    WRITE_JSON_FIELDS=1 .venv/bin/python -m pytest tests/end_to_end/test_json_fields.py
    .venv/bin/python scripts/make_docs.py

writes the page again, of what the commands print now.
"""

from __future__ import annotations

import json
import os
import re
import runpy
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from doubles.free_port import free_port
from doubles.waiting import until
from plugins.rented_commands import RentedHouse, renting

pytestmark = pytest.mark.slow

#: by command, the types of each field; make_docs.py draws the page from it
FIELDS = Path(__file__).parents[2] / "scripts/json_fields.json"
parent = runpy.run_path(str(FIELDS.with_name("make_docs.py")))["parent"]

#: objects whose keys are data, not names of fields
MAPS = {
    "cache eval": {"by_kind", "by_guard", "best_recall_at_precision"},
    "cache replay": {"policies"},
    "cache tune show": {"bands", "served_error.by_guard", "served_error.by_confidence"},
    "offers": {"rejected"},
    "stats": {"kinds", "steps_ms", "served_error.by_guard", "served_error.by_confidence"},
    "stats --reconcile": {"workers[].causes"},
}

ASKED = "Explain machine learning briefly"
REWORDED = "What is machine learning in simple terms?"

#: command, field, types
Seen = dict[str, dict[str, set[str]]]


def fields(command: str, value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The path and the type of each field, and of what is in it."""
    if isinstance(value, dict):
        yield path, "object"
        free = path in MAPS.get(command, ())
        for key, item in value.items():
            name = "*" if free else key
            yield from fields(command, item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield path, "list"
        for item in value:
            yield from fields(command, item, f"{path}[]")
    else:
        kinds: list[tuple[Any, str]] = [(bool, "true or false"), ((int, float), "number"), (str, "text")]
        yield path, next((name for kind, name in kinds if isinstance(value, kind)), "null")


class Session:
    """Commands whose documents are kept."""

    def __init__(self, house: RentedHouse) -> None:
        self.house = house
        self.seen: Seen = defaultdict(lambda: defaultdict(set))

    async def __call__(
        self, command: str, *args: str, code: int = 0, stdin: bytes | None = None, **environ: str
    ) -> Any:
        done = await self.house.run(*command.split(), *args, "--json", stdin=stdin, **environ)
        assert done.code == code, (command, args, done.err, done.out)
        documents = [done.json] if stdin is None else list(map(json.loads, done.out.splitlines()))
        for document in documents:
            self.keep("error" if "error" in document else command, document)
        return documents[-1]

    def keep(self, command: str, document: Any) -> None:
        for path, kind in fields(command, document):
            if path:
                self.seen[command][path].add(kind)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[RentedHouse]:
    async with renting(tmp_path / "rented", {}) as house:
        house.configure(
            fleet={"name": "rented", "budget": {"per_day": 50}},
            gateway={"port": free_port()},
            scale={"min_gpus": 1},
            notify={"command": "true"},
            cache={"audit_share": 1},
        )
        yield house
        await house.run("down", "--all", "--yes")


async def test_every_field_of_every_command_is_on_the_page_and_no_other(
    house: RentedHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Session(house)
    await before_the_fleet(run)
    await with_a_fleet(run)
    await the_cache(run)
    await the_figures(run)
    await offline(run)
    await with_a_gateway(run)
    if os.environ.get("WRITE_JSON_FIELDS"):
        FIELDS.write_text(written(run.seen))
    known = json.loads(FIELDS.read_text())
    assert [*differences(run.seen, known)] == []


async def before_the_fleet(run: Session) -> None:
    await run("init", "--path", "other.yaml", "--provider", "local")
    await run("config show")
    await run("config validate", LLMHOST_SCALE__LATE="0.1")
    await run("doctor")
    await run("doctor", code=1, LLMHOST_REDIS__URL="redis://127.0.0.1:1")
    await run("offers")
    await run("offers", "reliability>0.9999 num_gpus=4")
    await run("offers", "--max-price", "0.40", "--interruptible")
    await run("up", "--dry-run")
    await run("ask", "What is Redis?", "--model", "unknown", code=5)


async def with_a_fleet(run: Session) -> None:
    up = await run("up", "--gpus", "1", "--yes")
    worker = up["workers"][0]["id"]

    async def measured() -> Any:  # which a worker does every few seconds
        return (await run("status", "--gpu"))["gpus"][0]["gpus"]

    await until(measured)
    await run("status")
    await run("fleets")
    await run("logs", worker)
    await run("ssh", worker)
    await run("notify test")
    limits = ("--rpm", "60", "--tokens-per-day", "1000", "--usd-per-day", "5", "--models", "tiny")
    added = await run("keys add", "--tenant", "acme", "--expires", "30d", *limits)
    await run("keys ls")
    await run("keys revoke", added["id"], "--yes")
    await run("scale", "--dry-run")
    await run("scale", code=4, LLMHOST_SCALE__MIN_GPUS="2", LLMHOST_FLEET__BUDGET__PER_HOUR="0.5")
    await run("scale", LLMHOST_SCALE__MIN_GPUS="2")
    await run("scale history", "--last", "5")
    await run("scale history")
    await run("scale cron")


async def the_cache(run: Session) -> None:
    await run("ask", ASKED, "--explain")
    await run("cache export", "cache.jsonl")
    _make_wrong(Path("cache.jsonl"))
    await run("cache clear", "--yes")
    await run("cache import", "cache.jsonl")
    await run("ask", REWORDED, "--explain")
    await run("ask", "What is nginx?", "--explain")
    await run("ask", "What is nginx?", LLMHOST_CACHE__SHADOW="true")
    await run("ask", "How tall is Mount Everest in metres?", "--explain")
    await run("ask", "How tall is Mount Everest in feet?", "--explain")
    await run("cache audit")
    await run("cache tune show")
    await run("chat", stdin=b"What is Redis?\nWhat is a kernel?\n")
    _write("questions.txt", "How does DNS work?\nWhat is a shell?\n")
    await run("cache warm", "questions.txt")
    (first, *_) = (await run("cache ls"))["entries"]
    await run("cache get", first["entry"])
    await run("cache sweep")
    await run("cache reindex")
    await run("cache forget", first["entry"], "--dry-run")
    await run("cache forget", first["entry"], "--bad-answer")


async def with_a_gateway(run: Session) -> None:
    run.house.environ["LLMHOST_GATEWAY__AUTOSTART"] = "true"
    await run("up", "--gpus", "1")
    await run("status")
    await run("down", "--yes")
    await run("status")


async def the_figures(run: Session) -> None:
    await run("stats")
    for by in ("day", "worker", "tenant", "model"):
        run.keep(f"stats --by {by}", await run.house.ok("stats", "--by", by))
    run.keep("stats --reconcile", await run.house.ok("stats", "--reconcile"))
    await run("cost")
    await run("cost", "--from-stats")
    await run("bench", "--quick")
    _write("trace.csv", "time,prompt_tokens,completion_tokens\n0,100,50\n60,100,50\n600,100,50\n")
    await run("scale simulate", "trace.csv")
    await run("cache tune reset", "--yes")


async def offline(run: Session) -> None:
    pairs = [(ASKED, REWORDED, 1), (ASKED, "What is machine learning?", 1), (ASKED, "What is a kernel?", 0)]
    text = "\n".join(json.dumps({"a": a, "b": b, "same": same, "kind": "parts"}) for a, b, same in pairs)
    _write("pairs.jsonl", text)
    await run("cache eval", "pairs.jsonl")
    await run("cache eval", "pairs.jsonl", "--policy", "threshold:-1")
    await run("cache tune", "pairs.jsonl")
    run.keep(
        "cache tune judge", (await run.house.run("cache", "tune", "judge", "pairs.jsonl", "--json")).json
    )
    turns = ["What is Redis?", "A database in memory."]
    row = {"turns": turns, "last": "Is it fast?", "standalone": "Is Redis fast?"}
    _write("conversations.jsonl", json.dumps(row))
    run.keep(
        "cache tune condense",
        (await run.house.run("cache", "tune", "condense", "conversations.jsonl", "--json")).json,
    )
    lines = [json.dumps({"question": question, "class": "learning"}) for question in (ASKED, REWORDED)]
    _write("stream.jsonl", "\n".join(lines))
    await run("cache replay", "stream.jsonl")


def _write(name: str, text: str) -> None:
    Path(name).write_text(text)


def _make_wrong(exported: Path) -> None:
    """An answer that an audit finds wrong."""
    wrong = re.sub('"text":"[^"]*"', '"text":"Learning from data."', exported.read_text())
    exported.write_text(wrong)


def written(seen: Seen) -> str:
    rows = {
        command: {
            path: sorted(types, key=lambda kind: (kind == "null", kind)) for path, types in paths.items()
        }
        for command, paths in seen.items()
    }
    return json.dumps(rows, indent=1) + "\n"


def differences(seen: Seen, known: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[str]:
    """What is printed and not on the page, and what is on the page and would have been printed; nothing is
    known of what is in an empty list."""
    for command in seen.keys() | known.keys():
        printed, documented = seen.get(command, {}), known.get(command, {})
        for path, types in printed.items():
            if path not in documented or types - {*documented[path], "null"}:
                yield f"{command}: {path}, {sorted(types)}, is not on the page"
        above = {parent(path) for path in printed}
        for path in documented.keys() - printed.keys():
            if parent(path) in above:
                yield f"{command}: {path} is on the page, and not printed"


def test_a_field_too_many_and_one_too_few_are_named_and_an_empty_list_says_nothing() -> None:
    seen: Seen = {"up": {"rows": {"list"}, "new": {"text"}, "count": {"null"}}}
    known = {
        "up": {
            "rows": ["list"],
            "rows[]": ["object"],
            "rows[].id": ["text"],
            "old": ["text"],
            "count": ["number"],
        }
    }
    assert [*differences(seen, known)] == [
        "up: new, ['text'], is not on the page",
        "up: old is on the page, and not printed",
    ]
