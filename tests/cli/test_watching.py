"""A screen that is refreshed until Ctrl-C, on a terminal."""

from __future__ import annotations

import os
import sys

from doubles.terminal import shown_on_terminal

#: three looks: one with a warning, one that fails, one as it should be; then Ctrl-C
WATCH = """
import os, signal
from llmhost.cli.output import Output
from llmhost.cli.running import run_async
from llmhost.cli.watching import watch_screen
from llmhost.errors import StoreUnavailable

out, looks = Output(quiet=True), iter((1, 2, 3))

async def look():
    number = next(looks)
    if number == 1:
        out.warn("it keeps billing")
    if number == 2:
        raise StoreUnavailable("Redis is away", hint="start it")
    if number == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return "\\n".join([f"look {number}", *["line"] * 100])

run_async(watch_screen(out, look, 0.0))
"""


def test_what_is_wrong_stands_above_a_long_screen_and_a_look_that_fails_is_followed_by_others() -> None:
    environ = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "LINES": "8"}
    shown = shown_on_terminal([sys.executable, "-c", WATCH], environ)
    screens = [[line.rstrip() for line in screen.splitlines()] for screen in shown.split("\x1b[H")[2:]]
    assert [screen[:2] for screen in screens] == [
        ["warning: it keeps billing", "look 1"],
        ["error: Redis is away", "hint:  start it"],
        ["look 3", "line"],
    ]


def test_a_terminal_that_moves_no_cursor_has_no_screen_to_refresh() -> None:
    check = (
        "from llmhost.cli.watching import check_watches as c; from llmhost.errors import UsageError as E\n"
    )
    check += "try: c()\nexcept E as error: print(error.message)"
    environ = {**os.environ, "TERM": "dumb"}
    assert "--watch needs a terminal" in shown_on_terminal([sys.executable, "-c", check], environ)
