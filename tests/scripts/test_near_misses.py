"""Near misses made by program: what each mutation does to one question, and that a seed fixes the whole."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.append(str(REPOSITORY / "scripts"))

from verifier import near_misses  # noqa: E402
from verifier.data import Pair  # noqa: E402
from verifier.mutations import aspects, negation, numbers, rewordings, roles, scopes  # noqa: E402
from verifier.mutations.antonyms import Antonyms  # noqa: E402
from verifier.mutations.entities import Entities  # noqa: E402
from verifier.mutations.text import Mutation, PairMaker  # noqa: E402
from verifier.mutations.wordnet import WordNet  # noqa: E402

ANTONYMS = Antonyms(None)
NAMES = Entities([])
#: Seeds tried until one gives the wanted text: a mutation picks among several.
SEEDS = range(200)
#: As above, where one of some hundred pairs of wordings is wanted.
MANY_SEEDS = range(3000)


def _results(mutation: Mutation, question: str) -> set[str | None]:
    return {mutation(question, Random(seed)) for seed in SEEDS}


@pytest.mark.parametrize(
    ("mutation", "question", "expected"),
    [
        (numbers.other_number, "What happened in 1971?", "What happened in 1972?"),
        (numbers.other_number, "What are the seven wonders?", "What are the six wonders?"),
        (numbers.other_number, "What is the 3rd law of motion?", "What is the 2nd law of motion?"),
        (negation.negate, "How can I sleep at noon?", "Why can't I sleep at noon?"),
        (negation.negate, "Why do cats purr?", "Why don't cats purr?"),
        (negation.negate, "Why do people smoke?", "Why don't people smoke?"),
        (negation.negate, "How do I travel without a map?", "How do I travel with a map?"),
        (negation.remove_negation, "Why don't fish drown?", "Why do fish drown?"),
        (ANTONYMS.negated, "How do I lock and unblock a card?", "How do I lock and block a card?"),
        (ANTONYMS.opposite, "Where can I buy stamps?", "Where can I sell stamps?"),
        (ANTONYMS.opposite, "Is buying stamps online wise?", "Is selling stamps online wise?"),
        (roles.swap_roles, "How do I convert wav to flac?", "How do I convert flac to wav?"),
        (roles.swap_roles, "Does stress cause fever?", "Does fever cause stress?"),
        (roles.swap_roles, "Is Perl older than Ruby?", "Is Ruby older than Perl?"),
        (NAMES.other_member, "Who sells tea in Kenya?", "Who sells coffee in Kenya?"),
        (aspects.other_aspect, "How do I bake bread?", "How long does it take to bake bread?"),
        (aspects.other_aspect, "What is osmosis?", "Who invented osmosis?"),
        (aspects.other_asking_word, "How did Rome fall?", "When did Rome fall?"),
        (aspects.other_superlative, "What is the best fork?", "What is the worst fork?"),
        (scopes.restrict, "How do I bake bread?", "How do I bake bread at night?"),
        (scopes.drop_restriction, "How do I bake bread in Norway?", "How do I bake bread?"),
    ],
)  # fmt: skip
def test_a_near_miss_asks_another_thing(mutation: Mutation, question: str, expected: str) -> None:
    assert expected in _results(mutation, question)


@pytest.mark.parametrize(
    ("mutation", "question", "expected"),
    [
        (aspects.same_aspect, "How do I bake bread?", "Steps to bake bread"),
        (aspects.same_aspect, "What is osmosis?", "Define osmosis"),
        (roles.swap_alike, "Which is better, jam or jelly?", "Which is better, jelly or jam?"),
        (roles.turn_round, "Is Perl older than Ruby?", "Is Ruby younger than Perl?"),
        (scopes.move_restriction, "How do I bake bread in Norway?", "In Norway, how do I bake bread?"),
        (rewordings.exchange_number_word, "Who are the 7 dwarfs?", "Who are the seven dwarfs?"),
        (rewordings.exchange_acronym, "What is ML?", "What is machine learning?"),
        (rewordings.exchange_contraction, "Why don't fish drown?", "Why do not fish drown?"),
        (rewordings.exchange_spelling, "What color is it?", "What colour is it?"),
        (rewordings.synonym, "Where can I buy stamps?", "Where can I purchase stamps?"),
        (rewordings.keywords, "How do I bake a bread roll?", "how bake bread roll"),
        (rewordings.polite, "Who was Ada?", "Quick question: Who was Ada?"),
        (rewordings.plain, "Who was Ada?", "who was ada"),
        (rewordings.without_article, "Who is the king?", "Who is king?"),
        (rewordings.mistype, "Why is thunder loud?", "Why is thudner loud?"),
        (rewordings.other_opening, "Who invented the zip?", "Who was the zip invented by?"),
    ],
)  # fmt: skip
def test_a_rewording_asks_the_same(mutation: Mutation, question: str, expected: str) -> None:
    assert expected in _results(mutation, question)


@pytest.mark.parametrize(
    ("mutation", "question"),
    [
        (ANTONYMS.opposite, "Is it cheap or expensive?"),
        (ANTONYMS.opposite, "Why is a 13 years old child moody?"),
        (negation.negate, "Is it safe?"),
        (negation.remove_negation, "Isn't it safe?"),
        (aspects.other_asking_word, "Why is it that birds sing?"),
        (scopes.restrict, "How do I bake bread in Norway?"),
        (roles.swap_alike, "Is it this or that?"),
    ],
)
def test_a_question_that_would_ask_the_same_is_left_alone(mutation: Mutation, question: str) -> None:
    assert _results(mutation, question) == {None}


@pytest.mark.parametrize(("maker", "differ"), [(numbers.two_lengths, True), (numbers.one_length, False)])
def test_a_number_put_in_on_both_sides_is_another_or_the_same(maker: PairMaker, differ: bool) -> None:
    made = [maker("How do I bake bread?", Random(seed)) for seed in SEEDS]

    assert {numbers.numbers_in(pair[0]) != numbers.numbers_in(pair[1]) for pair in made if pair} == {differ}


def test_things_that_are_compared_in_the_corpus_meet_in_role_questions() -> None:
    things = roles.Roles(["What is the difference between jam and jelly?"])

    kept = {things.kept("", Random(seed)) for seed in MANY_SEEDS}
    exchanged = {things.exchanged("", Random(seed)) for seed in MANY_SEEDS}

    assert ("Is jam better than jelly?", "Is jelly worse than jam?") in kept
    assert ("Is jam better than jelly?", "Is jelly better than jam?") in exchanged
    assert not kept & exchanged


def test_a_name_of_the_corpus_takes_the_place_of_one_in_the_same_company() -> None:
    corpus = ["I heard it was Zola who came?", "I think it was Kafka who came?"] * 2

    assert Entities(corpus).other_name(corpus[0], Random(1)) == "I heard it was Kafka who came?"


def _wordnet(folder: Path) -> Path:
    """A database of two adjectives that are opposites."""
    first = "00000000 00 a 01 brave 0 001 ! {:08d} a 0101 | bold  \n"
    second = f"{len(first.format(0)):08d} 00 a 01 craven 0 001 ! 00000000 a 0101 | afraid  \n"
    for name in ("noun", "verb", "adv"):
        (folder / f"index.{name}").write_text("")
    (folder / "data.adj").write_text(first.format(len(first.format(0))) + second)
    index = f"brave a 1 1 ! 1 1 00000000  \ncraven a 1 1 ! 1 1 {len(first.format(0)):08d}  \n"
    (folder / "index.adj").write_text(index)
    return folder


def test_wordnet_adds_its_opposites(tmp_path: Path) -> None:
    wordnet = WordNet(_wordnet(tmp_path), {"brave", "craven"})

    assert wordnet.antonyms() == {("brave", "a"): "craven", ("craven", "a"): "brave"}
    assert Antonyms(wordnet).opposite("Which knight was brave?", Random(1)) == "Which knight was craven?"


def _pairs() -> list[Pair]:
    goods = ["bread", "cider", "paper", "soap", "glue", "candles", "honey mead", "rope", "clay pots", "maps"]
    return [
        Pair(
            f"How do I make {thing} at home?", f"What is the best way to make {thing} at home?", True, "pair"
        )
        for thing in goods
    ]


def test_one_seed_gives_one_output_and_another_gives_another() -> None:
    first, again, other = (near_misses.make_pairs(_pairs(), None, seed, 60) for seed in (7, 7, 8))

    assert first == again
    assert first != other


def test_no_near_miss_is_a_pair_that_people_called_the_same() -> None:
    made = near_misses.make_pairs(_pairs(), None, 7, 200)
    known = {(pair.a, pair.b) for pair in _pairs()}

    assert {pair.same for pair in made} == {0, 1}
    assert not [pair for pair in made if not pair.same and {(pair.a, pair.b), (pair.b, pair.a)} & known]


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [([10, 10], 6, [3, 3]), ([1, 10, 10], 9, [1, 4, 4]), ([2, 1], 9, [2, 1]), ([0, 5], 4, [0, 4])],
)
def test_kinds_are_taken_as_evenly_as_they_allow(sizes: list[int], total: int, expected: list[int]) -> None:
    assert near_misses.level(sizes, total) == expected
