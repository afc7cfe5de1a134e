"""`llmhost doctor`."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from doubles.ollama_server import OllamaServer
from plugins.cli import Ran
from plugins.commands import Finished, House
from plugins.redis_servers import PortServer, TlsRedis, server_command

from llmhost.cache.verifiers import load, manifest
from llmhost.engines import model_file
from llmhost.store.embedded import EmbeddedRedis

Cli = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _model_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tests/engines/test_model_file.py` computes the checksum, and so do the commands in processes here."""
    monkeypatch.setattr(model_file, "model_digest", lambda path: model_file._SHA256)


def checks_of(ran: Ran | Finished) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in ran.json["checks"]}


def configure(text: str) -> None:
    Path("llmhost.yaml").write_text(text)


def test_the_built_in_setup_passes_before_anything_runs_and_nothing_is_started(
    cli: Cli, state_folder: Path
) -> None:
    ran = cli("doctor", "--json")
    assert (ran.code, "warning" in ran.stderr) == (0, False)
    cache, rest = ["redis", "embedder", "verifier"], ["engine", "workers"]
    assert list(checks_of(ran)) == ["config", "machine", "state", *cache, *rest]
    assert {tuple(check) for check in checks_of(ran).values()} == {("name", "ok", "detail", "fix", "level")}
    assert "not running" in checks_of(ran)["redis"]["detail"]
    assert list(state_folder.iterdir()) == []


def test_a_failed_check_is_marked_and_counted(cli: Cli) -> None:
    configure("engine:\n  model_path: /no/such/model.gguf\n")
    ran = cli("doctor")
    assert ran.code == 1
    assert [line.split()[:2] for line in ran.stdout.splitlines()[:2]] == [["ok", "config"], ["ok", "machine"]]
    assert "FAIL  engine" in ran.stdout
    assert ran.stdout.endswith("\n\n1 of 8 checks failed.\n")


def test_a_path_that_is_longer_than_a_line_breaks_after_a_slash(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"folder-of-a-long-name-{number}" for number in range(6)]
    configure(f"engine:\n  model_path: /{'/'.join(names)}/model.gguf\n")
    shown = cli("doctor").stdout
    assert all(f"{name}/" in shown for name in names)
    assert max(map(len, shown.splitlines())) <= 80


def test_what_warns_is_marked_and_counted_and_is_no_failure(cli: Cli) -> None:
    configure("scale:\n  late: 0.1\n")
    ran = cli("doctor")
    assert (ran.code, "warning" in ran.stderr) == (0, False)
    assert "warn  config" in ran.stdout
    assert ran.stdout.endswith("\n\nAll checks passed, 1 warning.\n")


def test_what_is_wrong_in_the_configuration_is_said_once(cli: Cli) -> None:
    configure("redis:\n  host: ${NO_SUCH_HOST}\n  tls: true\n")
    ran = cli("doctor")
    assert (ran.code, ran.stderr) == (1, "")
    assert " ".join(ran.stdout.split()).count("NO_SUCH_HOST is not set") == 1


@pytest.mark.parametrize(
    ("config", "check"),
    [
        ("fleet:\n  gpsu: 2\n", "config"),
        ("cache:\n  embedder: /no/such/folder\n", "embedder"),
        ("cache:\n  verifier: /no/such/folder\n", "verifier"),
        ("redis:\n  host: 127.0.0.1\n  port: {port}\n", "redis"),
    ],
)
def test_a_part_that_is_wrong_or_away_is_found(cli: Cli, refusing_port: int, config: str, check: str) -> None:
    configure(config.replace("{port}", str(refusing_port)))
    ran = cli("doctor", "--json")
    assert (ran.code, checks_of(ran)[check]["ok"]) == (1, False)


