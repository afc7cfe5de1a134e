"""How an exception that ends a command is reported to the user."""

from __future__ import annotations

import errno
import os
import re

from llmhost.cli.output import Output
from llmhost.cli.text import clean, shortened
from llmhost.errors import Cancelled, LlmhostError

__all__ = ["report"]

#: 128 + SIGINT, as shells have it.
_INTERRUPTED = 130

#: characters; an unexpected exception's message may hold a whole document.
_LONGEST_MESSAGE = 300

#: a file that something of ours writes has a name; the output has none
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_CREDENTIALS = re.compile(r"(://)[^\s/]*@|((?:bearer|basic)\s+)\S+", re.IGNORECASE)
_SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH", re.IGNORECASE)

#: characters; a shorter value of such a variable is a switch or a number, and would garble other words.
_SHORTEST_SECRET = 6


def report(error: BaseException, out: Output) -> int:
    """Prints on stderr what ended the command, and with ``--json`` on stdout too.

    Returns:
        The exit code of the process.
    """
    cause = _first_leaf(error)
    code, message, hint, exit_code = _describe(cause)
    if out.verbose:
        import traceback

        out.detail(_without_secrets("".join(traceback.format_exception(cause))).rstrip())
    if out.json and not out.printed:
        try:
            out.document({"error": {"code": code, "message": message, "hint": hint}})
        except OSError as failure:
            if failure.errno not in _NO_ROOM:
                raise
    if isinstance(cause, Cancelled):
        out.note(message)
    else:
        out.error(message, hint)
    return exit_code


def _describe(error: BaseException) -> tuple[str, str, str | None, int]:
    """Code, message, hint and exit code."""
    if isinstance(error, LlmhostError):
        hint = None if error.hint is None else _one_line(error.hint)
        return error.code, _one_line(error.message), hint, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        half_done = "`llmhost fleets` shows what runs, `llmhost down` ends it" if error.args else None
        return "interrupted", ": ".join(["interrupted", *map(str, error.args)]), half_done, _INTERRUPTED
    if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
        return "failed", f"cannot write: {error.strerror}", "free some disk space where the output goes", 1
    message = f"unexpected {type(error).__name__}: {_one_line(str(error))}".rstrip(": ")
    return "unexpected", message, "run again with --verbose for the traceback, and please report it", 1


def _first_leaf(error: BaseException) -> BaseException:
    """The error that represents a group of exceptions: its first LlmhostError, else its first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_first_leaf(inner) for inner in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, LlmhostError)), leaves[0])


def _one_line(text: str) -> str:
    return shortened(clean(_without_secrets(text)), _LONGEST_MESSAGE)


def _without_secrets(text: str) -> str:
    """A safety net: our adapters keep secrets out of messages, but a third-party exception may quote one."""
    text = _CREDENTIALS.sub(lambda match: f"{match[1]}***@" if match[1] else f"{match[2]}***", text)
    secrets = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    for value in sorted(secrets, key=len, reverse=True):  # one may begin with another
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text
