"""The gateway's own process.

Where it listens, how commands find it, how it reads its configuration again, and several processes on the
same sockets.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost import __version__
from llmhost.cli.frame import Globals
from llmhost.cli.running import configuration_arguments, configured, inputs, process_age, wired
from llmhost.errors import ConfigError, LlmhostError, StateError, UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from llmhost.cli.output import Output
    from llmhost.config.gateway import GatewayConfig
    from llmhost.config.models import Config
    from llmhost.gateway.background import GatewayHome, GatewayRecord
    from llmhost.gateway.observe import Observation
    from llmhost.wiring import Wiring

__all__ = ["Serving", "reloading"]

#: seconds before a process that ended is started again, doubled each time up to the last
_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0
#: seconds; one that ran for longer has not failed to start
_SOUND = 60.0
#: objects that are made before the garbage collector looks through them
_YOUNG = 10_000
#: seconds between two looks whether the parent is still there
_PARENT_POLL = 1.0

Fleets = Sequence[tuple[Globals, "Config"]]


@dataclass(slots=True)
class Serving:
    """What was asked for: it may be read again while the gateway runs. `managed`: `up` has started it, so
    that it takes another port where its own is in use, and is of no use where the fleet has a gateway.
    """

    options: Globals
    files: Sequence[Path]
    overrides: Mapping[str, object]
    path: Path | None
    managed: bool

    async def run(self) -> None:
        """Serves until it is cancelled. Raises ConfigError, UsageError, StateError."""
        fleets = self._fleets()
        config = fleets[0][1]
        async with AsyncExitStack() as stack:
            listeners = [stack.enter_context(closing(self._listener(config)))]
            if self.path is not None:
                stack.callback(self.path.unlink, missing_ok=True)
            where = self._where(listeners[0], config)
            homes: dict[str, GatewayHome] = {}
            for options, one in fleets:
                if (home := await _place(options, one, listeners, stack)) is not None:
                    homes[one.fleet.name] = home
            if self.managed and not homes:
                raise StateError("the fleet has a gateway already")

            def show(fleets: Fleets) -> None:
                for options, one in fleets:
                    if one.fleet.name in homes:
                        homes[one.fleet.name].write(_record(options, one, where, managed=self.managed))

            names = ", ".join(f"{one.engine.model} of fleet {one.fleet.name}" for _, one in fleets)
            told = f"{names} on {where}/v1"
            if config.gateway.processes == 1:
                await self._serve(fleets, listeners, show, told, "")
            else:
                await self._supervise(fleets, listeners, show, told)

    async def run_on(self, parent: int, descriptors: Sequence[int]) -> None:
        """Serves, as one of several processes, on sockets that the process `parent` has opened, until it is
        cancelled or the parent is gone."""
        listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        process = str(os.getpid())
        serving = asyncio.create_task(self._serve(self._fleets(), listeners, lambda _: None, "", process))
        watching = asyncio.create_task(_until_orphaned(parent))
        try:
            await asyncio.wait((serving, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (serving, watching):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    def _fleets(self) -> Fleets:
        """Raises ConfigError."""
        each = [replace(self.options, config=file) for file in self.files] or [self.options]
        for options in each:  # before it is read: a change while it is read is then a change
            options.inputs = inputs(options)
        return [(options, configured(options, self.overrides)) for options in each]

    async def _serve(
        self,
        fleets: Fleets,
        listeners: Sequence[socket.socket],
        show: Callable[[Fleets], None],
        told: str,
        process: str,
    ) -> None:
        """`process` names this one among several in its figures."""
        from llmhost.gateway.observe import Observation
        from llmhost.gateway.server import GatewayServer, SwappedApp, use_all_descriptors
        from llmhost.gateway.tls import certificate_of

        use_all_descriptors()
        app, observation = SwappedApp(), Observation(self.options.output.warn, process)
        gateway = fleets[0][1].gateway
        server = GatewayServer(
            app,
            listeners,
            observation.backlog,
            certificate=certificate_of(gateway),
            behind=gateway.behind_proxy,
        )
        async with AsyncExitStack() as stack:
            stack.callback(observation.close)
            stack.push_async_callback(app.aclose)
            begun = asyncio.Event()

            async def reload() -> None:
                await begun.wait()
                observation.reopen()
                again = self._fleets()
                _check_listening(gateway, again[0][1].gateway)
                await app.swap(_built(again, observation))
                show(again)

            async with reloading(self.options.output, reload):
                await app.swap(_built(fleets, observation))
                show(fleets)
                if told:
                    self.options.output.note(told)
                begun.set()
                await server.run()

    async def _supervise(
        self,
        fleets: Fleets,
        listeners: Sequence[socket.socket],
        show: Callable[[Fleets], None],
        told: str,
    ) -> None:
        """Keeps several processes that serve on these sockets. What would end each is raised before."""
        from llmhost.gateway.observe import Observation
        from llmhost.gateway.tls import certificate_of

        certificate_of(fleets[0][1].gateway)
        observation = Observation(self.options.output.warn)
        try:
            async with _built(fleets, observation):
                pass
        finally:
            observation.close()
        descriptors = [listener.fileno() for listener in listeners]
        running: set[Process] = set()

        async def reload() -> None:
            again = self._fleets()
            _check_listening(fleets[0][1].gateway, again[0][1].gateway)
            for process in running:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGHUP)
            show(again)

        show(fleets)
        self.options.output.note(told)
        async with reloading(self.options.output, reload), asyncio.TaskGroup() as group:
            for _ in range(fleets[0][1].gateway.processes):
                group.create_task(self._keep(descriptors, running))

    async def _keep(self, descriptors: Sequence[int], running: set[Process]) -> None:
        """One process, started again whenever it ends."""
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            why = await self._run_one(descriptors, running)
            if time.monotonic() - began > _SOUND:
                pause = _FIRST_PAUSE
            self.options.output.warn(f"{why}; it is started again in {pause:.0f} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    async def _run_one(self, descriptors: Sequence[int], running: set[Process]) -> str:
        """One process until it ends. Returns why it runs no more: the system may refuse to start it, too."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(descriptors), stdin=DEVNULL, pass_fds=descriptors, start_new_session=True
            )
        except OSError as error:
            return f"a process of the gateway cannot be started: {error.strerror or error}"
        running.add(process)
        try:
            code = await process.wait()
        finally:
            running.discard(process)
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
        return f"a process of the gateway has ended ({code})"

    def _command(self, descriptors: Sequence[int]) -> list[str]:
        from llmhost.machine.child import python_command

        given = configuration_arguments(self.options)
        files = [word for file in self.files for word in ("-c", str(file))]
        host = self.overrides.get("gateway.host")
        where = [] if host is None else ["--host", str(host)]  # it says who needs an API key
        numbers = ",".join(map(str, (os.getpid(), *descriptors)))
        return python_command("llmhost", "--quiet", *given, "serve", *files, *where, "--on", numbers)

    def _where(self, listener: socket.socket, config: Config) -> str:
        if self.path is not None:
            return f"http+unix://{self.path}"
        host, port = listener.getsockname()[:2]
        scheme = "http" if config.gateway.tls_certificate is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

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
            hint = "another port: `llmhost serve --port 8000`" if self.path is None else "name another path"
            raise UsageError(f"cannot listen on {where}: {reason}", hint=hint) from error


