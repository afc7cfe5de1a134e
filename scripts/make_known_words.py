"""Writes the words in which the wording step looks for typing errors, `known.txt.gz` among the guards' words.

    python scripts/make_known_words.py COMMON ALL

COMMON and ALL are word lists, one a line, such as SCOWL's of size 50 and 70 (on Debian the packages
`wamerican` and `wamerican-huge`). What is written has the common words, those of the verifier's vocabulary,
and of all others those that a slip could make of one of them: a word that is in no list is a typing error, or
nobody's word.
"""

from __future__ import annotations

import gzip
import itertools
import json
import sys
from collections import defaultdict
from pathlib import Path

CACHE = Path(__file__).parent.parent / "llmhost" / "cache"
#: letters
_SHORTEST, _LONGEST = 4, 20


def main(common: Path, every: Path) -> None:
    vocabulary = json.loads((CACHE / "verifiers" / "builtin" / "tokenizer.json").read_bytes())
    pieces = set(filter(_is_word, vocabulary["model"]["vocab"]))
    targets = {word for word in _read(common) if word.islower()} | pieces
    targets = {word for word in targets if _SHORTEST <= len(word) <= _LONGEST}
    by_rest = defaultdict(set)
    for target in targets:
        for rest in _rests(target):
            by_rest[rest].add(target)
    others = {word.lower() for word in _read(every) if len(word) <= _LONGEST} | pieces
    kept = {word for word in others - targets if any(by_rest.get(rest) for rest in _rests(word))}
    lines = "".join(f"{word}\n" for word in sorted(targets | kept))
    (CACHE / "guards" / "words" / "known.txt.gz").write_bytes(gzip.compress(lines.encode(), 9, mtime=0))


def _read(path: Path) -> set[str]:
    return set(filter(_is_word, path.read_text(encoding="utf-8").split()))


def _is_word(text: str) -> bool:
    return text.isascii() and text.isalpha() and len(text) > 2


def _rests(word: str) -> set[str]:
    """The word without doubled letters, and without any one letter: two that share one are a slip apart."""
    single = "".join(letter for letter, _ in itertools.groupby(word))
    return {single, *(single[:at] + single[at + 1 :] for at in range(len(single)))}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
