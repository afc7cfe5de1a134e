"""What can be wrong with a request, and the HTTP status of every error of llmhost's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmhost.errors import (
    ConfigError,
    ContextExceeded,
    EngineError,
    EngineRefused,
    LimitError,
    LlmhostError,
    NotCachedError,
    NoWorkerError,
    PromptTooLong,
    QueueFull,
    StoreError,
    StreamBroken,
    UsageError,
    WorkersBusy,
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


#: the first class that an error is of says its status, whether asking again may help, and what is said of it
#: to those who may not know of the fleet; empty: the same as to its operator, as it is about the request, and
#: without the hint, as that may be about the fleet
_KINDS: tuple[tuple[type[LlmhostError], int, bool, str], ...] = (
    (ConfigError, 500, False, "the gateway is not set up correctly"),
    (UsageError, 400, False, ""),
    (EngineRefused, 400, False, ""),
    (NotCachedError, 504, False, ""),
    (QueueFull, 429, True, ""),
    (LimitError, 429, True, "a limit of the gateway is reached"),
    (WorkersBusy, 503, True, ""),
    (NoWorkerError, 503, True, "no worker is ready to answer"),
    (StreamBroken, 502, True, "the answer broke off: its worker failed"),
    (EngineError, 502, True, "the worker failed"),
    (StoreError, 503, True, "a part of the gateway cannot be reached"),
    (LlmhostError, 500, False, "an error of the gateway"),
)


def fault_of(error: Exception, *, to_operator: bool) -> Fault:
    """What a client is told of an error: nothing of one that was not foreseen. Addresses of workers, budgets
    and what is to be done about them are for the operator alone.
    """
    if isinstance(error, RequestError):
        return Fault(error.status, error.code, _words(error), error.field, error.retry_after)
    for kind, status, again, others in _KINDS:
        if isinstance(error, kind):
            code = "invalid_request_error" if status == 400 else error.code
            if isinstance(error, ContextExceeded | PromptTooLong):
                code = ContextExceeded.code
            words = _words(error) if to_operator else others or _public(error)
            return Fault(status, code, words, None, _retry_after(error) if again else None)
    return Fault(500, "internal_error", "an unexpected error, which the gateway's log names")


def _retry_after(error: LlmhostError) -> int:
    known = error.retry_after if isinstance(error, NoWorkerError) else None
    return _RETRY_AFTER if known is None else max(1, math.ceil(known))


def _public(error: LlmhostError) -> str:
    return error.public if isinstance(error, EngineRefused) else error.message


def _words(error: LlmhostError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
