"""`llmhost cache audit`: were semantic hits right?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import ENTRY_DIGITS, clean, shortened

if TYPE_CHECKING:
    from rich.console import Console


__all__ = ["audit_hits"]

#: audits; some minutes of a small model, so that a background process ends
_LIMIT = 50

#: characters; enough to see what two answers say
_SHOWN = 300


@asynchronous
async def audit_hits(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to audit at most.")] = _LIMIT,
) -> None:
    """Check semantic hits: a worker answers them as well, and the two answers are compared.

    A share of the hits, `cache.audit_share`, waits for this; `ask` starts it by itself in the background.

    Examples:
      llmhost cache audit
      llmhost cache audit --limit 500 --json
    """
    from llmhost.errors import StateError
    from llmhost.machine.files import hold_lock
    from llmhost.machine.paths import state_dir

    options = globals_of(ctx)
    busy = StateError("another llmhost process is auditing", hint="wait until it ends, then run it again")
    async with (
        wired(options, configured(options, header=True)) as wiring,
        hold_lock(state_dir() / "audit.lock", patience=0, held=busy),
    ):
        audited = await (await wiring.auditor()).run(limit)
    for change in filter(None, (finding.change for finding in audited.findings)):
        options.output.warn(change)
    verdicts = [finding.right for finding in audited.findings]
    wrong = [
        {
            "entry": finding.audit.entry,
            "question": shortened(finding.audit.question.prompt, _SHOWN),
            "matched_question": shortened(finding.audit.matched_question, _SHOWN),
            "served": shortened(finding.audit.answer, _SHOWN),
            "engine": shortened(finding.engine_answer or "", _SHOWN),
            "raw": finding.audit.raw,
            "doubts": finding.audit.doubts,
        }
        for finding in audited.findings
        if finding.right is False
    ]
    document = {
        "audited": len(verdicts),
        "right": verdicts.count(True),
        "wrong": len(wrong),
        "unclear": verdicts.count(None),
        "left": audited.left,
        "found": wrong,
    }
    options.output.result(document, _show)


def _show(document: Mapping[str, Any], console: Console) -> None:
    if not document["audited"]:
        console.print("No hit waits to be audited.")
        return
    console.print(
        "{audited:,} audited: {right:,} right, {wrong:,} wrong, {unclear:,} unclear".format_map(document)
    )
    for found in document["found"]:
        console.print()
        console.print(f"wrong: “{clean(found['question'])}”", style="red")
        matched, entry = clean(found["matched_question"]), found["entry"][:ENTRY_DIGITS]
        console.print(f"got the answer to “{matched}”, entry {entry}")
        console.print(f"  served: {clean(found['served'])}")
        console.print(f"  engine: {clean(found['engine'])}")
    if document["left"]:
        console.print(f"{document['left']:,} more wait; --limit audits more at once.", style="dim")
