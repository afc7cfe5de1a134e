"""Entries as they are stored in Redis: a question and its answer in one value.

JSON, which is compressed: 1,000 characters of English take 0.6 KB. What is read is checked: others can write
there too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from llmhost.cache.keys import cache_key
from llmhost.cache.models import Answer
from llmhost.store.client import text, translate_errors
from llmhost.store.cluster import raise_lost
from llmhost.store.keys import NamespaceKeys
from llmhost.store.reads import SharedReads

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = [
    "StoredEntry",
    "answer_of",
    "checked_answer",
    "decode_answer",
    "decode_entry",
    "encode_answer",
    "pack_entry",
    "read_entries",
]

#: entries that are remembered as they were read, and the bytes of the longest of them
_REMEMBERED, _REMEMBERED_BYTES = 1000, 4096
#: larger than any time in seconds, any count of tokens and any sum of money here
_LARGEST = 1e15
#: bytes; no entry is longer, and what would unpack to more was not written by us
_LONGEST = 64 * 1024 * 1024

#: before a compressed text; JSON begins with a brace
_PACKED = b"\x01"


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A question and its answer. `embedder` and `dimensions` are those of the index that has the question,
    empty and 0 where none has. `question` is None in what an older llmhost stored: it kept it elsewhere.
    """

    question: str | None
    scope: str
    embedder: str
    dimensions: int
    answer: Answer
    #: of what was read, the name of the entry of this question in this scope
    name: str = field(default="", compare=False)


def encode_answer(answer: Answer) -> str:
    """The answer alone, as JSON."""
    return _json(_fields(answer))


def decode_answer(raw: bytes | str | None) -> Answer | None:
    """The answer of `encode_answer` or `pack_entry`, or None where there is none or something else."""
    entry = decode_entry(raw)
    return None if entry is None else entry.answer


def answer_of(raw: bytes | str | None, name: str) -> Answer | None:
    """The answer in the value of `{ns}:response:{name}`. What lies there and belongs to another question, or
    to another scope, is none; of an older llmhost's it is not known."""
    entry = decode_entry(raw)
    return entry.answer if entry is not None and entry.name in ("", name) else None


def checked_answer(fields: Any) -> Answer | None:
    """The answer with these fields, those of `encode_answer`; None where one is missing or wrong."""
    try:
        return _answer(fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def pack_entry(entry: StoredEntry) -> bytes:
    """The value of `{ns}:response:{entry}`. Numbers are rounded: digits do not compress."""
    answer = entry.answer
    rounded = replace(
        answer,
        text=_readable(answer.text),
        timestamp=round(answer.timestamp, 3),
        engine_seconds=round(answer.engine_seconds, 4),
        cost_usd=round(answer.cost_usd, 9),
    )
    facts = {
        "question": entry.question,
        "scope": entry.scope,
        "embedder": entry.embedder,
        "dimensions": entry.dimensions,
    }
    # What is no character of UTF-8 is written as JSON can: the name of the entry is made of it.
    plain = _json(facts | _fields(rounded)).encode("utf-8", "backslashreplace")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zdict=_common())
    packed = _PACKED + packer.compress(plain) + packer.flush()
    return min(packed, plain, key=len)


def decode_entry(raw: bytes | str | None) -> StoredEntry | None:
    """The entry, packed or not, or None where there is none or something else is stored there."""
    if raw is None:
        return None
    return _read(raw) if len(raw) <= _REMEMBERED_BYTES else _read.__wrapped__(raw)


