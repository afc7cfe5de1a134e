"""`llmhost ssh`: a shell on a rented worker."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.running import configured, run_async, wired
from llmhost.errors import LlmhostError, ProviderError, UsageError

if TYPE_CHECKING:
    from llmhost.config.models import Config
    from llmhost.fleet.models import SshTarget
    from llmhost.fleet.provider import Provider

__all__ = ["find_shell", "ssh"]

#: Neither can be an option, and no character means anything to ssh or a shell.
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f][0-9A-Fa-f:.]{1,44}")


def ssh(
    ctx: typer.Context,
    worker: Annotated[str, typer.Argument(help="Which one; `llmhost status` lists them.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="What to run there; else a shell. Put -- before its options.")
    ] = None,
) -> None:
    """Open a shell on a rented worker, or run a command there.

    It is your own ssh that connects, with your own keys; they must be known to your account there.
    With --json the address is printed and nothing is run.

    Examples:
      llmhost ssh vast-1234567
      llmhost ssh vast-1234567 -- nvidia-smi -L
      llmhost ssh vast-1234567 --json
    """
    options = globals_of(ctx)
    target = run_async(_target(options, configured(options), worker))
    if options.json:
        options.output.document(target)
    else:
        _become(worker, target, command or ())


async def _target(options: Globals, config: Config, worker: str) -> SshTarget:
    async with wired(options, config) as wiring:
        return await find_shell(wiring.provider, worker)


async def find_shell(provider: Provider, worker: str) -> SshTarget:
    """Where the worker's shell is.

    Raises:
        UsageError: there is no such worker, or its provider gives no shells.
        ProviderError: there is none yet, or its address could be taken for something else.
    """
    from llmhost.fleet.plan import select

    select(await provider.list(), [worker])
    target = await provider.ssh(worker)
    if target is None and provider.rents:
        raise ProviderError(
            f"{worker} has no shell yet", hint="it is starting; `llmhost status` says how far"
        )
    if target is None:
        raise UsageError(
            f"there is no shell on {worker}: workers of provider {provider.name} are not rented",
            hint="`llmhost logs` shows what a worker printed",
        )
    if not _is_plausible(target):
        raise ProviderError(f"the address for a shell on {worker} makes no sense")
    return target


def _is_plausible(target: SshTarget) -> bool:
    named = _USER.fullmatch(target.user) and _HOST.fullmatch(target.host)
    return bool(named) and 0 < target.port < 65536


def _become(worker: str, target: SshTarget, command: Sequence[str]) -> NoReturn:
    """Becomes the ssh program. Raises LlmhostError where there is none."""
    program = shutil.which("ssh")
    if program is None:
        raise LlmhostError(
            "there is no program `ssh` on PATH",
            hint="install OpenSSH; `llmhost ssh WORKER --json` prints the address for another client",
        )
    try:
        os.execv(program, _argv(worker, target, command))  # noqa: S606 - a list of arguments, no shell
    except OSError as error:
        raise LlmhostError(f"{program} cannot be run: {error.strerror}") from error


def _argv(worker: str, target: SshTarget, command: Sequence[str]) -> list[str]:
    """The host key is remembered by the worker: its address may be that of another machine tomorrow."""
    options = ("StrictHostKeyChecking=accept-new", f"HostKeyAlias=llmhost-{worker}")
    return [
        "ssh",
        *(part for option in options for part in ("-o", option)),
        *("-p", str(target.port)),
        "--",
        f"{target.user}@{target.host}",
        *command,
    ]
