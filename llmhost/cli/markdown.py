"""Markdown for a terminal, as it comes: wrapped between words, and styled where colour is shown.

A word is shown as soon as the next one begins; a line of code, a row of a table and a rule once the line is
whole. Nothing that was shown is drawn again.
"""

from __future__ import annotations

import re

from llmhost.cli.text import columns_of

__all__ = ["MarkdownStream"]

#: columns; the longest line that stands for a rule
_RULE = 40
#: what an indentation may take of the terminal's width, so that words have room beside it
_INDENTED = 0.5
_BOLD, _ITALIC, _CODE = "1", "3", "36"

#: East Asian text has no blanks: a line may end behind each of its characters, but not before a mark that
#: closes something
_WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff"
_CLOSING = "\u3001\u3002\u300b\u300d\u300f\u3011\uff01\uff09\uff0c\uff0e\uff1a\uff1b\uff1f"
_WORD = re.compile(rf"[{_WIDE}][{_CLOSING}]*|[^\s{_WIDE}]+")
#: what a word consists of
_PIECE = re.compile(r"`+|\*+|\\[!-/:-@\[-`{-~]|\\|[^`*\\]+")
_BLANKS = re.compile(r"[^\S\n]*")
#: as much of a line as says of which kind it is
_BEGINNING = re.compile(r"[^\S\n]*\S+\s")
_MAY_BE_WHOLE = re.compile(r"\s*(?:`{3}|~{3}|\||(?:[-*_]\s*){3,}$)")
_FENCE = re.compile(r"\s*(`{3,}(?=[^`]*$)|~{3,})")
_ROW = re.compile(r"\s*\|")
_RULED = re.compile(r"\s*([-*_])(?:\s*\1){2,}\s*$")
_MARKER = re.compile(r"(?P<heading>#{1,6} +)|(?P<item>[-*+] +|\d{1,9}[.)] +)|(?P<quote>> ?)")