async def read_entries(
    client: Redis, keys: NamespaceKeys, names: Sequence[str], *, reads: SharedReads | None = None
) -> list[StoredEntry | None]:
    """What is stored under these names, in one round trip; a second one where an older llmhost stored some.
    With `reads`, to be served: by these, and an entry under another one's name is none. Raises StoreError."""
    if not names:
        return []
    with translate_errors():
        responses = [keys.response(name) for name in names]
        raws = await client.mget(responses) if reads is None else await reads.get_all(responses)
        found = [decode_entry(raw) for raw in raws]
        older = [at for at, entry in enumerate(found) if entry is not None and entry.question is None]
        if older:
            pipeline = client.pipeline(transaction=False)
            for at in older:
                pipeline.hmget(keys.embedding(names[at]), ["question", "scope", "embedder", "vector"])
            answers = await pipeline.execute(raise_on_error=False)
            raise_lost(answers)
            for at, facts in zip(older, answers, strict=True):
                found[at] = None if isinstance(facts, Exception) else _completed(found[at], facts)
    return [
        _with_readable_question(entry)
        if entry is not None and (reads is None or entry.name == name)
        else None
        for name, entry in zip(names, found, strict=True)
    ]


def _with_readable_question(entry: StoredEntry) -> StoredEntry | None:
    question = entry.question
    if question is None or question.isascii():
        return entry if question is not None else None
    return replace(entry, question=_readable(question))


def _completed(entry: StoredEntry | None, facts: Sequence[bytes | None]) -> StoredEntry | None:
    """With what an older llmhost kept beside the answer: question, scope, and a vector of float32."""
    question, scope, embedder, vector = facts
    if entry is None or question is None:
        return None
    return replace(
        entry,
        question=text(question),
        scope=text(scope or b""),
        name=cache_key(text(scope or b""), text(question)).entry,
        embedder=text(embedder or b""),
        dimensions=len(vector or b"") // 4,
    )


@cache
def _common() -> bytes:
    """What entries have in common, the most frequent last. It is part of the format: another one needs
    another mark before the text. Measured on 1,000 characters in 1.2 KB of JSON: plain deflate leaves 685
    bytes, this 570; zstd with a dictionary of 32 KB, trained for such texts, a tenth less and a package more.
    """
    return resources.files(__package__).joinpath("common.txt").read_bytes()


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _fields(answer: Answer) -> dict[str, Any]:
    stale = {} if answer.fresh_until is None else {"fresh_until": round(answer.fresh_until, 3)}
    return stale | {
        "response": answer.text,
        "model": answer.model,
        "timestamp": answer.timestamp,
        "tokens": {"prompt": answer.prompt_tokens, "completion": answer.completion_tokens},
        "finish_reason": answer.finish_reason,
        "engine_seconds": answer.engine_seconds,
        "cost_usd": answer.cost_usd,
        "worker": answer.worker,
        "machine": answer.machine,
    }


@lru_cache(_REMEMBERED)
def _read(raw: bytes | str) -> StoredEntry | None:
    """Entries that are served often are remembered as they were read."""
    try:
        data = json.loads(_unpack(raw))
        answer = _answer(data)
        question, scope = data.get("question"), _text(data.get("scope", ""))
        return StoredEntry(
            question=None if question is None else _text(question),
            scope=scope,
            embedder=_text(data.get("embedder", "")),
            dimensions=int(_number(data.get("dimensions", 0))),
            answer=answer,
            name="" if question is None else cache_key(scope, question).entry,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error):
        return None


def _answer(data: Any) -> Answer:
    fresh_until = data.get("fresh_until")
    return Answer(
        text=_readable(_text(data["response"])),
        model=_text(data["model"]),
        timestamp=_number(data["timestamp"]),
        prompt_tokens=int(_number(data["tokens"]["prompt"])),
        completion_tokens=int(_number(data["tokens"]["completion"])),
        finish_reason=_text(data["finish_reason"]),
        engine_seconds=_number(data["engine_seconds"]),
        cost_usd=_number(data["cost_usd"]),
        worker=_text(data.get("worker", "")),
        machine=_text(data.get("machine", "")),
        fresh_until=None if fresh_until is None else _number(fresh_until),
    )


def _unpack(raw: bytes | str) -> bytes | str:
    if isinstance(raw, str) or not raw.startswith(_PACKED):
        return raw
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_common())
    plain = unpacker.decompress(raw[1:], _LONGEST)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("not a whole text")
    return plain


def _readable(value: str) -> str:
    """The text, with a question mark for each surrogate by itself, which no client could be sent."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


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
