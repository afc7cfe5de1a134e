"""The verifiers that llmhost brings: a small cross-encoder, which a larger one may help.

How they were made, what they are worth and what they cannot do is in docs/trust.md.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmhost.cache.verifiers.pair_model import PairModel
from llmhost.cache.verifiers.wording import in_distribution, spelt_out
from llmhost.errors import ModelError

__all__ = ["OnnxVerifier"]

#: probability; what is said at most of a text unlike all that the models have learnt from
_UNSURE = 0.5
#: probability where only capitals and the closing mark differ: a model is seldom so sure of the evident, and
#: now and then they matter ("How do I polish ...", "How do I Polish ...")
_SAME_WORDS = 0.99
#: log-odds of 0.4; what the small one gives less is no hit, as the larger one alone is too sure of questions
#: that are close: "How do I reset my password?", "How do I change my password?"
_LARGER_FROM = math.log(0.4 / 0.6)
#: threads; two read a pair in two thirds of the time of one, and more would take cores from the engine
_LARGER_THREADS = 2


class OnnxVerifier:
    """A `Verifier` over the folder of the small one and, if there is one, that of the larger one, which is
    asked where the small one does not say no. Raises ModelError where one is missing, damaged, or made to
    stand beside another."""

    def __init__(self, folder: Path, larger: Path | None = None) -> None:
        self._small = PairModel(folder)
        self._large = None if larger is None else PairModel(larger, _LARGER_THREADS)
        self.id = self._small.id
        if self._large is not None:
            if self._large.manifest.beside != self._small.id:
                raise ModelError(
                    f"the verifier in {larger} stands beside {self._large.manifest.beside}, not {self.id}",
                    hint="install `llmhost[verifier]` in this version, or set `cache.verifier` to `builtin`",
                )
            self.id += f"+{self._large.id}"
        # Both orders side by side: on two cores that takes as long as one of them.
        self._second = ThreadPoolExecutor(1, thread_name_prefix="verifier")

    def probability(self, question: str, stored: str) -> float:
        """See `Verifier.probability`."""
        one, other = spelt_out(question, stored)
        small = self._small
        first, second = small.tokenized(one, other), small.tokenized(other, one)
        if first is None or second is None:
            return 0.0
        familiar = in_distribution(question) and in_distribution(stored)
        if familiar and _bare(question) == _bare(stored):
            return _SAME_WORDS
        turned = self._second.submit(small.log_odds, second)
        log_odds = small.calibrated((small.log_odds(first) + turned.result()) / 2)
        large = self._large
        if large is not None and familiar and log_odds >= _LARGER_FROM:
            # One order, always the same one: the other takes as long again and makes nothing better.
            read = large.tokenized(*sorted((one, other)))
            if read is None:
                return 0.0
            log_odds = large.manifest.small * log_odds + large.calibrated(large.log_odds(read))
        probability = 1 / (1 + math.exp(-max(-50.0, min(50.0, log_odds))))
        return probability if familiar else min(probability, _UNSURE)


def _bare(text: str) -> str:
    """Without what often differs and seldom matters. An exclamation mark stays: 5! is not 5."""
    return text.casefold().rstrip(" ?.")
