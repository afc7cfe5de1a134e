"""Makes the picture of a terminal in README.md, docs/terminal.svg, from a session that it runs.

    .venv/bin/python scripts/make_picture.py

The session has a folder, a state and a fleet of its own, with the packaged model, and leaves nothing running.
Its commands run on a terminal, so the picture shows what a user sees. Long outputs are cut: "…" says where.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

_PICTURE = Path(__file__).resolve().parent.parent / "docs/terminal.svg"
_LLMHOST = str(Path(sys.executable).with_name("llmhost"))

#: characters
_COLUMNS = 90

#: The commands, and how many lines of what each prints are shown: the first ones, and the last ones.
_SESSION = [
    ("init --provider local", 1, 0),
    ("up", 10, 0),
    ('ask "What is artificial intelligence?"', 1, 1),
    ('ask "What is artificial intelligence?"', 1, 1),
    ('ask "Explain AI in simple terms"', 1, 2),
    ('ask "How do I turn on dark mode?"', 1, 1),
    ('ask --explain "How do I disable dark mode?"', 1, 5),
    ("down --all", 1, 3),
]

#: What the session shows, unless something went wrong: a hit of each kind, and one that was refused.
_SHOWN = ["exact hit", "semantic hit", "< 0.800  How do I turn on dark mode?"]

#: A dark terminal, whatever page it is on; text that is dim has a contrast of at least 4.5 to it.
_THEME = TerminalTheme(
    background=(27, 31, 36),
    foreground=(230, 232, 235),
    normal=[
        (60, 66, 74),
        (255, 123, 114),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (230, 232, 235),
    ],
)

#: What moves the cursor or shows it. A line that was written again starts with a carriage return.
_CONTROL = re.compile(r"\x1b\[[?0-9;]*[A-LN-Za-ln-z]")


def main() -> int:
    """Returns the exit status: 0, or 1 where the session was another than the picture is to show."""
    with tempfile.TemporaryDirectory(prefix="llmhost-") as folder:
        lines = _session(Path(folder))
    text = "\n".join(line.plain for line in lines)
    if missing := [words for words in _SHOWN if words not in text]:
        sys.stderr.write(f"{text}\nerror: the session does not show {', '.join(missing)}\n")
        return 1
    _PICTURE.write_text(draw(lines), encoding="utf-8")
    sys.stdout.write(f"wrote {_PICTURE.name}: {len(lines)} lines, {_PICTURE.stat().st_size:,} bytes\n")
    return 0


def _session(folder: Path) -> list[Text]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LLMHOST_")}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "COLUMNS", "LINES"):
        environ.pop(name, None)
    environ |= {"LLMHOST_STATE_DIR": str(folder / "state"), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    work = folder / "demo"
    work.mkdir()
    lines = []
    try:
        for command, first, last in _SESSION:
            lines.append(Text.from_ansi(f"\x1b[1;32m$\x1b[0m \x1b[1mllmhost {command}\x1b[0m"))
            lines += cut(on_screen(_run(shlex.split(command), work, environ)), first, last)
    finally:
        subprocess.run(
            [_LLMHOST, "down", "--all", "--quiet"], cwd=work, env=environ, stdout=subprocess.DEVNULL
        )
    return lines


def _run(args: list[str], folder: Path, environ: dict[str, str]) -> str:
    """What the command writes on a terminal, as it stands there at the end."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, _COLUMNS, 0, 0))
    with subprocess.Popen(
        [_LLMHOST, *args], cwd=folder, env=environ, stdin=its, stdout=its, stderr=its
    ) as process:
        os.close(its)
        written = b"".join(_read(ours))
    os.close(ours)
    if process.returncode:
        raise SystemExit(f"{written.decode()}\nerror: llmhost {args[0]} ended with {process.returncode}")
    return written.decode()


def _read(terminal: int) -> Iterable[bytes]:
    try:
        while piece := os.read(terminal, 65536):
            yield piece
    except OSError:  # Linux's way to say that nobody writes any more
        return


def on_screen(written: str) -> list[Text]:
    """The lines that stand on the terminal after that was written, without empty ones."""
    console = Console(width=_COLUMNS, file=StringIO())
    decode = AnsiDecoder().decode_line  # of one decoder: a style may last for several lines
    lines = [
        part
        for line in _CONTROL.sub("", written.replace("\r\n", "\n")).split("\n")
        for part in decode(line).wrap(console, _COLUMNS)
    ]
    for line in lines:
        line.rstrip()
    return [line for line in lines if line.plain]


def cut(lines: list[Text], first: int, last: int) -> list[Text]:
    """The first and the last ones; where some are left out between, the line before them ends in "…"."""
    if len(lines) <= first + last:
        return lines
    before = lines[first - 1]
    before.truncate(_COLUMNS - 2)
    before.append(" …")
    return [*lines[:first], *lines[len(lines) - last :]]


def draw(lines: list[Text]) -> str:
    """An SVG of them that needs no font and no address from elsewhere."""
    console = Console(width=_COLUMNS, record=True, file=StringIO())
    for line in lines:
        console.print(line, overflow="crop", no_wrap=True)
    svg = console.export_svg(title="llmhost", theme=_THEME, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    raise SystemExit(main())
