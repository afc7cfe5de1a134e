"""Workers as `up`, `status` and `down` show them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cli.output import Output, table
from llmhost.cli.text import clean, money, spent
from llmhost.errors import LlmhostError, PartialError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cli.output import Progress
    from llmhost.fleet.health import WorkerProgress
    from llmhost.fleet.models import Worker
    from llmhost.fleet.provider import Provider
    from llmhost.fleet.results import Failure

__all__ = [
    "WorkerOutput",
    "ended_word",
    "follow",
    "hourly_cost",
    "show_failures",
    "show_workers",
    "warn_of_running",
    "worker_output",
]

_STYLES = {"ready": "green", "starting": "yellow", "failed": "red"}


@dataclass(frozen=True, slots=True)
class WorkerOutput:
    """Prices in USD; `spent_usd` since the worker was started; `spent_estimated`: a bill may still correct
    it. `contract_ends_at` is Unix seconds; None where that is not known. `dead_man_switch` is "armed", or why
    it is not; None where it was not asked for.
    """

    id: str
    provider: str
    state: str
    url: str | None
    gpu: str
    price_per_hour: float
    spent_usd: float
    model: str
    ready: bool
    detail: str
    contract_ends_at: float | None
    dead_man_switch: str | None = None
    spent_estimated: bool = False


def worker_output(
    worker: Worker, now: float, spent_usd: float | None = None, *, estimated: bool = False
) -> WorkerOutput:
    """The worker at `now`, Unix seconds. Without `spent_usd` it is its price since it was started. What it
    cost is `estimated` where its provider sends a bill, which is not complete while the worker runs."""
    from llmhost.fleet.models import WorkerState
    from llmhost.ledger.cost import rental_cost
    from llmhost.ledger.rentals import Rental

    rental = Rental(worker.id, worker.price_per_hour, worker.started)
    return WorkerOutput(
        id=worker.id,
        provider=worker.provider,
        state=worker.state.value,
        url=worker.url,
        gpu=worker.gpu,
        price_per_hour=worker.price_per_hour,
        spent_usd=rental_cost(rental, worker.started, now) if spent_usd is None else spent_usd,
        model=worker.model,
        ready=worker.state is WorkerState.READY,
        detail=worker.detail,
        contract_ends_at=worker.ends,
        spent_estimated=estimated,
    )


def follow(progress: Progress, step: WorkerProgress) -> None:
    """Shows one step of a worker on its way up or down, or of the fleet."""
    if step.stage in ("ready", "waited", "ended"):
        progress.done(step.worker, ended_word(step.worker) if step.stage == "ended" else step.stage)
    elif step.stage in ("failed", "gone"):
        progress.fail(step.worker, step.detail)
    else:
        progress.update(step.worker, step.stage, step.fraction)


def ended_word(worker: str, word: str = "destroyed") -> str:
    """`word`, which has "destroy" in it, for this worker: the server of a static fleet runs on, and is only
    released."""
    if not worker.startswith("static-"):
        return word
    return word.replace("destroyed", "released").replace("destroy", "release")


def hourly_cost(workers: Iterable[Worker]) -> float:
    """USD an hour that all workers together cost."""
    return sum(worker.rate for worker in workers)


def show_workers(workers: Sequence[WorkerOutput], console: Console) -> None:
    """A table, one worker a line. A model that all serve is printed once, below it, to fit in 80 columns."""
    from rich.text import Text

    if not workers:
        console.print("No workers. Run `llmhost up`.")
        return
    models = {worker.model for worker in workers}
    model = ("model",) if len(models) > 1 else ()
    grid = table("worker", "state", "address", "gpu", *model, "$/h", "cost", right=("$/h", "cost"))
    for worker in workers:
        state = Text(worker.state, _STYLES.get(worker.state, ""))
        facts = (
            clean(worker.url or "-").removeprefix("https://"),
            clean(worker.gpu or "-"),
            *(clean(worker.model) for _ in model),
        )
        cost = spent(worker.spent_usd, worker.spent_estimated)
        grid.add_row(worker.id, state, *facts, money(worker.price_per_hour), cost)
    console.print(grid)
    if not model:
        console.print(f"model {clean(workers[0].model) or '-'}", style="dim")
    for worker in workers:
        if worker.detail:
            console.print(f"{worker.id}: {clean(worker.detail)}", style="dim")


async def warn_of_running(
    out: Output, provider: Provider, next_step: str, bought: Collection[str] = (), others: str = ""
) -> None:
    """Names the workers that run where a command ended before it was done: the user must know of each. Where
    they cannot be listed, those that the command has `bought`. `others` says what shows the workers of other
    fleets, where the command was about them too."""
    try:
        workers = await provider.list()
    except Exception:  # noqa: BLE001 - it must not hide what was bought, nor what ended the command
        names = f": {', '.join(sorted(bought))}" if bought else ""
        out.warn(
            f"the running workers cannot be listed{names}; `llmhost status` shows them later, `llmhost down`"
            f" destroys them{others}"
        )
        return
    if workers:
        names = ", ".join(worker.id for worker in workers)
        out.warn(f"still running: {names} ({money(hourly_cost(workers))}/h); {next_step}{others}")
    else:
        out.warn("no workers are running" + (f" in the configured fleet{others}" if others else ""))


def show_failures(out: Output, failures: Sequence[Failure], *, done: bool) -> None:
    """Ends the command with an error if there are failures. What was found twice is said once.

    Raises:
        PartialError: some workers failed, while others succeeded (`done`).
        LlmhostError: all failed.
    """
    if not failures:
        return
    *others, last = dict.fromkeys(failures)
    for failure in others:
        out.error(_words(failure), failure.hint)
    raise (PartialError if done else LlmhostError)(_words(last), hint=last.hint)


def _words(failure: Failure) -> str:
    return f"{failure.worker}: {failure.message}" if failure.worker else failure.message
