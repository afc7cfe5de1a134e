"""Workers and specs for tests that care about one or two of their fields."""

from __future__ import annotations

from typing import Any

from llmhost.fleet.models import FleetSpec, Offer, Worker, WorkerState
from llmhost.fleet.registry import Origin

#: of the records of a fleet in memory
ORIGIN = Origin("me", "memory", key=b"what this fleet alone knows")


def make_spec(**changes: Any) -> FleetSpec:
    values = {
        "name": "test",
        "provider": "memory",
        "gpus": 1,
        "max_gpus": 8,
        "engine": "llama_cpp",
        "model": "tiny",
        "price_per_hour": 0.5,
    }
    return FleetSpec(**{**values, **changes})


def make_worker(id: str = "w-1", **changes: Any) -> Worker:
    values = {
        "provider": "memory",
        "state": WorkerState.READY,
        "url": f"http://{id}.invalid",
        "price_per_hour": 0.5,
        "started": 1_700_000_000.0,
        "model": "tiny",
        "engine": "llama_cpp",
    }
    return Worker(id=id, **{**values, **changes})


def make_offer(id: str = "o-1", **changes: Any) -> Offer:
    values = {
        "gpu": "RTX 4090",
        "price_per_hour": 0.4,
        "reliability": 0.99,
        "region": "US",
        "machine": f"m-{id}",
        "performance": 100.0,
    }
    return Offer(id=id, **{**values, **changes})
