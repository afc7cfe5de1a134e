"""A question under way: what is known of it so far, and what the ledger counts of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from llmhost.answering.cache_session import CacheSession
from llmhost.answering.question import Latency, Question, Reply
from llmhost.cache.models import Hit, SemanticLookup
from llmhost.ledger.events import Outcome, QuestionEvent, engine_event

__all__ = ["Asked", "event_of"]

#: what the semantic tier found where it was not asked
_NOTHING = SemanticLookup()


@dataclass(slots=True)
class Asked:
    """One question under way. `session` None: the cache is bypassed."""

    question: Question
    session: CacheSession | None
    began: float
    #: seconds between the user's start and `began`
    before: float = 0.0
    on_worker: Callable[[str], None] = lambda _: None
    on_miss: Callable[[], Awaitable[None]] | None = None
    exact_ms: float = 0.0
    #: whether it waited for the answer that another one asked for
    waited: bool = False
    #: whether it was the first of this process to ask; what answers it then counts it, too
    leads: bool = False
    #: whether no user asked it, but an answer was stale
    renews: bool = False
    lookup: SemanticLookup = _NOTHING
    #: of a follow-up question, the session of what it asks by itself, which is only looked up; None: it is
    #: looked up as it is
    standalone: CacheSession | None = None
    condense_ms: float = 0.0
    #: the hit that is not served, as the cache is on trial
    shadow: Reply | None = None
    #: the question as its vector settled it, where it is of another kind than its words alone had said
    found: Question | None = None
    reply: Reply | None = None
    #: whether no answer is wanted any more
    unwanted: bool = False

    def hit(self, at: float) -> Hit | None:
        """The hit on the entry that was served; None where none was."""
        session, reply = self.session, self.reply
        if session is None or reply is None or reply.source == "engine" or reply.entry is None:
            return None
        if reply.source == "exact":
            return session.hit(reply.entry, at, None)
        return (self.standalone or session).hit(reply.entry, at, self.lookup.verdict)

    def settle(self, session: CacheSession) -> None:
        """Takes the question for what this session found out that it is, when it saw its vector."""
        found = session.question
        if found.kind == self.question.kind:
            return
        self.found, self.question = found, _of_kind(self.question, found)
        if not found.use_cache:
            self.session = None
        elif self.session is not None and self.session is not session:
            self.session.question = _of_kind(self.session.question, found)

    @property
    def condensed(self) -> str:
        return "" if self.standalone is None else self.standalone.key.question

    def latency(self, engine_seconds: float = 0.0) -> Latency:
        total = (time.perf_counter() - self.began) * 1000
        return Latency(
            total=total,
            load=self.lookup.load_ms,
            condense=self.condense_ms,
            embed=self.lookup.embed_ms,
            lookup=self.exact_ms + self.lookup.lookup_ms,
            verify=self.lookup.verify_ms,
            engine=engine_seconds * 1000,
            user=total + self.before * 1000,
        )


def _of_kind(question: Question, found: Question) -> Question:
    """The question, whose answer is kept as that to the found one."""
    return replace(
        question,
        kind=found.kind,
        because=found.because,
        lifetime=found.lifetime,
        exact_only=found.exact_only,
    )


def event_of(asked: Asked, now: float) -> QuestionEvent:
    """What the ledger counts. Loading the models, once per process, is not part of the latency."""
    reply, question = asked.reply, asked.question
    latency = asked.latency() if reply is None else reply.latency
    warm_ms = latency.total - latency.load
    if asked.renews and reply is not None:
        return engine_event(now, Outcome.RENEWAL, warm_ms, [reply.answer])
    if reply is None:
        outcome = Outcome.LEFT if asked.unwanted else Outcome.ERROR
        event = QuestionEvent(now, outcome, warm_ms, user_ms=latency.user)
    elif reply.source == "engine":
        bypassed = asked.session is None or question.refresh
        outcome = Outcome.BYPASS if bypassed else Outcome.MISS
        event = engine_event(now, outcome, warm_ms, [reply.answer], user_ms=latency.user)
    else:
        event = QuestionEvent(
            at=now,
            outcome=Outcome(reply.source),
            latency_ms=warm_ms,
            user_ms=latency.user,
            saved_usd=reply.saved_usd,
            waited=asked.waited,
        )
    event = replace(event, kind=question.kind, tenant=question.tenant, model=question.model)
    if reply is None:
        return event
    event = replace(
        event,
        served_prompt_tokens=reply.answer.prompt_tokens,
        served_completion_tokens=reply.answer.completion_tokens,
        steps={} if asked.waited else _steps(latency),
    )
    if reply.shadow is None:
        return event
    return replace(event, shadow=reply.shadow.source, shadow_saved_usd=reply.shadow.saved_usd)


def _steps(latency: Latency) -> dict[str, float]:
    """The steps that were taken, in milliseconds."""
    steps = {name: getattr(latency, name) for name in ("condense", "embed", "lookup", "verify", "engine")}
    return {name: taken for name, taken in steps.items() if taken > 0}
