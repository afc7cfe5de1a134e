"""The crontab line and the systemd units that make a step of scaling now and then, as text.

Cron and systemd start a command with next to no environment. What llmhost needs of this one is written out;
what may be secret is read from a file of the user's own.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config

__all__ = [
    "LONGEST_LINE",
    "CronJob",
    "CronOutput",
    "Environment",
    "cron_output",
    "crontab_line",
    "make_job",
    "needed_environment",
    "show_cron",
    "systemd_service",
    "systemd_timer",
    "write_secrets",
]

#: characters; crons that descend from Vixie's refuse a longer one (MAX_COMMAND, 1000 with its end)
LONGEST_LINE = 990

#: What tells llmhost, its libraries and Redis where things lie on this machine.
_PLAIN = (
    "LLMHOST_STATE_DIR",
    "LLMHOST_CACHE_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)
#: Relative ones are meant from the folder that this command runs in, and so they stay.
_FOLDERS = ("LLMHOST_STATE_DIR", "LLMHOST_CACHE_DIR")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")  # with user and password in some of them
_SECRET = ("HF_TOKEN", *_PROXIES, *(name.lower() for name in _PROXIES))

#: Where programs are found without our saying so; cron's own PATH.
_USUAL_PATH = ("/usr/bin", "/bin")

_PREFIX = "LLMHOST_"

#: minutes; a step that takes longer hangs, and would hold up all that follow
_LONGEST_STEP = 15


@dataclass(frozen=True, slots=True)
class Environment:
    """`plain` are values that may be read by anybody, `secret` names of those that may not."""

    plain: Mapping[str, str] = field(default_factory=dict)
    secret: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CronJob:
    """`command` is the program with its arguments, run in `folder` every so many `minutes` (1 to 60).

    `name` is that of the units and in the log. `secrets` is the file with the environment's secret part.
    `logger` is that program where there is a system log, else lines go to the file `log`. Paths are
    absolute.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    environment: Environment
    secrets: Path
    log: Path
    logger: Path | None = None
    minutes: int = 1

    def __post_init__(self) -> None:
        """Raises UsageError where a path cannot be written on one line."""
        for text in (*self.command, str(self.folder), str(self.secrets), str(self.log)):
            if not text.isprintable():
                raise UsageError(
                    f"{text!r} cannot stand in a crontab", hint="rename it, without any control characters"
                )


def needed_environment(config: Config, environ: Mapping[str, str], named: set[str]) -> Environment:
    """What a step needs of `environ`; `named` are the variables that the configuration file names."""
    secret = {name for name in (*named, *_SECRET) if environ.get(name)}
    plain = {name: environ[name] for name in _PLAIN if environ.get(name)}
    for name in _FOLDERS:
        if name in plain:
            plain[name] = str(Path(plain[name]).expanduser().absolute())
    if config.fleet.rents:
        secret |= {name for name in ("VAST_API_KEY",) if environ.get(name)}
        plain |= {name: environ[name] for name in ("VAST_URL",) if environ.get(name)}
    for name, value in environ.items():
        if name.startswith(_PREFIX) and "__" in name:
            if _holds_secret(name):
                secret.add(name)
            else:
                plain[name] = value
    plain |= _home(environ) | _path(config, environ)
    secret |= {name for name, value in plain.items() if not value.isprintable()}
    shown = {name: value for name, value in sorted(plain.items()) if name not in secret}
    return Environment(shown, tuple(sorted(secret)))


def crontab_line(job: CronJob) -> str:
    """The line for `crontab -e`. What the step says goes to the system's log, or with its time to a file."""
    steps = [f"cd {shlex.quote(str(job.folder))}"]
    if job.environment.secret:
        steps.append(f"set -a && . {shlex.quote(str(job.secrets))} && set +a")
    variables = [f"{name}={shlex.quote(value)}" for name, value in job.environment.plain.items()]
    steps.append(" ".join([*variables, *map(shlex.quote, job.command)]))
    command = f"{{ {' && '.join(steps)}; }} 2>&1 | {_log(job)}"
    return f"{_crontab_times(job.minutes)} {command.replace('%', chr(92) + '%')}"


