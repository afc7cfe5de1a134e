"""Guards, a verifier and a judge that say what a test tells them, and remember what they were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmhost.cache.models import Judgement, Objection

REFUSAL = Objection("numbers", "one says 5, the other 6")
DOUBT = Objection("names", "one speaks of Redis", refuses=False)


class ScriptedGuards:
    """Object to these stored questions."""

    def __init__(self, objections: Mapping[str, Sequence[Objection]] | None = None) -> None:
        self.objections = objections or {}

    def __call__(self, question: str, stored: str) -> tuple[Objection, ...]:
        return tuple(self.objections.get(stored, ()))


class ScriptedVerifier:
    """Gives each stored question its probability, or raises what stands there."""

    id = "scripted"

    def __init__(
        self, probabilities: Mapping[str, float | Exception] | None = None, others: float | Exception = 0.0
    ) -> None:
        self.probabilities = probabilities or {}
        self.others = others
        self.asked: list[str] = []

    def probability(self, question: str, stored: str) -> float:
        self.asked.append(stored)
        said = self.probabilities.get(stored, self.others)
        if isinstance(said, Exception):
            raise said
        return said


class ScriptedJudge:
    """Says the same of every pair."""

    def __init__(self, judgement: Judgement) -> None:
        self.judgement = judgement
        self.asked: list[tuple[str, str, str]] = []

    async def judge(self, scope: str, question: str, stored: str) -> Judgement:
        self.asked.append((scope, question, stored))
        return self.judgement
