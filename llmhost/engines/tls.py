"""Whom a worker's TLS is believed: the authorities that the system trusts, or one certificate alone."""

from __future__ import annotations

import ssl

import httpx

from llmhost.engines.faults import Untrusted

__all__ = ["tls_context"]

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
        return httpx.create_ssl_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the authorities, which take 40 ms to load


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