def systemd_service(job: CronJob) -> str:
    """The user's service, which makes one step."""
    lines = [
        "[Unit]",
        f"Description=One step of scaling the llmhost fleet ({job.name})",
        "",
        "[Service]",
        "Type=oneshot",
        f"WorkingDirectory={_unit_path(job.folder)}",
        *(f"Environment={_unit_word(f'{name}={value}')}" for name, value in job.environment.plain.items()),
        *([f"EnvironmentFile={_unit_path(job.secrets)}"] if job.environment.secret else []),
        f"ExecStart={' '.join(_unit_word(word).replace('$', '$$') for word in job.command)}",
        "# Local workers and the embedded Redis live on after the step that started them.",
        "KillMode=process",
        f"TimeoutStartSec={_LONGEST_STEP}min",
    ]
    return "\n".join(lines) + "\n"


def systemd_timer(job: CronJob) -> str:
    """The timer of the service that `systemd_service` writes."""
    when = "*:00" if job.minutes == 60 else f"*:0/{job.minutes}"
    lines = [
        "[Unit]",
        f"Description=Scale the llmhost fleet with its demand ({job.name})",
        "",
        "[Timer]",
        f"OnCalendar={when}",
        "AccuracySec=1s",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def write_secrets(job: CronJob) -> str:
    """A shell command that writes the secret part, as it is set now, where only its owner can read it.

    The values do not show in it, nor in the list of processes. Shells and systemd read the file alike.
    """
    folder, path = shlex.quote(str(job.secrets.parent)), shlex.quote(str(job.secrets))
    value = r"""$(printenv "$name" | sed 's/[\\"$`]/\\&/g')"""
    return (
        f"mkdir -p {folder} && install -m 600 /dev/null {path} &&\n"
        f"  for name in {' '.join(job.environment.secret)}; do\n"
        f'    printf \'%s="%s"\\n\' "$name" "{value}"\n'
        f"  done > {path}"
    )


def _holds_secret(name: str) -> bool:
    """Whether this variable sets a key of the configuration that is secret."""
    from llmhost.config.schema import find, is_secret

    setting = find(tuple(name.removeprefix(_PREFIX).lower().split("__")))
    return setting is None or is_secret(setting)


def _home(environ: Mapping[str, str]) -> dict[str, str]:
    """Cron and systemd know the one in the system's list of users."""
    import pwd

    home = environ.get("HOME")
    try:
        usual: Any = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        usual = None
    return {"HOME": home} if home and home != usual else {}


def _path(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """The one program that is looked for by its name is the server of the embedded Redis."""
    import shutil

    name = config.redis.server or "redis-server"
    if config.redis.url is not None or config.redis.host is not None or "/" in name:
        return {}
    found = shutil.which(name, path=environ.get("PATH", os.defpath))
    folder = str(Path(found).absolute().parent) if found else _USUAL_PATH[0]
    return {} if folder in _USUAL_PATH else {"PATH": ":".join((folder, *_USUAL_PATH))}


def _log(job: CronJob) -> str:
    if job.logger is not None:
        return f"{shlex.quote(str(job.logger))} -t {job.name}"
    stamped = """while IFS= read -r line; do printf '%s %s\\n' "$(date '+%F %T')" "$line"; done"""
    return f"{stamped} >> {shlex.quote(str(job.log))}"


def _crontab_times(minutes: int) -> str:
    return {1: "* * * * *", 60: "0 * * * *"}.get(minutes, f"*/{minutes} * * * *")


def _unit_word(text: str) -> str:
    escaped = re.sub(r'([\\"])', r"\\\1", text).replace("%", "%%")
    return escaped if re.fullmatch(r"[\w@+=:,./%-]+", escaped, re.ASCII) else f'"{escaped}"'


def _unit_path(path: Path) -> str:
    """Paths stand to the end of their line, unquoted."""
    return str(path).replace("%", "%%")


# What a cron job of this command's configuration is, and how `scale --install-cron` shows it.


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
