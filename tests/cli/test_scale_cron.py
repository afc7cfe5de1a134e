"""What `llmhost scale --install-cron` prints: it runs as it stands, and gives away nothing."""

from __future__ import annotations

import asyncio
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmhost.cli.commands.scale_cron import (
    LONGEST_LINE,
    CronJob,
    Environment,
    crontab_line,
    needed_environment,
    systemd_service,
    systemd_timer,
    write_secrets,
)
from llmhost.config.models import Config
from llmhost.errors import UsageError

Run = Callable[..., Any]

RENTED = (
    "fleet: {name: paid, provider: vast}\n"
    "engine: {kind: ollama, model: tiny}\n"
    "redis: {host: redis.example.com, password: '${REDIS_PASSWORD}', username: '${REDIS_USER:-default}'}\n"
)


def make_job(**changes: Any) -> CronJob:
    values: dict[str, Any] = {
        "name": "llmhost-scale-test",
        "command": ("/usr/bin/python3", "-c", "pass"),
        "folder": Path("/"),
        "environment": Environment(),
        "secrets": Path("/nowhere.env"),
        "log": Path("/var/log/scale.log"),
    }
    return CronJob(**{**values, **changes})


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


@pytest.fixture
def without_system_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("llmhost.cli.commands.scale_cron._SYSTEM_LOG", tmp_path / "nothing")


# The crontab line


@pytest.mark.parametrize(
    ("minutes", "times"), [(1, "* * * * *"), (5, "*/5 * * * *"), (59, "*/59 * * * *"), (60, "0 * * * *")]
)
def test_the_line_begins_with_its_times(minutes: int, times: str) -> None:
    assert crontab_line(make_job(minutes=minutes)).startswith(f"{times} {{ ")


def test_a_line_runs_where_and_with_what_it_was_printed(tmp_path: Path) -> None:
    folder, log = tmp_path / "with a space, 100%, $HOME and 'quotes'", tmp_path / "50% of it.log"
    folder.mkdir()
    code = "import os; print(os.getcwd(), os.environ['MINE'], os.environ['SECRET'])"
    plain, secret = "a 'b' \"c\" %d $e `f` \\g", "p'q\"r$s`t\\u #v %w"
    secrets = tmp_path / "scale of mine.env"
    python = shutil.which("python3")
    assert python is not None
    job = make_job(
        command=(python, "-c", code),
        folder=folder,
        environment=Environment({"MINE": plain}, ("SECRET",)),
        secrets=secrets,
        log=log,
    )
    subprocess.run(
        ["/bin/sh", "-c", write_secrets(job)], env={"SECRET": secret, "PATH": "/usr/bin:/bin"}, check=True
    )
    line = crontab_line(job)
    assert "\n" not in line
    ran = in_a_bare_shell(as_cron_runs_it(line))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    day, time, *words = log.read_text().split(" ")
    assert (len(day), len(time)) == (10, 8)
    assert " ".join(words) == f"{folder} {plain} {secret}\n"


def test_every_per_cent_is_marked_for_cron() -> None:
    line = crontab_line(make_job(environment=Environment({"MINE": "50%"})))
    assert line.count("%") == line.count("\\%") > 1


def test_what_goes_wrong_before_the_step_is_logged_too(tmp_path: Path) -> None:
    job = make_job(environment=Environment({}, ("SECRET",)), log=tmp_path / "log")
    in_a_bare_shell(as_cron_runs_it(crontab_line(job)))
    assert "/nowhere.env" in job.log.read_text()


def test_where_there_is_a_system_log_it_gets_what_is_said() -> None:
    line = crontab_line(make_job(logger=Path("/usr/bin/logger")))
    assert line.endswith("2>&1 | /usr/bin/logger -t llmhost-scale-test")


def test_a_path_that_would_need_two_lines_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot stand in a crontab"):
        make_job(folder=Path("/a\nb"))


# The secrets


