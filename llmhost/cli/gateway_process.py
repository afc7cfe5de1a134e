"""The gateway in the background, as `up` starts it, `status` shows it and `down` stops it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from llmhost.cli.running import configuration_arguments, inputs
from llmhost.errors import LlmhostError

if TYPE_CHECKING:
    from llmhost.cli.frame import Globals
    from llmhost.config.models import Config
    from llmhost.gateway.background import GatewayRecord

__all__ = ["ensure_gateway", "fleets_with_gateways", "running_gateway", "stop_gateways"]


async def ensure_gateway(options: Globals, config: Config) -> GatewayRecord | None:
    """The fleet's gateway, which is started where none runs, or one with another configuration. None where it
    is not wanted, or cannot be started: that is warned of, and the fleet works without.
    """
    from llmhost.gateway.background import gateway_home
    from llmhost.machine.child import python_command

    if not config.gateway.autostart or options.stateless:
        return None
    try:
        home = gateway_home(config.fleet.name)
        record = home.running()
        if record is not None and not record.managed:
            options.output.note(f"the gateway on {record.url} was not started by `up`, and is left as it is")
        elif record is None or record.inputs != inputs(options):
            await home.stop()
            with options.output.progress() as progress:
                progress.update("gateway", "starting")
                command = python_command("llmhost", *configuration_arguments(options), "serve", "--managed")
                record = await home.start(command)
                progress.done("gateway")
    except Exception as error:  # noqa: BLE001 - nothing may hide what was bought
        options.output.warn(f"{error}; `llmhost serve` starts it in the foreground")
        return None
    if record.managed and not record.url.endswith(f":{config.gateway.port}"):
        options.output.warn(f"port {config.gateway.port} is in use, so the gateway listens on {record.url}")
    return record


def running_gateway(options: Globals, fleet: str) -> GatewayRecord | None:
    """The fleet's gateway, where one runs."""
    from llmhost.gateway.background import gateway_home

    if options.stateless:
        return None
    try:
        return gateway_home(fleet).running()
    except LlmhostError:
        return None


def fleets_with_gateways() -> Sequence[str]:
    """Fleets of this machine that have, or had, a gateway: one without workers may still have one, which buys
    for the next question where it may."""
    from llmhost.machine.paths import state_dir

    try:
        return [folder.parent.name for folder in (state_dir() / "fleets").glob("*/gateway")]
    except (LlmhostError, OSError):
        return []


async def stop_gateways(options: Globals, fleets: Iterable[str]) -> list[str]:
    """Stops the gateways of these fleets; the URLs on which they listened. What does not end is warned of: it
    costs nothing."""
    from llmhost.gateway.background import gateway_home

    stopped = []
    for fleet in () if options.stateless else fleets:
        try:
            home = gateway_home(fleet)
            record = home.running()
            if record is not None and not record.managed:
                options.output.warn(f"the gateway on {record.url} goes on: it was not started by `up`")
            elif record is not None and await home.stop():
                stopped.append(record.url)
        except Exception as error:  # noqa: BLE001 - nothing may hide what became of the workers
            options.output.warn(f"the gateway of fleet {fleet} may still run: {error}")
    return stopped
