"""What a cron job of this command's configuration is, and how `scale --install-cron` shows it."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhost.cli.commands.scale_cron import (
    CronJob,
    crontab_line,
    needed_environment,
    systemd_service,
    systemd_timer,
    write_secrets,
)

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["CronOutput", "cron_output", "make_job", "show_cron"]

#: where the system's log listens; `logger` alone writes into the void
_SYSTEM_LOG = Path("/dev/log")


@dataclass(frozen=True, slots=True)
class VariableOutput:
    """`value` is None where it may be secret: it is to be in the file."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class CronOutput:
    """Texts as they are to be installed. `environment_file` holds the values that are not shown, None where
    all are; `write_environment_file` is the shell command that writes it.
    """

    cron: str
    systemd_service: str
    systemd_timer: str
    environment: Sequence[VariableOutput]
    environment_file: str | None
    write_environment_file: str | None


class _Watched(dict[str, str]):
    """An environment that remembers which variables were asked for by name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def make_job(given: Path | None, environ: Mapping[str, str], minutes: int) -> CronJob:
    """A step for the configuration that is in force here; `given` is the file of --config.

    Raises:
        ConfigError: the configuration is wrong.
        StateError: the state folder cannot be used.
        UsageError: a path cannot be written on one line.
    """
    import platformdirs

    from llmhost.config.load import load_config
    from llmhost.machine.paths import state_dir

    watched = _Watched(environ)
    loaded = load_config(given, environ=watched)
    source = ("--config", str(loaded.source.absolute())) if loaded.source else ()
    name = f"llmhost-scale-{loaded.config.fleet.name}"
    return CronJob(
        name=name,
        # -P: a folder named llmhost where it runs must not be taken for the program.
        command=(sys.executable, "-P", "-m", "llmhost", *source, "scale", "--quiet"),
        folder=Path.cwd(),
        environment=needed_environment(loaded.config, environ, watched.asked - {"LLMHOST_CONFIG"}),
        secrets=platformdirs.user_config_path("llmhost") / f"scale-{loaded.config.fleet.name}.env",
        log=state_dir() / f"{name}.log",
        logger=_logger(),
        minutes=minutes,
    )


def cron_output(job: CronJob) -> CronOutput:
    """All that is to be installed for `job`."""
    shown = [VariableOutput(name, value) for name, value in job.environment.plain.items()]
    secret = job.environment.secret
    return CronOutput(
        cron=crontab_line(job),
        systemd_service=systemd_service(job),
        systemd_timer=systemd_timer(job),
        environment=[*shown, *(VariableOutput(name, None) for name in secret)],
        environment_file=str(job.secrets) if secret else None,
        write_environment_file=write_secrets(job) if secret else None,
    )


def show_cron(job: CronJob, console: Console) -> None:
    """Everything as a shell script with comments: its lines are to be copied, so none is broken."""
    import platformdirs

    units = platformdirs.user_config_path("systemd") / "user"
    for number, part in enumerate(filter(None, (_secrets(job), _cron(job), _systemd(job, units)))):
        console.print(f"\n{part}" if number else part, soft_wrap=True)


def _secrets(job: CronJob) -> str:
    if not job.environment.secret:
        return ""
    return (
        f"# First, what may be secret, and so is not shown here: {', '.join(job.environment.secret)}.\n"
        "# This writes it, as it is set now, to a file that only you can read:\n"
        f"{write_secrets(job)}"
    )


def _cron(job: CronJob) -> str:
    where = f"the system's log, as {job.name}" if job.logger else str(job.log)
    return (
        "# With cron: run `crontab -e` and add this line. Nothing was installed.\n"
        f"# What it does goes to {where}.\n"
        f"{crontab_line(job)}"
    )


def _systemd(job: CronJob, units: Path) -> str:
    service, timer = units / f"{job.name}.service", units / f"{job.name}.timer"
    return (
        "# Or with systemd; the last line lets it run while you are logged out, too:\n"
        f"mkdir -p {shlex.quote(str(units))}\n"
        f"cat > {shlex.quote(str(service))} <<'END'\n{systemd_service(job)}END\n"
        f"cat > {shlex.quote(str(timer))} <<'END'\n{systemd_timer(job)}END\n"
        f"systemctl --user daemon-reload\n"
        f"systemctl --user enable --now {timer.name}\n"
        "loginctl enable-linger"
    )


def _logger() -> Path | None:
    found = shutil.which("logger")
    return Path(found).absolute() if found and _SYSTEM_LOG.exists() else None
