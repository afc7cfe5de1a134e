"""`llmhost down`: destroys workers, and confirms that they are gone."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.fleet_view import ended_word, follow, hourly_cost, show_failures, warn_of_running
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.gateway_process import fleets_with_gateways, stop_gateways
from llmhost.cli.running import asynchronous, configured, configured_if_readable, confirm, described, wired
from llmhost.cli.text import counted, money
from llmhost.errors import (
    Cancelled,
    ConfigError,
    LlmhostError,
    PartialError,
    ProviderError,
    StateError,
    UsageError,
)

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cli.output import Progress
    from llmhost.config.models import Config
    from llmhost.fleet.health import WorkerProgress
    from llmhost.fleet.results import DownResult
    from llmhost.fleet.service import FleetService
    from llmhost.wiring import Wiring
    from llmhost.wiring.other_fleets import OtherFleet

__all__ = ["down"]


@asynchronous
async def down(
    ctx: typer.Context,
    workers: Annotated[list[str] | None, typer.Argument(help="Which ones; else all.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every worker of every fleet, and the embedded Redis.")
    ] = False,
    orphans: Annotated[
        bool,
        typer.Option("--orphans", help="Only workers of this fleet that its records do not know."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Destroy without asking first.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Do not let workers finish their answers.")] = False,
) -> None:
    """Destroy workers, and confirm that they are gone.

    On a terminal it asks before rented workers are destroyed. An invalid configuration does not stop it.

    Examples:
      llmhost down
      llmhost down local-7f3a2c
      llmhost down --fleet blue
      llmhost down --all --yes
    """
    _check_which(workers, everything, orphans)
    options = globals_of(ctx)
    if everything and not options.json:
        options.output.note("every fleet that this machine knows or, with an API key, that its account rents")
    async with wired(options, _configured(options, everything)) as wiring:
        own, some = await wiring.fleet(), bool(workers or orphans)
        others = await wiring.others.found(everywhere=True) if everything else []
        if not yes and sys.stdin.isatty() and (own.rents or others):
            await _ask(options, own, workers or (), others)
        left: Sequence[OtherFleet] = [] if yes or sys.stdin.isatty() else others
        told = [wiring.others.configured(options.source), *others]
        async with _says_what_runs(options, wiring, everything=everything):
            with options.output.progress() as progress:
                if everything and not left:
                    results = await _end_all(wiring, own, told, progress, now)
                    results += await _end_appeared(wiring, told, results, progress, now=now, ends=yes)
                else:
                    result = await _end(own, workers or None, orphans, progress, now)
                    results = [((own.spec.name, own.spec.provider), result)]
                    results += [] if some else await _keep_rest_down(wiring, told, everything=False)
        gone = [] if some else _gone(results)
        moved = wiring.others.moved_redis(own.spec.name) if own.rents and not some else None
        await _write_down(wiring, options, gone, moved)
        ended = {*(name for name, _ in gone), *(fleets_with_gateways() if everything else ())}
        gateways = await stop_gateways(options, sorted(ended))
        stopped = await _stop_redis(options, wiring) if everything and not left else None
        if not everything:  # looked for last: nothing may stand before the ending
            with suppress(StateError):
                left = await wiring.others.found()
    _report(options, [result for _, result in results], left, stopped, gateways)
    _check_all_seen(wiring, own, everything, left, moved)
    show_failures(options.output, [] if everything else wiring.others.doubts, done=True)
    named = options.fleet or os.environ.get("LLMHOST_FLEET__NAME")  # one file for several fleets
    if not (some or everything or named):
        _check_none_of_this_file(told[0], left)


@asynccontextmanager
async def _says_what_runs(options: Globals, wiring: Wiring, *, everything: bool) -> AsyncIterator[None]:
    """Where it is interrupted: it may have destroyed some, and the others go on costing."""
    try:
        yield
    except asyncio.CancelledError:
        other = ", and `llmhost fleets` shows those of other fleets" if everything else ""
        next_step = "`llmhost down` again destroys them"
        await warn_of_running(options.output, wiring.provider, next_step, others=other)
        raise


def _gone(results: _Results) -> Sequence[tuple[str, str]]:
    """The fleets of which nothing is left."""
    left_over = {key for key, one in results if one.remaining or one.failed}
    return [key for key, _ in results if key not in left_over]


async def _write_down(
    wiring: Wiring, options: Globals, gone: Sequence[tuple[str, str]], moved: StateError | None
) -> None:
    """That the fleets are `gone`, unless there may be more of them. Where the configured one was rented is
    remembered: other machines may rent it again. `moved`: its records may be elsewhere, too."""
    others, own = wiring.others, wiring.others.configured(options.source)
    if others.unseen_accounts or others.unread or not gone:
        return
    if moved is not None:
        if (own.name, own.provider) in gone:
            await others.take_down(own.name, own.provider)
        return
    if wiring.provider.rents:
        with suppress(StateError):
            await others.remember(options.source)
    for name, provider in gone:
        await others.forget(name, provider)


def _check_none_of_this_file(own: OtherFleet, left: Sequence[OtherFleet]) -> None:
    """Raises PartialError where fleets are `left` that were made from the configured one's very file, before
    it named another fleet or provider: they may be what was to end."""
    names = [fleet.name for fleet in left if fleet.config == own.config is not None]
    if names:
        raise PartialError(
            f"made from {own.config} too, and not destroyed: {', '.join(names)}",
            hint="`llmhost down --all` destroys every fleet, `llmhost --fleet NAME down` one of them",
        )


def _check_all_seen(
    wiring: Wiring,
    own: FleetService,
    everything: bool,
    left: Sequence[OtherFleet],
    moved: StateError | None,
) -> None:
    """Raises PartialError where workers may be left that were to go. `left` are fleets not ended, `moved` is
    why the records in use may not be the fleet's."""
    if everything and left:
        raise PartialError(
            f"other fleets were not destroyed: {', '.join(other.name for other in left)}",
            hint="`llmhost down --all --yes` destroys every fleet",
        )
    unread = wiring.others.unread if everything else wiring.unread or moved
    if unread is not None:
        raise PartialError(
            f"there may be more {'fleets' if everything else 'workers'}: {unread.message}",
            hint=unread.hint or f"`llmhost down{' --all' if everything else ''}` again, when it can be read",
        )
    if wiring.others.unseen_accounts and (everything or own.rents):
        raise PartialError(
            "the account on vast.ai could not be listed: workers may be running there",
            hint=wiring.others.unseen_hint(),
        )


