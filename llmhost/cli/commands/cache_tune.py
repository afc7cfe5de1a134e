"""`llmhost cache tune`: which bar to set, what labels have taught, and whether the model may judge."""

from __future__ import annotations

from collections.abc import Mapping
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

    from llmhost.config.models import Config
    from llmhost.lab.evaluate import Outcome
    from llmhost.lab.pairs import Pair

__all__ = ["tune_cache"]

#: what does something else than to suggest a bar; of these one at a time
_MODES = ("show", "reset", "judge")
#: what each of them, and the suggestion, goes with
_TAKES = {
    "show": (),
    "reset": ("yes",),
    "judge": ("file", "limit"),
    None: ("file", "max_error", "max_false_accept", "limit"),
}
_HINT = "`llmhost cache tune --help` has examples"

_File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help='JSON lines {"a", "b", "same"[, "kind"]}; or .gz.')
]
_MaxError = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.5,
        metavar="SHARE",
        help="Share of what is served that may be wrong; else `cache.max_error`.",
    ),
]
_MaxFalseAccept = Annotated[
    float | None,
    typer.Option(
        min=0, max=0.5, metavar="SHARE", help="Share of the pairs that ask something else that may be served."
    ),
]
_Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Take N pairs at random, always the same ones.")
]
_Judge = Annotated[
    bool, typer.Option("--judge", help="Measure whether the fleet's own model can judge, by asking it.")
]
_Show = Annotated[bool, typer.Option("--show", help="Show what the fleet's labels have taught.")]
_Reset = Annotated[bool, typer.Option("--reset", help="Forget what the fleet's labels have taught.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="With --reset: do not ask.")]


def tune_cache(
    ctx: typer.Context,
    file: _File = None,
    max_error: _MaxError = None,
    max_false_accept: _MaxFalseAccept = None,
    limit: _Limit = None,
    judge: _Judge = False,
    show: _Show = False,
    reset: _Reset = False,
    yes: _Yes = False,
) -> None:
    """Find the bar for the error that you want, and see what each costs in hits.

    The pairs are judged by the very code that serves; see `llmhost cache eval`. How much of what is served is
    wrong depends on how many pairs of the file ask the same: take pairs as your users ask them. The
    configuration is not changed: the command says which line to write into it.

    Examples:
      llmhost cache tune pairs.jsonl --max-error 0.01
      llmhost cache tune pairs.jsonl --judge --limit 100
      llmhost cache tune --show
      llmhost cache tune --reset --yes
    """
    mode = _mode(locals())
    options = globals_of(ctx)
    config = configured(options)
    if mode in ("show", "reset"):
        _labels(options, config, reset=reset, yes=yes)
        return
    if file is None:
        raise UsageError("nothing to tune with: name a file of pairs, or say --show", hint=_HINT)
    if mode == "judge":
        from llmhost.cli.commands.cache_judge import measure_judge

        run_async(measure_judge(options, config, file, limit))
    else:
        _suggest(options, config, file, max_error, max_false_accept, limit)


def _mode(given: Mapping[str, Any]) -> str | None:
    """What is to be done. Raises UsageError where options do not go together."""
    modes = [mode for mode in _MODES if given[mode]]
    if len(modes) > 1:
        raise UsageError(f"--{modes[0]} and --{modes[1]} exclude each other", hint="leave one of them out")
    mode = modes[0] if modes else None
    for name in ("file", "max_error", "max_false_accept", "limit", "yes"):
        if given[name] not in (None, False) and name not in _TAKES[mode]:
            word = "a file" if name == "file" else f"--{name.replace('_', '-')}"
            partner = "--reset" if mode is None else f"--{mode}"
            does = "goes with" if mode is None else "does not go with"
            raise UsageError(f"{word} {does} {partner}", hint=_HINT)
    if mode == "judge" and given["limit"] == 1:
        raise UsageError("--judge needs two pairs at least: one that asks the same, and one that does not")
    return mode


def _labels(options: Globals, config: Config, *, reset: bool, yes: bool) -> None:
    from llmhost.cli.commands.cache_trust import reset_trust, show_trust

    run_async(reset_trust(options, config, yes=yes) if reset else show_trust(options, config))


def _suggest(
    options: Globals,
    config: Config,
    file: Path,
    max_error: float | None,
    max_false_accept: float | None,
    limit: int | None,
) -> None:
    from llmhost.cli.tuning_view import show_tuning, tuning_output
    from llmhost.lab.frontier import frontier
    from llmhost.lab.pairs import sample
    from llmhost.lab.tune import Wanted, tune

    if max_error is None and max_false_accept is None:
        max_error = config.cache.max_error
    wanted = Wanted(max_error, max_false_accept)
    read = pairs_in(options, file)
    curve = frontier(run_async(_run(options, config, sample(read.rows, limit))))
    output = tuning_output(curve, tune(curve, wanted, config.cache.confidence), wanted, config, read.broken)
    for warning in output.warnings:
        options.output.warn(warning)
    options.output.result(output, show_tuning)


async def _run(options: Globals, config: Config, pairs: Sequence[Pair]) -> list[Outcome]:
    """With the verified policy, whatever the configured one is, and without what labels have taught."""
    from llmhost.cache.calibration import Trust

    cache = config.cache.model_copy(update={"policy": "verified"})
    async with wired(options, config.model_copy(update={"cache": cache})) as wiring:
        embedder, policy = await wiring.caches.embedder(), await wiring.caches.policy()
        return await run_pairs(options, pairs, embedder, policy, Trust())
