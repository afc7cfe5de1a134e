"""What can be wrong with a request, and the HTTP status of every error of llmhost's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmhost.errors import (
    EngineError,
    EngineRefused,
    LimitError,
    LlmhostError,
    NotCachedError,
    NoWorkerError,
    StoreError,
    UsageError,
)

__all__ = [
    "BadRequest",
    "BodyTooLarge",
    "Conflict",
    "Fault",
    "Forbidden",
    "NotFound",
    "RateLimited",
    "RequestError",
    "TooSlow",
    "Unauthorized",
    "fault_of",
]

#: seconds after which a client may ask again: the time in which a worker may have come or become free
_RETRY_AFTER = 5


class RequestError(LlmhostError):
    """The client's mistake: `status` says which kind, `field` where in its body."""

    status = 400
    code = "invalid_request_error"
    #: seconds
    retry_after: int | None = None

    def __init__(self, message: str, field: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class BadRequest(RequestError):
    pass


class BodyTooLarge(RequestError):
    status = 413
    code = "request_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit:,} bytes")


class TooSlow(RequestError):
    status = 408

    def __init__(self) -> None:
        super().__init__("the body did not arrive in time")


class Unauthorized(RequestError):
    status = 401
    code = "invalid_api_key"


class RateLimited(RequestError):
    """A limit of the key is reached, for `retry_after` seconds."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Forbidden(RequestError):
    status = 403
    code = "permission_error"


class NotFound(RequestError):
    status = 404
    code = "not_found_error"


class Conflict(RequestError):
    status = 409
    code = "conflict"


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as each API writes it in its own shape. `retry_after` in seconds; `request` is its id."""

    status: int
    code: str
    message: str
    field: str | None = None
    retry_after: int | None = None
    request: str = ""


#: the first class that an error is of says its status, and whether asking again may help
_STATUS: tuple[tuple[type[LlmhostError], int, bool], ...] = (
    (UsageError, 400, False),
    (EngineRefused, 400, False),
    (NotCachedError, 504, False),
    (LimitError, 429, True),
    (NoWorkerError, 503, True),
    (EngineError, 502, True),
    (StoreError, 503, True),
)


def fault_of(error: Exception) -> Fault:
    """What a client is told of an error: nothing of one that was not foreseen."""
    if isinstance(error, RequestError):
        return Fault(error.status, error.code, _words(error), error.field, error.retry_after)
    for kind, status, again in _STATUS:
        if isinstance(error, kind):
            code = "invalid_request_error" if status == 400 else error.code
            return Fault(status, code, _words(error), None, _retry_after(error) if again else None)
    if isinstance(error, LlmhostError):
        return Fault(500, error.code, _words(error))
    return Fault(500, "internal_error", "an unexpected error, which the gateway's log names")


def _retry_after(error: LlmhostError) -> int:
    known = error.retry_after if isinstance(error, NoWorkerError) else None
    return _RETRY_AFTER if known is None else max(1, math.ceil(known))


def _words(error: LlmhostError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
