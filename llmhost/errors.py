"""Every error that llmhost raises on purpose.

* LlmhostError                    failed                                   exit 1
  x Cancelled                     the operator was asked, and answered no
  x UsageError                    the command line is invalid                   2
    + ConfigError                 the configuration is invalid                  2
    + PromptTooLong               the question is longer than `limits.max_prompt_chars`
  x PartialError                  done for some workers, failed for others      3
  x LimitError                    refused by a budget or a safety limit         4
    + LimitInDoubt                ... for a minute, because of a purchase in doubt
    + QueueFull                   too many requests wait for a worker
  x UnreachableError              something external does not answer            5
    + StoreError                  Redis
      - StoreUnavailable          refuses, hangs, rejects the password, disconnects
      - StoreRefused              answers, but will not write: read-only, out of memory
    + ProviderError               where workers come from
      - OfferGone                 the offer is no longer available; nothing was bought
      - NoOffer                   no offer fits
      - PurchaseUnclear           it is unknown whether something was bought
    + EngineError                 the LLM server of a worker
      - EngineUnavailable         before the first token: another worker may be tried
        UntrustedWorker           ... because its certificate is wrong
        RefusingWorker            ... which refuses every request until its set-up is changed
        UnreachedWorker           ... to which there is no connection
      - StreamBroken              after the first token: no retry, nothing is cached
    + NoWorkerError               no worker can answer
      - WorkersBusy               none had a slot in time
      - WorkersFailing            all of them fail, and are left alone for some seconds
  x EngineRefused                 the engine rejects this request               1
    + ContextExceeded             its prompt is longer than the model's context
  x NotCachedError                the cache has no answer, and only it was asked
  x ModelError                    a model file is missing, damaged or wrong
  x StateError                    the state folder cannot be used
    + FleetBusy                   another command is changing this fleet

Third-party errors are translated where they occur, with ``raise ... from``.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "Cancelled",
    "ConfigError",
    "ContextExceeded",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "FleetBusy",
    "LimitError",
    "LimitInDoubt",
    "LlmhostError",
    "ModelError",
    "NoOffer",
    "NoWorkerError",
    "NotCachedError",
    "OfferGone",
    "PartialError",
    "PromptTooLong",
    "ProviderError",
    "PurchaseUnclear",
    "QueueFull",
    "RefusingWorker",
    "StateError",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "StreamBroken",
    "UnreachableError",
    "UnreachedWorker",
    "UntrustedWorker",
    "UsageError",
    "WorkersBusy",
    "WorkersFailing",
]


class LlmhostError(Exception):
    """The problem in one line; `hint` is what to do about it.

    Neither may contain a secret: both are printed and logged.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Cancelled(LlmhostError):
    """The operator was asked, and answered no."""


class UsageError(LlmhostError):
    code = "usage"
    exit_code = 2


class PromptTooLong(UsageError):
    """By `limits.max_prompt_chars`, before any engine has seen it."""


class ConfigError(UsageError):
    code = "config"


class PartialError(LlmhostError):
    code = "partial"
    exit_code = 3


class LimitError(LlmhostError):
    code = "limit"
    exit_code = 4


class LimitInDoubt(LimitError):
    """They leave room, unless a purchase in doubt has bought something, which is known soon."""


class QueueFull(LimitError):
    code = "queue_full"


class NotCachedError(LlmhostError):
    code = "not_cached"


class UnreachableError(LlmhostError):
    code = "unreachable"
    exit_code = 5


class StoreError(UnreachableError):
    code = "redis"


class StoreUnavailable(StoreError):
    code = "redis_unavailable"


class StoreRefused(StoreError):
    code = "redis_refused"


class ProviderError(UnreachableError):
    code = "provider"
    in_doubt = False  #: of a purchase that was refused: the provider may list it all the same


class OfferGone(ProviderError):
    code = "offer_gone"


class NoOffer(ProviderError):
    code = "no_offer"


class PurchaseUnclear(ProviderError):
    code = "purchase_unclear"


class EngineError(UnreachableError):
    code = "engine"


class EngineUnavailable(EngineError):
    code = "engine_unavailable"


class UntrustedWorker(EngineUnavailable):
    code = "untrusted_worker"


class RefusingWorker(EngineUnavailable):
    """Asking again does not help: a token is refused, the URL is another API's, memory is too small."""


class UnreachedWorker(EngineUnavailable):
    """Nothing listens there, or not in time."""


class StreamBroken(EngineError):
    code = "stream_broken"


class NoWorkerError(UnreachableError):
    """`retry_after` in seconds, where it is known."""

    code = "no_worker"
    retry_after: float | None = None


class WorkersBusy(NoWorkerError):
    code = "busy"


class WorkersFailing(NoWorkerError):
    def __init__(self, message: str, retry_after: float, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class EngineRefused(LlmhostError):
    """`public` is in our own words, and may be told to everyone; what the engine `said` may name the worker.
    The message has both."""

    code = "engine_refused"

    def __init__(self, public: str, *, said: str = "", hint: str | None = None) -> None:
        super().__init__(f"{public}: {said}" if said else public, hint=hint)
        self.public = public


class ContextExceeded(EngineRefused):
    code = "context_length_exceeded"


class ModelError(LlmhostError):
    code = "model"


class StateError(LlmhostError):
    code = "state"


class FleetBusy(StateError):
    code = "fleet_busy"
