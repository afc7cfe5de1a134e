"""Hours of the week with a minimum number of workers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

__all__ = ["Window", "least_at", "least_within", "parse_window"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTE = 60.0  #: seconds; every window begins and ends on a whole one
_DAY = 24 * 60
_FORM = re.compile(r"(?:([a-z,-]+) )?(\d\d):(\d\d)-(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Window:
    """At least `workers` on these days (0 is Monday), from minute `start` of the day until minute `end`.

    A window that ends before it starts reaches into the next day.
    """

    days: frozenset[int]
    start: int
    end: int
    workers: int

    def holds(self, moment: datetime) -> bool:
        minute = moment.hour * 60 + moment.minute
        if self.start < self.end:
            return moment.weekday() in self.days and self.start <= minute < self.end
        yesterday = (moment - timedelta(days=1)).weekday()
        return (moment.weekday() in self.days and minute >= self.start) or (
            yesterday in self.days and minute < self.end
        )


def parse_window(text: str, workers: int) -> Window:
    """Reads ``mon-fri 08:00-18:00``, ``sat,sun 10:00-14:00`` or ``22:00-06:00`` (every day).

    Raises:
        ValueError: it has another form, or the time does not exist.
    """
    match = _FORM.fullmatch(" ".join(text.lower().split()))
    if match is None:
        raise ValueError(f"{text!r} is not written like `mon-fri 08:00-18:00`")
    days, *clock = match.groups()
    start_hour, start_minute, end_hour, end_minute = map(int, clock)
    start, end = _minute(start_hour, start_minute), _minute(end_hour, end_minute)
    if start == end % _DAY and end != _DAY:
        raise ValueError(f"{text!r} is empty; write 00:00-24:00 for a whole day")
    if start == _DAY:
        raise ValueError(f"{text!r} begins at 24:00; write 00:00")
    return Window(_days(days) if days else frozenset(range(7)), start, end, workers)


def least_at(windows: Iterable[Window], usual: int, moment: float, zone: tzinfo) -> int:
    """The minimum at `moment` (Unix seconds): the largest of the windows that hold, else `usual`."""
    local = datetime.fromtimestamp(moment, zone)
    return max((window.workers for window in windows if window.holds(local)), default=usual)


def least_within(windows: Iterable[Window], usual: int, start: float, seconds: float, zone: tzinfo) -> int:
    """The largest minimum at any moment from `start` until `seconds` later."""
    windows = tuple(windows)
    if not windows:
        return usual
    moments = (start + minute * _MINUTE for minute in range(int(seconds // _MINUTE) + 1))
    return max(least_at(windows, usual, moment, zone) for moment in (*moments, start + seconds))


def _minute(hour: int, minute: int) -> int:
    of_day = hour * 60 + minute
    if minute > 59 or of_day > _DAY:
        raise ValueError(f"there is no {hour:02}:{minute:02}")
    return of_day


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise ValueError(f"{part!r} is not a day; write {', '.join(_DAYS)}, or mon-fri")
        begin, stop = _DAYS.index(first), _DAYS.index(last if dash else first)
        found.update((begin + day) % 7 for day in range((stop - begin) % 7 + 1))
    return frozenset(found)
