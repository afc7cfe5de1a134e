"""Answers as they lie in Redis. What comes back is checked: others can write there too. Pure."""

from __future__ import annotations

import json
from typing import Any

from llmhost.cache.models import Answer

__all__ = ["decode_answer", "encode_answer"]

#: larger than any time in seconds, any count of tokens and any sum of money here
_LARGEST = 1e15


def encode_answer(answer: Answer) -> str:
    """The JSON text of `{ns}:response:{entry}`."""
    return json.dumps(
        {
            "response": answer.text,
            "model": answer.model,
            "timestamp": answer.timestamp,
            "tokens": {"prompt": answer.prompt_tokens, "completion": answer.completion_tokens},
            "finish_reason": answer.finish_reason,
            "engine_seconds": answer.engine_seconds,
            "cost_usd": answer.cost_usd,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def decode_answer(raw: bytes | str | None) -> Answer | None:
    """The answer, or None where there is none or something else lies there."""
    if raw is None:
        return None
    try:
        data = json.loads(raw)
        return Answer(
            text=_text(data["response"]),
            model=_text(data["model"]),
            timestamp=_number(data["timestamp"]),
            prompt_tokens=int(_number(data["tokens"]["prompt"])),
            completion_tokens=int(_number(data["tokens"]["completion"])),
            finish_reason=_text(data["finish_reason"]),
            engine_seconds=_number(data["engine_seconds"]),
            cost_usd=_number(data["cost_usd"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    if not 0 <= value <= _LARGEST:
        raise ValueError("not a sensible number")
    return value
