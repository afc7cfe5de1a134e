"""Writing a request the way both OpenAI's API and Ollama's want it."""

from __future__ import annotations

from llmhost.engines.engine import ChatRequest, Sampling
from llmhost.engines.wire import JsonObject

__all__ = ["chat_fields", "sampling_fields"]


def chat_fields(request: ChatRequest) -> JsonObject:
    """Model, messages, and that the answer is to be streamed."""
    return {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": True,
    }


def sampling_fields(sampling: Sampling, *, max_tokens: str) -> JsonObject:
    """What is given of `sampling`; `max_tokens` is the API's name for the most tokens of an answer."""
    fields = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        max_tokens: sampling.max_tokens,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}
