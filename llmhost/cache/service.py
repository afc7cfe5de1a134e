"""The cache on the path of a question: exact tier, semantic tier, store.

`catalog.py` is the other half, for people who look into the cache and correct it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

from llmhost.cache.calibration import Calibration, Label
from llmhost.cache.contracts import Embedder, Index
from llmhost.cache.keys import CacheKey
from llmhost.cache.limits import CacheLimits
from llmhost.cache.models import (
    Answer,
    CacheDecision,
    Candidate,
    Hit,
    Judge,
    Neighbour,
    SemanticLookup,
    Served,
)
from llmhost.cache.policy import CachePolicy, judged
from llmhost.cache.stored import StoredEntry, answer_of, pack_entry, read_entries
from llmhost.errors import StoreError
from llmhost.store.client import all_ended, is_sharded, load_script, translate_errors
from llmhost.store.keys import NamespaceKeys
from llmhost.store.reads import SharedReads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from redis.asyncio import Redis

__all__ = ["SemanticCache"]

#: characters; some 50 tokens, over which the default model holds up this process's other work for 5 ms
_EMBEDDED_HERE = 200
#: characters; the small verifier reads two such questions in some 5 ms
_JUDGED_HERE = 200
_UNREADABLE = "the embedding model cannot read all of the question"
#: turns of the event loop in which what was begun before is sent to Redis, which then works meanwhile
_TURNS_TO_SEND = 7
#: questions; where that many of the nearest have expired, the next one is no loss
_WIDEST = 512
#: scopes of which this process remembers that they have entries
_MOST_FILLED = 4096
#: entries served to other wordings that are listed for a tenant; one page of them is looked at
_SERVED_KEPT = 100
#: entries on which one script counts hits: Redis answers no other client meanwhile
_TOUCHED_AT_ONCE = 100

EmbedderSource = Callable[[], Awaitable[tuple[Embedder, Index]]]
PolicySource = Callable[[], Awaitable[CachePolicy]]
CalibrationSource = Callable[[], Awaitable[Calibration]]
Learn = Callable[[Label], Awaitable[None]]


async def _untaught() -> Calibration:
    return Calibration()


@dataclass(eq=False)
class SemanticCache:
    """Answers by question.

    `embedder_source` and `policy_source` are called when the first question must be embedded, so that an
    exact hit loads no model. The policy is shown at most `candidates` questions. `calibration` gives what the
    fleet's labels have taught; `judge` None: there is no judge for the grey zone; `learn` gets each of
    its verdicts as a label. Lifetimes in seconds; `stale_for` is how long an answer is kept after its own.

    Every method raises StoreError where Redis is away or will not write, and ModelError where a model cannot
    be had.
    """

    client: Redis
    keys: NamespaceKeys
    _: KW_ONLY
    embedder_source: EmbedderSource
    policy_source: PolicySource
    candidates: int
    response_ttl: float
    embedding_ttl: float
    stale_for: float = 0.0
    calibration: CalibrationSource = _untaught
    judge: Judge | None = None
    learn: Learn | None = None
    limits: CacheLimits | None = None

    def __post_init__(self) -> None:
        self._touch = self.client.register_script(load_script("llmhost.cache", "touch.lua"))
        self._remember = self.client.register_script(load_script("llmhost.cache", "served.lua"))
        self._answers = SharedReads(self.client)
        #: what the sources gave; one that fails is asked again
        self._loaded: tuple[Embedder, Index, CachePolicy] | None = None
        #: scopes that had entries when they were last looked at, the newest last
        self._filled: dict[str, None] = {}

    async def exact(self, key: CacheKey) -> Answer | None:
        """The answer to the same question in the same scope."""
        with translate_errors():
            return answer_of(await self._answers.get(self.keys.response(key.entry)), key.entry)

    async def semantic(
        self,
        key: CacheKey,
        threshold: float | None = None,
        *,
        alone: bool = True,
        usable: Callable[[Answer], bool] = lambda _: True,
        refused: Callable[[NDArray[np.float32]], str] = lambda _: "",
    ) -> SemanticLookup:
        """The answer to another wording of the question in the same scope, as the policy judges it. `alone`
        False: the event loop has other questions, which must not wait while the models work. Answers that are
        not `usable`, being too old, hide no others. `refused` says why a question with this vector has no
        answer, "" where it may have one.
        """
        asked = time.perf_counter()
        if self._loaded is None:
            loading: list[Awaitable[Any]] = [self.embedder_source(), self.policy_source()]
            sources, policy = await all_ended(loading)
            self._loaded = (*sources, policy)
        embedder, index, policy = self._loaded
        begun = time.perf_counter()
        read = await self._read(index, embedder, key, alone)
        if read is None:
            reason = "no question of this scope is stored"
            return SemanticLookup(
                reason=reason, load_ms=_ms(asked, begun), lookup_ms=_ms(begun, time.perf_counter())
            )
        calibration, vector = read
        embedded = time.perf_counter()
        reason = _UNREADABLE if vector is None else refused(vector)
        if vector is None or reason:
            return SemanticLookup(
                reason=reason, vector=vector, load_ms=_ms(asked, begun), embed_ms=_ms(begun, embedded)
            )
        found = await self._alive(index, key.scope, vector, policy.floor(threshold), usable)
        looked_up = time.perf_counter()
        decision = await self._decide(policy, key, found, threshold, calibration, alone)
        return SemanticLookup(
            served=decision.candidate,
            nearest=found[0] if found else None,
            confidence=decision.confidence,
            reason=decision.reason,
            verdict=decision.verdict,
            verdicts=decision.verdicts,
            vector=vector,
            load_ms=_ms(asked, begun),
            embed_ms=_ms(begun, embedded),
            lookup_ms=_ms(embedded, looked_up),
            verify_ms=_ms(looked_up, time.perf_counter()),
        )

    async def _read(
        self, index: Index, embedder: Embedder, key: CacheKey, alone: bool
    ) -> tuple[Calibration, NDArray[np.float32] | None] | None:
        """What the look-up needs: what labels have taught, and the question's vector. None where its scope
        has no entries, as of the next turn of a conversation: it is not embedded before it is answered.
        """
        wanted: list[Awaitable[Any]] = [index.prepare(key.scope), self.calibration()]
        embeds_beside = key.scope in self._filled
        if embeds_beside:  # last, so that Redis works on the others meanwhile
            wanted.append(_embed(embedder, key.question, alone))
        has_entries, calibration, *vector = await all_ended(wanted)
        self._note(key.scope, filled=has_entries)
        if not has_entries:
            return None
        return calibration, vector[0] if embeds_beside else await _embed(embedder, key.question, alone)

    def _note(self, scope: str, *, filled: bool) -> None:
        self._filled.pop(scope, None)
        if filled:
            self._filled[scope] = None
            if len(self._filled) > _MOST_FILLED:
                del self._filled[next(iter(self._filled))]

    async def _decide(
        self,
        policy: CachePolicy,
        key: CacheKey,
        found: Sequence[Candidate],
        threshold: float | None,
        calibration: Calibration,
        alone: bool,
    ) -> CacheDecision:
        """The policy's decision; where it leaves the decision to the judge, the judge's."""
        longest = max(len(read) for read in (key.question, *(one.question for one in found)))
        if not alone or policy.slow or longest > _JUDGED_HERE:
            decision = await asyncio.to_thread(policy.decide, key.question, found, threshold, calibration)
        else:
            decision = policy.decide(key.question, found, threshold, calibration)
        if decision.action != "judge" or decision.candidate is None:
            return decision
        if self.judge is None:
            raise AssertionError("a policy asked for a judge that there is not")
        judgement = await self.judge.judge(key.scope, key.question, decision.candidate.question)
        same, verdict = judgement.same, decision.verdict
        raw = (
            None if verdict is None or judgement.remembered else verdict.raw
        )  # a label once, when it is given
        if self.learn and verdict is not None and same is not None and raw is not None:
            await self.learn(Label("judge", same, raw, verdict.doubts))
        return judged(decision, judgement)

    async def embed(self, key: CacheKey) -> NDArray[np.float32] | None:
        """The question's vector, shape (dimensions,); None where it is longer than the model reads."""
        embedder, _ = await self.embedder_source()
        return await _embed(embedder, key.question, alone=False)

    async def store(
        self,
        key: CacheKey,
        answer: Answer,
        vector: NDArray[np.float32] | None,
        lifetime: float | None = None,
    ) -> None:
        """Keeps a complete answer, for `lifetime` seconds where that is not `response_ttl`; without a vector
        only the same wording will find it.

        Answer, index and limits are written at once. A search that finds an entry before its answer is there
        takes it out of the index: then, as after a crash in between, or where the index is full or damaged,
        the same wording still finds the answer.
        """
        steps: list[Awaitable[Any]] = []
        if vector is None:
            packed = self._packed(key, answer, "", 0, lifetime)
            size = len(packed)
        else:
            embedder, index = await self.embedder_source()
            packed = self._packed(key, answer, embedder.id, len(vector), lifetime)
            size = len(packed) + index.bytes_per_entry
            steps.append(index.add(key.scope, key.entry, vector))
        steps.insert(0, self._write(key, packed, lifetime))
        too_many: list[str] = []

        async def note(limits: CacheLimits) -> None:
            too_many.extend(await limits.stored(key.entry, size, answer.timestamp))

        if self.limits is not None:
            steps.append(note(self.limits))
        try:
            await all_ended(steps)
        finally:  # they are noted no more, whatever else failed
            if self.limits is not None and too_many:
                embedder, index = await self.embedder_source()
                await self.limits.evict(too_many, embedder.id, index)

    async def touch(self, *hits: Hit) -> None:
        """Counts hits on their entries. Semantic ones are remembered with the question that was asked, so
        that an operator can say that they were wrong."""
        count = Counter(hit.entry for hit in hits)
        last = {hit.entry: hit.at for hit in hits}
        parts = _parts(list(last), 1 if is_sharded(self.client) else _TOUCHED_AT_ONCE)
        with translate_errors():
            await all_ended(
                self._touch(
                    keys=[name for entry in part for name in self._counted(entry)],
                    args=[self._lifetime_ms, *(v for entry in part for v in (count[entry], last[entry]))],
                )
                for part in parts
            )
            for hit in hits:
                if hit.served is not None:
                    await self._remember_served(hit, hit.served)
        if self.limits is not None and last:
            await self.limits.used(last.items())

    async def _remember_served(self, hit: Hit, served: Served) -> None:
        raw = "" if served.verdict.raw is None else repr(served.verdict.raw)
        args = [str(self._lifetime_ms), "served_raw", raw, "served_doubts", ",".join(served.verdict.doubts)]
        args += ["served_question", served.question.encode("utf-8", "replace").decode()]
        if await self._remember(keys=self._counted(hit.entry), args=args):
            listed = self.keys.served(
                *astuple(served.asker)
            )  # on a cluster, on another server than the entry
            pipeline = self.client.pipeline(transaction=True)
            pipeline.zadd(listed, {hit.entry: hit.at})
            pipeline.zremrangebyrank(listed, 0, -1 - _SERVED_KEPT)
            pipeline.pexpire(listed, self._lifetime_ms)
            await pipeline.execute()

    def _counted(self, entry: str) -> tuple[str, str]:
        return self.keys.response(entry), self.keys.metadata(entry)

    @property
    def _lifetime_ms(self) -> int:
        """What was counted of an entry is kept for so long, since the last of it."""
        return round(self.embedding_ttl * 1000)

    async def count_audit(self, entry: str, *, right: bool) -> None:
        """Counts what an audit found about the entry; one that is gone stays gone."""
        count = self.client.register_script(load_script("llmhost.cache", "audited.lua"))
        with translate_errors():
            field = "accepted" if right else "rejected"
            await count(keys=self._counted(entry), args=[field, self._lifetime_ms])

    async def _alive(
        self,
        index: Index,
        scope: str,
        vector: NDArray[np.float32],
        floor: float,
        usable: Callable[[Answer], bool],
    ) -> list[Candidate]:
        """The nearest questions that still have a usable answer. Those that have none hide no other: they are
        taken out of the index."""
        k = self.candidates
        while True:
            neighbours = await index.search(scope, vector, k)
            near = [neighbour for neighbour in neighbours if neighbour.similarity >= floor]
            found = await self._candidates_of(scope, near)
            alive = {candidate.entry for candidate in found}
            if gone := [neighbour.entry for neighbour in near if neighbour.entry not in alive]:
                with suppress(StoreError):  # the next search that finds them tries again
                    await index.remove(scope, gone)
            found = [candidate for candidate in found if usable(candidate.answer)]
            if found or len(near) < k or k >= _WIDEST:
                return found[: self.candidates]
            k *= 4

    async def _candidates_of(self, scope: str, neighbours: Sequence[Neighbour]) -> list[Candidate]:
        """The neighbours that still have an answer in this scope, in their order; whatever the index says, an
        answer never leaves its scope."""
        names = [near.entry for near in neighbours]
        entries = await read_entries(self.client, self.keys, names, reads=self._answers)
        return [
            Candidate(near.entry, entry.question, near.similarity, entry.answer)
            for near, entry in zip(neighbours, entries, strict=True)
            if entry is not None and entry.question is not None and entry.scope == scope
        ]

    def _packed(
        self, key: CacheKey, answer: Answer, embedder: str, dimensions: int, lifetime: float | None
    ) -> bytes:
        """The entry as it is stored; `embedder` is empty where the index does not have it."""
        if self.stale_for and lifetime is None:
            answer = replace(answer, fresh_until=answer.timestamp + self.response_ttl)
        return pack_entry(StoredEntry(key.question, key.scope, embedder, dimensions, answer))

    async def _write(self, key: CacheKey, packed: bytes, lifetime: float | None) -> None:
        """Counts are reset."""
        milliseconds = round((lifetime or self.response_ttl + self.stale_for) * 1000)
        with translate_errors():
            pipeline = self.client.pipeline(transaction=True)
            pipeline.set(self.keys.response(key.entry), packed, px=milliseconds)
            pipeline.unlink(self.keys.metadata(key.entry), self.keys.embedding(key.entry))
            await pipeline.execute()


def _parts(entries: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (entries[at : at + size] for at in range(0, len(entries), size))


async def _embed(embedder: Embedder, question: str, alone: bool) -> NDArray[np.float32] | None:
    """In this thread where that is quick and holds up no other question: handing it to another one and back
    takes up to a millisecond."""
    if not alone or len(question) > _EMBEDDED_HERE:
        return await asyncio.to_thread(embedder.embed, question)
    for _ in range(_TURNS_TO_SEND):
        await asyncio.sleep(0)
    return embedder.embed(question)


def _ms(began: float, ended: float) -> float:
    return (ended - began) * 1000
