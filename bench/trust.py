"""How far the cache can be trusted, beside what others do: the table of docs/trust.md.

    python bench/trust.py [--near FILE] [--pairs FILE] [--stream FILE] [--verifier NAME] [--limit N]
                          [--markdown]

* near-misses and clean paraphrases: --near, pairs by kind, those kept apart unless another file is named
* everyday pairs: --pairs, labelled pairs from Quora, which are not in the repository; left out without
* a stream through a cache that starts empty: --stream
* well-known pairs, one by one

All of it by the code that serves. RedisVL's default is a cosine distance of at most 0.1: with vectors of one
model that is a cosine of at least 0.9, so its row repeats that one. (Its own default model is another.)
"learned" is the idea of vCache's paper, see learned_threshold.py. It judges no pair by
itself, so pairs are asked one after the other, the stored question first, through one cache; Quora's at most
5,000 of them. It has no threshold, so no recall at a precision.

The last column is embedding and decision over embedding alone, medians in this process; no Redis.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from learned_threshold import LearnedPlayer
from trust_cost import cost

from llmhost.cache.contracts import Embedder
from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.guards import objections
from llmhost.cache.keys import cache_key
from llmhost.cache.policy import CachePolicy, ThresholdPolicy, VerifiedPolicy, threshold_with_doubt
from llmhost.cache.verifiers.load import load_verifier
from llmhost.config.models import CacheConfig
from llmhost.lab.evaluate import PairOutcome, assess, evaluate, interval
from llmhost.lab.pairs import Asked, Pair, read_pairs, read_stream, sample
from llmhost.lab.replay import PolicyPlayer, Vector, replay
from llmhost.wiring.questions import thresholds

HERE = Path(__file__).parent / "pairs"
NEAR_MISSES = ("number", "negation", "antonym", "entity", "role", "aspect")
PARAPHRASE = "paraphrase"
CONFIG = CacheConfig()

#: for the verified policy: the default in the middle
CONFIDENCES = (0.8, CONFIG.confidence, 0.95)
#: cosines
THRESHOLDS = (0.8, 0.9, 0.95)
#: of RedisVL's default, a cosine distance of at most 0.1
REDISVL = 0.9
#: of all questions, that the learned threshold may answer wrongly
MAX_ERROR = CONFIG.max_error
PRECISIONS = ("0.90", "0.85")

#: pairs; each is searched for among all that came before it
MOST_LEARNED = 5000
#: what is expected: of these two, would the second's answer be served to the first?
KNOWN = (
    ("What is artificial intelligence?", "Explain AI in simple terms", "0.87, hit"),
    ("What is machine learning?", "Explain ML in simple terms", "0.85, hit"),
    ("How do neural networks work?", "Explain deep learning basics", "0.82, hit"),
    ("What is machine learning?", "How do you bake a chocolate cake?", "0.15, miss"),
    ("Explain machine learning briefly", "What is machine learning in simple terms?", "hit"),
    ("How do I enable dark mode?", "How do I disable dark mode?", "-"),
    ("What is 17 * 23?", "What is 17 * 24?", "-"),
    ("Is it safe to take ibuprofen with aspirin?", "Is it not safe to take ibuprofen with aspirin?", "-"),
    ("Convert 5 miles to km", "Convert 50 miles to km", "-"),
)

Grid = Sequence[Sequence[str]]


class KeptEmbedder:
    """Remembers vectors, as every policy is asked about the same questions."""

    def __init__(self, embedder: Embedder) -> None:
        self.id, self.dimensions = embedder.id, embedder.dimensions
        self._embed = lru_cache(maxsize=None)(embedder.embed)

    def embed(self, text: str) -> Vector | None:
        return self._embed(text)


@dataclass(frozen=True)
class Judged:
    """One row: the decision on each pair, as (pair, accepted), and recall at each of `PRECISIONS`."""

    name: str
    near: Sequence[tuple[Pair, bool]]
    everyday: Sequence[tuple[Pair, bool]]
    recalls: Sequence[float | None]
    cost: float | None


def main(
    near: Path, everyday: Path | None, stream: Path, name: str, limit: int | None, *, markdown: bool
) -> None:
    embedder, verifier = (
        load_embedder(CONFIG.embedder, on_progress=print),
        load_verifier(name, on_progress=print),
    )
    kept, verify = KeptEmbedder(embedder), lru_cache(maxsize=None)(verifier.probability)
    near_pairs = sample(read_pairs(near).rows, limit)
    pairs = sample(read_pairs(everyday).rows, limit) if everyday else ()
    costs = {
        "verified": cost(near_pairs, embedder, verified(verifier.probability, CONFIG.confidence)),
        "cosine": cost(near_pairs, embedder, ThresholdPolicy(CONFIG.threshold)),
    }
    policies = named_policies(verify)
    rows = [judge(name, policy, near_pairs, pairs, kept, costs) for name, policy in policies.items()]
    rows.append(learned(near_pairs, sample(pairs, MOST_LEARNED), kept))
    show = show_markdown if markdown else show_text
    print(
        f"{len(near_pairs):,} pairs of {near.name}, {len(pairs):,} everyday pairs; verifier {verifier.id}\n"
    )
    show(table(rows))
    show_stream(stream, policies, kept, show)
    show_paper(policies[f"verified {CONFIG.confidence:g} (default)"], kept, show)


def named_policies(verify: Callable[[str, str], float]) -> dict[str, CachePolicy]:
    rows: dict[str, CachePolicy] = {
        f"verified {threshold:g}{' (default)' if threshold == CONFIG.confidence else ''}": verified(
            verify, threshold
        )
        for threshold in CONFIDENCES
    }
    rows |= {f"cosine {threshold:g}": ThresholdPolicy(threshold) for threshold in THRESHOLDS}
    return rows | {"RedisVL's default, distance 0.1": ThresholdPolicy(REDISVL)}


def verified(verify: Callable[[str, str], float], threshold: float) -> CachePolicy:
    wanted = replace(thresholds(CONFIG), serve=threshold, doubted=threshold_with_doubt(threshold), judge=None)
    return VerifiedPolicy(objections, verify, replace(wanted, floor=min(wanted.floor, threshold)))


def judge(
    name: str,
    policy: CachePolicy,
    near: Sequence[Pair],
    everyday: Sequence[Pair],
    embedder: KeptEmbedder,
    costs: dict[str, float | None],
) -> Judged:
    outcomes = list(evaluate(everyday, embedder, policy))
    recalls = assess(name, outcomes).best_recall_at_precision if outcomes else {}
    return Judged(
        name,
        accepted(evaluate(near, embedder, policy)),
        accepted(outcomes),
        [recalls.get(precision) for precision in PRECISIONS],
        costs["verified" if isinstance(policy, VerifiedPolicy) else "cosine"],
    )


def accepted(outcomes: Iterable[PairOutcome]) -> list[tuple[Pair, bool]]:
    return [(outcome.pair, outcome.accepted) for outcome in outcomes]


def learned(near: Sequence[Pair], everyday: Sequence[Pair], embedder: KeptEmbedder) -> Judged:
    name = f"learned, error {MAX_ERROR:g}"
    return Judged(name, asked_in_turn(near, embedder), asked_in_turn(everyday, embedder), (None, None), None)


def asked_in_turn(pairs: Sequence[Pair], embedder: KeptEmbedder) -> list[tuple[Pair, bool]]:
    """Each pair's stored question, then the other; what is said to be the same is one class."""
    player, about = LearnedPlayer(MAX_ERROR), classes(pairs)
    outcomes = []
    for pair in pairs:
        player.ask(cache_key("", pair.b), about[pair.b], embedder.embed)
        outcome = player.ask(cache_key("", pair.a), about[pair.a], embedder.embed)
        outcomes.append((pair, outcome.source != "engine"))
    return outcomes


