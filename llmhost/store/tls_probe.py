"""Whether a server wants TLS: what a plain connection to it cannot tell, as it is only closed or garbled."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from llmhost.store.address import address_options

if TYPE_CHECKING:
    from llmhost.config.models import RedisConfig

__all__ = ["wants_tls"]


async def wants_tls(config: RedisConfig) -> bool:
    """Whether `config` speaks plainly to a port that answers a TLS handshake.

    Nothing but the handshake is sent, so the certificate need not be checked. Raises ConfigError as
    `connect` does.
    """
    options = address_options(config, None)
    if "host" not in options or "connection_class" in options:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(config.timeout):
            _, writer = await asyncio.open_connection(options["host"], options["port"], ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(config.timeout):
            await writer.wait_closed()
    return True