async def _stop_redis(options: Globals, wiring: Wiring) -> bool | None:
    """Whether the embedded Redis was stopped. One that cannot be costs nothing: it is warned of, and hides no
    worker that could not be ended."""
    try:
        return await wiring.stop_embedded_redis()
    except LlmhostError as error:
        options.output.warn(f"the embedded Redis was not stopped: {error}")
        return False


def _check_which(workers: Sequence[str] | None, everything: bool, orphans: bool) -> None:
    """Raises UsageError where it is not clear which workers are meant."""
    if workers and everything:
        raise UsageError("--all and names of workers exclude each other", hint="leave one of them out")
    if orphans and (workers or everything):
        raise UsageError(
            f"--orphans and {'names of workers' if workers else '--all'} exclude each other",
            hint="leave one of them out",
        )


def _report(
    options: Globals,
    results: Sequence[DownResult],
    left: Sequence[OtherFleet],
    stopped: bool | None,
    gateways: Sequence[str],
) -> None:
    """Raises as `show_failures`."""
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        options.output.warn(warning)
    for other in left:
        options.output.warn(f"{described(other)}: not destroyed")
    destroyed = [worker for result in results for worker in result.destroyed]
    remaining = [worker.id for result in results for worker in result.remaining if worker.id not in destroyed]
    intents = [intent for result in results for intent in result.intents]
    document = {
        "destroyed": destroyed,
        "remaining": remaining,
        "redis_stopped": stopped,
        "intents": intents,
        "scaling_paused": any(result.paused for result in results),
        "other_fleets": [other.name for other in left],
        "gateways_stopped": gateways,
    }
    options.output.result(document, _show)
    failures = [failure for result in results for failure in result.failed if failure.worker not in destroyed]
    show_failures(options.output, failures, done=bool(destroyed))


def _configured(options: Globals, everything: bool) -> Config:
    """As much of the configuration as is valid; with ``--all`` it may be unreadable as a whole."""
    if everything:
        return configured_if_readable(options)
    try:
        return configured(options, lenient=True, header=True)
    except ConfigError as error:
        raise ConfigError(error.message, hint="`llmhost down --all` destroys every worker") from error


async def _ask(
    options: Globals, own: FleetService, names: Sequence[str], others: Sequence[OtherFleet]
) -> None:
    """Raises Cancelled where the operator says no."""
    what = "all workers of this fleet"
    with suppress(ProviderError):  # that they cannot be listed is no reason not to ask
        listed = [worker for worker in await own.list() if not names or worker.id in names]
        if not listed and not others:
            return
        what = f"{counted(len(listed), 'worker')}, {money(hourly_cost(listed))}/h"
    for fleet in others:
        options.output.warn(described(fleet))
    also = f" and {counted(len(others), 'other fleet')}" if others else ""
    if not await confirm(f"Destroy {what}{also}?"):
        raise Cancelled("Cancelled. Nothing was destroyed.")


async def _end(
    fleet: FleetService,
    ids: Sequence[str] | None,
    orphans: bool,
    progress: Progress,
    now: bool,
    *,
    everywhere: bool = False,
) -> DownResult:
    def on_progress(step: WorkerProgress) -> None:
        if fleet.rents:  # the others are gone in a moment
            follow(progress, step)

    if orphans:
        return await fleet.down_orphans(on_progress=on_progress)
    return await fleet.down(ids, on_progress=on_progress, now=now, everywhere=everywhere)


#: what became of each fleet, by its name and provider
_Results = list[tuple[tuple[str, str], "DownResult"]]


