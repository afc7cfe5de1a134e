"""A small reader of the WordNet 3 database files (format: wndb(5WN)); it seeks, and never reads a file whole.

Only the first, most frequent sense of a word is looked at, and only where that sense was seen in tagged
text: questions are plain speech.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Synset", "WordNet"]

_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv", "s": "adj"}


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning. `pointers`: (symbol, offset, part of speech, source word, target word), words from 1."""

    offset: int
    lemmas: tuple[str, ...]
    pointers: tuple[tuple[str, int, str, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of an index file: how many senses were seen in tagged text, and where the first is."""

    tagged: int
    first: int


class WordNet:
    """The words of `vocabulary` that WordNet knows.

    Raises FileNotFoundError where `folder` holds no database.
    """

    def __init__(self, folder: Path, vocabulary: set[str]) -> None:
        self._folder = folder
        self._index = {part: _index(folder / f"index.{_FILES[part]}", vocabulary) for part in "nvar"}
        self.vocabulary = vocabulary

    def first_sense(self, lemma: str, part: str) -> Synset | None:
        """The most frequent meaning of `lemma` as `part` (n, v, a or r)."""
        entry = self._index[part].get(lemma)
        return self.synset(entry.first, part) if entry and entry.tagged else None

    def synset(self, offset: int, part: str) -> Synset:
        """The meaning at a byte `offset` of the file for `part`."""
        with (self._folder / f"data.{_FILES[part]}").open("rb") as file:
            file.seek(offset)
            return _synset(file.readline().decode("latin-1"))

    def antonyms(self) -> dict[tuple[str, str], str]:
        """(word, part) to its direct opposite; both in the vocabulary, both in their first sense."""
        found = {}
        for part, index in self._index.items():
            for lemma in index:
                opposite = self._antonym(lemma, part)
                if opposite and opposite in self.vocabulary:
                    found[lemma, part] = opposite
        return found

    def _antonym(self, lemma: str, part: str) -> str | None:
        here = self.first_sense(lemma, part)
        if here is None:
            return None
        number = [word.lower() for word in here.lemmas].index(lemma) + 1
        for symbol, offset, _, source, target in here.pointers:
            if symbol == "!" and source == number:
                there = self.synset(offset, part)
                other = there.lemmas[target - 1].lower()
                first = self.first_sense(other, part)
                return other if first and first.offset == there.offset else None
        return None


def _index(path: Path, vocabulary: set[str]) -> dict[str, _Entry]:
    entries = {}
    with path.open(encoding="latin-1") as file:
        for line in file:
            lemma, _, rest = line.partition(" ")
            if lemma in vocabulary:
                fields = rest.split()
                pointers = int(fields[2])
                tagged, first = (int(field) for field in fields[4 + pointers : 6 + pointers])
                entries[lemma] = _Entry(tagged, first)
    return entries


def _synset(line: str) -> Synset:
    fields = line.partition(" | ")[0].split()
    count = int(fields[3], 16)
    lemmas = tuple(field.partition("(")[0] for field in fields[4 : 4 + 2 * count : 2])
    at = 4 + 2 * count
    pointers = []
    for start in range(at + 1, at + 1 + 4 * int(fields[at]), 4):
        symbol, offset, part, link = fields[start : start + 4]
        source, target = divmod(int(link, 16), 256)
        pointers.append((symbol, int(offset), part, source, target))
    return Synset(int(fields[0]), lemmas, tuple(pointers))
