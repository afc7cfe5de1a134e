"""`llmhost keys`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import redis
import yaml
from plugins.cli import Ran

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.redis_servers import RedisServer

Cli = Callable[..., Ran]


@pytest.fixture
def keys(cli: Cli, redis_server: RedisServer, tmp_path: Path) -> Cli:
    """Runs `llmhost keys ARGS…` on the Redis of this test."""
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump({"redis": {"url": f"unix://{redis_server.socket}"}}))
    return lambda *args: cli("--config", str(path), "keys", *args)


def test_a_key_is_printed_once_and_listed_without_it(keys: Cli) -> None:
    made = keys("add", "--tenant", "acme", "--label", "chat")
    key = made.stdout.strip()
    assert (made.code, key.startswith("llmhost-"), key in made.stderr) == (0, True, False)
    listed = keys("ls")
    assert ("acme" in listed.stdout, key.rpartition("-")[2] in listed.stdout) == (True, False)
    (row,) = keys("ls", "--json").json["keys"]
    assert (row["id"], row["tenant"], row["label"]) == (key.split("-")[1], "acme", "chat")
    assert row["limits"] == {
        "requests_per_minute": None,
        "tokens_per_day": None,
        "usd_per_day": None,
        "models": [],
    }
    assert (row["expires"], row["last_used"], row["today"]) == (
        None,
        None,
        {"requests": 0, "tokens": 0, "usd": 0},
    )


def test_ids_and_numbers_of_keys_are_not_broken_on_a_narrow_terminal(
    keys: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    limits = ["--rpm", "60", "--tokens-per-day", "1000000", "--usd-per-day", "2.5", "--models", "tiny"]
    made = keys("add", "--tenant", "acme", "--label", "chat", *limits, "--expires", "30d", "--json").json
    words = keys("ls").stdout.split()
    assert {made["id"], "1.0M", "$2.50", "label"} <= {*words}


def test_limits_are_kept_as_given(keys: Cli) -> None:
    limits = ["--rpm", "60", "--tokens-per-day", "1000", "--usd-per-day", "2.5", "--models", "tiny"]
    made = keys("add", "--tenant", "acme", *limits, "--expires", "30d", "--json").json
    (row,) = keys("ls", "--json").json["keys"]
    assert row["limits"] == made["limits"]
    assert made["limits"] == {
        "requests_per_minute": 60,
        "tokens_per_day": 1000,
        "usd_per_day": 2.5,
        "models": ["tiny"],
    }
    assert made["expires"] - made["created"] == pytest.approx(30 * 86_400)
    assert made["key"].startswith(f"llmhost-{made['id']}-")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--tenant", ""],
        ["--tenant", "a\nb"],
        ["--tenant", "x" * 129],
        ["--tenant", "a", "--rpm", "0"],
        ["--tenant", "a", "--usd-per-day", "nan"],
        ["--tenant", "a", "--expires", "never"],
        ["--tenant", "a", "--expires", "inf"],
        ["--tenant", "a", "--models", "two words"],
    ],
)
def test_a_limit_that_cannot_be_makes_no_key(keys: Cli, args: list[str]) -> None:
    refused = keys("add", *args)
    assert (refused.code, refused.stdout, refused.stderr.count("error:")) == (2, "", 1)
    assert keys("ls", "--json").json["keys"] == []


def test_a_revoked_key_is_not_listed_any_more(keys: Cli) -> None:
    first, second = (keys("add", "--tenant", name, "--json").json["id"] for name in ("acme", "other"))
    assert keys("revoke", first, "-y", "--json").json == {"revoked": first}
    assert [row["id"] for row in keys("ls", "--json").json["keys"]] == [second]


def test_a_key_is_not_revoked_unasked(keys: Cli) -> None:
    made = keys("add", "--tenant", "acme", "--json").json
    assert keys("revoke", made["id"]).code == 2
    assert len(keys("ls", "--json").json["keys"]) == 1


def test_an_id_that_is_no_key_s_is_one_line(keys: Cli) -> None:
    refused = keys("revoke", "0a1b2c3d4e5f", "-y")
    assert (refused.code, "there is no key '0a1b2c3d4e5f'" in refused.stderr) == (2, True)


def test_a_damaged_record_is_named_and_can_be_revoked(keys: Cli, redis_server: RedisServer) -> None:
    made = keys("add", "--tenant", "acme", "--json").json
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        client.hset(f"llmhost:gateway_key:{made['id']}", "models", "{")
    assert made["id"] in keys("ls").stderr
    assert keys("revoke", made["id"], "-y").code == 0


def test_without_keys_the_list_says_how_to_make_one(keys: Cli) -> None:
    assert "llmhost keys add" in keys("ls").stdout
