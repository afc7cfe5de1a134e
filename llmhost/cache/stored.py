"""Answers as they are stored in Redis, and told to the processes that wait for them.

JSON, which is compressed for storage: 1,000 characters of English take 0.5 KB. What is read is checked:
others can write there too.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from llmhost.cache.models import Answer

__all__ = ["decode_answer", "encode_answer", "pack_answer"]

#: answers that are remembered, and the bytes of the longest of them
_REMEMBERED, _REMEMBERED_BYTES = 1000, 4096
#: larger than any time in seconds, any count of tokens and any sum of money here
_LARGEST = 1e15
#: bytes; no answer is longer, and what would unpack to more was not written by us
_LONGEST = 64 * 1024 * 1024

#: before a compressed text; JSON begins with a brace
_PACKED = b"\x01"


@cache
def _common() -> bytes:
    """What texts have in common, the most frequent last. It is part of the format: another one needs another
    mark before the text. Measured on 1,000 characters in 1.2 KB of JSON: plain deflate leaves 685 bytes, this
    570; zstd with a dictionary of 32 KB, trained for such texts, a tenth less, for a package more."""
    return resources.files(__package__).joinpath("common.txt").read_bytes()


def encode_answer(answer: Answer) -> str:
    """The answer as JSON."""
    return json.dumps(
        {
            "response": answer.text,
            "model": answer.model,
            "timestamp": answer.timestamp,
            "tokens": {"prompt": answer.prompt_tokens, "completion": answer.completion_tokens},
            "finish_reason": answer.finish_reason,
            "engine_seconds": answer.engine_seconds,
            "cost_usd": answer.cost_usd,
            "worker": answer.worker,
            "machine": answer.machine,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def pack_answer(answer: Answer) -> bytes:
    """The value of `{ns}:response:{entry}`. Digits that nobody reads are left out: they do not compress."""
    rounded = replace(
        answer,
        timestamp=round(answer.timestamp, 3),
        engine_seconds=round(answer.engine_seconds, 4),
        cost_usd=round(answer.cost_usd, 9),
    )
    text = encode_answer(rounded).encode("utf-8", "replace")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zdict=_common())
    packed = _PACKED + packer.compress(text) + packer.flush()
    return min(packed, text, key=len)


def decode_answer(raw: bytes | str | None) -> Answer | None:
    """The answer, packed or not, or None where there is none or something else is stored there."""
    if raw is None:
        return None
    return _read(raw) if len(raw) <= _REMEMBERED_BYTES else _read.__wrapped__(raw)


@lru_cache(_REMEMBERED)
def _read(raw: bytes | str) -> Answer | None:
    """Answers that are served often are remembered as they were read."""
    try:
        data = json.loads(_unpack(raw))
        return Answer(
            text=_text(data["response"]),
            model=_text(data["model"]),
            timestamp=_number(data["timestamp"]),
            prompt_tokens=int(_number(data["tokens"]["prompt"])),
            completion_tokens=int(_number(data["tokens"]["completion"])),
            finish_reason=_text(data["finish_reason"]),
            engine_seconds=_number(data["engine_seconds"]),
            cost_usd=_number(data["cost_usd"]),
            worker=_text(data.get("worker", "")),
            machine=_text(data.get("machine", "")),
        )
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error):
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


def _unpack(raw: bytes | str) -> bytes | str:
    if isinstance(raw, str) or not raw.startswith(_PACKED):
        return raw
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_common())
    text = unpacker.decompress(raw[1:], _LONGEST)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("not a whole text")
    return text
