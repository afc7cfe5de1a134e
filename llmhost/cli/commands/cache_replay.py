"""`llmhost cache replay`: what the cache would have served, and how much of it wrongly."""

from __future__ import annotations

from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.options import Globals, globals_of
from llmhost.cli.running import run_async
from llmhost.cli.session import configured, wired

if TYPE_CHECKING:
    from llmhost.cache.embedding import Embedder
    from llmhost.cache.policy import Policy
    from llmhost.config.models import Config
    from llmhost.lab.replay import Replay
    from llmhost.lab.stream import Asked

__all__ = ["replay_stream"]

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
    from llmhost.cli.replay_view import ReplayOutput, show_replay
    from llmhost.lab.lines import skipped_words
    from llmhost.lab.plots import check_drawable
    from llmhost.lab.stream import read_stream

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
        from llmhost.lab.replay_plot import plot as draw

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
    from llmhost.lab.players import Player, PolicyPlayer
    from llmhost.lab.replay import replay

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


async def _models(options: Globals, config: Config) -> tuple[Embedder, Policy]:
    """The embedder, and the verified policy without a judge, whatever the configured one is."""
    from llmhost.wiring.policies import bars, verified_policy

    async with wired(options, config) as wiring:
        embedder = await wiring.caches.embedder()
    unjudged = changed(bars(config.cache), judge=None)
    return embedder, verified_policy(config.cache.verifier, unjudged, options.output.note)
