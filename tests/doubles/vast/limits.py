"""How often each endpoint may be called, and what is said to those who call too early."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from doubles.vast.answers import Answer, as_json, as_text

from llmhost.fleet.clock import Clock

#: seconds; vast.ai's documented minimum between two calls of one caller to one endpoint.
INTERVALS: Mapping[str, float] = {
    "create": 4.5,
    "destroy": 3.0,
    "show": 2.0,
    "list": 1.0,
    "charges": 1.0,
}

#: Searches in a minute; documented.
SEARCHES, MINUTE = 10, 60.0

#: seconds; two sums of the same waits may differ by as much.
ROUNDING = 1e-6


class Limits:
    """`pace` stretches the documented intervals: 1 is as documented, 0 switches them off."""

    def __init__(self, clock: Clock, pace: float) -> None:
        self.pace = pace
        self.too_early: Counter[str] = Counter()
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}
        self._searches: dict[str, deque[float]] = {}
        self._refusals = 0

    def check(self, endpoint: str, caller: str) -> Answer | None:
        """A 429 if `caller` is too early; None, and the call is counted, if not."""
        now = self._clock.monotonic()
        fits = self._search_fits if endpoint == "search" else self._interval_fits
        if fits(endpoint, caller, now):
            return None
        self.too_early[endpoint] += 1
        return self.refuse(endpoint)

    def refuse(self, endpoint: str, retry_after: float | None = None) -> Answer:
        """Plain text and JSON by turns, as seen; vast.ai sends no Retry-After of its own."""
        self._refusals += 1
        threshold = INTERVALS.get(endpoint, MINUTE / SEARCHES)
        msg = f"API requests too frequent endpoint threshold={threshold}"
        answer = as_text(msg, 429) if self._refusals % 2 else _json(endpoint, msg)
        headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        return Answer(answer.status, answer.body, answer.content_type, headers)

    def _interval_fits(self, endpoint: str, caller: str, now: float) -> bool:
        wait = INTERVALS.get(endpoint, 0.0) * self.pace
        last = self._last.get((endpoint, caller))
        if last is not None and now - last < wait - ROUNDING:
            return False
        self._last[endpoint, caller] = now
        return True

    def _search_fits(self, endpoint: str, caller: str, now: float) -> bool:
        recent = self._searches.setdefault(caller, deque(maxlen=SEARCHES))
        if len(recent) == SEARCHES and now - recent[0] < MINUTE * self.pace - ROUNDING:
            return False
        recent.append(now)
        return True


def _json(endpoint: str, msg: str) -> Answer:
    if endpoint == "destroy":
        return as_json({"success": False, "error": "rate_limit_exceeded", "msg": msg}, 429)
    return as_json({"detail": msg}, 429)
