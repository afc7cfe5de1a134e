"""Turning what goes wrong on the way to an engine into our errors, in words for people."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from llmhost.engines.refusals import refusal_of
from llmhost.engines.wire import BadReply, Malformed, Reported, error_text, parse, shorten
from llmhost.errors import (
    ConfigError,
    EngineRefused,
    EngineUnavailable,
    LlmhostError,
    RefusingWorker,
    UnreachedWorker,
    UntrustedWorker,
)

__all__ = [
    "Broken",
    "HttpStatus",
    "Unreached",
    "Untrusted",
    "before_first_token",
    "has_no_route",
    "tls_context",
    "transport_faults",
]

#: the request itself is at fault, so every other worker would refuse it as well
_REFUSED = frozenset({400, 413, 422})

#: bad or missing bearer token
_UNAUTHORISED = frozenset({401, 403})

#: a path that the proxy of a rented worker does not let through, or a file that is not written yet
_PROXY = frozenset({403, 404})

#: too many requests; no free slot, or still loading its model
_BUSY = frozenset({429, 503})

#: what Ollama says of a model for which the machine is too small: "model requires more system memory (…"
_TOO_LARGE = "more system memory"

#: what llama.cpp says, under HTTP status 501, of what its model or its options do not allow
_NOT_SUPPORTED = "not support"

#: a path that a server does not have, or that a proxy does not let through
_NO_ROUTE = frozenset({403, 404, 405})

_REFUSES = "the engine refuses this request"
_SEE_LOG = "its own log says more"


class HttpStatus(BadReply):
    """A response that is not 200; `said` is the engine's own explanation, cleaned, or empty. `body` is all of
    it, which may be long; `target` is where a redirect leads."""

    def __init__(self, status: int, body: str, target: str = "") -> None:
        self.status = status
        self.body = body
        self.said = _explanation(body)
        self.target = shorten(target)
        more = f": it redirects to {self.target}" if self.target else f": {self.said}" if self.said else ""
        super().__init__(f"answers with HTTP status {status}{more}")


class Untrusted(BadReply):
    """Who answers at a worker's address is not that worker, as its certificate or the system tells."""


class Broken(BadReply):
    """A connection ended that there was."""


class Unreached(BadReply):
    """There is no connection to it."""


def _explanation(body: str) -> str:
    try:
        return error_text(parse(body))
    except Malformed:
        return "" if "<" in body else shorten(body)  # a page of HTML explains nothing in one line


def before_first_token(where: str, fault: BadReply, *, pinned: bool = False) -> LlmhostError:
    """Our error for a fault that came before anything was shown; `where` is the engine's address.

    `pinned`: it has a certificate and a token that were made for it, so it is a rented worker.
    """
    if isinstance(fault, Untrusted):
        return _untrusted(where, fault)
    if isinstance(fault, HttpStatus):
        return _of_rented(where, fault) if pinned else _of_status(where, fault)
    if isinstance(fault, Reported):
        return refusal_of(fault.said) or _of_failure(where, fault, fault.said)
    kind = UnreachedWorker if isinstance(fault, Unreached) else EngineUnavailable
    return kind(f"{where} {fault}")


def _untrusted(where: str, fault: object) -> LlmhostError:
    return UntrustedWorker(f"{where} {fault}", hint="`llmhost up` replaces it")


def _of_rented(where: str, fault: HttpStatus) -> LlmhostError:
    """What is special about the proxy in front of a rented worker: it was not configured by hand."""
    if fault.status == 401:
        return _untrusted(where, "does not accept the token that was made for it (HTTP status 401)")
    if fault.status in _PROXY and "model" not in fault.said.lower():
        return EngineUnavailable(f"{where} {fault}")
    return _of_status(where, fault)


def has_no_route(fault: BadReply) -> bool:
    """Whether the server does not have the path that it was asked for. That it has no such model is another
    matter."""
    return isinstance(fault, HttpStatus) and fault.status in _NO_ROUTE and "model" not in fault.said.lower()


