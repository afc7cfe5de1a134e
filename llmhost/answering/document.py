"""A reply as programs read it: what `ask --json` prints. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from llmhost.answering.question import Question, Reply

__all__ = ["reply_document"]


def reply_document(reply: Reply, question: Question, *, explain: bool) -> dict[str, Any]:
    """`kind` is the question's, and `because` the words that tell it. Token counts are those of the answer
    when it was generated; times are milliseconds. `explain` lists every stored question that was
    considered, most similar first, none for an exact hit; `reason` says in words why none was served.
    `shadow` is the hit that was not served, as the cache is on trial. `stale`: the answer of the hit has
    outlived its time, and another one is asked for. `condensed` is the question that stands alone which a
    follow-up question was looked up as.
    """
    answer, shadow, question = reply.answer, reply.shadow, reply.found or question
    matched = reply.lookup.served if reply.source == "semantic" else None
    document: dict[str, Any] = {
        "answer": answer.text,
        "source": reply.source,
        "kind": question.kind,
        "because": question.because,
        "similarity": matched.similarity if matched else None,
        "confidence": reply.confidence,
        "matched_question": matched.question if matched else None,
        "condensed": reply.condensed or None,
        "entry": reply.entry,
        "stale": reply.stale,
        "model": answer.model,
        "worker": reply.worker,
        "finish_reason": answer.finish_reason,
        "tokens": {"prompt": answer.prompt_tokens, "completion": answer.completion_tokens},
        "latency_ms": asdict(reply.latency),
        "cost_usd": reply.cost_usd,
        "saved_usd": reply.saved_usd,
        "shadow": None if shadow is None else _shadow(shadow),
    }
    if explain:
        document["reason"] = reply.lookup.reason
        document["explain"] = [
            {
                "question": verdict.candidate.question,
                "similarity": verdict.candidate.similarity,
                "taken": verdict.taken,
                "confidence": verdict.confidence,
                "why": verdict.words,
                "objections": [asdict(objection) for objection in verdict.objections],
            }
            for verdict in (() if reply.source == "exact" else reply.lookup.verdicts)
        ]
    return document


def _shadow(hit: Reply) -> dict[str, Any]:
    matched = hit.lookup.served if hit.source == "semantic" else None
    return {
        "source": hit.source,
        "similarity": matched.similarity if matched else None,
        "confidence": hit.confidence,
        "matched_question": matched.question if matched else None,
        "entry": hit.entry,
        "saved_usd": hit.saved_usd,
    }
