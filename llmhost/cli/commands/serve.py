"""`llmhost serve`: the gateway, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost import __version__
from llmhost.cli.frame import globals_of
from llmhost.cli.running import configured, inputs, process_age, run_async, wired
from llmhost.errors import LlmhostError, StateError, UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from llmhost.cli.frame import Globals
    from llmhost.config.models import Config
    from llmhost.gateway.background import GatewayHome, GatewayRecord
    from llmhost.gateway.server import GatewayServer, SwappedApp

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
    managed: Annotated[bool, typer.Option("--managed", hidden=True)] = False,
) -> None:
    """Answer clients of OpenAI's, Ollama's and Anthropic's APIs: from the cache, or by a worker.

    It runs until Ctrl-C or SIGTERM, and ends streams first; SIGHUP reads the configuration again. It listens
    on this machine alone. An application needs OPENAI_BASE_URL=http://127.0.0.1:11435/v1 and any
    OPENAI_API_KEY. With several fleets, the first file says where to listen, and a model belongs to one.

    Examples:
      llmhost serve
      llmhost serve --port 8000
      llmhost serve -c small.yaml -c large.yaml
      llmhost serve --socket /run/user/1000/llmhost.sock
    """
    options = globals_of(ctx)
    if path is not None and (host is not None or port is not None):
        raise UsageError("--socket cannot be combined with --host and --port", hint="choose one")
    if files and options.config is not None:
        raise UsageError("-c cannot be combined with --config", hint="choose one")
    serving = _Serving(options, files or (), {"gateway.host": host, "gateway.port": port}, path, managed)
    try:
        run_async(serving.run())
    except KeyboardInterrupt:  # which is how a server is stopped
        options.output.note("Stopped.")
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


@dataclass(slots=True)
class _Serving:
    """What was asked for: it may be read again while the gateway runs. `managed`: `up` has started it, so
    that it takes another port where its own is in use, and is of no use where the fleet has a gateway.
    """

    options: Globals
    files: Sequence[Path]
    overrides: dict[str, object]
    path: Path | None
    managed: bool

    def fleets(self) -> Sequence[tuple[Globals, Config]]:
        """Raises ConfigError."""
        each = [replace(self.options, config=file) for file in self.files] or [self.options]
        fleets = [(options, configured(options, self.overrides)) for options in each]
        for options in each:
            options.inputs = inputs(options)
        return fleets

    async def run(self) -> None:
        from llmhost.gateway.server import GatewayServer, SwappedApp

        fleets = self.fleets()
        config = fleets[0][1]
        with closing(self._listener(config)) as listener:
            app = SwappedApp()
            homes: dict[str, GatewayHome] = {}
            server = GatewayServer(app, [listener])
            where = self._where(listener)
            async with AsyncExitStack() as stack:
                stack.push_async_callback(app.aclose)
                await app.swap(self._built(fleets))
                for options, one in fleets:
                    if (home := await _register(options, one, app, where, stack)) is not None:
                        homes[one.fleet.name] = home
                if self.managed and not homes:
                    raise StateError("the fleet has a gateway already")
                names = ", ".join(f"{one.engine.model} of fleet {one.fleet.name}" for _, one in fleets)
                self.options.output.note(f"{names} on {where}/v1")
                with self._reloading(app, where, homes):
                    await server.run()

    @asynccontextmanager
    async def _built(self, fleets: Sequence[tuple[Globals, Config]]) -> AsyncIterator[ASGIApp]:
        """The application that serves these fleets; what it uses is closed at the end."""
        from llmhost.wiring.gateways import make_gateway

        async with AsyncExitStack() as stack:
            parts = [await stack.enter_async_context(wired(*fleet)) for fleet in fleets]
            yield (await make_gateway(parts)).app()

    @contextlib.contextmanager
    def _reloading(self, app: SwappedApp, where: str, homes: Mapping[str, GatewayHome]) -> Iterator[None]:
        """SIGHUP reads the configuration again; one that is not valid changes nothing."""
        loop, reloads = asyncio.get_running_loop(), set[asyncio.Task[None]]()

        async def reload() -> None:
            try:
                fleets = self.fleets()
                await app.swap(self._built(fleets))
                for options, config in fleets:
                    if config.fleet.name in homes:
                        homes[config.fleet.name].write(_record(options, config, where))
            except LlmhostError as error:
                self.options.output.warn(f"the configuration was not read again: {error}")
            else:
                self.options.output.note("Read the configuration again.")

        def begin() -> None:
            task = loop.create_task(reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, begin)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def _where(self, listener: socket.socket) -> str:
        if self.path is not None:
            return f"http+unix://{self.path}"
        host, port = listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _listener(self, config: Config) -> socket.socket:
        """A socket that listens. Raises UsageError where it cannot."""
        from llmhost.gateway.server import listen, listen_on_path

        host, port = config.gateway.host, config.gateway.port
        try:
            return listen(host, port) if self.path is None else listen_on_path(self.path)
        except OSError as error:
            if self.managed and error.errno == errno.EADDRINUSE:
                return listen(host, 0)
            where = f"{host}:{port}" if self.path is None else str(self.path)
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UsageError(
                f"cannot listen on {where}: {reason}", hint="another port: `llmhost serve --port 8000`"
            ) from error


async def _register(
    options: Globals, config: Config, app: ASGIApp, url: str, stack: AsyncExitStack
) -> GatewayHome | None:
    """From now on commands of this fleet find the gateway. Where the fleet has one already, or its place
    cannot be used, it serves all the same."""
    from llmhost.gateway.background import GatewayHome
    from llmhost.gateway.server import GatewayServer, listen_on_path
    from llmhost.machine.paths import state_dir

    try:
        home = GatewayHome(state_dir() / "fleets" / config.fleet.name / "gateway")
        if await stack.enter_async_context(home.taken()):
            listener = stack.enter_context(closing(listen_on_path(home.socket)))
            server = GatewayServer(app, [listener])
            serving = asyncio.create_task(server.run())
            stack.push_async_callback(_stopped, server, serving)
            home.write(_record(options, config, url))
            return home
        if (other := home.running()) is not None:
            options.output.note(f"commands of fleet {config.fleet.name} use the gateway on {other.url}")
    except (LlmhostError, OSError) as error:
        options.output.warn(f"commands do not find this gateway: {error}")
    return None


def _record(options: Globals, config: Config, url: str) -> GatewayRecord:
    from llmhost.gateway.background import GatewayRecord

    return GatewayRecord(
        pid=os.getpid(),
        url=url,
        version=__version__,
        started=time.time() - process_age(),
        fleet=config.fleet.name,
        inputs=options.inputs,
        max_prompt_chars=config.limits.max_prompt_chars,
        warnings=options.warnings,
    )


async def _stopped(server: GatewayServer, serving: asyncio.Task[None]) -> None:
    server.stop()
    await serving
