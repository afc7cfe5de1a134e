"""Traces come from outside: nothing in them is taken on trust."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.errors import UsageError
from llmhost.lab.simulation.trace import read_trace
from llmhost.lab.simulation.workload import Trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
PLAIN = "time,prompt_tokens,completion_tokens\n"


def written(folder: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(folder: Path, text: str | bytes, name: str = "trace.csv") -> Trace:
    return read_trace(written(folder, text, name))


def refusal(folder: Path, text: str | bytes, name: str = "trace.csv") -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, text, name)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_trace_as_azure_publishes_it(tmp_path: Path) -> None:
    rows = "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
    trace = read(tmp_path, AZURE + rows)
    assert trace.times.tolist() == pytest.approx([0, 4.314579], abs=1e-6)
    assert trace.prompt.tolist() == [374, 396]
    assert trace.generated.tolist() == [44, 109]
    assert datetime.fromtimestamp(trace.epoch, UTC) == datetime(2023, 11, 16, 18, 15, tzinfo=UTC)


def test_seconds_and_columns_in_another_order(tmp_path: Path) -> None:
    trace = read(tmp_path, "id,Generated Tokens,Arrived At,Prompt-Tokens\na,7,10,1\nb,8,12.5,2\n")
    assert trace.times.tolist() == [0, 2.5]
    assert trace.prompt.tolist() == [1, 2]
    assert trace.generated.tolist() == [7, 8]


def test_a_packed_file_with_a_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    packed = gzip.compress((chr(0xFEFF) + PLAIN + "1,2,3\n\n4,5,6\n").replace("\n", "\r\n").encode())
    assert read(tmp_path, packed, "trace.csv.gz").times.tolist() == [0, 3]


def test_a_trace_lasts_until_its_next_question_would_come() -> None:
    ones = np.ones(3)
    assert Trace(np.array([0.0, 2, 4]), ones, ones).span == 6
    assert Trace(np.array([0.0]), ones[:1], ones[:1]).span == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: there is no column for time"),
        ("time,prompt_tokens\n1,2\n", "line 1: there is no column for generated tokens"),
        (PLAIN, "has no questions"),
        (PLAIN + "1,2,3\n1,2\n", "line 3: it has 2 columns"),
        (PLAIN + "1,-2,3\n", "line 2: '-2' is not a number of tokens"),
        (PLAIN + "1,2,nan\n", "line 2: 'nan' is not a number of tokens"),
        (PLAIN + "1,2,1e300\n", "line 2: '1e300' is not a number of tokens"),
        (PLAIN + "1,2.5,3\n", "line 2: '2.5' is not a number of tokens"),
        (PLAIN + "1,,3\n", "line 2: '' is not a number of tokens"),
        (PLAIN + "inf,2,3\n", "line 2: 'inf' is not a time"),
        (PLAIN + "-1,2,3\n", "line 2: '-1' is not a time"),
        (PLAIN + "1066-10-14 09:00:00,2,3\n", "is not a time"),
        (PLAIN + "9999-12-31 09:00:00,2,3\n", "is not a time"),
        (PLAIN + "1,2,3\nyesterday,2,3\n", "line 3: 'yesterday' is not a time"),
        (PLAIN + "2024-13-01 00:00:00,2,3\n", "line 2: '2024-13-01 00:00:00' is not a time"),
        (PLAIN + f"{'9' * 500},2,3\n", "is not a time"),
        (PLAIN + "0,1,1\n1700000000,1,1\n", "covers 19,676 days"),
        (PLAIN + "x" * 20_000, "line 2: it is longer than 10,000 bytes"),
        (b"\xff\xfe\x00\x01", "it is not text in UTF-8"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert words in refusal(tmp_path, text)


moments = st.datetimes(datetime(2000, 1, 1), datetime(2000, 12, 31))
zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])
tokens = st.integers(0, 10**7)


@given(st.lists(st.tuples(st.one_of(st.integers(0, 10**7), moments), tokens, tokens), min_size=1), zones)
def test_whatever_is_written_is_read_back_in_order(
    tmp_path: Path, rows: list[tuple[int | datetime, int, int]], zone: timezone | None
) -> None:
    kind = type(rows[0][0])
    rows = [row for row in rows if type(row[0]) is kind]
    times = [row[0].replace(tzinfo=zone) if isinstance(row[0], datetime) else row[0] for row in rows]
    text = "".join(f"{time},{row[1]},{row[2]}\n" for time, row in zip(times, rows, strict=True))
    trace = read(tmp_path, PLAIN + text)
    seconds = [
        (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
        if isinstance(time, datetime)
        else time
        for time in times
    ]
    order = sorted(range(len(rows)), key=seconds.__getitem__)
    assert trace.times == pytest.approx([seconds[place] - min(seconds) for place in order], abs=1e-5)
    assert trace.generated.tolist() == [rows[place][2] for place in order]


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_a_trace_or_refused(tmp_path: Path, content: bytes) -> None:
    for head in (b"", PLAIN.encode()):
        try:
            trace = read(tmp_path, head + content)
        except UsageError:
            continue
        assert len(trace) > 0
        assert (np.diff(trace.times) >= 0).all()
        assert np.isfinite(trace.times).all()
