"""Text for people: numbers with units, and untrusted text made safe for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from unicodedata import combining, east_asian_width

__all__ = [
    "ENTRY_DIGITS",
    "TextFilter",
    "ago",
    "clean",
    "columns_of",
    "counted",
    "credit",
    "data_size",
    "duration",
    "milliseconds",
    "money",
    "percent",
    "rounded",
    "short_count",
    "shortened",
    "spent",
    "times",
    "wrapped",
]

#: digits; enough to name a cached entry among millions
ENTRY_DIGITS = 12

#: characters; the longest title or link that a control sequence may carry before it counts as plain text.
_LONGEST_SEQUENCE = 2000

#: ECMA-48, 7 and 8 bit: CSI with parameters; strings (OSC, DCS, SOS, PM, APC) up to BEL or ST; the rest.
#: Nothing inside a sequence can begin another one: a text of beginnings is read once, not from each of them.
_CSI = rf"(?:\x1b\[|\x9b)[0-?]{{0,{_LONGEST_SEQUENCE}}}[ -/]{{0,9}}"
_STRING = rf"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x80-\x9f]{{0,{_LONGEST_SEQUENCE}}}"
_OTHER = r"\x1b[ -/]{0,9}"
_SEQUENCE = re.compile(rf"{_CSI}[@-~]|{_STRING}(?:\x07|\x1b\\|\x9c)|{_OTHER}[0-OQ-WYZ\\`-~]")
#: Where a sequence begins that the next piece of a stream could complete.
_UNFINISHED = re.compile(rf"{_CSI}\Z|{_STRING}\x1b?\Z|{_OTHER}\Z")
#: What no text needs: C0 and C1 controls without tab and newline, and marks that reorder what is shown.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """`text` without terminal control sequences; newline and tab stay."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


class TextFilter:
    """`clean` for a stream, where one control sequence may come in two pieces."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What may be shown so far."""
        text = self._held + piece
        unfinished = _UNFINISHED.search(text)
        end = unfinished.start() if unfinished else len(text)
        self._held = text[end:]
        return clean(text[:end])

    def close(self) -> str:
        """What was held back and turned out to be text."""
        held, self._held = self._held, ""
        return clean(held)


def money(usd: float) -> str:
    """``$12.30``; small sums keep two significant digits: ``$0.00042``."""
    if usd == 0:
        return "$0"
    sign, amount = ("-" if usd < 0 else ""), abs(usd)
    exponent = int(f"{amount:.1e}".partition("e")[2])
    return f"{sign}${amount:,.{max(2, 1 - exponent)}f}"


def spent(usd: float, estimated: bool) -> str:
    """As `money`; ``~$0.12`` where a bill that is still to come may say another sum."""
    return f"~{money(usd)}" if estimated and usd else money(usd)


def duration(seconds: float) -> str:
    """``85 ms``, ``3.2 s``, ``2 min 5 s``, ``3 h 12 min``, ``2 d 4 h``."""
    if seconds < 0.9995:
        return milliseconds(seconds * 1000)
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return _two(whole, (60, "min"), (1, "s"))
    if whole < 86400:
        return _two(whole, (3600, "h"), (60, "min"))
    return _two(whole, (86400, "d"), (3600, "h"))


def credit(usd: float, runway_hours: float | None) -> str:
    """``credit $12.30, enough for 1 d 6 h``; `runway_hours` None is unknown or unlimited."""
    if usd <= 0:
        return f"credit {money(round(usd, 2))}: used up"
    return f"credit {money(usd)}" + (
        "" if runway_hours is None else f", enough for {duration(runway_hours * 3600)}"
    )


def _two(seconds: int, large: tuple[int, str], small: tuple[int, str]) -> str:
    count, rest = divmod(seconds, large[0])
    fine = rest // small[0]
    return f"{count} {large[1]} {fine} {small[1]}" if fine else f"{count} {large[1]}"


