"""What `llmhost scale cron` prints: it runs as it stands, and prints no secret."""

from __future__ import annotations

import asyncio
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

RENTED = (
    "fleet: {name: paid, provider: vast}\n"
    "engine: {kind: ollama, model: tiny}\n"
    "redis: {host: redis.example.com, password: '${REDIS_PASSWORD}', username: '${REDIS_USER:-default}'}\n"
)


def as_cron_runs_it(line: str) -> str:
    """The command of a crontab's line, with the marks before its per cents taken away (crontab(5))."""
    return line.split(maxsplit=5)[5].replace("\\%", "%")


def in_a_bare_shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/usr/bin/env", "-i", "/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _save_environment(printed: Any) -> None:
    subprocess.run(["/bin/sh", "-euc", printed["write_environment_file"]], check=True)


@pytest.fixture(autouse=True)
def without_system_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("llmhost.cli.commands.scale._SYSTEM_LOG", tmp_path / "nothing")


@pytest.mark.parametrize(
    ("minutes", "times"), [(1, "* * * * *"), (5, "*/5 * * * *"), (30, "*/30 * * * *"), (60, "0 * * * *")]
)
def test_the_line_begins_with_its_times_and_every_per_cent_is_marked_for_cron(
    cli: Run, minutes: int, times: str
) -> None:
    line = cli("scale", "cron", "--every", str(minutes), "--json").json["cron"]
    assert line.startswith(f"{times} {{ ")
    assert line.count("%") == line.count("\\%") > 1


@pytest.mark.parametrize(("minutes", "neighbours"), [(7, "6 or 10"), (45, "30 or 60"), (59, "30 or 60")])
def test_minutes_that_cron_cannot_repeat_evenly_are_refused_and_the_nearest_that_it_can_are_named(
    cli: Run, minutes: int, neighbours: str
) -> None:
    ran = cli("scale", "cron", "--every", str(minutes))
    assert (ran.code, ran.stdout) == (2, "")
    assert f"--every {minutes} does not divide an hour" in ran.stderr
    assert f"give {neighbours}" in ran.stderr


def test_the_line_is_for_the_fleet_that_was_named(cli: Run) -> None:
    printed = cli("--fleet", "blue", "scale", "cron", "--json").json
    assert "llmhost --fleet blue scale --quiet" in printed["cron"]
    assert printed["environment_file"].endswith("scale-blue.env")


def test_people_get_lines_that_can_be_copied(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    printed, shown = cli("scale", "cron", "--json").json, cli("scale", "cron").stdout
    assert printed["cron"] in shown.splitlines()
    assert printed["write_environment_file"] in shown


def test_where_there_is_a_system_log_it_gets_what_is_printed(
    cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("llmhost.cli.commands.scale._SYSTEM_LOG", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    line = cli("scale", "cron", "--json").json["cron"]
    assert line.endswith("2>&1 | /usr/bin/logger -t llmhost-scale-local")


def test_a_path_that_would_need_two_lines_is_refused(
    cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a\nb").mkdir()
    monkeypatch.chdir(tmp_path / "a\nb")
    ran = cli("scale", "cron")
    assert (ran.code, "cannot stand in a crontab" in ran.stderr) == (2, True)


def test_no_value_is_printed_and_every_variable_that_counts_is_named(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("llmhost.yaml").write_text(RENTED)
    secrets = {
        "REDIS_PASSWORD": "hunter-one",
        "VAST_API_KEY": "hunter-two",
        "LLMHOST_REDIS__PASSWORD": "hunter-three",
        "HTTPS_PROXY": "http://me:hunter-four@proxy",
        "HF_TOKEN": "hunter-five",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EDITOR", "vi")
    for form in ((), ("--json",), ("--verbose",)):
        ran = cli("scale", "cron", *form)
        assert ran.code == 0
        assert "hunter" not in ran.stdout + ran.stderr
        assert all(name in ran.stdout for name in secrets)
        assert "EDITOR" not in ran.stdout
        assert "REDIS_USER" not in ran.stdout  # it is not set, and has a default


def test_the_file_of_the_environment_is_its_owners_alone_and_keeps_every_character(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "p'q\"r$s`t\\u #v %w"
    monkeypatch.setenv("LLMHOST_FLEET__NAME", "paid")
    monkeypatch.setenv("HF_TOKEN", value)
    printed = cli("scale", "cron", "--json").json
    file = Path(printed["environment_file"])
    for _ in range(2):
        _save_environment(printed)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)
    read = in_a_bare_shell(f"set -a && . {file} && printenv HF_TOKEN")
    assert read.stdout == f"{value}\n"


def test_what_fails_before_the_step_is_logged_too(cli: Run, state_folder: Path) -> None:
    state_folder.mkdir()
    in_a_bare_shell(as_cron_runs_it(cli("scale", "cron", "--json").json["cron"]))  # there is no file yet
    assert "scale-local.env" in (state_folder / "llmhost-scale-local.log").read_text()


@pytest.mark.slow
async def test_the_line_scales_a_real_fleet_from_crons_bare_environment(
    house: Any, cli: Run, state_folder: Path
) -> None:
    house.configure(fleet={"name": "from-cron"}).rename("my 100% fleet.yaml")
    printed = cli("--config", "my 100% fleet.yaml", "scale", "cron", "--json").json
    await asyncio.to_thread(_save_environment, printed)
    ran = await asyncio.to_thread(in_a_bare_shell, as_cron_runs_it(printed["cron"]))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    log = (state_folder / "llmhost-scale-from-cron.log").read_text()
    assert "up: 0 → 1 worker" in log
    assert "started local-" in log
    status = await house.ok("--config", "my 100% fleet.yaml", "status")
    assert len(status["workers"]) == 1