def test_the_file_of_secrets_is_its_owners_alone_even_if_it_was_there(tmp_path: Path) -> None:
    job = make_job(environment=Environment({}, ("ONE", "TWO")), secrets=tmp_path / "new" / "scale.env")
    for _ in range(2):
        subprocess.run(
            ["/bin/sh", "-c", write_secrets(job)],
            env={"ONE": "1", "TWO": "2", "PATH": "/usr/bin:/bin"},
            check=True,
        )
        assert stat.S_IMODE(job.secrets.stat().st_mode) == 0o600
        assert job.secrets.read_text() == 'ONE="1"\nTWO="2"\n'
        job.secrets.chmod(0o644)


def test_no_secret_is_printed(cli: Run, monkeypatch: pytest.MonkeyPatch, without_system_log: None) -> None:
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
    monkeypatch.setenv("LLMHOST_FLEET__MAX_GPUS", "4")
    for form in ((), ("--json",), ("--verbose",)):
        ran = cli("scale", "--install-cron", *form)
        assert ran.code == 0
        assert "hunter" not in ran.stdout + ran.stderr
        assert all(name in ran.stdout for name in secrets)
        assert "LLMHOST_FLEET__MAX_GPUS=4" in ran.stdout


def test_scripts_get_texts_and_environment(
    cli: Run, monkeypatch: pytest.MonkeyPatch, without_system_log: None
) -> None:
    Path("llmhost.yaml").write_text(RENTED)
    monkeypatch.setenv("REDIS_PASSWORD", "hunter")
    told = cli("scale", "--install-cron", "--every", "5", "--json").json
    values = {variable["name"]: variable["value"] for variable in told["environment"]}
    assert values["REDIS_PASSWORD"] is None
    assert "REDIS_USER" not in values  # it is not set, and has a default
    assert values["HOME"] == str(Path.cwd())
    assert told["cron"].startswith("*/5 * * * * ")
    assert f"--config {Path.cwd() / 'llmhost.yaml'} scale --quiet" in told["cron"]
    assert told["environment_file"] == str(Path("config/llmhost/scale-paid.env").absolute())
    assert told["environment_file"] in told["cron"]
    assert f"EnvironmentFile={told['environment_file']}\n" in told["systemd_service"]


def test_a_fleet_without_secrets_needs_no_file(cli: Run, without_system_log: None) -> None:
    told = cli("scale", "--install-cron", "--json").json
    assert (told["environment_file"], told["write_environment_file"]) == (None, None)
    assert "set -a" not in told["cron"]
    assert "EnvironmentFile" not in told["systemd_service"]


