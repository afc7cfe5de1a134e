"""`llmhost serve`: the gateway, in the foreground."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.running import configured, run_async, wired
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from llmhost.cli.frame import Globals
    from llmhost.config.models import Config

__all__ = ["serve"]


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address, instead of `gateway.host`.")] = None,
    port: Annotated[int | None, typer.Option(help="Port, instead of `gateway.port`.")] = None,
    path: Annotated[
        Path | None, typer.Option("--socket", help="Listen on this Unix socket instead, for its owner alone.")
    ] = None,
) -> None:
    """Answer clients of OpenAI's, Ollama's and Anthropic's APIs: from the cache, or by a worker.

    It runs until Ctrl-C or SIGTERM, and ends streams first. It listens on this machine alone. An application
    needs OPENAI_BASE_URL=http://127.0.0.1:11435/v1 and any OPENAI_API_KEY.

    Examples:
      llmhost serve
      llmhost serve --port 8000
      llmhost serve --socket /run/user/1000/llmhost.sock
    """
    options = globals_of(ctx)
    if path is not None and (host is not None or port is not None):
        raise UsageError("--socket cannot be combined with --host and --port", hint="choose one")
    config = configured(options, overrides={"gateway.host": host, "gateway.port": port})
    try:
        run_async(_serve(options, config, path))
    except KeyboardInterrupt:  # which is how a server is stopped
        options.output.note("Stopped.")
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


async def _serve(options: Globals, config: Config, path: Path | None) -> None:
    from llmhost.gateway.server import GatewayServer

    gateway = config.gateway
    with contextlib.closing(_listener(gateway.host, gateway.port, path)) as listener:
        async with wired(options, config) as wiring:
            server = GatewayServer((await wiring.gateway()).app(), [listener])
            where = f"http+unix://{path}" if path else f"http://{_url_host(gateway.host)}:{gateway.port}"
            options.output.note(f"{config.engine.model} of fleet {config.fleet.name} on {where}/v1")
            await server.run()


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listener(host: str, port: int, path: Path | None) -> socket.socket:
    """A socket that listens. Raises UsageError where it cannot."""
    from llmhost.gateway.server import listen, listen_on_path

    try:
        return listen(host, port) if path is None else listen_on_path(path)
    except OSError as error:
        where = f"{host}:{port}" if path is None else str(path)
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(
            f"cannot listen on {where}: {reason}", hint="another port: `llmhost serve --port 8000`"
        ) from error
