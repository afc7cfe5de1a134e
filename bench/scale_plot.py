"""Draws the table of docs/benchmarks.md: what a look-up uses of the processor, by entries and index.

python bench/scale_plot.py            # writes docs/cache_scale.svg
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 60, 40
COLOURS = {"flat": "#2f6db3", "vector_set": "#c2571a", "query_engine": "#3c8a3c"}
#: milliseconds at the lines across
LINES = (0.5, 1, 2, 3, 4)

_ROW = re.compile(r"^\| `(\w+)` \| ([\d,]+) \| [^|]+ \| [^|]+ \| ([\d.]+) ms \|", re.MULTILINE)


def main() -> None:
    table: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for kind, entries, processor in _ROW.findall((DOCS / "benchmarks.md").read_text(encoding="utf-8")):
        table[kind].append((int(entries.replace(",", "")), float(processor)))
    (DOCS / "cache_scale.svg").write_text(drawn(table), encoding="utf-8")


def drawn(table: dict[str, list[tuple[int, float]]]) -> str:
    sizes = sorted({entries for rows in table.values() for entries, _ in rows})
    low, high = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(entries: int) -> float:
        return LEFT + (math.log10(entries) - low) / (high - low) * (WIDTH - LEFT - 120)

    def y(milliseconds: float) -> float:
        return HEIGHT - BOTTOM - milliseconds / LINES[-1] * (HEIGHT - BOTTOM - 20)

    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *(
            f'<path d="M{LEFT} {y(line):.1f}H{WIDTH - 120}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{y(line) + 4:.1f}" text-anchor="end">{line:g} ms</text>'
            for line in LINES
        ),
        *(
            f'<text x="{x(size):.1f}" y="{HEIGHT - 18}" text-anchor="middle">{size:,}</text>'
            for size in sizes
        ),
    ]
    for kind, rows in table.items():
        points = " ".join(f"{x(entries):.1f},{y(spent):.1f}" for entries, spent in rows)
        entries, spent = rows[-1]
        colour = COLOURS[kind]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x(entries) + 8:.1f}" y="{y(spent) + 4:.1f}" fill="{colour}">{kind}</text>'
        )
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 2}">entries; processor time of a look-up</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
