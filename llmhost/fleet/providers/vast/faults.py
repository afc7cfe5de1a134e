"""What can go wrong between us and vast.ai, in our own words.

The errors of the `vastai` SDK, of requests and of JSON all end here. Two kinds matter where
money is spent: vast.ai said no, so nothing was done (`Rejected`), or nothing readable came back, so it may
have been done all the same (`NoResponse`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from llmhost.errors import ProviderError

__all__ = ["CONSOLE", "KEY_HINT", "NoResponse", "Rejected", "clean", "refusal_in", "translate", "well_formed"]

CONSOLE = "https://cloud.vast.ai/instances/"
KEY_HINT = "make one on https://cloud.vast.ai/manage-keys/, then set VAST_API_KEY or run `vastai set api-key`"

_NETWORK_HINT = "check this machine's network, and VAST_URL where it is set"
_LATER_HINT = "try again in a minute"
_LONGEST = 300  #: characters of what vast.ai says that are shown
_SHORTEST_SECRET = 8  #: characters; what is shorter occurs in plain words
_SERVER_SIDE = 500
_TOO_MANY = 429
_CODE = re.compile(r"[a-z][a-z0-9_/]*")
_TOO_SLOW = 408


class Rejected(ProviderError):
    """vast.ai answered no. `status` is HTTP's; `reason` is its short word; `wait` is its Retry-After, s."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str = "",
        body: Mapping[str, object] | None = None,
        wait: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.body = body or {}
        self.wait = wait

    @property
    def rate_limited(self) -> bool:
        """Whether the same call may be made again after a while."""
        return self.status == _TOO_MANY and self.reason != "search_quota_exceeded"

    @property
    def is_vasts_own(self) -> bool:
        """Whether vast.ai said it, who gives each refusal a code, and not a proxy, who does not know what
        became of the call."""
        return _CODE.fullmatch(str(self.body.get("error") or "")) is not None


class NoResponse(ProviderError):
    """No answer that can be read. `retryable`: another try may help. `may_have_executed`: vast.ai may have
    done it all the same. `timed_out`: it was waited for in vain."""

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        may_have_executed: bool = True,
        wait: float | None = None,
        hint: str | None = None,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
        self.timed_out = timed_out
        self.may_have_executed = may_have_executed
        self.wait = wait


def well_formed(value: object) -> object:
    """Text without the halves of characters that JSON lets through; any other value as it is."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` as one printable line of bounded length, without any of `secrets`."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def translate(error: Exception, doing: str, secrets: Iterable[str]) -> ProviderError:
    """Our error for whatever came out of the SDK while `doing`, as in "reading the list of instances"."""
    import requests
    from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _answered(error.response, doing, secrets)
    if isinstance(error, requests.ConnectTimeout) or _never_connected(error):
        return NoResponse(
            f"vast.ai cannot be reached for {doing}",
            retryable=True,
            may_have_executed=False,
            hint=_NETWORK_HINT,
        )
    if isinstance(error, InvalidURL | MissingSchema | InvalidSchema):
        what = f"the address of vast.ai cannot be used for {doing}: {clean(str(error), secrets)}"
        return NoResponse(what, may_have_executed=False, hint="correct or unset VAST_URL")
    if isinstance(error, requests.Timeout | TimeoutError):
        # A TimeoutError is the SDK's own patience, which was long already.
        retryable = isinstance(error, requests.Timeout)
        what = f"vast.ai took too long over {doing}"
        return NoResponse(what, retryable=retryable, hint=_LATER_HINT, timed_out=True)
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return NoResponse(
            f"the connection to vast.ai was lost while {doing}", retryable=True, hint=_LATER_HINT
        )
    return NoResponse(f"vast.ai's answer while {doing} cannot be read ({type(error).__name__})")


def refusal_in(answer: Mapping[str, object], doing: str, secrets: Iterable[str]) -> Rejected | None:
    """The refusal that came as HTTP 200 with ``success: false``; None where it says nothing of the kind."""
    return _refused(200, answer, "", doing, secrets) if answer.get("success") is False else None


def _never_connected(error: Exception) -> bool:
    """Whether not even a connection came about: then nothing was asked."""
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError)


def _answered(response: Any, doing: str, secrets: Iterable[str]) -> ProviderError:
    status = int(response.status_code)
    wait = _seconds(response.headers.get("Retry-After"))
    if status >= _SERVER_SIDE or status == _TOO_SLOW:
        message = f"vast.ai failed with HTTP {status} while {doing}"
        return NoResponse(message, retryable=True, wait=wait, hint=_LATER_HINT)
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    return _refused(status, body if isinstance(body, dict) else {}, str(response.text), doing, secrets, wait)


def _refused(
    status: int,
    body: Mapping[str, object],
    text: str,
    doing: str,
    secrets: Iterable[str],
    wait: float | None = None,
) -> Rejected:
    reason = str(body.get("error") or "")
    explanation = next(
        (str(body[key]) for key in ("msg", "message", "detail", "error") if body.get(key)), text
    )
    # A wrong key is 404 "Invalid user key", a missing one 403; both statuses stand for other things too.
    if status == 401 or reason == "auth_error" or "Invalid user key" in explanation:
        return Rejected(
            "vast.ai does not accept the API key",
            status=status,
            reason="auth_error",
            body=body,
            hint=KEY_HINT,
        )
    message = f"vast.ai refused {doing}: {clean(explanation, secrets) or f'HTTP {status}'}"
    hint = "wait until midnight UTC: searches are counted by day" if "quota" in reason else None
    return Rejected(message, status=status, reason=reason, body=body, wait=wait, hint=hint)


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
