"""The contract of an engine: an LLM server that streams answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = [
    "CHARACTERS_A_TOKEN",
    "ChatRequest",
    "Completion",
    "Delta",
    "Done",
    "EmbedRequest",
    "Embedded",
    "Endpoint",
    "Engine",
    "EngineLimits",
    "Message",
    "ModelDetails",
    "ModelStatus",
    "Piece",
    "Progress",
    "Sampling",
    "Thought",
    "ToolCall",
    "trace_headers",
]

#: about
CHARACTERS_A_TOKEN = 4
#: an image of middling size is some 1,000 tokens
_IMAGE_CHARACTERS = 4_000

#: headers that tell a server which trace a question belongs to, for all that is done for that question
trace_headers: ContextVar[Mapping[str, str] | None] = ContextVar("trace_headers", default=None)


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a client sent it: `content` is text or a list of parts, None where there was none;
    `fields` holds all its other fields. All of them are JSON values.
    """

    role: str
    content: str | list[Any] | None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; `None` leaves it to the engine."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A text that the model continues as it is: no template of a chat is put around it. With a `suffix`, the
    text between the two is wanted, and the engine adds the tokens that tell its model so.
    """

    prompt: str
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`fields` are further fields of the request body, sent as they are. A `completion` takes the place of
    the messages.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    fields: Mapping[str, Any] = field(default_factory=dict)
    completion: Completion | None = None

    @property
    def contents(self) -> Sequence[str | list[Any] | None]:
        """What the model is to read, in order."""
        if self.completion is not None:
            return self.completion.prompt, self.completion.suffix
        return [message.content for message in self.messages]

    @property
    def prompt_tokens(self) -> int:
        """About how many tokens the model is to read."""
        return sum(map(_characters, self.contents)) // CHARACTERS_A_TOKEN


def _characters(content: str | list[Any] | None) -> int:
    """Of a message, as far as the model reads it: a part that is no text is taken for an image."""
    if not isinstance(content, list):
        return len(content or "")
    texts = [part.get("text") if isinstance(part, dict) else None for part in content]
    return sum(len(text) if isinstance(text, str) else _IMAGE_CHARACTERS for text in texts)


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts of which vectors are wanted; there is at least one. `dimensions` is how many each is to have,
    None for what the model gives. `cut`: of a text that is too long, the beginning will do.
    """

    model: str
    texts: tuple[str, ...]
    dimensions: int | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vector of each text, and the tokens of all of them: 0 where the engine does not count them."""

    vectors: Sequence[Sequence[float]]
    tokens: int


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer's text; never empty. `logprobs` are those of its tokens, in OpenAI's form, where
    they were asked for.
    """

    text: str
    logprobs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of what the model thinks before its answer; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A piece of the call numbered `index`: its first one has `id` and `name`, and the `arguments` of all
    its pieces together are a JSON text.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


Piece = Delta | Thought | ToolCall


@dataclass(frozen=True, slots=True)
class Done:
    """The engine's own end mark. Only ``finish_reason == "stop"`` is a complete answer; ``"prompt_cut"`` is
    one to a part of the prompt, because the whole did not fit the engine's context.

    Token counts are 0 where the engine gave none. `digest` names the weights that were served: empty where
    this engine has no such name, None where it did not tell.
    """

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    digest: str | None = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to reach one worker's engine.

    `certificate` is the PEM of the only one that the worker may show; None leaves it to the authorities
    that this system trusts. `own`: only a program of this user may answer there.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    own: bool = False


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """All times in seconds, `context` in tokens; the configuration has the default values."""

    connect_timeout: float
    first_token_timeout: float
    token_timeout: float
    answer_timeout: float
    max_answer_chars: int
    context: int


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """`present` and `loaded` are None where the engine does not tell. `spilled`: a part of it did not fit on
    the GPU; `on_cpu`: none of it is there."""

    present: bool | None
    loaded: bool | None
    detail: str = ""
    spilled: bool = False
    on_cpu: bool = False


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """What an engine tells of a model; empty where it does not. `size` is in bytes, `on_gpu` those of them on
    the GPU; `capabilities` are Ollama's: completion, tools, vision, thinking; None where it does not tell.
    """

    format: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization: str = ""
    size: int = 0
    on_gpu: int = 0
    capabilities: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of making a model present; `fraction` is 0..1, None while unknown."""

    stage: str
    fraction: float | None = None


class Engine(Protocol):
    """What the pool, `up` and `doctor` need of a worker's LLM server."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[Piece | Done, None]:
        """Streams the answer; the last event is always `Done`. Closing it closes the connection.

        Raises:
            EngineUnavailable: nothing was streamed yet and another worker may be tried.
            EngineRefused: the engine says that the request itself is wrong, or cannot do what it asks.
            StreamBroken: the stream ended, stalled or turned to garbage after the first token.
        """
        ...

    async def embed(self, request: EmbedRequest) -> Embedded:
        """The vectors of texts.

        Raises:
            EngineUnavailable: another worker may be tried.
            EngineRefused: the engine says that the request itself is wrong, or it gives no embeddings.
        """
        ...

    async def model_status(self, model: str) -> ModelStatus:
        """Whether the model is there and loaded. Raises EngineUnavailable, EngineRefused."""
        ...

    async def model_details(self, model: str) -> ModelDetails:
        """What the server tells of the model. Raises EngineUnavailable, EngineRefused."""
        ...

    async def ensure_model(self, model: str, on_progress: Callable[[Progress], None]) -> None:
        """Makes the model present, or raises EngineRefused where the engine cannot fetch it."""
        ...

    async def version(self) -> str:
        """The server's own version, or an empty string where it does not tell. Raises EngineUnavailable."""
        ...

    async def aclose(self) -> None:
        """Closes connections. Asking twice is fine."""
        ...
