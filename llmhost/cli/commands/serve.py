"""`llmhost serve`: the gateway, in the foreground."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.running import run_async
from llmhost.cli.serving import Serving
from llmhost.errors import UsageError

__all__ = ["serve"]


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address, instead of `gateway.host`.")] = None,
    port: Annotated[int | None, typer.Option(help="Port, instead of `gateway.port`.")] = None,
    path: Annotated[
        Path | None, typer.Option("--socket", help="Listen on this Unix socket instead, for its owner alone.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("-c", metavar="FILE", help="A fleet's configuration; give several for several fleets."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=64, help="Processes, instead of `gateway.processes`."),
    ] = None,
    managed: Annotated[bool, typer.Option("--managed", hidden=True)] = False,
    child: Annotated[str | None, typer.Option("--on", hidden=True)] = None,
) -> None:
    """Answer clients of OpenAI's, Ollama's and Anthropic's APIs: from the cache, or by a worker.

    It runs until Ctrl-C or SIGTERM, and ends streams first; SIGHUP reads the configuration again. An
    application needs OPENAI_BASE_URL=http://127.0.0.1:11435/v1 and any OPENAI_API_KEY. Where other machines
    reach it, it needs TLS, and clients need keys of `llmhost keys add`. With several fleets, the first file
    says where to listen, and a model belongs to one.

    Examples:
      llmhost serve
      llmhost serve --port 8000
      llmhost serve --workers 4
      llmhost serve -c small.yaml -c large.yaml
      llmhost serve --socket /run/user/1000/llmhost.sock
    """
    options = globals_of(ctx)
    if path is not None and (host is not None or port is not None):
        raise UsageError("--socket cannot be combined with --host and --port", hint="choose one")
    if files and options.config is not None:
        raise UsageError("-c cannot be combined with --config", hint="choose one")
    # By default it would end a gateway that starts; it waits until the configuration can be read again.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    overrides = {"gateway.host": host, "gateway.port": port, "gateway.processes": processes}
    serving = Serving(options, files or (), overrides, path, managed)
    try:
        run_async(serving.run() if child is None else serving.run_on(*_numbers(child)), serves=True)
    except KeyboardInterrupt:  # which is how a server is stopped
        options.output.note("Stopped.")


def _numbers(child: str) -> tuple[int, Sequence[int]]:
    """The parent process, and the sockets that it gives. Raises UsageError."""
    try:
        parent, *descriptors = [int(number) for number in child.split(",")]
        return parent, descriptors
    except ValueError as error:
        raise UsageError("--on is for the processes of `serve --workers`") from error
