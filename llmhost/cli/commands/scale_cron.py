"""`llmhost scale cron`: the crontab line that runs a scaling step, as text. It installs nothing.

Cron starts a command with next to no environment, so what a step needs of this one goes to a file that only
its owner can read. docs/scaling.md has the units for systemd, which read the same file.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from llmhost.cli.frame import globals_of
from llmhost.errors import UsageError

__all__ = ["print_cron"]

#: what tells llmhost, its libraries and Redis where things are, and how to reach the network
_NEEDED = re.compile(
    r"(LLMHOST|VAST|HF|XDG)_\w+|HOME|PATH|PYTHONPATH|LD_LIBRARY_PATH|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
    r"|(?i:(HTTPS?|ALL|NO)_PROXY)",
    re.ASCII,
)

#: where the system's log listens; without it, `logger` writes nowhere
_SYSTEM_LOG = Path("/dev/log")


class _Watched(dict[str, str]):
    """An environment that keeps which variables were asked for by name: those that the configuration uses."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def print_cron(
    ctx: typer.Context,
    every: Annotated[int, typer.Option(min=1, max=60, metavar="MINUTES", help="How often a step runs.")] = 1,
) -> None:
    """Print the crontab line that runs `llmhost scale`; install nothing.

    Examples:
      llmhost scale cron
      llmhost scale cron --every 5
    """
    import platformdirs

    from llmhost.config.load import load_config
    from llmhost.machine.paths import state_dir

    options, environ = globals_of(ctx), _Watched(os.environ)
    loaded = load_config(options.config, environ=environ)
    fleet = loaded.config.fleet.name
    file = platformdirs.user_config_path("llmhost") / f"scale-{fleet}.env"
    folder, path, here = (shlex.quote(str(one)) for one in (file.parent, file, Path.cwd()))
    config = ["--config", str(loaded.source.absolute())] if loaded.source else []
    # -P: a folder named llmhost in the working directory is not the program.
    step = shlex.join([sys.executable, "-P", "-m", "llmhost", *config, "scale", "--quiet"])
    logger = shutil.which("logger")
    if logger and _SYSTEM_LOG.exists():
        log = f"{shlex.quote(logger)} -t llmhost-scale-{fleet}"
    else:
        stamp = """while IFS= read -r line; do printf '%s %s\\n' "$(date '+%F %T')" "$line"; done"""
        log = f"{stamp} >> {shlex.quote(str(state_dir() / f'llmhost-scale-{fleet}.log'))}"
    command = f"{{ cd {here} && set -a && . {path} && set +a && {step}; }} 2>&1 | {log}"
    minutes = {1: "*", 60: "0"}.get(every, f"*/{every}")
    line = f"{minutes} * * * * " + command.replace("%", "\\%")
    if not line.isprintable():
        raise UsageError("a path with a control character cannot stand in a crontab", hint="rename it")
    names = sorted(
        n for n, value in environ.items() if value and (n in environ.asked or _NEEDED.fullmatch(n))
    )
    # The values show neither in the command nor in the list of processes. Shells and systemd read the file
    # alike.
    escaped = r"""$(printenv "$name" | sed 's/[\\"$`]/\\&/g')"""
    write = (
        f"mkdir -p {folder} && install -m 600 /dev/null {path} &&\n"
        f"  for name in {' '.join(names)}; do\n"
        f'    printf \'%s="%s"\\n\' "$name" "{escaped}"\n'
        f"  done > {path}"
    )
    document = {
        "cron": line,
        "environment": [{"name": name, "value": None} for name in names],  # any value may be secret
        "environment_file": file,
        "write_environment_file": write,
    }
    script = (
        "# Save what the steps need of this environment, where only you can read it:\n"
        f"{write}\n\n"
        "# Then run `crontab -e` and add this line. Nothing was installed.\n"
        f"{line}\n\n"
        "# For systemd, see docs/scaling.md."
    )
    # Its lines are to be copied, so none is wrapped.
    options.output.result(script, lambda text, console: console.print(text, soft_wrap=True), document)
