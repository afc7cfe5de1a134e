"""Which kind of request an engine refuses, by its own words: clients are told of it in ours, which show
nothing of the worker.

Facts: the texts of llama.cpp's server, Ollama and vLLM. Our words are recognized, too: a worker may have a
gateway of its own.
"""

from __future__ import annotations

import re

from llmhost.errors import ContextExceeded, EngineRefused

__all__ = ["refusal_of"]

_TOKENS, _MOST = r"(?P<tokens>\d{1,9})", r"(?P<most>\d{1,9})"
#: a prompt that does not fit; some engines say how many tokens it has, and how many fit
_TOO_LONG = tuple(
    re.compile(words.replace("TOKENS", _TOKENS).replace("MOST", _MOST), re.IGNORECASE)
    for words in (
        r"\(TOKENS tokens\) (?:exceeds the available|is larger than the max) context size \(MOST tokens\)",
        r"\(TOKENS tokens\) is too large to process.*batch size: MOST\)",
        r"\bTOKENS tokens > MOST maximum",
        r"maximum context length is MOST tokens",
        r"(?:exceeds?|larger than) (?:the )?(?:available |maximum |max )?context (?:size|length|window)",
        r"too large to process|prompt is too long|maximum context length is exceeded",
    )
)

_UNSUPPORTED = {
    "tools": r"not support tools|(?:tools|tool_choice) param requires|tool choice requires",
    "thinking": r"not support thinking",
    "images": r"not support (?:images|vision|multimodal)|image input is not supported"
    r"|not a multimodal model|missing data required for image input",
    "audio": r"not support audio|audio input is not supported",
    "video": r"not support video|video input is not supported",
    "insert": r"not support insert|infill is not supported",
    "embeddings": r"not support embedding",
    "chat": r"not support chat",
}

#: a value of a field that says how tokens are drawn, or how many
_FIELD = (
    r"temperature|top_[pk]|min_p|typical_p|seed|max_(?:completion_)?tokens|num_predict|num_ctx|stop"
    r"|repeat_last_n|(?:repeat|repetition|presence|frequency)_penalty|logit_bias|(?:top_)?logprobs"
)
_MUST_BE = (
    r"another value|of type|in|between|at (?:least|most)|greater|less|larger|smaller|positive|non-?negative"
    r"|one of|an? (?:number|integer|float|string|array|list)|[<>=\d-]"
)
_VALUE = re.compile(rf"\b({_FIELD})[\"'`]? (?:or [a-z_\"'`]+ )?(?:is too large|must be (?:{_MUST_BE}))")

_FORMAT = re.compile(
    r"parse grammar|schema conversion failed|invalid (?:JSON )?schema"
    r"|(?:^|answer's |[\"'`])(?:response_)?format[\"'`]? is invalid",
    re.IGNORECASE,
)
#: about the worker, whatever else is said
_WORKER = re.compile(r"\bload(?:ing)? (?:the )?model\b", re.IGNORECASE)


def refusal_of(said: str) -> EngineRefused | None:
    """Our error for what an engine said of a request; None where it is of no kind that is known."""
    if _WORKER.search(said):
        return None
    if found := _VALUE.search(said):  # some say how long the context is, too
        return EngineRefused(f"`{found[1]}` must be another value for this engine", said=said)
    for pattern in _TOO_LONG:
        if found := pattern.search(said):
            return ContextExceeded(_too_long(**found.groupdict()), said=said)
    for what, words in _UNSUPPORTED.items():
        if re.search(words, said, re.IGNORECASE):
            return EngineRefused(f"this model does not support {what}", said=said)
    if _FORMAT.search(said):
        return EngineRefused("the schema or grammar of the answer's format is invalid", said=said)
    return None


def _too_long(tokens: str | None = None, most: str | None = None) -> str:
    """Clients look for "prompt is too long", "tokens > … maximum" or "this model's maximum context length
    is" before they shorten a conversation."""
    count = f"{tokens} tokens > {most} maximum; " if tokens else ""
    length = f"{most} tokens" if most else "exceeded"
    return f"the prompt is too long: {count}this model's maximum context length is {length}"
