"""Wrong hits, and what was learnt from them, as `stats` and `cache tune show` print it."""

from __future__ import annotations

from llmhost.cache.calibration import LabelsReport, served_error
from llmhost.cli.text import counted

__all__ = ["counts_as", "served_error_json", "served_error_lines"]


def served_error_json(report: LabelsReport, max_error: float) -> dict[str, object]:
    """The error that all audits of the fleet prove, those that each guard doubted (`none`: no guard), and
    those of each band of the verifier's probability. `bar_raised` is in steps; `max_error` is the configured
    share of wrong hits over which the threshold is raised.
    """
    total = served_error(report.total("audit"))
    bands = report.bands.get("audit", {})
    return {
        "estimate": total.estimate,
        "low": total.low,
        "high": total.high,
        "samples": total.samples,
        "by_guard": {guard: served_error(tally) for guard, tally in report.guards.items()},
        "by_confidence": {band: served_error(tally) for band, tally in bands.items()},
        "bar_raised": report.raised,
        "max_error": max_error,
    }


def served_error_lines(report: LabelsReport, max_error: float) -> list[str]:
    """How often the cache was wrong, and what it does about that."""
    audited = report.total("audit")
    error = served_error(audited)
    if error.estimate is None or error.low is None or error.high is None:
        lines = ["No semantic hit was audited yet."]
    else:
        hits = counted(error.samples, "audited semantic hit")
        interval = f"{error.low * 100:.1f} to {error.high * 100:.1f} %, 95 % confidence"
        were = "was" if 1 in (audited.wrong, error.samples) else "were"
        share = f"{error.estimate * 100:.1f} % ({interval})"
        lines = [f"{audited.wrong or 'None'} of {hits} {were} wrong: {share}."]
    if report.raised:
        lines.append(
            f"The threshold is raised by {counted(report.raised, 'step')}: fewer questions are answered "
            f"from the cache, until audits prove that less than {max_error * 100:.1f} % are wrong."
        )
        lines.append("`llmhost cache tune show` says how sure the wrong ones were; `… reset` starts over.")
    return lines


def counts_as(confidence: float, shifted: float) -> str:
    """``0.900 of the verifier counts as 0.871 here``; both are probabilities."""
    return f"{confidence:.3f} of the verifier counts as {shifted:.3f} here"
