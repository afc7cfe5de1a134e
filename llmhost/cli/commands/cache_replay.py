"""`llmhost cache replay`: what the cache would have served, and how much of it wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
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
    from llmhost.lab.replay import PlayedPolicy

__all__ = ["replay_stream"]


def replay_stream(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help='JSON lines {"question": "...", "class": "..."}, in the order asked; or .gz.'
        ),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Play only the first N questions.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="OUT.svg", help="Draw hits and wrong hits as it fills; .svg or .png."),
    ] = None,
    max_error: Annotated[float | None, typer.Option(hidden=True)] = None,
) -> None:
    """Play recorded questions through a cache that starts empty.

    A question's class says what it really asks: a hit on a question of another class is a wrong one. The
    verified policy and the threshold on similarity stand side by side. Nothing is asked of an engine, and the
    real cache is not touched.

    Examples:
      llmhost cache replay questions.jsonl
      llmhost cache replay questions.jsonl.gz --limit 2000 --plot replay.svg
    """
    from llmhost.lab.pairs import read_stream, skipped_words
    from llmhost.lab.replay import PolicyPlayer, replay

    options = globals_of(ctx)
    if plot is not None:
        from llmhost.lab.plots import check_drawable, plot_replay

        check_drawable(plot)
    if max_error is not None:
        options.output.warn("--max-error does nothing: the learned threshold is compared by bench/trust.py")
    config = configured(options)
    stream = read_stream(file, limit=limit)
    if stream.broken:
        options.output.warn(skipped_words(file, stream.broken))
    embedder, policies = run_async(_models(options, config))
    players = {name: PolicyPlayer(policy, config.cache.candidates) for name, policy in policies.items()}
    with options.output.progress() as progress:

        def on_progress(share: float) -> None:
            progress.update("replay", "playing", share)

        played = replay(stream.rows, embedder.embed, players, on_progress)
        progress.done("replay", "played")
    if plot is not None:
        plot_replay(played, plot)
    document = {
        "questions": len(stream.rows),
        "broken": len(stream.broken),
        "threshold": config.cache.threshold,
        "policies": played.policies,
        "points": played.points,
    }
    options.output.result(played.policies, partial(_show, threshold=config.cache.threshold), document)


async def _models(options: Globals, config: Config) -> tuple[Embedder, Mapping[str, CachePolicy]]:
    """The embedder, and both policies, whichever is configured; the verified one without a judge."""
    from llmhost.cache.policy import ThresholdPolicy
    from llmhost.wiring.questions import thresholds, verified_policy

    async with wired(options, config) as wiring:
        embedder = await wiring.caches.embedder()
    without_judge = replace(thresholds(config.cache), judge=None)
    verified = verified_policy(config.cache.verifier, without_judge, options.output.note)
    return embedder, {"verified": verified, "threshold": ThresholdPolicy(config.cache.threshold)}


def _show(policies: Mapping[str, PlayedPolicy], console: Console, threshold: float) -> None:
    numbers = ("hit ratio", "exact", "semantic", "wrong", "of hits")
    grid = table("policy", *numbers, right=numbers)
    for name, row in policies.items():
        counts = (f"{row.exact_hits:,}", f"{row.semantic_hits:,}", f"{row.wrong_hits:,}")
        wrong = "-" if row.wrong_share_of_hits is None else percent(row.wrong_share_of_hits)
        grid.add_row(name, percent(row.hit_ratio), *counts, wrong)
    console.print(grid)
    console.print()
    console.print(" ".join(_in_words(name, row) for name, row in policies.items()))
    console.print(
        "wrong: served the answer to a question of another class."
        f" threshold: cosine {threshold:g} and nothing else.",
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
