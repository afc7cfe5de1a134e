"""What must be created and destroyed so that the fleet is what the operator wants. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmhost.errors import LimitError, UsageError
from llmhost.fleet.models import FleetSpec, Worker, WorkerState

__all__ = ["Plan", "make_plan"]

_DESTROY_ORDER = {WorkerState.FAILED: 0, WorkerState.STARTING: 1, WorkerState.READY: 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """`keep` is best first, `destroy` in the order in which it is to be done."""

    create: int
    keep: tuple[Worker, ...]
    destroy: tuple[Worker, ...]

    @property
    def changes(self) -> bool:
        return bool(self.create or self.destroy)


def make_plan(spec: FleetSpec, workers: Sequence[Worker]) -> Plan:
    """The steps from `workers` to `spec.gpus` healthy workers of the wanted model and engine.

    Failed workers and those with another model or engine are replaced. Where there are too many,
    ready ones are kept before starting ones, and older before newer. `gpus == 0` destroys all.

    Raises:
        LimitError: more is wanted than `max_gpus` allows.
        UsageError: fewer than none is wanted.
    """
    _check_size(spec)
    existing = [worker for worker in workers if worker.state is not WorkerState.GONE]
    fit = sorted((worker for worker in existing if _fits(spec, worker)), key=_merit)
    keep = tuple(fit[: spec.gpus])
    kept = {worker.id for worker in keep}
    destroy = sorted((worker for worker in existing if worker.id not in kept), key=_destroy_order)
    return Plan(create=spec.gpus - len(keep), keep=keep, destroy=tuple(destroy))


def _check_size(spec: FleetSpec) -> None:
    if spec.gpus < 0:
        raise UsageError(f"a fleet cannot have {spec.gpus} workers", hint="ask for 1 or more")
    if spec.gpus > spec.max_gpus:
        raise LimitError(
            f"{spec.gpus} workers wanted, but fleet.max_gpus is {spec.max_gpus}:"
            f" {spec.gpus - spec.max_gpus} too many",
            hint=f"ask for at most {spec.max_gpus}, or raise fleet.max_gpus in the configuration",
        )


def _fits(spec: FleetSpec, worker: Worker) -> bool:
    return (
        worker.state is not WorkerState.FAILED and worker.model == spec.model and worker.engine == spec.engine
    )


def _merit(worker: Worker) -> tuple[bool, float, str]:
    return (worker.state is not WorkerState.READY, worker.started, worker.id)


def _destroy_order(worker: Worker) -> tuple[int, float, str]:
    return (_DESTROY_ORDER[worker.state], -worker.started, worker.id)
