"""What is known of one request while it is answered: figures, and nothing of what was asked or answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from llmhost.answering.question import Question, Reply, Started

if TYPE_CHECKING:
    from starlette.types import Scope

    from llmhost.answering.question import Event
    from llmhost.gateway.fleets import ServedFleet

__all__ = ["APIS", "Operation", "Outcome", "RequestRecord", "record_of"]

Outcome = Literal["exact", "semantic", "miss", "bypass", "error", "gone", "none"]
Operation = Literal["chat", "text_completion", "embeddings"]

#: what asks a model, by path: its name in figures, and the operation as OpenTelemetry calls it
APIS: dict[str, tuple[str, Operation]] = {
    "/v1/chat/completions": ("openai.chat", "chat"),
    "/v1/completions": ("openai.completions", "text_completion"),
    "/v1/responses": ("openai.responses", "chat"),
    "/v1/embeddings": ("openai.embeddings", "embeddings"),
    "/v1/messages": ("anthropic.messages", "chat"),
    "/api/chat": ("ollama.chat", "chat"),
    "/api/generate": ("ollama.generate", "text_completion"),
    "/api/embed": ("ollama.embed", "embeddings"),
    "/api/embeddings": ("ollama.embeddings", "embeddings"),
    "/llmhost/ask": ("command.ask", "chat"),
}

_KEY = "llmhost.record"


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One request. `at` is when it came, Unix seconds; all other times are seconds since then.

    `kind` is the question's. `model` and `engine` are the configured names of what answers, empty where no
    model was found. `status` is that of the answer, `error` that of what went wrong, which in a stream comes
    after status 200. `first` is when the first piece of the answer came, `seconds` when all was said. `gone`:
    the client left.
    """

    at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.perf_counter)
    id: str = ""
    path: str = ""
    fleet: str = ""
    model: str = ""
    engine: str = ""
    tenant: str = ""
    kind: str = ""
    bypasses: bool = False
    status: int | None = None
    error: int | None = None
    gone: bool = False
    worker: str | None = None
    first: float | None = None
    seconds: float = 0.0
    replies: list[Reply] = field(default_factory=list)
    #: tokens of texts that the cache's model has embedded
    embedded: int = 0
    #: its name in traces, where they are on
    trace: object = None

    @property
    def api(self) -> str:
        """The name of the route in figures; `other` is all that asks no model."""
        return APIS[self.path][0] if self.path in APIS else "other"

    @property
    def operation(self) -> Operation | None:
        return APIS[self.path][1] if self.path in APIS else None

    @property
    def outcome(self) -> Outcome:
        """What came of it; `none` where nothing was asked that the cache or an engine answers."""
        if self.error is not None or (self.status or 0) >= 400:
            return "error"
        if not self.replies:
            return "gone" if self.gone else "none"
        source = self.replies[0].source
        return source if source != "engine" else ("bypass" if self.bypasses else "miss")

    @property
    def shadow(self) -> Reply | None:
        """The hit that was not served."""
        return self.replies[0].shadow if self.replies else None

    def asks(self, fleet: ServedFleet, questions: Sequence[Question]) -> None:
        """These questions are asked now."""
        config, question = fleet.config, questions[0]
        self.fleet, self.model, self.engine = config.fleet.name, fleet.model, config.engine.kind
        self.tenant, self.kind, self.bypasses = question.tenant, question.kind, question.bypasses

    def embeds(self, fleet: ServedFleet, tenant: str | None, *, engine: bool) -> None:
        """Texts become vectors now, by the fleet's engine, or by the embedding model of its cache."""
        config = fleet.config
        self.fleet, self.tenant = config.fleet.name, tenant or config.cache.tenant
        self.model, self.engine = fleet.embedder_names[0], "llmhost"
        if engine:
            self.model, self.engine, self.bypasses = fleet.model, config.engine.kind, True

    def saw(self, event: Event) -> None:
        """Something came of an answer."""
        if isinstance(event, Reply):
            self.replies.append(event)
            self._settle(event.found)
        elif isinstance(event, Started):
            self.worker = self.worker or event.worker
            self._settle(event.found)
        elif self.first is None:
            self.first = time.perf_counter() - self.began

    def _settle(self, found: Question | None) -> None:
        if found is not None:
            self.kind, self.bypasses = found.kind, found.bypasses

    def ends(self, path: str) -> None:
        self.path, self.seconds = path, time.perf_counter() - self.began


def record_of(scope: Scope) -> RequestRecord:
    """The record of this request, which is made where it has none."""
    record: RequestRecord | None = scope.get(_KEY)
    if record is None:
        record = scope[_KEY] = RequestRecord()
    return record
