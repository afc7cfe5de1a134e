"""The gateway's own certificate, which is read again when its files change."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from llmhost.config.gateway import GatewayConfig
from llmhost.errors import ConfigError
from llmhost.machine.paths import expand

__all__ = ["Certificate", "certificate_of"]

_log = logging.getLogger("llmhost.gateway")

#: seconds between two looks at the files
_PERIOD = 30.0


class Certificate:
    """`context` is for servers; connections that are made after a change have the new certificate."""

    def __init__(self, certificate: str, key: str | None) -> None:
        """The two files, of which one may hold both. Raises ConfigError where they hold no pair."""
        self._certificate = expand(certificate)
        self._key = expand(key or certificate)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._times()
        self._load(self.context)

    def reload(self) -> None:
        """Uses what the files hold now. Raises ConfigError, and goes on as before, where that is no pair."""
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # half a pair would spoil the one in use
        self._load(self.context)

    def reload_if_changed(self) -> bool:
        """Whether it was, since the last look. Raises ConfigError as `reload`."""
        times = self._times()
        if times == self._seen:
            return False
        self._seen = times
        self.reload()
        return True

    async def watch(self, period: float = _PERIOD) -> None:
        """Reloads it for ever; what is wrong with new files is logged."""
        while True:
            await asyncio.sleep(period)
            try:
                self.reload_if_changed()
            except ConfigError as error:
                _log.warning("the gateway goes on with the certificate that it has: %s", error)

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except OSError as error:
            reason = "they hold no pair" if isinstance(error, ssl.SSLError) else error.strerror
            pair = f"{self._certificate} and its key {self._key}"
            raise ConfigError(
                f"`gateway.tls_certificate` {pair} cannot be used: {reason}",
                hint="name PEM files with the certificate and its key, without a passphrase",
            ) from error

    def _times(self) -> tuple[int | None, ...]:
        """When the files were changed; None for one that cannot be read."""
        return tuple(_changed(path) for path in (self._certificate, self._key))


def certificate_of(config: GatewayConfig) -> Certificate | None:
    """The one that the configuration names. Raises ConfigError."""
    if config.tls_certificate is None:
        return None
    return Certificate(config.tls_certificate, config.tls_key)


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _no_passphrase() -> str:
    """In place of asking at the terminal."""
    return ""