class MarkdownStream:
    """One answer. `styled` False wraps it, and changes nothing else."""

    def __init__(self, *, styled: bool) -> None:
        self._styled = styled
        self._held = ""
        self._fence = ""  #: what ends the code that is open
        self._begun = False  #: whether the beginning of the line was shown
        self._column = 0
        self._hanging = ""  #: begins the line on which this one is continued
        self._blanks = ""  #: before the next word
        self._previous = " "  #: the last character of the line
        self._heading = self._bold = self._italic = False
        self._ticks = 0  #: how many backticks end the code that is open in this line

    def feed(self, piece: str, width: int) -> str:
        """What may be shown so far, on a terminal of `width` columns."""
        self._held += piece
        return self._take(width, at_end=False)

    def close(self, width: int) -> str:
        """The rest."""
        return self._take(width, at_end=True)

    def _take(self, width: int, *, at_end: bool) -> str:
        parts: list[str] = []
        while self._held:
            before = len(self._held), self._begun
            parts.append(self._words(width, at_end) if self._begun else self._begin(width, at_end))
            if before == (len(self._held), self._begun):  # more must come
                break
        return "".join(parts)

    # Lines

    def _begin(self, width: int, at_end: bool) -> str:
        """A line that is shown as a whole, or what stands before the words of another."""
        line, newline, rest = self._held.partition("\n")
        is_whole = bool(newline) or at_end
        if self._fence or _MAY_BE_WHOLE.match(line):
            if not is_whole:
                return ""
            shown = self._whole(line, newline, width)
            if shown is not None:
                self._held = rest
                return shown
        elif not is_whole and not _BEGINNING.match(line):
            return ""
        self._begun = True
        text = line.lstrip()
        indent = line[: len(line) - len(text)].expandtabs(4) if text else ""
        self._held = self._held[len(line) - len(text) :]
        return indent + self._mark(indent, width)

    def _whole(self, line: str, newline: str, width: int) -> str | None:
        """A line of code, a row of a table, or a rule; None for any other."""
        if self._fence:
            if line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
                self._fence = ""
                return "" if self._styled else line + newline
            return self._in_style(line, _CODE) + newline
        if fence := _FENCE.match(line):
            self._fence = fence[1]
            return "" if self._styled else line + newline
        if _RULED.match(line):
            return ("─" * min(width, _RULE) if self._styled else line) + newline
        return line + newline if _ROW.match(line) else None

    def _mark(self, indent: str, width: int) -> str:
        """What begins the line behind its indentation, and so indents those on which it is continued."""
        mark = _MARKER.match(self._held)
        shown = self._hanging = ""
        if mark:
            self._held = self._held[mark.end() :]
            shown = mark[0]
            if self._styled:
                self._heading = mark["heading"] is not None
                shown = "" if mark["heading"] else "│ " if mark["quote"] else shown
                shown = "•" + shown[1:] if mark["item"] and not shown[0].isdigit() else shown
        if not (mark and mark["heading"]):
            self._hanging = indent + (shown if mark and mark["quote"] else " " * len(shown))
        if len(self._hanging) > width * _INDENTED:
            self._hanging = ""
        self._column = len(indent) + len(shown)
        return shown

    # Words

    def _words(self, width: int, at_end: bool) -> str:
        """The words of a line, as far as they are whole, and its end."""
        parts: list[str] = []
        while self._held and self._begun:
            if self._held[0] == "\n":
                self._held = self._held[1:]
                self._end_line()
                parts.append("\n")
            elif blanks := _match(_BLANKS, self._held):
                self._held = self._held[len(blanks) :]
                self._blanks += blanks.replace("\t", " ")
                self._previous = " "
            else:
                word = _match(_WORD, self._held)
                following = self._held[len(word) : len(word) + 1]
                if not following and not at_end:
                    break
                self._held = self._held[len(word) :]
                parts.append(self._place(word, following or " ", width))
        return "".join(parts)

    def _end_line(self) -> None:
        self._begun = self._heading = self._bold = self._italic = False
        self._ticks = 0
        self._blanks, self._previous = "", " "

    def _place(self, word: str, following: str, width: int) -> str:
        """The word, in the next line where this one has no room for it. A terminal breaks a longer one."""
        pieces = self._styles(word, following) if self._styled else [(word, "")]
        length = columns_of("".join(text for text, _ in pieces))
        before, self._blanks = self._blanks, ""
        is_full = self._column + len(before) + length > width and self._column > len(self._hanging)
        if is_full:
            before = "\n" + self._hanging
            self._column = len(self._hanging)
        else:
            self._column += len(before)
        self._column += length
        if self._column > width:
            self._column = self._column % width or width
        return before + "".join(self._in_style(text, style) for text, style in pieces)

    def _styles(self, word: str, following: str) -> list[tuple[str, str]]:
        """The word in pieces without its marks, each with its style."""
        pieces: list[tuple[str, str]] = []
        for piece in _PIECE.finditer(word):
            text = piece[0]
            if self._ticks or text[0] == "`":
                if text[0] == "`" and self._ticks in (0, len(text)):
                    self._ticks, text = (0 if self._ticks else len(text)), ""
            elif text[0] == "*":
                text = self._emphasis(len(text), word[piece.end() : piece.end() + 1] or following)
            elif text[0] == "\\":
                text = text[1:] or text
            pieces.append((text, self._style()))
            self._previous = piece[0][-1]
        return pieces

    def _emphasis(self, count: int, after: str) -> str:
        """Begins or ends what `count` stars mark; else the stars are shown."""
        if count == 3:
            return self._emphasis(2, after) + self._emphasis(1, after)
        name = {1: "_italic", 2: "_bold"}.get(count, "")
        may_begin = not after.isspace() and not self._previous.isalnum()
        if name and (may_begin if not getattr(self, name) else not self._previous.isspace()):
            setattr(self, name, not getattr(self, name))
            return ""
        return "*" * count

    def _style(self) -> str:
        codes = {_BOLD: self._bold or self._heading, _ITALIC: self._italic, _CODE: self._ticks > 0}
        return ";".join(code for code, holds in codes.items() if holds)

    def _in_style(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._styled and style and text else text


def _match(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text)
    return found[0] if found else ""