def _of_status(where: str, fault: HttpStatus) -> LlmhostError:
    if (refusal := refusal_of(fault.said)) is not None:
        return refusal
    if fault.status in _REFUSED or (fault.status == 501 and _NOT_SUPPORTED in fault.said):
        return EngineRefused(_REFUSES, said=fault.said or str(fault.status))
    if fault.status == 404 and "model" in fault.said.lower():
        return EngineRefused(
            _REFUSES,
            said=fault.said,
            hint="run `llmhost up`, which fetches the model where it can, or correct `engine.model`",
        )
    if fault.status == 404:
        return RefusingWorker(
            f"{where} answers, but not as this kind of engine (HTTP status 404)",
            hint="check `engine.kind` and the worker's URL, whose path is used as it is given",
        )
    if fault.target:
        return RefusingWorker(f"{where} {fault}", hint="set the worker's URL to where it is served")
    if fault.status in _UNAUTHORISED:
        return RefusingWorker(
            f"{where} does not accept the token (HTTP status {fault.status})",
            hint="check the worker's `token` in `fleet.workers`",
        )
    if fault.status in _BUSY:
        return EngineUnavailable(f"{where} is busy: {fault.said or fault.status}", hint=_SEE_LOG)
    return _of_failure(where, fault, fault.said)


def _of_failure(where: str, fault: BadReply, said: str) -> LlmhostError:
    if _TOO_LARGE in said:
        return RefusingWorker(
            f"{where} {fault}", hint="use a smaller `engine.model`, or a machine with more memory"
        )
    return EngineUnavailable(f"{where} {fault}", hint=_SEE_LOG)


@contextmanager
def transport_faults(*, pinned: bool) -> Iterator[None]:
    """Everything that httpx raises on purpose becomes a BadReply, and one mistake below it.

    `pinned`: the server may show one certificate alone; another one is Untrusted.
    """
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise Unreached("did not connect in time") from error
    except (httpx.HTTPError, OSError) as error:
        if pinned and isinstance(_root(error), ssl.SSLCertVerificationError):
            raise Untrusted("shows another certificate than its own, so nothing was sent to it") from error
        kind = Unreached if isinstance(error, httpx.ConnectError) else Broken
        raise kind(_words(error)) from error
    except AttributeError as error:
        # anyio asks for the peer of a socket, which uvloop has no more where it was reset at once.
        raise Unreached("closed the connection at once") from error


def _words(error: BaseException) -> str:
    root = _root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"shows a TLS certificate that is not trusted: {root.verify_message}"
    if isinstance(root, ssl.SSLError):
        return "does not speak TLS"
    if isinstance(root, socket.gaierror):
        return "cannot be found: no such host name"
    if isinstance(root, ConnectionRefusedError):
        return "cannot be reached: connection refused"
    if isinstance(error, httpx.ConnectError):
        return f"cannot be reached: {(getattr(root, 'strerror', None) or 'no connection').lower()}"
    if isinstance(error, httpx.RemoteProtocolError):
        return "closed the connection too early, or does not speak HTTP"
    return "broke the connection"


def _root(error: BaseException) -> BaseException:
    """The first cause: httpx wraps httpcore, which wraps what the system said."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        cause = error.__cause__ or error.__context__
        if cause is None:
            return error
        error = cause


#: OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which Python has no name
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)


def tls_context(url: str, certificate: str | None) -> ssl.SSLContext:
    """How to check the server at `url`; `certificate` is the PEM of the only one that it may show.

    Raises Untrusted where that certificate makes no sense, or TLS is not spoken at all.
    """
    secure = url.startswith("https:")
    if certificate is not None:
        return _pinned(certificate, secure)
    if secure:
        return _authorities()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the authorities, which take 40 ms to load


def _authorities() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        named = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
        reason = "it holds none" if isinstance(error, ssl.SSLError) else getattr(error, "strerror", error)
        raise ConfigError(
            f"cannot read the authorities' certificates{f' of {named}' if named else ''}: {reason}",
            hint=f"correct or unset {named}" if named else "install the package certifi again",
        ) from error


def _pinned(certificate: str, secure: bool) -> ssl.SSLContext:
    """Only the holder of the certificate's key can show it, so neither its name nor its dates matter:
    the clock of one of the two may be wrong."""
    if not secure:
        raise Untrusted("has an address without TLS, so nothing was sent to it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= _NO_CHECK_TIME
    try:
        context.load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise Untrusted(_UNREADABLE) from error
    if context.cert_store_stats()["x509"] != 1:
        raise Untrusted(_UNREADABLE)
    return context


_UNREADABLE = "cannot be checked, for its certificate on record makes no sense, so nothing was sent to it"
