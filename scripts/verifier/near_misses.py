"""Makes pairs of questions by program: near misses that ask another thing, and rewordings that ask the same.

One seed gives one output.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random

from verifier.data import Pair
from verifier.mutations import aspects, entities, negation, numbers, rewordings, roles, scopes
from verifier.mutations.antonyms import Antonyms
from verifier.mutations.material import Material
from verifier.mutations.text import Mutation, PairMaker, key, words
from verifier.mutations.wordnet import WordNet

#: Share of pairs that ask the same.
SAME = 0.4
#: Share of near misses made from two wordings that people gave, where there are any.
FROM_TRUE_PAIRS = 0.5
#: Share of near misses that are reworded on top, so that a rewording says nothing of sameness.
REWORDED = 0.4
#: Share of rewordings made of a changed question, so that the words of a change say nothing either.
CHANGED_FIRST = 0.3
#: Times a mutation of real words is tried for one try at a frame, where few questions allow the mutation.
OFTEN = 8
#: Share of words, small ones left out, that two wordings of people must have in common: they err less there.
ALIKE = 0.5
#: Times the material is gone through for each kind.
ROUNDS = 3
#: A word seen less often in the questions is not looked up in WordNet.
SEEN = 8
#: Kinds where the other wording must hold the word that is changed, or the change might not matter to it.
MUST_SHARE = {"number", "entity", "scope", "antonym"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """The ways to make one kind: `mutations` change one side, `pairs` make both."""

    kind: str
    mutations: tuple[Mutation, ...] = ()
    pairs: tuple[PairMaker, ...] = ()

    def pair_maker(self, rng: Random) -> PairMaker | None:
        """One of `pairs`, as often as their number says; None where it is a mutation's turn."""
        return rng.choice((*self.pairs, *(None for _ in self.mutations)))


def near_misses(antonyms: Antonyms, names: entities.Entities, things: roles.Roles) -> list[Recipe]:
    """The kinds of pairs that ask two things."""
    return [
        Recipe("number", (numbers.other_number,) * OFTEN, (numbers.two_lengths,)),
        Recipe("negation", (negation.negate, negation.remove_negation, antonyms.negated)),
        Recipe("antonym", (antonyms.opposite,)),
        Recipe("role", (roles.swap_roles,) * OFTEN, (things.exchanged,)),
        Recipe("entity", (names.other_member, names.other_name)),
        Recipe(
            "aspect",
            (aspects.other_aspect, aspects.other_asking_word, aspects.other_superlative),
            (aspects.two_aspects,),
        ),
        Recipe("scope", (scopes.restrict, scopes.drop_restriction), (scopes.two_restrictions,)),
    ]


def rewordings_of(things: roles.Roles) -> list[Recipe]:
    """The kinds of pairs that ask one thing."""
    return [
        Recipe("rewording", tuple(rewordings.LIGHT)),
        Recipe("frame", (aspects.same_aspect,), (aspects.two_wordings,)),
        Recipe(
            "order",
            (roles.swap_alike, roles.turn_round, scopes.move_restriction),
            (things.kept, things.alike, scopes.one_restriction, numbers.one_length),
        ),
        Recipe("paraphrase"),
    ]