def classes(pairs: Sequence[Pair]) -> dict[str, str]:
    """Of each question, one that stands for all that are the same, through others too."""
    leads: dict[str, str] = {}

    def lead(text: str) -> str:
        while leads.setdefault(text, text) != text:
            text = leads[text]
        return text

    for pair in pairs:
        if pair.same:
            leads[lead(pair.a)] = lead(pair.b)
    return {text: lead(text) for pair in pairs for text in (pair.a, pair.b)}


def table(rows: Sequence[Judged]) -> Grid:
    head = ["policy", "near-misses accepted", *NEAR_MISSES, "clean paraphrases accepted"]
    head += ["Quora precision", "Quora recall", *(f"recall at {p}" for p in PRECISIONS), "cost in embeddings"]
    return [head, *(table_row(row) for row in rows)]


def table_row(row: Judged) -> list[str]:
    by_kind = [counted(row.near, [kind]) for kind in NEAR_MISSES]
    everyday = [taken for _, taken in row.everyday]
    right = sum(taken for pair, taken in row.everyday if pair.same)
    return [
        row.name,
        counted(row.near, NEAR_MISSES, bounds=True),
        *by_kind,
        counted(row.near, [PARAPHRASE], bounds=True),
        share(right, sum(everyday)),
        share(right, sum(pair.same for pair, _ in row.everyday)),
        *("-" if recall is None else f"{recall:.3f}" for recall in row.recalls),
        "-" if row.cost is None else f"{row.cost:.2f}",
    ]


