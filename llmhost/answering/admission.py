"""May this question be asked and cached, and in which scope? Pure."""

from __future__ import annotations

from dataclasses import asdict

from llmhost.answering.question import Question
from llmhost.cache.keys import CacheKey, cache_key, scope_id
from llmhost.errors import UsageError

__all__ = ["admit"]


def admit(question: Question, max_prompt_chars: int) -> CacheKey:
    """The question's place in the cache.

    Raises:
        UsageError: it is empty, or longer than the limit with its system prompt and earlier turns.
    """
    if not question.prompt.strip():
        raise UsageError("the question is empty", hint='ask like this: llmhost ask "What is Redis?"')
    length = len(question.prompt) + len(question.system or "") + sum(len(m.content) for m in question.history)
    if length > max_prompt_chars:
        raise UsageError(
            f"the question has {length:,} characters; the limit is {max_prompt_chars:,}",
            hint="shorten it, or raise `limits.max_prompt_chars`",
        )
    return cache_key(_scope(question), question.prompt)


def _scope(question: Question) -> str:
    return scope_id(
        {
            "tenant": question.tenant,
            "model": question.model,
            "system": question.system,
            "history": [[message.role, message.content] for message in question.history],
            "sampling": asdict(question.sampling),
        }
    )
