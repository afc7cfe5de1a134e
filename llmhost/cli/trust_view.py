"""Wrong hits, and what was learnt from them, as `stats` and `cache tune show` print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmhost.cache.calibration import LabelsReport, ServedError, served_error
from llmhost.cli.text import counted

__all__ = ["ServedErrorOutput", "counts_as", "served_error_lines", "served_error_output"]


@dataclass(frozen=True, slots=True)
class ServedErrorOutput:
    """`ServedError` for all audits of the fleet, for those that each guard doubted
    (`none`: no guard), and for each band of the verifier's probability. `bar_raised` is in steps.
    """

    estimate: float | None
    low: float | None
    high: float | None
    samples: int
    by_guard: Mapping[str, ServedError] = field(default_factory=dict)
    by_confidence: Mapping[str, ServedError] = field(default_factory=dict)
    bar_raised: int = 0
    max_error: float = 0.0


def served_error_output(report: LabelsReport, max_error: float) -> ServedErrorOutput:
    """`max_error` is the configured share of wrong hits over which the threshold is raised."""
    total = served_error(report.total("audit"))
    return ServedErrorOutput(
        estimate=total.estimate,
        low=total.low,
        high=total.high,
        samples=total.samples,
        by_guard={guard: served_error(tally) for guard, tally in report.guards.items()},
        by_confidence={band: served_error(tally) for band, tally in report.bands.get("audit", {}).items()},
        bar_raised=report.raised,
        max_error=max_error,
    )


def served_error_lines(output: ServedErrorOutput) -> list[str]:
    """How often the cache was wrong, and what it does about that."""
    if output.estimate is None or output.low is None or output.high is None:
        lines = ["No semantic hit was audited yet."]
    else:
        wrong = round(output.estimate * output.samples)
        hits = counted(output.samples, "audited semantic hit")
        interval = f"{output.low * 100:.1f} to {output.high * 100:.1f} %, 95 % confidence"
        were = "was" if 1 in (wrong, output.samples) else "were"
        lines = [f"{wrong or 'None'} of {hits} {were} wrong: {output.estimate * 100:.1f} % ({interval})."]
    if output.bar_raised:
        lines.append(
            f"The threshold is raised by {counted(output.bar_raised, 'step')}: fewer questions are answered "
            f"from the cache, until audits prove that less than {output.max_error * 100:.1f} % are wrong."
        )
        lines.append("`llmhost cache tune show` says how sure the wrong ones were; `… reset` starts over.")
    return lines


def counts_as(confidence: float, shifted: float) -> str:
    """``0.900 of the verifier counts as 0.871 here``; both are probabilities."""
    return f"{confidence:.3f} of the verifier counts as {shifted:.3f} here"
