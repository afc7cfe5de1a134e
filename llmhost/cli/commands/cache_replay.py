"""`llmhost cache replay`: what the cache would have served, and how much of it wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import configured, run_async, wired
from llmhost.cli.text import percent

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cache.contracts import Embedder
    from llmhost.cache.policy import CachePolicy
    from llmhost.config.models import Config
    from llmhost.lab.pairs import Asked
    from llmhost.lab.replay import PlayedPolicy, Replay, ReplayPoint

__all__ = ["ReplayOutput", "replay_stream", "show_replay"]

_File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help='JSON lines {"question": "...", "class": "..."}, in the order asked; or .gz.'
    ),
]
_Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Play only the first N questions.")]
_Plot = Annotated[
    Path | None, typer.Option(metavar="OUT.svg", help="Draw hits and wrong hits as it fills; .svg or .png.")
]
_MaxError = Annotated[
    float | None,
    typer.Option(
        min=0.0001,
        max=0.5,
        metavar="SHARE",
        help="The error that the learned threshold may make; else `cache.max_error`.",
    ),
]


def replay_stream(
    ctx: typer.Context,
    file: _File,
    limit: _Limit = None,
    plot: _Plot = None,
    max_error: _MaxError = None,
) -> None:
    """Play recorded questions through a cache that starts empty.

    A question's class says what it really asks: a hit on a question of another class is a wrong one. The
    verified policy, the threshold on similarity and a threshold that each entry learns stand side by side.
    Nothing is asked of an engine, and the real cache is not touched.

    Examples:
      llmhost cache replay questions.jsonl
      llmhost cache replay questions.jsonl.gz --limit 2000 --plot replay.svg
    """
    from llmhost.lab.pairs import read_stream, skipped_words
    from llmhost.lab.plots import check_drawable

    options = globals_of(ctx)
    if plot is not None:
        check_drawable(plot)
    config = configured(options)
    error = config.cache.max_error if max_error is None else max_error
    stream = read_stream(file, limit=limit)
    if stream.broken:
        options.output.warn(skipped_words(file, stream.broken))
    played = _play(options, config, stream.rows, error)
    if plot is not None:
        from llmhost.lab.plots import plot_replay as draw

        draw(played, plot)
    output = ReplayOutput(
        questions=len(stream.rows),
        broken=len(stream.broken),
        threshold=config.cache.threshold,
        max_error=error,
        policies=played.policies,
        points=played.points,
    )
    options.output.result(output, show_replay)


def _play(options: Globals, config: Config, stream: tuple[Asked, ...], max_error: float) -> Replay:
    from llmhost.cache.policy import ThresholdPolicy
    from llmhost.lab.learned_threshold import LearnedPlayer
    from llmhost.lab.replay import Player, PolicyPlayer, replay

    embedder, verified = run_async(_models(options, config))
    count = config.cache.candidates
    players: dict[str, Player] = {
        "verified": PolicyPlayer(verified, count),
        "threshold": PolicyPlayer(ThresholdPolicy(config.cache.threshold), count),
        "learned": LearnedPlayer(max_error),
    }
    with options.output.progress() as progress:
        played = replay(
            stream, embedder.embed, players, lambda share: progress.update("replay", "playing", share)
        )
        progress.done("replay", "played")
    return played


async def _models(options: Globals, config: Config) -> tuple[Embedder, CachePolicy]:
    """The embedder, and the verified policy without a judge, whatever the configured one is."""
    from llmhost.wiring.questions import thresholds, verified_policy

    async with wired(options, config) as wiring:
        embedder = await wiring.caches.embedder()
    unjudged = changed(thresholds(config.cache), judge=None)
    return embedder, verified_policy(config.cache.verifier, unjudged, options.output.note)


# What a stream of questions would have been served, as `cache replay` shows it.


@dataclass(frozen=True, slots=True)
class ReplayOutput:
    """`broken` lines of the file were left out. `threshold` is a cosine; `max_error` the share of all
    questions that the learned policy was allowed to answer wrongly, 0..1.
    """

    questions: int
    broken: int
    threshold: float
    max_error: float
    policies: Mapping[str, PlayedPolicy]
    points: Sequence[ReplayPoint]


def show_replay(played: ReplayOutput, console: Console) -> None:
    numbers = ("hit ratio", "exact", "semantic", "wrong", "of hits", "explored")
    grid = table("policy", *numbers, right=numbers)
    for name, row in played.policies.items():
        counts = (f"{row.exact_hits:,}", f"{row.semantic_hits:,}", f"{row.wrong_hits:,}")
        wrong = "-" if row.wrong_share_of_hits is None else percent(row.wrong_share_of_hits)
        grid.add_row(name, percent(row.hit_ratio), *counts, wrong, f"{row.explored:,}")
    console.print(grid)
    console.print()
    console.print(" ".join(_in_words(name, row) for name, row in played.policies.items()))
    console.print(
        "wrong: served the answer to a question of another class."
        f" threshold: cosine {played.threshold:g} and nothing else."
        " learned: every entry learns its own threshold, as in vCache's paper, so that at most"
        f" {percent(played.max_error)} of all questions are answered wrongly; to learn it explores: asks an"
        " engine although something like it is stored.",
        style="dim",
    )


def _in_words(name: str, row: PlayedPolicy) -> str:
    hits = row.exact_hits + row.semantic_hits
    if not hits:
        return f"{name}: nothing was served."
    if not row.wrong_hits:
        return f"{name}: {hits:,} of {row.questions:,} served, none wrong."
    one_in = f"1 hit in {hits / row.wrong_hits:,.0f}"
    return f"{name}: {hits:,} of {row.questions:,} served, {row.wrong_hits:,} wrong, {one_in}."
