"""What is wrong with this set-up, and how to mend it.

A look is one thing to look at; what it raises on purpose is a finding too. Looking starts nothing, stops
nothing and fetches nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhost.engines.engine import Engine
from llmhost.errors import LlmhostError

__all__ = [
    "Check",
    "Look",
    "check_machine",
    "check_redis",
    "check_server",
    "check_state",
    "examine",
    "failed",
    "fine",
    "wrong",
]

#: seconds for one look; hashing a large model file from a slow disk takes a part of it
_PATIENCE = 60.0

#: bytes; a full cache, its append-only file and the logs of some workers
_LOW_DISK = 2 * 1024**3
_GIB = 1024**3
_MIB = 1024**2

_SPILLED_HINT = "take a smaller `engine.model`, a lower `engine.parallel`, or a larger GPU"

_OLDEST_REDIS = (6, 2)
_POLICY_HINT = "set its `maxmemory-policy` to volatile-lru"
_SAVE_STATES = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding, in a sentence. `fix` says what to do where it is not `ok`."""

    name: str
    ok: bool
    detail: str
    fix: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """Something to look at. `find` may raise LlmhostError, which counts as one failed check called `name`."""

    name: str
    find: Callable[[], Awaitable[Sequence[Check]]]


def fine(name: str, detail: str) -> Check:
    return Check(name, ok=True, detail=detail, fix=None)


def wrong(name: str, detail: str, fix: str | None) -> Check:
    return Check(name, ok=False, detail=detail, fix=fix)


def failed(name: str, error: LlmhostError) -> Check:
    """The check that an error amounts to."""
    return wrong(name, error.message, error.hint)


async def examine(looks: Sequence[Look], patience: float = _PATIENCE) -> Sequence[Check]:
    """Looks at everything at once; the checks come in the order of the looks.

    A look that takes longer than `patience` seconds counts as failed. An error that several looks meet,
    such as a missing key, is told once.
    """
    outcomes = await asyncio.gather(*(_look(look, patience) for look in looks))
    checks: list[Check] = []
    told: set[str] = set()
    for look, outcome in zip(looks, outcomes, strict=True):
        if not isinstance(outcome, LlmhostError):
            checks += outcome
        elif outcome.message not in told:
            told.add(outcome.message)
            checks.append(failed(look.name, outcome))
    return checks


async def _look(look: Look, patience: float) -> Sequence[Check] | LlmhostError:
    try:
        async with asyncio.timeout(patience):
            return await look.find()
    except LlmhostError as error:
        return error
    except TimeoutError:
        return [wrong(look.name, f"no answer within {patience:g} s", "see whether it hangs")]


def check_state(folder: Path) -> Check:
    """Whether the state folder, which is there and can be written, has room."""
    free = shutil.disk_usage(folder).free
    detail = f"{folder}, {free / _GIB:.1f} GiB free"
    if free < _LOW_DISK:
        return wrong(
            "state", detail, "free some disk space, or set LLMHOST_STATE_DIR to a folder on another disk"
        )
    return fine("state", detail)


def check_machine() -> Check:
    """What local workers have to share. Never wrong: how much they need is not known."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    return fine(
        "machine",
        f"{cores} {'core' if cores == 1 else 'cores'}, {memory.available / _GIB:.1f} of"
        f" {memory.total / _GIB:.1f} GiB of memory free",
    )


async def check_server(name: str, engine: Engine, model: str) -> Check:
    """Whether a server answers and has the model. Raises EngineUnavailable, EngineRefused."""
    version = await engine.version()
    answers = f"answers (version {version})" if version else "answers"
    status = await engine.model_status(model)
    if not status.present:
        return wrong(
            name,
            f"{answers}, but has no model {model}",
            "`llmhost up` fetches it, where the server can fetch models",
        )
    if status.spilled:
        return wrong(name, f"{answers}; {model} {status.detail}", _SPILLED_HINT)
    if status.loaded is False:
        return fine(name, f"{answers}; {model} is there and will be loaded with the first question")
    return fine(name, f"{answers}; {model} is {'loaded' if status.loaded else 'there'}")


def check_redis(info: Mapping[str, Any]) -> Sequence[Check]:
    """What a Redis says of itself in INFO: version, role, eviction, persistence."""
    return [_version(info), *_role(info), _eviction(info), _persistence(info)]


def _version(info: Mapping[str, Any]) -> Check:
    version = str(info.get("redis_version", "unknown"))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers and numbers < _OLDEST_REDIS:
        return wrong("redis", f"answers, version {version}", "llmhost needs Redis 6.2 or later")
    return fine("redis", f"answers, version {version}")


def _role(info: Mapping[str, Any]) -> Sequence[Check]:
    if info.get("role") == "slave" and info.get("slave_read_only", 1):
        fix = "this is a replica: give the address of the primary"
        return [wrong("redis role", "read-only: takes no answers and counts nothing", fix)]
    return []


def _eviction(info: Mapping[str, Any]) -> Check:
    """Cache keys have a lifetime; the ledger, the workers and the locks must outlive a full memory. So only
    keys with a lifetime may make room, and they must, or a full Redis takes no more answers."""
    policy, limit = str(info.get("maxmemory_policy", "unknown")), int(info.get("maxmemory", 0))
    detail = f"{policy}, {f'at most {limit / _MIB:,.0f} MiB' if limit else 'no limit of memory'}"
    if policy.startswith("allkeys"):
        return wrong(
            "redis eviction", f"{detail}: may throw away the ledger and the list of workers", _POLICY_HINT
        )
    if limit and policy == "noeviction":
        return wrong("redis eviction", f"{detail}: takes no new answers when it is full", _POLICY_HINT)
    return fine("redis eviction", detail)


def _persistence(info: Mapping[str, Any]) -> Check:
    broken = [state for state in _SAVE_STATES if info.get(state, "ok") != "ok"]
    if broken:
        fix = "free some disk space where Redis runs, and read its log"
        return wrong("redis persistence", f"saving fails: {broken[0]} is {info[broken[0]]}", fix)
    if info.get("aof_enabled"):
        return fine("redis persistence", "append-only file")
    return fine("redis persistence", "snapshots at most: a crash loses what came after the last one")
