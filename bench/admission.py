"""How well admission knows what may be cached: the table of docs/trust.md.

    python bench/admission.py [FILE] [--show] [--markdown]

FILE, bench/pairs/requests.jsonl where none is named, has a line {"text": ..., "kind": ...} for each request,
by a careful person's judgement; lines with # are comments. Wrongly cacheable is what is changing, acting,
personal or random and would be kept; wrongly refused is what is plain or creative and would not be. Which of
the refused kinds a request is taken for costs nothing, and is in the second table alone.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from trust import counted_share, show_markdown, show_text

from llmhost.answering.admission import Admitted, admit

HERE = Path(__file__).parent / "pairs"
KINDS = ("plain", "creative", "changing", "acting", "personal", "random")
#: kinds whose answers are kept, as the configuration is by default
KEPT = {"plain", "creative"}

Row = tuple[str, str, Admitted]


def main(path: Path, *, show: bool, markdown: bool) -> None:
    written = map(json.loads, (line for line in path.open() if not line.startswith("#")))
    rows = [(row["text"], row["kind"], admit(row["text"])) for row in written]
    kept = [row for row in rows if row[1] in KEPT]
    refused = [row for row in rows if row[1] not in KEPT]
    wrongly_kept = [row for row in refused if row[2].kind in KEPT]
    wrongly_refused = [row for row in kept if row[2].kind not in KEPT]
    grid = show_markdown if markdown else show_text
    grid(
        [
            ["requests", "wrongly cacheable", "wrongly refused"],
            [
                f"all {len(rows)}",
                counted_share(len(wrongly_kept), len(rows)),
                counted_share(len(wrongly_refused), len(rows)),
            ],
            [
                "of the kinds that it can happen to",
                counted_share(len(wrongly_kept), len(refused)),
                counted_share(len(wrongly_refused), len(kept)),
            ],
        ]
    )
    print()
    grid(taken_for(rows))
    if show:
        for name, wrong in (("wrongly cacheable", wrongly_kept), ("wrongly refused", wrongly_refused)):
            print(f"\n{name}")
            for text, kind, admitted in wrong:
                print(f"  {kind}, taken for {admitted.kind} ({admitted.because!r}): {text}")


def taken_for(rows: Sequence[Row]) -> list[list[str]]:
    """Of each kind, for what its requests were taken."""
    seen = Counter((kind, admitted.kind) for _, kind, admitted in rows)
    is_kind = [kind for kind in KINDS if any(seen[kind, other] for other in KINDS)]
    head = ["is", *(f"taken for {kind}" for kind in KINDS)]
    return [head, *([kind, *(str(seen[kind, other]) for other in KINDS)] for kind in is_kind)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?", default=HERE / "requests.jsonl")
    parser.add_argument("--show", action="store_true", help="name what was taken for something else")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    main(options.file, show=options.show, markdown=options.markdown)