def counted(judged: Sequence[tuple[Pair, bool]], kinds: Sequence[str], *, bounds: bool = False) -> str:
    """How many of these kinds were accepted, and in percent, where asked for with the 95 % interval."""
    taken = [accepted for pair, accepted in judged if pair.kind in kinds]
    if not taken:
        return "-"
    return counted_share(sum(taken), len(taken)) if bounds else f"{sum(taken)} of {len(taken)}"


def counted_share(part: int, whole: int) -> str:
    """In figures and in percent, with the 95 % interval."""
    lies = interval(part, whole)
    shown = "" if lies is None else f": {part / whole:.1%} ({lies.low:.1%} to {lies.high:.1%})"
    return f"{part} of {whole}{shown}"


def share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def show_stream(
    path: Path, policies: dict[str, CachePolicy], embedder: KeptEmbedder, show: Callable[[Grid], None]
) -> None:
    stream: Sequence[Asked] = read_stream(path).rows
    players = {name: PolicyPlayer(policy, CONFIG.candidates) for name, policy in policies.items()}
    played = replay(
        stream, embedder.embed, {**players, f"learned, error {MAX_ERROR:g}": LearnedPlayer(MAX_ERROR)}
    )
    print(f"\n{len(stream):,} questions of {path.name} through a cache that starts empty\n")
    head = [
        "policy",
        "hit ratio",
        "exact hits",
        "semantic hits",
        "wrong hits",
        "wrong share of hits",
        "explored",
    ]
    rows = [
        [
            name,
            f"{row.hit_ratio:.3f}",
            *map(str, (row.exact_hits, row.semantic_hits, row.wrong_hits)),
            "-" if row.wrong_share_of_hits is None else f"{row.wrong_share_of_hits:.3f}",
            str(row.explored),
        ]
        for name, row in played.policies.items()
    ]
    show([head, *rows])


def show_paper(policy: CachePolicy, embedder: KeptEmbedder, show: Callable[[Grid], None]) -> None:
    print("\nwell-known pairs, and near-misses beside them\n")
    pairs = [Pair(question, other, same=False) for question, other, _ in KNOWN]
    rows = [
        [
            "question",
            "stored question",
            "expected",
            "cosine",
            "cosine 0.8",
            "verified",
            "confidence",
            "why",
        ]
    ]
    for outcome, (question, other, says) in zip(evaluate(pairs, embedder, policy), KNOWN, strict=True):
        confidence = outcome.decision.verdicts[0].confidence if outcome.decision.verdicts else None
        similarity = outcome.similarity or 0.0
        hits = ["hit" if hit else "miss" for hit in (similarity >= THRESHOLDS[0], outcome.accepted)]
        sure = "not asked" if confidence is None else f"{confidence:.3f}"
        rows.append([question, other, says, f"{similarity:.3f}", *hits, sure, outcome.decision.reason])
    show(rows)


def show_markdown(grid: Grid) -> None:
    head, *rows = grid
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |")


def show_text(grid: Grid) -> None:
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    for row in grid:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--near", type=Path, default=HERE / "held.jsonl")
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--stream", type=Path, default=HERE / "stream.jsonl")
    parser.add_argument("--verifier", default=CONFIG.verifier, help="see `cache.verifier`")
    parser.add_argument("--limit", type=int, help="at most this many pairs of each file")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    main(
        options.near,
        options.pairs,
        options.stream,
        options.verifier,
        options.limit,
        markdown=options.markdown,
    )
