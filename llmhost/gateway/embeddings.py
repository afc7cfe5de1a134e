"""Embeddings in OpenAI's API and in Ollama's: by the cache's own embedding model or by an engine, as the name
of the model says. Facts: both references.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from collections.abc import Awaitable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from pydantic import Field, TypeAdapter, WithJsonSchema

from llmhost.answering.embedding import embed_by_engine
from llmhost.cache.contracts import EmbeddedText
from llmhost.engines.engine import CHARACTERS_A_TOKEN, EmbedRequest
from llmhost.gateway.exchange import Exchange
from llmhost.gateway.faults import BadRequest, NotFound
from llmhost.gateway.fleets import ServedFleet, ServedFleets
from llmhost.gateway.openai import Body

if TYPE_CHECKING:
    from llmhost.cache.contracts import Vector

__all__ = [
    "EMBED_BODY",
    "OPENAI_BODY",
    "PROMPT_BODY",
    "EmbedBody",
    "Embeddings",
    "OpenAIBody",
    "PromptBody",
    "reply",
]

#: texts of one request
MOST_TEXTS = 2048
#: texts that are embedded before another request has its turn; some 40 ms each where they are long
_SLICE = 8


#: `_texts` checks it, and says of token arrays what to do instead
_Input = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class _EmbeddingBody(Body):
    model: str = Field(min_length=1, max_length=200)
    dimensions: int | None = None


class OpenAIBody(_EmbeddingBody):
    """`/v1/embeddings`."""

    input: _Input
    encoding_format: Literal["float", "base64"] | None = "float"


class EmbedBody(_EmbeddingBody):
    """Ollama's `/api/embed`."""

    input: _Input = None
    truncate: bool | None = True


class PromptBody(_EmbeddingBody):
    """Ollama's older `/api/embeddings`."""

    prompt: str | None = None


OPENAI_BODY = TypeAdapter(OpenAIBody)
EMBED_BODY = TypeAdapter(EmbedBody)
PROMPT_BODY = TypeAdapter(PromptBody)


@dataclass(frozen=True, slots=True)
class _Vectors:
    """The vector of each text, numpy's or a list, and the tokens of all texts."""

    vectors: Sequence[Vector | Sequence[float]]
    tokens: int


class Embeddings:
    """Embeds texts. With the cache's own model, one request's after another's in turns: questions need the
    cores as well. The caller is charged for their tokens.

    Every method returns the JSON text of an answer, and raises NotFound for a model that embeds nothing here,
    BadRequest, ModelError, StateError.
    """

    def __init__(self, fleets: ServedFleets) -> None:
        self._fleets = fleets
        self._turn = asyncio.Lock()

    async def openai(self, body: OpenAIBody, exchange: Exchange) -> bytes:
        texts = _texts(body.input)
        if not texts or "" in texts:
            raise BadRequest("`input` must not be empty", "input")
        embedded = await self._embed(body, texts, exchange, cut=False)

        def written() -> bytes:
            coded = body.encoding_format == "base64"
            data = [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _base64(vector) if coded else vector,
                }
                for index, vector in enumerate(embedded.vectors)
            ]
            usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
            return _dumps({"object": "list", "data": data, "model": body.model, "usage": usage})

        return await asyncio.to_thread(written)

    async def embed(self, body: EmbedBody, exchange: Exchange) -> bytes:
        """Of no text there is no vector: clients load a model so."""
        began = time.perf_counter()
        texts = _texts(body.input if body.input is not None else [])
        texts = [] if body.input == "" else texts
        embedded = await self._embed(body, texts, exchange, cut=body.truncate is not False)
        answer = {
            "model": body.model,
            "embeddings": embedded.vectors,
            "total_duration": int((time.perf_counter() - began) * 1e9),
            "load_duration": 0,
            "prompt_eval_count": embedded.tokens,
        }
        return await asyncio.to_thread(_dumps, answer)

    async def prompt(self, body: PromptBody, exchange: Exchange) -> bytes:
        embedded = await self._embed(body, [body.prompt] if body.prompt else [], exchange, cut=True)
        return _dumps({"embedding": embedded.vectors[0] if embedded.vectors else []})

    async def max_tokens(self, fleet: ServedFleet) -> int:
        """How many tokens of a text the fleet's embedding model reads."""
        assert fleet.embedder is not None  # noqa: S101 - it is found by its embedder's name
        return (await fleet.embedder()).max_tokens

    async def _embed(
        self, body: _EmbeddingBody, texts: Sequence[str], exchange: Exchange, *, cut: bool
    ) -> _Vectors:
        fleets, account = self._fleets.limited_to(exchange.caller.models), exchange.caller.account
        tokens = sum(map(len, texts)) // CHARACTERS_A_TOKEN
        of_cache, fleet = fleets.embedder_of(body.model), fleets.serving(body.model)
        if (fleet := of_cache or fleet) is None:
            there = ", ".join(fleets.embedders) or "none"
            raise NotFound(
                f"the model {body.model!r} gives no embeddings here; those that do: {there}", "model"
            )
        lifetime, is_limited = fleet.config.longest_request, account and account.is_limited
        async with account.holding(tokens, 0.0, lifetime) if account and is_limited else nullcontext():
            if of_cache is not None:
                return await self._by_cache(body, texts, exchange, of_cache, cut=cut)
            return await _by_engine(body, texts, exchange, fleet, cut=cut)

    async def _by_cache(
        self,
        body: _EmbeddingBody,
        texts: Sequence[str],
        exchange: Exchange,
        fleet: ServedFleet,
        *,
        cut: bool,
    ) -> _Vectors:
        assert fleet.embedder is not None  # noqa: S101 - it is found by its embedder's name
        exchange.record.embeds(fleet, exchange.caller.tenant, engine=False)
        _check(texts, fleet.config.limits.max_prompt_chars)
        embedder = await fleet.embedder()
        if body.dimensions not in (None, embedder.dimensions):
            raise BadRequest(f"vectors of {body.model} have {embedder.dimensions} dimensions", "dimensions")
        embedded: list[EmbeddedText] = []
        for start in range(0, len(texts), _SLICE):
            async with self._turn:
                batch = texts[start : start + _SLICE]
                for one in await asyncio.to_thread(embedder.embed_texts, batch, cut=cut):
                    if one is None:
                        raise BadRequest(
                            f"text {len(embedded)} is longer than the {embedder.max_tokens} tokens that "
                            f"{body.model} reads",
                            "input",
                        )
                    embedded.append(one)
        tokens = exchange.record.embedded = sum(one.tokens for one in embedded)
        if exchange.caller.account is not None:
            exchange.caller.account.charge(tokens, 0.0)
        return _Vectors([one.vector for one in embedded], tokens)


