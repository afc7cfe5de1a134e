"""The limits of an engine in tests; `replace` makes some of them short."""

from __future__ import annotations

from llmhost.engines.engine import EngineLimits

LIMITS = EngineLimits(
    connect_timeout=5.0,
    first_token_timeout=60.0,
    token_timeout=30.0,
    answer_timeout=300.0,
    max_answer_chars=400_000,
    context=4096,
)
