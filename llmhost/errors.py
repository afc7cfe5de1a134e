"""Every error that llmhost raises on purpose.

* LlmhostError                    failed                                   exit 1
  x UsageError                    the request makes no sense                    2
    + ConfigError                 the configuration does not                    2
  x PartialError                  done for some workers, not for others         3
  x LimitError                    refused by a budget or a safety limit         4
  x UnreachableError              a thing outside does not answer               5
    + StoreError                  Redis
      - StoreUnavailable          refuses, hangs, wants a password, went away
      - StoreRefused              answers, but will not write: read-only, out of memory
    + ProviderError               where workers come from
      - OfferGone                 somebody else took the offer; nothing was bought
      - NoOffer                   nothing is for rent that may be bought
      - PurchaseUnclear           it cannot be found out whether something was bought
    + EngineError                 the LLM server of a worker
      - EngineUnavailable         before the first token: another worker may be tried
        UntrustedWorker           ... because it shows a certificate that is not its own
      - StreamBroken              after the first token: nothing may be tried or cached
    + NoWorkerError               nothing there that could answer
  x EngineRefused                 the engine says that this request is wrong    1
  x ModelError                    a model file is missing, damaged or not what it says
  x StateError                    the state folder cannot be used
    + FleetBusy                   somebody else is changing this fleet

Third-party errors become one of these where they enter, with ``raise ... from``.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ConfigError",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "FleetBusy",
    "LimitError",
    "LlmhostError",
    "ModelError",
    "NoOffer",
    "NoWorkerError",
    "OfferGone",
    "PartialError",
    "ProviderError",
    "PurchaseUnclear",
    "StateError",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "StreamBroken",
    "UnreachableError",
    "UntrustedWorker",
    "UsageError",
]


class LlmhostError(Exception):
    """What went wrong and why, in one line; `hint` is what to do about it.

    Neither may hold a secret: both are printed and logged.
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


class ConfigError(UsageError):
    code = "config"


class PartialError(LlmhostError):
    code = "partial"
    exit_code = 3


class LimitError(LlmhostError):
    code = "limit"
    exit_code = 4


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


class StreamBroken(EngineError):
    code = "stream_broken"


class NoWorkerError(UnreachableError):
    code = "no_worker"


class EngineRefused(LlmhostError):
    code = "engine_refused"


class ModelError(LlmhostError):
    code = "model"


class StateError(LlmhostError):
    code = "state"


class FleetBusy(StateError):
    code = "fleet_busy"
