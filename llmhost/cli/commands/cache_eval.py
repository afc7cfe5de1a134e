"""`llmhost cache eval`: how often the cache is right, on pairs whose answer is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.evaluating import pairs_in, run_pairs
from llmhost.cli.options import Globals, globals_of
from llmhost.cli.running import run_async
from llmhost.cli.session import configured, wired
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmhost.cache.calibration import Trust
    from llmhost.config.models import CacheConfig, Config
    from llmhost.lab.evaluate import Outcome
    from llmhost.lab.pairs import Pair
    from llmhost.lab.report import Evaluation

__all__ = ["eval_pairs"]


@dataclass(frozen=True, slots=True)
class _Choice:
    """The key that a policy's bar is set by, and what it may be, 0..1 or -1..1; `open`: not the highest."""

    key: str
    low: float
    high: float
    open: bool


_POLICIES = {
    "verified": _Choice("cache.confidence", 0.5, 1.0, open=True),
    "threshold": _Choice("cache.threshold", -1.0, 1.0, open=False),
}

_File = Annotated[
    Path, typer.Argument(metavar="FILE", help='JSON lines {"a", "b", "same"[, "kind"]}; or .gz.')
]
_Policy = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        help="verified[:CONFIDENCE] or threshold[:COSINE]; else as configured.",
    ),
]
_Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Take N pairs at random, always the same ones.")
]
_Show = Annotated[
    int, typer.Option(min=0, metavar="N", help="Show N pairs that were decided otherwise than labelled.")
]
_Plot = Annotated[
    Path | None,
    typer.Option(metavar="OUT.svg", help="Draw precision against recall, beside cosine; .svg or .png."),
]
_Learned = Annotated[
    bool, typer.Option("--learned", help="With what the fleet's labels have taught; reads Redis.")
]


def eval_pairs(
    ctx: typer.Context,
    file: _File,
    policy: _Policy = None,
    limit: _Limit = None,
    show: _Show = 0,
    plot: _Plot = None,
    learned: _Learned = False,
) -> None:
    """Measure how often the cache is right, on pairs of questions whose answer is known.

    For each pair, the answer to `b` is stored and `a` is asked, by the very code that serves. `same` 1 says
    that the one answer is right for both. No engine and no judge is asked, and the real cache is not touched.
    What the fleet's labels have taught is left out, so that anybody gets the same figures; --learned
    counts it in.

    Examples:
      llmhost cache eval pairs.jsonl
      llmhost cache eval pairs.jsonl --policy threshold:0.8 --json
      llmhost cache eval pairs.jsonl.gz --limit 2000 --show 20 --plot frontier.svg
    """
    from llmhost.cli.evaluation_view import show_evaluation
    from llmhost.lab.pairs import sample
    from llmhost.lab.plots import check_drawable
    from llmhost.lab.report import assess

    options = globals_of(ctx)
    if plot is not None:
        check_drawable(plot)
    config = configured(options, {} if policy is None else _overrides(policy))
    if learned and config.cache.policy != "verified":
        raise UsageError("--learned goes with the policy verified", hint="leave one of them out")
    read = pairs_in(options, file)
    trust, outcomes = run_async(_run(options, config, sample(read.rows, limit), learned))
    evaluation = assess(_name(config.cache), outcomes, trust=trust, skipped_lines=len(read.broken), show=show)
    if plot is not None:
        _draw(evaluation, outcomes, plot)
    options.output.result(evaluation, show_evaluation)


async def _run(
    options: Globals, config: Config, pairs: Sequence[Pair], learned: bool
) -> tuple[Trust, list[Outcome]]:
    from llmhost.cache.calibration import Trust

    async with wired(options, config) as wiring:
        trust = await wiring.caches.labels(await wiring.redis()).trust() if learned else Trust()
        embedder, policy = await wiring.caches.embedder(), await wiring.caches.policy()
        return trust, await run_pairs(options, pairs, embedder, policy, trust)


def _draw(evaluation: Evaluation, outcomes: Sequence[Outcome], path: Path) -> None:
    from llmhost.lab.frontier import cosine_frontier
    from llmhost.lab.frontier_plot import plot

    plot(evaluation, cosine_frontier(outcomes).points(), path)


def _overrides(given: str) -> dict[str, Any]:
    """The settings that ``NAME[:BAR]`` means. Raises UsageError."""
    name, colon, text = given.partition(":")
    choice = _POLICIES.get(name)
    if choice is None:
        raise UsageError(
            f"--policy {given}: there is no such policy", hint="`verified:0.9`, or `threshold:0.8`"
        )
    bar = {choice.key: _bar(given, text, choice)} if colon else {}
    return {"cache.policy": name, **bar}


def _bar(given: str, text: str, choice: _Choice) -> float:
    try:
        bar = float(text)
    except ValueError:
        bar = float("nan")
    if not choice.low <= bar <= choice.high or (choice.open and bar == choice.high):
        most = f"{'below' if choice.open else 'at most'} {choice.high:g}"
        raise UsageError(
            f"--policy {given}: the bar must be a number, at least {choice.low:g} and {most}",
            hint="`verified:0.9`, or `threshold:0.8`",
        )
    return bar


def _name(config: CacheConfig) -> str:
    bar = config.confidence if config.policy == "verified" else config.threshold
    return f"{config.policy}:{bar:g}"