async def _end_all(
    wiring: Wiring, own: FleetService, fleets: Sequence[OtherFleet], progress: Progress, now: bool
) -> _Results:
    """Every fleet, by name and provider, the configured one first; those without workers are kept from
    getting any, also those that nothing is known of yet. One fleet's trouble does not stop the ending of the
    next."""
    own_end = _end(own, None, False, progress, now, everywhere=True)
    results = [((own.spec.name, own.spec.provider), await _or_failure(own_end))]
    results += [
        (
            (other.name, other.provider),
            await _or_failure(_end_other(wiring, other, progress, now), wiring.others.refused_hint(other)),
        )
        for other in fleets[1:]
    ]
    return results + await _keep_rest_down(wiring, fleets, everything=True)


async def _keep_rest_down(wiring: Wiring, told: Sequence[OtherFleet], *, everything: bool) -> _Results:
    """No autoscaler makes workers for the fleets besides those `told`, nor for these where it uses another of
    their files; without `everything`, for the configured one alone, which is the first."""

    async def keep_down(other: OtherFleet) -> DownResult:
        return await (await wiring.service_of(other)).stay_down(everywhere=everything)

    key = (told[0].name, told[0].provider)
    rest = [one for one in wiring.others.untold(told) if everything or (one.name, one.provider) == key]
    if everything:
        rest += wiring.others.any_rented([*told, *rest])
    ended = [(other, await _or_failure(keep_down(other))) for other in rest]
    return [
        ((other.name, other.provider), _as_before(result) if other.was_down else result)
        for other, result in ended
    ]


def _as_before(result: DownResult) -> DownResult:
    """Of a fleet that was taken down here before: that another machine may have made it again and cannot be
    told is a warning."""
    untold = [failure.message for failure in result.failed if failure.worker is None]
    failed = tuple(failure for failure in result.failed if failure.worker is not None)
    return replace(result, failed=failed, warnings=(*result.warnings, *untold))


async def _end_other(wiring: Wiring, other: OtherFleet, progress: Progress, now: bool) -> DownResult:
    return await _end(await wiring.service_of(other), None, False, progress, now, everywhere=True)


async def _end_appeared(
    wiring: Wiring,
    told: Sequence[OtherFleet],
    before: _Results,
    progress: Progress,
    *,
    now: bool,
    ends: bool,
) -> _Results:
    """What the account in use rents still: it could not be ended with the key that its file names, or was
    rented while the others were destroyed, which may take minutes. It is destroyed too where this `ends` it
    or was to end it anyway, but not what was rented meanwhile: that is a failure. `before` is what became of
    the fleets `told` and of more."""
    from llmhost.fleet.results import DownResult, Failure

    asked = {name for fleet in told for name in (*(worker.id for worker in fleet.workers), *fleet.unlisted)}
    tried = [
        done for fleet, (_, done) in zip(told, before, strict=False) if wiring.others.has_key_in_use(fleet)
    ]
    results: _Results = []
    for ending in (True, False):
        both = [*tried, *(result for _, result in results)]
        named = {worker.id for result in both for worker in result.remaining}
        named |= {failure.worker or "" for result in both for failure in result.failed}
        appeared = await wiring.others.appeared(named)
        for fleet in appeared:
            if ending and (ends or {worker.id for worker in fleet.workers} <= asked):
                result = await _or_failure(_end_other(wiring, fleet, progress, now))
            else:
                failures = [
                    Failure(worker.id, "it was made while the others were destroyed", "run this again")
                    for worker in fleet.workers
                ]
                result = DownResult((), fleet.workers, tuple(failures), ())
            results.append(((fleet.name, fleet.provider), result))
        if not appeared:
            break
    return results


async def _or_failure(ending: Awaitable[DownResult], hint: str | None = None) -> DownResult:
    """An error, foreseen or not, is a failure of the result; `hint` is better than that of a foreseen one."""
    from llmhost.fleet.results import DownResult, Failure

    try:
        return await ending
    except LlmhostError as error:
        failure = Failure(None, error.message, hint or error.hint)
    except Exception as error:  # noqa: BLE001 - the other fleets are to be ended all the same
        failure = Failure(None, f"unexpected {type(error).__name__}: {error}", "please report it")
    return DownResult((), (), (failure,), ())


def _show(document: Mapping[str, Any], console: Console) -> None:
    for worker in document["destroyed"]:
        console.print(f"{ended_word(worker).capitalize()} {worker}.")
    for worker in document["remaining"]:
        console.print(f"{worker} is still running.")
    for intent in document["intents"]:
        console.print(f"Removed the record of purchase {intent}, which bought nothing.")
    if not document["destroyed"] and not document["remaining"]:
        console.print("No workers to destroy.")
    for url in document["gateways_stopped"]:
        console.print(f"Stopped the gateway on {url}.")
    if document["scaling_paused"]:
        console.print("Autoscaling is paused until the next `llmhost up`.", style="dim")
    if document["redis_stopped"]:
        console.print("Stopped the embedded Redis (data kept).")