def test_a_model_file_that_is_damaged_is_found(cli: Cli, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF but no more")
    configure(f"engine:\n  model_path: {model}\n")
    assert checks_of(cli("doctor", "--json"))["engine"]["ok"] is False


def test_a_verifier_that_is_damaged_is_found_though_it_is_of_full_length(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(load.FOLDER, tmp_path / "verifier")
    with (folder / manifest.MODEL).open("r+b") as model:
        model.write(b"not what it was")
    monkeypatch.setattr(load, "FOLDER", folder)
    ran = cli("doctor", "--json")
    check = checks_of(ran)["verifier"]
    assert (ran.code, check["ok"], "install llmhost again" in check["fix"]) == (1, False, True)


def test_a_verifier_that_is_only_a_name_is_not_downloaded_to_be_checked(cli: Cli) -> None:
    configure("cache:\n  verifier: no-such-owner/no-such-model\n")
    assert "on first use" in checks_of(cli("doctor", "--json"))["verifier"]["detail"]
    configure("cache:\n  policy: threshold\n")
    assert "verifier" not in checks_of(cli("doctor", "--json"))


def test_a_state_folder_that_cannot_be_written_is_found(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMHOST_STATE_DIR", "/proc/nowhere")
    ran = cli("doctor", "--json")
    assert (ran.code, checks_of(ran)["state"]["ok"], checks_of(ran)["config"]["ok"]) == (1, False, True)


def test_a_redis_of_ones_own_is_asked_for_its_settings(cli: Cli, redis_port_server: PortServer) -> None:
    server = redis_port_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    configure(f"redis:\n  host: 127.0.0.1\n  port: {server.port}\n")
    checks = checks_of(cli("doctor", "--json"))
    assert (checks["redis"]["ok"], checks["redis eviction"]["ok"]) == (True, False)
    assert "volatile-lru" in checks["redis eviction"]["fix"]


async def test_a_redis_that_wants_tls_is_told_from_one_that_is_away(tls_redis: TlsRedis) -> None:
    configure(f"redis:\n  host: localhost\n  port: {tls_redis.port}\n")
    check = checks_of(await House().run("doctor", "--json"))["redis"]
    assert (check["ok"], "`redis.tls: true`" in check["fix"]) == (False, True)


async def test_a_redis_whose_certificate_is_not_trusted_is_not_told_to_speak_tls(tls_redis: TlsRedis) -> None:
    configure(f"redis:\n  host: localhost\n  port: {tls_redis.port}\n  tls: true\n")
    check = checks_of(await House().run("doctor", "--json"))["redis"]
    assert (check["ok"], "`redis.ca_file`" in check["fix"]) == (False, True)


def test_the_password_of_a_redis_is_not_shown(cli: Cli, redis_port_server: PortServer) -> None:
    server = redis_port_server("--requirepass", "right-secret")
    configure(f"redis:\n  url: redis://:wrong-secret@127.0.0.1:{server.port}\n")
    ran = cli("doctor", "--json", "--verbose")
    assert checks_of(ran)["redis"]["ok"] is False
    assert "secret" not in ran.stdout + ran.stderr


async def test_each_server_of_a_static_fleet_is_asked_for_its_model(
    ollama_server: OllamaServer, refusing_port: int
) -> None:
    away = f"http://127.0.0.1:{refusing_port}"
    configure(
        "fleet:\n  provider: static\n  workers:\n"
        f"    - url: {ollama_server.url}\n      token: {ollama_server.token}\n    - url: {away}\n"
        "engine:\n  kind: ollama\n  model: tiny\n"
    )
    checks = checks_of(await House().run("doctor", "--json"))
    assert checks[f"worker {ollama_server.url}"]["ok"] is True
    assert checks[f"worker {away}"]["ok"] is False
    assert "engine" not in checks


@pytest.mark.slow
async def test_what_runs_is_asked_and_left_running(house: House) -> None:
    up = await house.ok("up")
    checks = checks_of(await house.run("doctor", "--json"))
    assert checks[f"worker {up['workers'][0]['id']}"]["detail"].startswith("answers")
    assert "runs as process" in checks["redis"]["detail"]
    assert "is ready" in checks["embedder"]["detail"]
    assert [worker["ready"] for worker in (await house.ok("status"))["workers"]] == [True]


def test_the_index_in_force_is_named_with_its_reason_and_what_would_be_faster(
    cli: Cli, redis_port_server: PortServer
) -> None:
    server = redis_port_server(name="redis-8.2")
    configure(f"redis:\n  host: 127.0.0.1\n  port: {server.port}\n")
    assert (
        checks_of(cli("doctor", "--json"))["index"]["detail"] == "vector_set, the best that this server has"
    )
    with redis.Redis(port=server.port) as client:
        assert client.keys() == []  # it records nothing
        client.append("cache:flat:m:s", "x")
    check = checks_of(cli("doctor", "--json"))["index"]
    assert check["level"] == "warn"
    assert check["detail"].startswith("flat, as the entries that are stored; this server has vector_set")


def test_an_index_that_the_user_may_not_use_is_found_with_the_rights_to_give(
    cli: Cli, redis_port_server: PortServer
) -> None:
    server = redis_port_server(name="redis-8.2")
    with redis.Redis(port=server.port) as client:
        client.acl_setuser(
            "ops", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-vadd"]
        )
    configure(
        f"redis:\n  host: 127.0.0.1\n  port: {server.port}\n  username: ops\n  password: secret\n"
        "cache:\n  index: vector_set\n"
    )
    check = checks_of(cli("doctor", "--json"))["index"]
    assert (check["ok"], check["detail"]) == (
        False,
        "vector_set, as configured, and this user may not use it",
    )
    assert "+vadd" in check["fix"]


def test_an_embedded_redis_of_an_older_version_that_still_runs_says_what_the_next_start_is(
    cli: Cli, state_folder: Path
) -> None:
    embedded = EmbeddedRedis(state_folder / "redis", server_command("redis-6.2")[0])
    asyncio.run(embedded.ensure_running())
    try:
        pid, detail = embedded.pid, checks_of(cli("doctor", "--json"))["redis"]["detail"]
    finally:
        asyncio.run(embedded.stop())
    assert detail == f"embedded, Redis 6.2.14, runs as process {pid}; the next start is with Redis 8.2"
