"""Hard negatives: the questions of other families that lie nearest, as a search of the cache finds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from llmhost.cache.contracts import Embedder, Verifier
from verifier.data import Pair

__all__ = ["nearest_of_other_families"]

#: candidates of each question, of which those that the verifier doubts least are the hardest
_NEAREST = 6
#: probability; of what is said to be the same with more than this, two families may ask the same in fact
_TOO_SURE = 0.8


def nearest_of_other_families(
    questions: Sequence[str],
    embedder: Embedder,
    verifier: Verifier,
    each: int,
    tell: Callable[[str], None],
) -> list[Pair]:
    """`each` pairs of every question and one of another family, those first that the small verifier takes for
    the most alike."""
    embedded = [(question, embedder.embed(question)) for question in questions]
    questions = [question for question, vector in embedded if vector is not None]
    vectors = np.stack([vector for _, vector in embedded if vector is not None])
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1.0)
    found: dict[tuple[str, str], Pair] = {}
    for number, question in enumerate(questions):
        others = [questions[at] for at in np.argsort(-similarity[number])[:_NEAREST]]
        judged = sorted(((verifier.probability(question, other), other) for other in others), reverse=True)
        hard = [other for probability, other in judged if probability <= _TOO_SURE]
        for other in hard[:each]:
            first, second = sorted((question, other))
            found.setdefault((first, second), Pair(question, other, False, "neighbour", question))
    tell(f"{len(found):,} pairs of nearest questions")
    return list(found.values())