class Maker:
    """Makes pairs from `material` by recipes."""

    def __init__(self, material: Material, wordnet: WordNet | None, seed: int) -> None:
        self._material = material
        self._seed = seed
        things = roles.Roles(material.questions)
        self._antonyms = Antonyms(wordnet)
        self._names = entities.Entities(material.questions)
        self._different = near_misses(self._antonyms, self._names, things)
        self._same = rewordings_of(things)
        self._changes = tuple(chain.from_iterable(recipe.mutations for recipe in self._different))

    def make(self, limit: int) -> list[Pair]:
        """At most `limit` pairs, the kinds as even as the material allows, in mixed order."""
        same = round(limit * SAME)
        made = [*self._spread(self._same, same, 1), *self._spread(self._different, limit - same, 0)]
        Random(self._seed).shuffle(made)
        return made

    def _spread(self, recipes: list[Recipe], total: int, same: int) -> list[Pair]:
        most = 2 * total // len(recipes) + 1
        found = [self._of_kind(recipe, most, same) for recipe in recipes]
        sizes = level([len(pairs) for pairs in found], total)
        return [pair for pairs, size in zip(found, sizes, strict=True) for pair in pairs[:size]]

    def _of_kind(self, recipe: Recipe, most: int, same: int) -> list[Pair]:
        rng = Random(f"{self._seed} {recipe.kind}")
        found: dict[tuple[str, str], Pair] = {}
        for question in self._stream(rng):
            pair = self._same_pair(question, recipe, rng) if same else self._near_miss(question, recipe, rng)
            if pair and pair[0] != pair[1]:
                found.setdefault((key(pair[0]), key(pair[1])), Pair(*pair, bool(same), recipe.kind))
            if len(found) == most:
                break
        return list(found.values())

    def _stream(self, rng: Random) -> Iterator[str]:
        for _ in range(ROUNDS):
            yield from rng.sample(self._material.questions, len(self._material.questions))

    def _near_miss(self, question: str, recipe: Recipe, rng: Random) -> tuple[str, str] | None:
        pair = self._changed(question, recipe, rng)
        if pair is None or key(pair[0]) == key(pair[1]) or self._material.known_same(*pair):
            return None
        return self._dressed(pair, rng) if rng.random() < REWORDED else pair

    def _changed(self, question: str, recipe: Recipe, rng: Random) -> tuple[str, str] | None:
        if make_both := recipe.pair_maker(rng):
            return make_both(question, rng)
        others = self._material.others.get(question, [])
        base = rng.choice(others) if others and rng.random() < FROM_TRUE_PAIRS else question
        changed = rng.choice(recipe.mutations)(base, rng)
        if changed is None:
            return None
        lost = set(words(base)) - set(words(changed))
        unsure = recipe.kind in MUST_SHARE and not lost <= set(words(question))
        return None if unsure else (question, changed)

    def _same_pair(self, question: str, recipe: Recipe, rng: Random) -> tuple[str, str] | None:
        if recipe.kind == "paraphrase":
            others = [
                other for other in self._material.others.get(question, []) if self._agree(question, other)
            ]
            return self._dressed((question, rng.choice(others)), rng) if others else None
        pair = self._reworded(question, recipe, rng)
        return self._dressed(pair, rng) if pair and rng.random() < REWORDED else pair

    def _agree(self, a: str, b: str) -> bool:
        """Whether two wordings that people called the same agree in what decides; people err."""
        facts = (numbers.numbers_in, negation.is_negated, self._names.members_in, aspects.asking_word)
        return (
            _overlap(a, b) >= ALIKE
            and all(fact(a) == fact(b) for fact in facts)
            and not self._antonyms.opposed(a, b)
        )

    def _reworded(self, question: str, recipe: Recipe, rng: Random) -> tuple[str, str] | None:
        if make_both := recipe.pair_maker(rng):
            return make_both(question, rng)
        if rng.random() < CHANGED_FIRST:
            question = rng.choice(self._changes)(question, rng) or question
        reworded = rng.choice(recipe.mutations)(question, rng)
        return (question, reworded) if reworded else None

    def _dressed(self, pair: tuple[str, str], rng: Random) -> tuple[str, str]:
        """One side or both reworded."""
        a, b = pair
        which = rng.choice(("a", "b", "ab"))
        return (dress(a, rng) if "a" in which else a), (dress(b, rng) if "b" in which else b)


_SMALL = re.compile(
    r"(?:an?|the|is|are|do|does|did|i|you|we|to|of|in|for|what|how|can|my|your|it|and|some|should)\b"
)


def _overlap(a: str, b: str) -> float:
    """Words in common over words in all, small ones left out."""
    here, there = ({word for word in words(side) if not _SMALL.fullmatch(word)} for side in (a, b))
    return len(here & there) / max(1, len(here | there))


def dress(question: str, rng: Random) -> str:
    """One rewording, sometimes two, of those that fit."""
    wanted = rng.choice((1, 1, 2))
    for change in rng.sample(rewordings.LIGHT, len(rewordings.LIGHT)):
        new = change(question, rng)
        wanted -= new is not None
        question = new or question
        if not wanted:
            break
    return question


def dressed(pairs: Sequence[Pair], share: float, rng: Random) -> list[Pair]:
    """One side of this share of the pairs reworded as people type, whatever the pair's label: so typing
    errors, greetings and spellings say nothing of sameness."""
    return [
        pair
        if rng.random() >= share
        else replace(pair, a=dress(pair.a, rng))
        if rng.random() < 0.5
        else replace(pair, b=dress(pair.b, rng))
        for pair in pairs
    ]


def level(sizes: list[int], total: int) -> list[int]:
    """How many to take of each so that they are as even as their sizes allow and `total` at most in all."""
    taken = [0] * len(sizes)
    left = total
    for done, at in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        taken[at] = min(sizes[at], left // (len(sizes) - done))
        left -= taken[at]
    return taken


def make_pairs(pairs: list[Pair], wordnet: Path | None, seed: int, limit: int) -> list[Pair]:
    """At most `limit` pairs from `pairs`; without `wordnet` the opposites come from our own table alone."""
    material = Material(pairs)
    seen = Counter(word for question in material.questions for word in words(question))
    known = WordNet(wordnet, {word for word, count in seen.items() if count >= SEEN}) if wordnet else None
    return Maker(material, known, seed).make(limit)
