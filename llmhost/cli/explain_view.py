"""Why an answer came from the cache, or did not: for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cli.output import table
from llmhost.cli.text import clean

if TYPE_CHECKING:
    from llmhost.answering.question import Reply
    from llmhost.cache.objection import Objection
    from llmhost.cache.policy import Verdict
    from llmhost.cli.output import Output

__all__ = ["CandidateOutput", "explained", "shortened", "show_explanation"]


@dataclass(frozen=True, slots=True)
class CandidateOutput:
    """One stored question that was looked at. `confidence` None: the verifier was not asked."""

    question: str
    similarity: float
    taken: bool
    confidence: float | None
    why: str
    objections: Sequence[Objection]


def explained(reply: Reply) -> list[CandidateOutput]:
    """Every candidate, most similar first; none for an exact hit, which nobody had to judge."""
    return [] if reply.source == "exact" else [_candidate(verdict) for verdict in reply.verdicts]


def show_explanation(out: Output, reply: Reply) -> None:
    """The same for people, on stderr; nothing with ``--quiet``."""
    if reply.source == "exact":
        out.note("· the very same question is stored: there was nothing to judge")
    elif not reply.verdicts:
        out.note(f"· {reply.reason or 'no stored question was looked at'}")
    elif not out.quiet:
        shown = table("", "similar", "sure", "why", "stored question", right=("similar", "sure"))
        for one in explained(reply):
            sure = "" if one.confidence is None else f"{one.confidence:.3f}"
            mark = "served" if one.taken else ""
            shown.add_row(mark, f"{one.similarity:.3f}", sure, clean(one.why), clean(shortened(one.question)))
        out.console_of_errors().print(shown)


def shortened(text: str, width: int = 60) -> str:
    """`text` on one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _candidate(verdict: Verdict) -> CandidateOutput:
    return CandidateOutput(
        question=verdict.candidate.question,
        similarity=verdict.candidate.similarity,
        taken=verdict.taken,
        confidence=verdict.confidence,
        why=verdict.words,
        objections=verdict.objections,
    )
