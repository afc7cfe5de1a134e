"""What a rented worker is told to do: a script that is the same for all, and its orders in the environment.

docs/worker.md says what the script does, and why.
"""

from __future__ import annotations

import base64
import gzip
import math
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from llmhost.fleet.providers.vast.identity import Identity, certificate_to_environment, key_to_environment

__all__ = ["FRONT_PORT", "LONGEST_ONSTART", "Orders", "environment", "onstart"]

#: where a worker's front door listens, inside its container
FRONT_PORT = 8443

#: characters; vast.ai's limit on the onstart text
LONGEST_ONSTART = 4048

_FOR_EVER = -1  #: what Ollama takes for keeping a model in memory for ever


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker serves, and how.

    `keep_alive` is seconds that a model which nobody asks stays in memory, None for ever. A worker gives
    itself back `orphan_after` seconds after somebody with its token last spoke to it. `max_body` is bytes of
    one request, `read_timeout` seconds that its front door waits for the engine, `api_url` vast.ai's address.
    """

    model: str
    parallel: int
    keep_alive: float | None
    orphan_after: float
    max_body: int
    read_timeout: float
    api_url: str


def environment(orders: Orders, identity: Identity) -> dict[str, str]:
    """The worker's whole environment, its open port included, which vast.ai takes for a variable."""
    keep_alive = _FOR_EVER if orders.keep_alive is None else math.ceil(orders.keep_alive)
    return {
        f"-p {FRONT_PORT}:{FRONT_PORT}": "1",
        "LLMHOST_TOKEN": identity.token,
        "LLMHOST_KEY": key_to_environment(identity.key),
        **certificate_to_environment(identity.certificate),
        "LLMHOST_MODEL": orders.model,
        "LLMHOST_PARALLEL": str(orders.parallel),
        "LLMHOST_KEEP_ALIVE": str(keep_alive),
        "LLMHOST_ORPHAN_AFTER": str(math.ceil(orders.orphan_after)),
        "LLMHOST_MAX_BODY": str(orders.max_body),
        "LLMHOST_READ_TIMEOUT": str(math.ceil(orders.read_timeout)),
        "LLMHOST_API_URL": orders.api_url.rstrip("/"),
    }


@cache
def onstart() -> str:
    """The text that vast.ai is to run at every boot; any shell can start it."""
    script = resources.files(__package__).joinpath("setup_instance.sh").read_text(encoding="ascii")
    packed = base64.b64encode(gzip.compress(_shortened(script).encode("ascii"), mtime=0))
    return f"echo {packed.decode('ascii')}|base64 -d|zcat|bash"


def _shortened(script: str) -> str:
    """The script without what is there for people alone: comments, indentation, empty and broken lines."""
    lines = (re.sub(r"(^|\s+)# .*|^#!.*", "", line.strip()) for line in script.splitlines())
    return "\n".join(line for line in lines if line).replace(" \\\n", " ") + "\n"