def milliseconds(ms: float) -> str:
    """``0.42 ms``, ``8.1 ms``, ``85 ms``, ``1,250 ms``."""
    if ms == 0:
        return "0 ms"
    if ms < 0.995:
        return f"{ms:.2f} ms"
    return f"{ms:.1f} ms" if ms < 9.95 else f"{ms:,.0f} ms"


def data_size(count: float) -> str:
    """``512 B``, ``1.5 KiB``, ``3.2 MiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1023.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def percent(ratio: float) -> str:
    """``72 %``; one digit near the ends, never rounded to none or all: ``0.4 %``, ``99.9 %``."""
    value = ratio * 100
    if 0 < value < 0.1:
        return "<0.1 %"
    if 99 < value < 100:
        return f"{min(value, 99.9):.1f} %"
    return f"{value:.1f} %" if 0 < value < 1 else f"{value:.0f} %"


def times(ratio: float) -> str:
    """``4.2 x``, ``39 x``: how many times as much."""
    return f"{ratio:.1f} x" if ratio < 9.95 else f"{ratio:,.0f} x"


def rounded(count: float) -> str:
    """``39 thousand``, ``2.4 million``; small ones as they are."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if count >= size:
            number = count / size
            return f"{number:.1f} {word}" if number < 9.95 else f"{number:,.0f} {word}"
    return f"{count:,.0f}"


def short_count(count: int) -> str:
    """``1,518``, ``2.8M``, ``1.2B``: for tables."""
    for size, letter in ((1_000_000_000, "B"), (1_000_000, "M")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return f"{count:,}"


def counted(count: int, what: str) -> str:
    """``1 label``, ``1,200 labels``, ``2 entries``."""
    if count == 1:
        return f"{count:,} {what}"
    return f"{count:,} {what[:-1]}ies" if what.endswith("ry") else f"{count:,} {what}s"


def ago(then: float, now: float) -> str:
    """How long before `now` (both Unix seconds) something was: ``just now``, ``5 min ago``."""
    seconds = max(0.0, now - then)
    if seconds < 1:
        return "just now"
    return f"{duration(float(int(seconds))).replace('.0 s', ' s')} ago"


def shortened(text: str, width: int = 60) -> str:
    """`text` on one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


_INVISIBLE = frozenset("\u200b\u200c\u200d\ufe0f")


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(
        0 if combining(char) or char in _INVISIBLE else 2 if east_asian_width(char) in "WF" else 1
        for char in text
    )


#: what is kept together where a line has room for it, the longest first, each with the blanks before it: what
#: dots separate, as in `· exact hit · 3 ms`; a word, or words in backticks; a word
_UNITS = (
    re.compile(r"(\s*)((?:· )?(?:(?! · ).)*(?! · )\S)"),
    re.compile(r"(\s*)((?:`[^`]*`|\S)+)"),
    re.compile(r"(\s*)(\S+)"),
)


def wrapped(text: str, width: int) -> str:
    """`text` with a line break in place of the blanks before a word that has no room in its line. What stands
    in backticks is there to be copied, and stays together where a line has room for it, as does what stands
    between dots; what is longer than a line is left to the terminal, so that it is copied without a break.
    """
    return "\n".join(_wrapped_line(line, width) for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    parts, column = [], 0
    for blanks, word in _words(line, width, _UNITS[0 if " · " in line else 1 :]):
        length = columns_of(clean(word))
        if column and length <= width < column + len(blanks) + length:
            blanks, column = "\n", -1
        parts += [blanks, word]
        column += len(blanks) + length
        if column > width:
            column = column % width or width
    return "".join(parts)


def _words(text: str, width: int, units: Sequence[re.Pattern[str]]) -> Iterator[tuple[str, str]]:
    """Each with the blanks before it."""
    unit, *smaller = units
    for found in unit.finditer(text):
        if smaller and columns_of(clean(found[2])) > width:
            yield from _words(found[0], width, smaller)
        else:
            yield found[1], found[2]