def test_people_get_lines_that_can_be_copied(
    cli: Run, monkeypatch: pytest.MonkeyPatch, without_system_log: None
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    told, shown = (cli("scale", "--install-cron", *form) for form in (("--json",), ()))
    assert told.json["cron"] in shown.stdout.splitlines()
    assert told.json["systemd_service"] in shown.stdout
    assert told.json["systemd_timer"] in shown.stdout


def test_what_is_shown_is_a_script_that_installs_the_units(
    cli: Run, monkeypatch: pytest.MonkeyPatch, without_system_log: None
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "hunter")
    Path("llmhost.yaml").write_text(RENTED)
    shown = cli("scale", "--install-cron").stdout
    lines = [line for line in shown.splitlines() if not line.startswith(("* *", "systemctl", "loginctl"))]
    subprocess.run(["/bin/sh", "-euc", "\n".join(lines)], check=True)
    units = Path("config/systemd/user")
    told = cli("scale", "--install-cron", "--json").json
    assert (units / "llmhost-scale-paid.service").read_text() == told["systemd_service"]
    assert (units / "llmhost-scale-paid.timer").read_text() == told["systemd_timer"]
    assert Path(told["environment_file"]).read_text() == 'REDIS_PASSWORD="hunter"\n'


def test_a_line_that_cron_would_refuse_is_warned_of(
    cli: Run, monkeypatch: pytest.MonkeyPatch, without_system_log: None
) -> None:
    monkeypatch.setenv("HF_HOME", "/" + "x" * LONGEST_LINE)
    assert "warning: the line is longer than some crons take" in cli("scale", "--install-cron").stderr


def test_a_configuration_that_is_wrong_is_refused(cli: Run) -> None:
    Path("llmhost.yaml").write_text("fleet: {gpus: many}\n")
    assert cli("scale", "--install-cron").code == 2


# The environment


def test_folders_are_made_absolute() -> None:
    needed = needed_environment(Config(), {"LLMHOST_STATE_DIR": "state", "LLMHOST_CACHE_DIR": "~/c"}, set())
    assert needed.plain["LLMHOST_STATE_DIR"] == str(Path.cwd() / "state")
    assert needed.plain["LLMHOST_CACHE_DIR"] == str(Path.cwd() / "c")


def test_what_does_not_matter_is_left_out() -> None:
    environ = {"EDITOR": "vi", "LLMHOST_CONFIG": "x", "VAST_API_KEY": "hunter", "LLMHOST_STATE_DIR": ""}
    assert needed_environment(Config(), environ, set()) == Environment()


def test_a_value_that_no_line_can_hold_goes_to_the_file() -> None:
    needed = needed_environment(Config(), {"HF_HOME": "a\nb"}, set())
    assert (needed.plain, needed.secret) == ({}, ("HF_HOME",))


def test_a_redis_server_that_cron_would_not_find_is_made_known(tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    environ = {"PATH": f"/nowhere:{tmp_path}:/usr/bin"}
    assert needed_environment(Config(), environ, set()).plain == {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    elsewhere = Config.model_validate({"redis": {"host": "redis.example.com"}})
    assert needed_environment(elsewhere, environ, set()).plain == {}


# systemd

systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")


@systemd
@pytest.mark.parametrize("minutes", [1, 5, 59, 60])
def test_systemd_takes_the_units(tmp_path: Path, minutes: int) -> None:
    job = make_job(
        command=("/bin/sh", "-c", 'echo "$HOME" 100% \\ $$'),
        environment=Environment({"MINE": 'a "b" %d $e \\f'}, ("SECRET",)),
        folder=tmp_path,
        minutes=minutes,
    )
    units = [tmp_path / f"{job.name}.service", tmp_path / f"{job.name}.timer"]
    units[0].write_text(systemd_service(job))
    units[1].write_text(systemd_timer(job))
    ran = subprocess.run(
        [str(shutil.which("systemd-analyze")), "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in ran.stderr.splitlines() if str(tmp_path) in line]
    assert (ran.returncode, said) == (0, [])


def test_a_unit_keeps_words_as_they_are() -> None:
    service = systemd_service(
        make_job(command=("/bin/a b", "50%", "$x", '"'), environment=Environment({"MINE": '1 $2 %3 "4" \\5'}))
    )
    assert 'ExecStart="/bin/a b" 50%% "$$x" "\\""\n' in service
    assert 'Environment="MINE=1 $2 %%3 \\"4\\" \\\\5"\n' in service


def test_workers_outlive_the_step_that_started_them() -> None:
    assert "KillMode=process\n" in systemd_service(make_job())


# The real thing


@pytest.mark.slow
async def test_the_line_scales_a_real_fleet_from_crons_bare_environment(
    house: Any, cli: Run, without_system_log: None, state_folder: Path
) -> None:
    house.configure(fleet={"name": "from-cron"}).rename("my 100% fleet.yaml")
    told = cli("--config", "my 100% fleet.yaml", "scale", "--install-cron", "--json").json
    ran = await asyncio.to_thread(in_a_bare_shell, as_cron_runs_it(told["cron"]))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    log = (state_folder / "llmhost-scale-from-cron.log").read_text()
    assert "up: 0 → 1 worker" in log
    assert "started local-" in log
    status = await house.ok("--config", "my 100% fleet.yaml", "status")
    assert len(status["workers"]) == 1
