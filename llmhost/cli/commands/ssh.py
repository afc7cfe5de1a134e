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

#: Neither can be taken for an option, and no character is special to ssh or a shell.
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f][0-9A-Fa-f:.]{1,44}")


def ssh(
    ctx: typer.Context,
    worker: Annotated[str, typer.Argument(help="Its id, as in `llmhost status`.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="Command to run instead of a shell; put -- before its options.")
    ] = None,
) -> None:
    """Open a shell on a rented worker, or run a command there.

    It runs your own ssh program with your own keys, which must be registered in your vast.ai account.
    With --json, the address is printed and nothing is run.

    Examples:
      llmhost ssh vast-1234567
      llmhost ssh vast-1234567 -- nvidia-smi -L
      llmhost ssh vast-1234567 --json
    """
    options = globals_of(ctx)
    target = run_async(_target(options, configured(options, lenient=True), worker))
    if options.json:
        options.output.document(target)
    else:
        _become(worker, target, command or ())


async def _target(options: Globals, config: Config, worker: str) -> SshTarget:
    async with wired(options, config) as wiring:
        return await find_shell(wiring.provider, worker)


async def find_shell(provider: Provider, worker: str) -> SshTarget:
    """The address of the worker's shell.

    Raises:
        UsageError: there is no such worker, or its provider offers no shell.
        ProviderError: there is no shell yet, or its address is not plausible.
    """
    from llmhost.fleet.plan import select

    select(await provider.list(), [worker])
    target = await provider.ssh(worker)
    if target is None and provider.rents:
        raise ProviderError(f"{worker} has no shell yet", hint="it is starting; see `llmhost status`")
    if target is None:
        raise UsageError(
            f"there is no shell on {worker}: workers of provider {provider.name} are not rented",
            hint="see `llmhost logs` for its output",
        )
    named = _USER.fullmatch(target.user) and _HOST.fullmatch(target.host)
    if not (named and 0 < target.port < 65536):
        raise ProviderError(f"the provider gave an invalid address for a shell on {worker}")
    return target


def _become(worker: str, target: SshTarget, command: Sequence[str]) -> NoReturn:
    """Replaces this process by ssh. Raises LlmhostError if it is not installed."""
    program = shutil.which("ssh")
    if program is None:
        raise LlmhostError(
            "`ssh` is not installed",
            hint="install OpenSSH; `llmhost ssh WORKER --json` prints the address for another client",
        )
    try:
        os.execv(program, _argv(worker, target, command))  # noqa: S606 - a list of arguments, no shell
    except OSError as error:
        raise LlmhostError(f"{program} cannot be run: {error.strerror}") from error


def _argv(worker: str, target: SshTarget, command: Sequence[str]) -> list[str]:
    """The host key is stored under the worker's id, as its address may belong to another machine tomorrow."""
    options = ("StrictHostKeyChecking=accept-new", f"HostKeyAlias=llmhost-{worker}")
    return [
        "ssh",
        *(part for option in options for part in ("-o", option)),
        *("-p", str(target.port)),
        "--",
        f"{target.user}@{target.host}",
        *command,
    ]
