"""The labels of a fleet, in Redis: a small hash of counts for each policy (similarities of `threshold` are no
probabilities) and each verifier, without a lifetime: a full Redis evicts answers, never what was learnt from
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from llmhost.cache.calibration import (
    BANDS,
    MOST_RAISED,
    Calibration,
    Label,
    LabelSource,
    LabelsReport,
    Tally,
    ThresholdChange,
    band_of,
    calibrate,
    threshold_change,
)
from llmhost.errors import StoreRefused
from llmhost.store.client import amount, is_sharded, load_script, text, translate_errors
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Labels"]

#: digits; a count of more was not counted
_LONGEST_COUNT = 9

_Fields = Mapping[str, str]


class Labels:
    """The labels of one fleet on the hits of one policy, or of one verifier: `policy` names either.
    `max_error` is the share of wrong hits over which the threshold is raised; None: the policy has no
    threshold that moves. `read_only`: for a user who may not run a script on them.

    Every method raises StoreError where Redis is away or will not write, and where what it holds makes no
    sense: a threshold that cannot be known is none.
    """

    def __init__(
        self,
        client: Redis,
        fleet: str,
        *,
        max_error: float | None,
        policy: str = "verified",
        read_only: bool = False,
    ) -> None:
        self.policy = policy
        self._client = client
        self._key = FleetKeys(fleet, is_sharded(client)).trust(policy)
        self._max_error = max_error
        self._read_only = read_only
        self._read, self._count, self._move = (
            client.register_script(load_script("llmhost.cache", name))
            for name in ("labels.lua", "label.lua", "move_bar.lua")
        )

    async def calibration(self) -> Calibration:
        """What the labels teach; one short read."""
        return calibrate(await self.report())

    async def record(self, label: Label, now: float) -> ThresholdChange | None:
        """Counts a label at `now`, Unix seconds; says so where it moved the threshold."""
        with translate_errors():
            seen = await self._count(keys=[self._key], args=_names(label))
        if seen is None:
            raise _damaged()
        if label.source != "audit" or self._max_error is None:
            return None
        raised, right, wrong = _step(seen[0]), _whole(seen[1]), _whole(seen[2])
        change = threshold_change(Tally(right, wrong), raised, self._max_error)
        if change is None:
            return None
        with translate_errors():
            args = [raised, right, wrong, change.raised, now]
            return change if await self._move(keys=[self._key], args=args) else None

    async def report(self) -> LabelsReport:
        """Everything that the labels say."""
        with translate_errors():
            if self._read_only:
                fields = await self._client.hgetall(self._key)
                return _report({text(name): text(value) for name, value in fields.items()})
            flat = json.loads(text(await self._read(keys=[self._key])))
        return _report(dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {})

    async def reset(self) -> int:
        """Forgets every label and lowers the threshold to where it was; says how many labels there were.
        Damaged ones are forgotten too, uncounted."""
        with translate_errors():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.hgetall(self._key)
            pipeline.delete(self._key)
            fields, _ = await pipeline.execute()
        bands = [f"{source}:{band}" for source in get_args(LabelSource) for band in BANDS]
        counts = [
            amount(fields.get(f"{band}:{word}".encode())) for band in bands for word in ("right", "wrong")
        ]
        return int(sum(count or 0 for count in counts))


def _names(label: Label) -> list[str]:
    """The counts that a label belongs to. There are few, whatever it says."""
    word = "right" if label.right else "wrong"
    names = [f"{label.source}:{band_of(label.raw)}"]
    if label.source == "audit":
        names += [f"guard:{guard}" for guard in _guards(label.doubts)] + ["since"]
    return [f"{name}:{word}" for name in names]


def _guards(doubts: Sequence[str]) -> list[str]:
    from llmhost.cache.guards import GUARDS  # here: an exact hit needs no guards

    known = {name for name, _ in GUARDS}
    return sorted({doubt if doubt in known else "other" for doubt in doubts}) or ["none"]


def _report(fields: _Fields) -> LabelsReport:
    guards = sorted({name.split(":")[1] for name in fields if re.fullmatch("guard:[^:]*:[^:]*", name)})
    changed = amount(fields.get("changed"))
    if changed is None and "changed" in fields:
        raise _damaged()
    return LabelsReport(
        bands={source: _tallies(fields, source, BANDS) for source in get_args(LabelSource)},
        guards=_tallies(fields, "guard", guards),
        since=_tally(fields, "since"),
        raised=_step(fields.get("raised")),
        changed=changed,
    )


def _tallies(fields: _Fields, prefix: str, names: Iterable[str]) -> dict[str, Tally]:
    found = {name: _tally(fields, f"{prefix}:{name}") for name in names}
    return {name: tally for name, tally in found.items() if tally.samples}


def _tally(fields: _Fields, name: str) -> Tally:
    return Tally(_whole(fields.get(f"{name}:right")), _whole(fields.get(f"{name}:wrong")))


def _whole(raw: bytes | str | None) -> int:
    """A count; one that is not there is 0."""
    digits = "0" if raw is None else text(raw)
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _LONGEST_COUNT):
        raise _damaged()
    return int(digits)


def _step(raw: bytes | str | None) -> int:
    step = _whole(raw)
    if step > MOST_RAISED:
        raise _damaged()
    return step


def _damaged() -> StoreRefused:
    return StoreRefused(
        "what was learnt about the cache's hits is damaged in Redis",
        hint="`llmhost cache tune reset` forgets it",
    )