async def _by_engine(
    body: _EmbeddingBody, texts: Sequence[str], exchange: Exchange, fleet: ServedFleet, *, cut: bool
) -> _Vectors:
    caller, record = exchange.caller, exchange.record
    record.embeds(fleet, caller.tenant, engine=True)
    _check(texts, fleet.config.limits.max_prompt_chars)
    if not texts:
        return _Vectors([], 0)
    request = EmbedRequest(fleet.model, tuple(texts), body.dimensions, cut)
    charge = None if caller.account is None else caller.account.charge
    vectors, reply = await embed_by_engine(fleet.answerer, request, record.tenant, charge)
    record.saw(reply)
    record.worker = reply.worker
    exchange.headers |= {
        "x-llmhost-cache": "bypass",
        "x-llmhost-worker": reply.worker or "",
        "x-llmhost-cost-usd": f"{reply.cost_usd:.8f}",
    }
    return _Vectors(vectors, reply.answer.prompt_tokens)


async def reply(exchange: Exchange, answer: Awaitable[bytes]) -> None:
    """Replies with what `Embeddings` answers, unless the client is gone before it is done."""
    async with exchange.cancelled_if_gone():
        body = await answer
    await exchange.reply(200, body, {"content-type": "application/json"})


def _texts(given: Any) -> list[str]:
    """The texts of an `input`. Raises BadRequest."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        numbers = isinstance(texts, list) and any(isinstance(one, int | list) for one in texts)
        raise BadRequest(
            "`input` must be a text or a list of texts",
            "input",
            hint="tokens are not read: LangChain sends texts with `check_embedding_ctx_length=False`"
            if numbers
            else None,
        )
    return texts


def _check(texts: Sequence[str], most: int) -> None:
    """Raises BadRequest where there are too many texts, or one has more than `most` characters."""
    if len(texts) > MOST_TEXTS:
        raise BadRequest(f"`input` has {len(texts):,} texts; the limit is {MOST_TEXTS:,}", "input")
    if (longest := max(map(len, texts), default=0)) > most:
        raise BadRequest(f"`input` has a text of {longest:,} characters; the limit is {most:,}", "input")


def _base64(vector: Vector | Sequence[float]) -> str:
    """As OpenAI's own client asks for it: float32, little-endian."""
    if isinstance(vector, Sequence):
        packed = struct.pack(f"<{len(vector)}f", *vector)
    else:
        packed = vector.astype("<f4").tobytes()
    return base64.b64encode(packed).decode()


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
