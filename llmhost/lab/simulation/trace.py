"""Recorded questions, from a CSV file."""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Generator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from llmhost.errors import UsageError
from llmhost.lab.pairs import read_bounded
from llmhost.lab.simulation.workload import LONGEST, MOST_QUESTIONS, Trace

__all__ = ["read_trace"]

#: tokens; no model reads or writes so much at once
_MOST_TOKENS = 10**7
#: seconds, Unix; in the year 9892: a played trace must end before dates do
_LATEST = 2.5e11
#: bytes; a longer line is no line of a table
_LONGEST_LINE = 10_000
#: names of columns in public traces, without case and punctuation
_NAMES = {
    "time": "timestamp time arrived arrivedat arrival arrivaltime datetime",
    "prompt tokens": "contexttokens prompttokens inputtokens promptlength inputlength prompt",
    "generated tokens": "generatedtokens completiontokens outputtokens outputlength generated completion",
}


def read_trace(path: Path) -> Trace:
    """Reads a CSV with the columns time, prompt tokens and generated tokens; ``.gz`` is unpacked.

    Times are seconds, or ISO dates, in UTC where they name no zone. Rows may be in any order. Raises
    UsageError where the file cannot be read, or a line of it makes no sense.
    """
    columns = array("d"), array("d"), array("d")
    name = path.name
    with closing(_lines(path)) as lines:
        _read_columns(name, lines, columns)
    if not columns[0]:
        raise UsageError(f"{name} has no questions in it")
    times, prompts, answers = (np.frombuffer(column) for column in columns)
    order = np.argsort(times, kind="stable")
    first, last = float(times[order[0]]), float(times[order[-1]])
    if last - first > LONGEST:
        raise UsageError(f"{name} covers {(last - first) / 86_400:,.0f} days; is a date in it wrong?")
    return Trace(times[order] - first, prompts[order], answers[order], math.floor(first / 60) * 60.0)


def _read_columns(name: str, lines: Generator[str], columns: Sequence[array[float]]) -> None:
    rows = csv.reader(lines)
    try:
        places = _find_columns(name, next(rows, []))
        for row in rows:
            if row and len(row) <= max(places):
                raise ValueError(f"it has {len(row)} columns, and should have {max(places) + 1} or more")
            if row:
                time, prompt, generated = (row[place] for place in places)
                values = _seconds(time), _tokens(prompt), _tokens(generated)
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
    except (csv.Error, ValueError) as error:
        raise UsageError(f"{name}, line {rows.line_num}: {error}") from error


def _lines(path: Path) -> Generator[str]:
    for number, line in enumerate(read_bounded(path, _LONGEST_LINE), 1):
        if number > MOST_QUESTIONS + 1:
            raise UsageError(f"{path.name} has more than {MOST_QUESTIONS:,} questions")
        if len(line) > _LONGEST_LINE:
            raise UsageError(f"{path.name}, line {number}: it is longer than {_LONGEST_LINE:,} bytes")
        try:
            yield line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{path.name}, line {number}: it is not text in UTF-8") from error


def _find_columns(name: str, header: Sequence[str]) -> tuple[int, int, int]:
    plain = [re.sub("[^a-z]", "", title.lower()) for title in header]
    found = []
    for column, names in _NAMES.items():
        place = next((plain.index(known) for known in names.split() if known in plain), None)
        if place is None:
            raise UsageError(
                f"{name}, line 1: there is no column for {column}",
                hint="name the columns time, prompt_tokens and generated_tokens",
            )
        found.append(place)
    first, second, third = found
    return first, second, third


def _tokens(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value <= _MOST_TOKENS and value.is_integer()):
        raise ValueError(f"{_short(text)} is not a number of tokens")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = _date(text)
    if not 0 <= value <= _LATEST:
        raise ValueError(f"{_short(text)} is not a time")
    return value


def _date(text: str) -> float:
    """Unix seconds; NaN where it is none."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
