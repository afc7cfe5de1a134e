"""How well admission knows what may be cached: the table of docs/trust.md.

    python bench/admission.py [FILE] [--show] [--markdown]

FILE, bench/pairs/requests.jsonl where none is named, has a line {"text": ..., "kind": ...} for each request,
by a careful person's judgement; lines with # are comments. Wrongly cacheable is what is changing, acting,
personal or random and would be kept; wrongly refused is what is plain or creative and would not be. Which of
the refused kinds a request is taken for costs nothing, and is in the second table alone. The rules are what a
request is known by before it is embedded; the second look is at its vector.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from trust import counted_share, show_markdown, show_text

from llmhost.answering.admission import PLAIN, Admitted, admit
from llmhost.answering.second_look import load_second_look
from llmhost.cache.contracts import Embedder
from llmhost.cache.embedders.load import load_embedder
from llmhost.config.models import CacheConfig

HERE = Path(__file__).parent / "pairs"
KINDS = ("plain", "creative", "changing", "acting", "personal", "random")
#: kinds whose answers are kept, as the configuration is by default
KEPT = {"plain", "creative"}

Row = tuple[str, str, Admitted]


def main(path: Path, *, show: bool, markdown: bool) -> None:
    written = map(json.loads, (line for line in path.open() if not line.startswith("#")))
    ruled = [(row["text"], row["kind"], admit(row["text"])) for row in written]
    embedder = load_embedder(CacheConfig().embedder, on_progress=print)
    rows = [(text, kind, look_again(embedder, text, admitted)) for text, kind, admitted in ruled]
    grid = show_markdown if markdown else show_text
    grid(
        [
            ["requests", "by", "wrongly cacheable", "wrongly refused"],
            *counted(ruled, "the rules"),
            *counted(rows, "both looks"),
        ]
    )
    print()
    grid(taken_for(rows))
    if show:
        for name, wrong in zip(("wrongly cacheable", "wrongly refused"), mistakes(rows), strict=True):
            print(f"\n{name}")
            for text, kind, admitted in wrong:
                print(f"  {kind}, taken for {admitted.kind} ({admitted.because!r}): {text}")


def look_again(embedder: Embedder, text: str, admitted: Admitted) -> Admitted:
    vector = embedder.embed(text) if admitted == PLAIN else None
    return admitted if vector is None else load_second_look().admit(text, vector)


def mistakes(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """What is wrongly cacheable, and what is wrongly refused."""
    return (
        [row for row in rows if row[1] not in KEPT and row[2].kind in KEPT],
        [row for row in rows if row[1] in KEPT and row[2].kind not in KEPT],
    )


def counted(rows: Sequence[Row], by: str) -> list[list[str]]:
    """Of all requests, and of those to which the mistake can happen."""
    kept = sum(kind in KEPT for _, kind, _ in rows)
    wrongly_kept, wrongly_refused = map(len, mistakes(rows))
    return [
        [
            f"all {len(rows)}",
            by,
            counted_share(wrongly_kept, len(rows)),
            counted_share(wrongly_refused, len(rows)),
        ],
        [
            "of the kinds that it can happen to",
            by,
            counted_share(wrongly_kept, len(rows) - kept),
            counted_share(wrongly_refused, kept),
        ],
    ]


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
