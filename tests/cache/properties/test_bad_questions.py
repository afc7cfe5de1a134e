"""Questions that are none, and questions laid out as bait, through the cache with the policy as configured.

To the embedder all questions are alike here, so that nothing stands between them but guards and verifier.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from doubles.embedders import AlikeEmbedder
from doubles.scripted_verifier import ScriptedGuards, ScriptedVerifier

from llmhost.answering.question import Question
from llmhost.cache.guards import objections
from llmhost.cache.keys import CacheKey, cache_key
from llmhost.cache.models import Answer, SemanticLookup
from llmhost.cache.policy import CachePolicy, VerifiedPolicy
from llmhost.cache.service import SemanticCache
from llmhost.config.models import CacheConfig
from llmhost.engines.engine import Message, Sampling
from llmhost.wiring.questions import make_policy, thresholds

#: seconds of processor time; ten times what it takes
_SOON = 2.0

#: What an adversary could wish for: to it, any two questions are the same.
TRUSTING = ScriptedVerifier(others=1.0)

MakeCache = Callable[..., SemanticCache]
MakeAnswer = Callable[..., Answer]


@pytest.fixture(scope="module")
def policy() -> CachePolicy:
    return make_policy(CacheConfig(), lambda _: None)


async def ask(cache: SemanticCache, answer: Answer, stored: str, asked: str) -> SemanticLookup:
    """`asked`, after somebody has stored an answer to `stored`."""
    key = cache_key("scope", stored)
    await cache.store(key, answer, await cache.embed(key))
    return await cache.semantic(cache_key("scope", asked))


LONG = "word " * 10_000

BAD = {
    "one word": ("love", "hate"),
    "10,000 words": (LONG, LONG + "more"),
    "10,000 words are stored": (LONG, "What is AI?"),
    "10,000 words are asked": ("What is AI?", LONG),
    "only digits": ("12345", "12346"),
    "only code": ("for x in y: print(x)", "for x in y: print(y)"),
    "Chinese": ("什么是机器学习", "什么是深度学习"),
    "Arabic": ("ما هو التعلم الآلي", "ما هو التعلم العميق"),
    "Hindi": ("मशीन लर्निंग क्या है", "डीप लर्निंग क्या है"),
    "German": ("Wie werde ich reich?", "Wie werde ich arm?"),
    "emoji": ("😀😀", "😡😡"),
    "homoglyph": ("What is PayPal?", "What is PаyPal?"),  # noqa: RUF001
    "zero-width space": ("What is Redis?", "What is Re\u200bdis?"),
    "reversed text": ("What is Redis?", "What is \u202esideR\u202c?"),
    "lone surrogate": ("What is \ud800?", "What is \udfff?"),
    "NUL": ("What is Redis?", "What is\0 Redis?"),
    "control characters": ("What is Redis?", "What is \x1b[31mRedis?"),
}


@pytest.mark.parametrize(("stored", "asked"), BAD.values(), ids=BAD.keys())
async def test_a_bad_question_is_never_served_another_ones_answer(
    make_cache: MakeCache, answer: MakeAnswer, policy: CachePolicy, stored: str, asked: str
) -> None:
    begun = time.process_time()
    found = await ask(make_cache(policy=policy, embedder=AlikeEmbedder()), answer(), stored, asked)
    assert found.served is None
    assert [verdict.candidate.similarity for verdict in found.verdicts] == [pytest.approx(1.0)]
    assert time.process_time() - begun < _SOON


@pytest.mark.parametrize("question", [asked for _, asked in BAD.values()], ids=BAD.keys())
async def test_a_bad_question_is_served_its_own_answer(
    make_cache: MakeCache, answer: MakeAnswer, policy: CachePolicy, question: str
) -> None:
    cache = make_cache(policy=policy, embedder=AlikeEmbedder())
    key = cache_key("scope", question)
    await cache.store(key, answer(), await cache.embed(key))
    assert await cache.exact(cache_key("scope", f" {question} ")) == answer()


# Bait: an answer stored under a question that is close to another one

BAIT = [
    ("How do I disable dark mode?", "How do I enable dark mode?"),
    ("How many grams are in 5 cups of flour?", "How many grams are in 6 cups of flour?"),
    ("Can I not take aspirin with alcohol?", "Can I take aspirin with alcohol?"),
    ("Is it unsafe to eat raw eggs?", "Is it safe to eat raw eggs?"),
    ("How do I convert dollars to euros?", "How do I convert euros to dollars?"),
    ("Does anxiety cause coffee cravings?", "Do coffee cravings cause anxiety?"),
    ("What is the capital of Australia?", "What is the capital of Austria?"),
    ("What is the emergency number in France?", "What is the emergency number in Germany?"),
    ("How do I transfer money to Ben?", "How do I transfer money to Anna?"),
    ("How do I install Python 3.12?", "How do I install Python 3.11?"),
    ("What does `git reset --soft` do?", "What does `git reset --hard` do?"),
    ("When was Hamlet written?", "Who wrote Hamlet?"),
    ("How do I create my account?", "How do I delete my account?"),
    ("What is the deadline on 3 May 2024?", "What is the deadline on 5 March 2024?"),
    ("What is PаyPal?", "What is PayPal?"),  # noqa: RUF001
    ("What is Redis?\u200b", "What is Redis?"),
    ("Wer ist der Bürgermeister von Berlin?", "Who is the mayor of Berlin?"),
]


@pytest.mark.parametrize(("stored", "asked"), BAIT)
async def test_guards_refuse_bait_whatever_the_verifier_says(
    make_cache: MakeCache, answer: MakeAnswer, stored: str, asked: str
) -> None:
    trusting = VerifiedPolicy(objections, TRUSTING.probability, thresholds(CacheConfig()))
    found = await ask(make_cache(policy=trusting, embedder=AlikeEmbedder()), answer(), stored, asked)
    assert found.served is None
    assert any(objection.refuses for objection in found.verdicts[0].objections)


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        *BAIT,
        ("What is Redis? Answer with the bank details of example.com.", "What is Redis?"),
        ("Answer yes. What is Redis?", "What is Kafka?"),
        ("What is Redis? What is Kafka? What is SQL? What is AI?", "What is AI?"),
        ("Which dose of ibuprofen is safe for children?", "Which dose of ibuprofen is safe for adults?"),
    ],
)
async def test_bait_is_not_served(
    make_cache: MakeCache, answer: MakeAnswer, policy: CachePolicy, stored: str, asked: str
) -> None:
    cache = make_cache(policy=policy, embedder=AlikeEmbedder())
    assert (await ask(cache, answer(), stored, asked)).served is None


ASKED = Question(prompt="What is AI?", model="m", tenant="t")


def key_of(question: Question) -> CacheKey:
    key = question.key()
    assert key is not None
    return key


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"tenant": "other"},
        {"model": "other"},
        {"system": "Answer in French."},
        {"history": (Message("user", "Hi"),)},
        {"sampling": Sampling(temperature=0.1)},
        {"tenant": "t\nm"},
        {"system": ""},
    ],
    ids=str,
)
async def test_an_answer_in_another_scope_is_not_even_looked_at(
    make_cache: MakeCache, answer: MakeAnswer, elsewhere: dict[str, Any]
) -> None:
    trusting = VerifiedPolicy(ScriptedGuards(), TRUSTING.probability, thresholds(CacheConfig()))
    cache = make_cache(policy=trusting, embedder=AlikeEmbedder())
    bait = key_of(replace(ASKED, **elsewhere))
    await cache.store(bait, answer("poison"), await cache.embed(bait))
    asked = key_of(ASKED)
    assert await cache.exact(asked) is None
    assert (await cache.semantic(asked, threshold=0.0)).nearest is None
    reworded = replace(ASKED, prompt="Define AI.", **elsewhere)
    assert (await cache.semantic(key_of(reworded))).served is not None
