"""`llmhost cache ls` and `forget`: which entries, and what is shown of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis
import yaml
from plugins.cli import Ran
from plugins.redis_servers import RedisServer

from llmhost.cache.models import Answer
from llmhost.cache.stored import StoredEntry, pack_entry

Cli = Callable[..., Ran]

A, B = "a" * 32, "b" * 32


@pytest.fixture
def cache(cli: Cli, redis_server: RedisServer, tmp_path: Path, answer: Callable[..., Answer]) -> Cli:
    """Runs `llmhost cache ARGS…` on a Redis with two entries of two scopes and models."""
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        for name, question, model in ((A, "what is Redis", "tiny"), (B, "who was Plato", "large")):
            stored = StoredEntry(question, name[::-1], "", 0, answer(model=model))
            client.set(f"cache:response:{name}", pack_entry(stored), ex=600)
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump({"redis": {"url": f"unix://{redis_server.socket}"}}))
    return lambda *args: cli("--config", str(path), "cache", *args)


def test_a_list_has_size_age_model_and_scope(cache: Cli) -> None:
    head, _, *rows = cache("ls").stdout.splitlines()
    assert head.split() == [
        *("entry", "question", "model", "scope", "size", "age", "hits", "last", "used", "expires", "in"),
    ]
    assert sorted("tiny" in row for row in rows) == [False, True]
    (entry,) = cache("ls", "--text", "PLATO", "--json").json["entries"]
    assert (entry["entry"], entry["model"], entry["scope"]) == (B, "large", B)
    assert 100 < entry["size_bytes"] < 1000


def test_what_all_entries_have_in_common_takes_no_room_of_their_questions(cache: Cli) -> None:
    shown = cache("ls", "--model", "tiny").stdout
    assert shown.splitlines()[0].split()[:4] == ["entry", "question", "size", "age"]
    assert ("what is Redis" in shown, "Plato" in shown) == (True, False)


def test_a_narrow_window_shows_less_of_each_entry(cache: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cache("ls").stdout.split("\n")[0].split()[:4] == ["entry", "question", "hits", "last"]


def test_a_list_that_does_not_show_all_says_so(cache: Cli) -> None:
    assert "1 of 2; --limit shows more." in cache("ls", "--limit", "1").stdout


def test_a_dry_run_names_what_would_be_removed_and_removes_nothing(cache: Cli) -> None:
    shown = cache("forget", "--model", "large", "--dry-run").stdout
    assert shown.endswith("who was Plato\n1 entry would be removed.\n")
    assert cache("forget", A[:6], "--dry-run", "--json").json == {
        "forgotten": [],
        "labelled": [],
        "matching": [A],
        "total": 1,
    }
    assert cache("ls", "--json").json["total"] == 2


def test_what_fits_all_options_is_forgotten(cache: Cli) -> None:
    assert cache("forget", "--model", "large", "--text", "redis", "--json").json["forgotten"] == []
    assert cache("forget", "--model", "large", "--scope", "bb", "--json").json["forgotten"] == [B]
    assert [entry["entry"] for entry in cache("ls", "--json").json["entries"]] == [A]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("forget",), "name entries, or say which"),
        (("forget", "aaaa", "--text", "x"), "name entries, or say which"),
        (("forget", "--text", " "), "--text is empty"),
        (("forget", "--wrong-match", "--text", "x"), "--wrong-match is for entries that you name"),
        (("ls", "--model", ""), "--model is empty"),
    ],
)
def test_options_that_would_match_everything_or_nothing_are_refused(
    cache: Cli, args: tuple[str, ...], words: str
) -> None:
    ran = cache(*args)
    assert (ran.code, words in ran.stderr) == (2, True)