@asynccontextmanager
async def reloading(output: Output, reload: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Within the block SIGHUP awaits `reload`, one at a time: the last signal's configuration is the one that
    stays. One that cannot be read changes nothing. A signal that came before, and was blocked, counts."""
    loop, tasks, turn = asyncio.get_running_loop(), set[asyncio.Task[None]](), asyncio.Lock()

    async def take_turn() -> None:
        async with turn:
            try:
                await reload()
            except Exception as error:  # noqa: BLE001 - whatever it is, the gateway goes on
                output.warn(f"the configuration was not read again: {error}")
            else:
                output.note("Read the configuration again.")

    def begin() -> None:
        task = loop.create_task(take_turn())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    handler = signal.getsignal(signal.SIGHUP)
    loop.add_signal_handler(signal.SIGHUP, begin)
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, handler)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


#: settings of the sockets, which stay open while the configuration is read again
_LISTENING = ("host", "port", "processes", "tls_certificate", "tls_key", "behind_proxy")


def _check_listening(before: GatewayConfig, again: GatewayConfig) -> None:
    """Raises ConfigError where the sockets would have to change: who needs an API key depends on them."""
    changed = [f"`gateway.{name}`" for name in _LISTENING if getattr(before, name) != getattr(again, name)]
    if changed:
        raise ConfigError(
            f"{' and '.join(changed)} cannot change while the gateway runs", hint="stop it and start it again"
        )


@asynccontextmanager
async def _built(fleets: Fleets, observation: Observation) -> AsyncIterator[ASGIApp]:
    """The application that serves these fleets; what it uses is closed at the end."""
    from llmhost.wiring.gateways import make_gateway

    async with AsyncExitStack() as stack:
        parts = [await stack.enter_async_context(wired(*fleet)) for fleet in fleets]
        for (options, config), part in zip(fleets, parts, strict=True):
            if config.wakes:  # it may get workers
                try:
                    await part.others.remember(options.source)
                except StateError as error:  # it answers all the same
                    options.output.warn(f"the fleet is not written down: {error}")
        gateway = await make_gateway(parts, observation)
        observation.configure(fleets[0][1].gateway)
        loading = asyncio.create_task(_load_models(parts))
        stack.callback(loading.cancel)
        yield gateway.app()


async def _load_models(parts: Sequence[Wiring]) -> None:
    """Loads what the caches compare questions with. What there is then stays, and the garbage collector need
    not look through it again and again: it took a fifth of the time of a hit."""
    await asyncio.gather(*(part.load_models() for part in parts))
    gc.unfreeze()  # what an earlier configuration has left
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)


async def _place(
    options: Globals, config: Config, listeners: list[socket.socket], stack: AsyncExitStack
) -> GatewayHome | None:
    """Takes the place where commands of this fleet look for a gateway, and listens there. Where the fleet has
    one already, or the place cannot be used, it serves all the same."""
    from llmhost.gateway.background import gateway_home
    from llmhost.gateway.server import listen_on_path

    try:
        home = gateway_home(config.fleet.name)
        if await stack.enter_async_context(home.taken()):
            listeners.append(stack.enter_context(closing(listen_on_path(home.socket))))
            return home
        if (other := home.running()) is not None:
            options.output.note(f"commands of fleet {config.fleet.name} use the gateway on {other.url}")
    except (LlmhostError, OSError) as error:
        options.output.warn(f"commands do not find this gateway: {error}")
    return None


def _record(options: Globals, config: Config, url: str, *, managed: bool) -> GatewayRecord:
    from llmhost.gateway.background import GatewayRecord

    return GatewayRecord(
        pid=os.getpid(),
        url=url,
        version=__version__,
        started=time.time() - process_age(),
        fleet=config.fleet.name,
        inputs=options.inputs,
        max_prompt_chars=config.limits.max_prompt_chars,
        managed=managed,
        warnings=options.warnings,
    )


async def _until_orphaned(parent: int) -> None:
    """Returns when the process that started this one is gone."""
    while os.getppid() == parent:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(_PARENT_POLL)
