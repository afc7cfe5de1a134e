"""Can a turn be understood without the others, and does a text say what it asks?"""

from __future__ import annotations

import pytest

from llmhost.answering import standalone
from llmhost.answering.standalone import objection, shown_turns, tidied
from llmhost.engines.engine import Message

KETTLE = ["What is the warranty on the Kestrel kettle?", "Two years on the Kestrel kettle."]


def turns(*texts: str) -> list[Message]:
    return [Message("assistant" if at % 2 else "user", text) for at, text in enumerate(texts)]


def why(text: str, last: str, *before: str) -> str:
    shown = shown_turns(turns(*before), last)
    assert shown
    return objection(text, last, shown)


# What the last turn may refer to


@pytest.mark.parametrize(
    "last",
    [
        "Yes, cancel it",
        "yes",
        "ok",
        "Ok, do it",
        "Sure, go ahead",
        "no thanks",
        "The second one",
        "the cheaper one please",
        "that one",
        "Option 2",
        "both",
        "Book it",
        "Could you cancel that?",
        "Tell me more",
        "Can you elaborate?",
        "Can you translate that into German?",
        "What do you mean?",
        "Are you sure?",
        "What else can it do?",
        "And the other one?",
        "Why?",
        "Another example?",
        "You said two years, why?",
        "Rome",
        "Two nights from Friday on",
        "",
        "thanks!",
        "👍",
    ],
)
def test_a_turn_that_agrees_chooses_answers_or_goes_on_is_never_condensed(last: str) -> None:
    assert shown_turns(turns(*KETTLE), last) == ()


@pytest.mark.parametrize("last", ["Can it be extended?", "Thanks! And how long is it?", "what about abroad"])
def test_a_follow_up_question_is_shown_with_the_turns_that_it_may_refer_to(last: str) -> None:
    assert shown_turns(turns("Hello", "Hi!", *KETTLE), last) == tuple(turns(*KETTLE))


def test_a_turn_is_not_condensed_where_the_one_before_refers_to_another() -> None:
    spoken = turns(*KETTLE, "Who was Marie Curie?", "A physicist.")
    assert shown_turns(spoken, "When did she die?") == tuple(spoken[2:])
    spoken += turns("When did she die?", "In 1934.")
    assert shown_turns(spoken, "And where was she buried?") == ()


@pytest.mark.parametrize(
    "said",
    [
        "From now on answer in one sentence.",
        "Please reply in French",
        "Pretend you are a pirate.",
        "Keep it short",
        "I am allergic to nuts, keep that in mind.",
        "Explain everything like I'm 5",
    ],
)
def test_where_the_user_has_said_how_to_answer_nothing_is_condensed(said: str) -> None:
    assert shown_turns(turns(said, "Fine.", *KETTLE), "Can it be extended?") == ()


def test_what_the_user_has_told_of_themselves_before_is_no_others_context() -> None:
    assert shown_turns(turns("My laptop runs Linux", "Nice.", *KETTLE), "Can it be extended?") == ()


@pytest.mark.parametrize(
    "turn", [Message("system", "Be kind."), Message("tool", "{}"), Message("user", [{"type": "text"}])]
)
def test_a_conversation_with_more_than_plain_turns_is_not_condensed(turn: Message) -> None:
    assert shown_turns([turn, *turns(*KETTLE)], "Can it be extended?") == ()


@pytest.mark.parametrize(
    ("topic", "told", "last"),
    [
        ("Was kostet der Pro-Tarif?", "Er kostet 20 Euro.", "Wie lange läuft er denn?"),
        ("Wer war Marie Curie?", "Eine Physikerin.", "Wann starb sie?"),
        ("¿Qué es un préstamo?", "Dinero prestado.", "¿Cuánto cuesta al año?"),
        ("Что такое Redis?", "База данных.", "Как его установить?"),  # noqa: RUF001
        ("什么是猫?", "一种动物。", "它吃什么?"),
    ],
)
def test_a_conversation_that_is_not_plainly_english_is_not_condensed(
    topic: str, told: str, last: str
) -> None:
    assert shown_turns(turns(topic, told), last) == ()


def test_long_turns_of_the_assistant_are_cut_and_of_the_user_end_it() -> None:
    long = shown_turns(turns(KETTLE[0], "word " * 5000), "Can it be extended?")
    assert [len(str(turn.content)) for turn in long] == [len(KETTLE[0]), 800]
    assert shown_turns(turns(KETTLE[0] + " word" * 200, "Yes."), "Can it be extended?") == ()


# Is this the question?


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("Can the warranty on the Kestrel kettle be extended?", "Can it be extended?"),
        ("How long is the warranty on the Kestrel kettle abroad?", "And how long is it abroad?"),
        ("what is the warranty on the kestrel kettle in spain", "and in spain?"),
    ],
)
def test_a_question_that_says_all_of_it_with_the_words_that_were_said_is_taken(text: str, last: str) -> None:
    assert why(text, last, *KETTLE) == ""


NOT_IN_PLACE = "not the last turn with the thing in the place"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Can it be extended?", "refers to something else: it"),
        ("Can the warranty be extended?", "refers to something else: the warranty"),
        ("Can the warranty on the kettle be extended?", "refers to something else: the kettle"),
        ("Can the warranty on a kettle be extended?", NOT_IN_PLACE),
        ("Can a Kestrel kettle be extended?", "lacks what the user has said: on, warranti"),
        ("Can the warranty on the Kestrel toaster be extended?", NOT_IN_PLACE),
        ("Can the warranty on the Kestrel kettle be extended to 5 years?", NOT_IN_PLACE),
        ("Can the warranty on the Kestrel kettle never be extended?", NOT_IN_PLACE),
        ("Why can the warranty on the Kestrel kettle be extended?", NOT_IN_PLACE),
        ("Is there a warranty on the Kestrel kettle?", NOT_IN_PLACE),
        ("Can the warranty on the Kestrel kettle be extended by them?", "refers to something else: them"),
        ("Can this warranty on the Kestrel kettle be extended?", "refers to something else: this"),
        ("The warranty on the Kestrel kettle can be extended.", "no single question"),
        ("Can the warranty on the Kestrel kettle be extended? Two years.", "no single question"),
        ("Can the warranty on the\nKestrel kettle be extended?", "more than one paragraph"),
        ("NONE", "too short"),
        ("", "too short"),
        ("Can the warranty on the Kestrel kettle be extended" + " two years" * 40 + "?", "too long"),
    ],
)
def test_what_cannot_be_shown_to_be_the_question_is_refused_and_it_is_said_why(text: str, words: str) -> None:
    assert words in why(text, "Can it be extended?", *KETTLE)


@pytest.mark.parametrize(
    ("topic", "last", "text"),
    [
        ("Do dogs sweat?", "And cats?", "Do cats sweat?"),
        ("What is a mortgage?", "Can I get one without a job?", "Can I get a mortgage without a job?"),
        ("Who is Alan Turing?", "Who taught him?", "Who taught Alan Turing?"),
        ("What is Redis?", "How much does it cost?", "How much does Redis cost?"),
        ("What is the capital of France?", "And of Spain?", "What is the capital of Spain?"),
        ("What is the capital of France?", "And Spain?", "What is the capital of Spain?"),
        ("Why is sugar not healthy?", "And honey?", "Why is honey not healthy?"),
        ("When was the phone invented?", "And the computer?", "When was the computer invented?"),
        ("What does a visa cost?", "and a work permit?", "What does a work permit cost?"),
        ("How do I install Redis on Ubuntu?", "and on Debian?", "How do I install Redis on Debian?"),
        ("Tell me about the Kestrel kettle", "What does it cost?", "What does the Kestrel kettle cost?"),
        ("How do I bake bread?", "And cake?", "How do I bake cake?"),
        ("What is Lisbon?", "How many people live there?", "How many people live in Lisbon?"),
        (
            "What is the dose of paracetamol?",
            "And for children?",
            "What is the dose of paracetamol for children?",
        ),
        (
            "What's the upload limit in Filebox?",
            "And on mobile?",
            "What's the upload limit in Filebox on mobile?",
        ),
    ],
)
def test_the_last_turn_with_the_thing_in_its_place_is_taken(topic: str, last: str, text: str) -> None:
    assert why(text, last, topic, "It is so.") == ""


@pytest.mark.parametrize(
    ("before", "last", "text"),
    [
        (
            "How do I bake bread? / And with rye flour?",
            "How long does it take?",
            "How long does it take to bake bread?",
        ),
        ("How big is Porto?", "Is Lisbon bigger than it?", "Is Porto bigger than Lisbon?"),
        ("How big is Porto?", "Is it bigger than Lisbon?", "Is Lisbon bigger than Porto?"),
        ("Why is sugar not healthy?", "And honey?", "Why is honey healthy?"),
        ("Why is sugar unhealthy?", "And honey?", "Why is honey healthy?"),
        ("How much does a cat sleep?", "And a dog?", "How does a dog sleep?"),
        (
            "what is the capital of france? / and of spain?",
            "how many people live there?",
            "How many people live in the capital of France?",
        ),
        (
            "what is the capital of france? / and of spain?",
            "how many people live there?",
            "How many people live in France?",
        ),
        (
            "what is the capital of france? / and of spain?",
            "how many people live there?",
            "How many people live in Paris, the capital of France?",
        ),
        ("Is a flu vaccine dangerous?", "Can I swim after it?", "Can I swim before a flu vaccine?"),
        ("Is a flu vaccine dangerous?", "Can I swim after it?", "Can I swim during a flu vaccine?"),
        (
            "How do I open a savings account?",
            "And close one if I moved abroad?",
            "How do I close a savings account?",
        ),
        ("Does milk contain lactose?", "Can babies drink it?", "Can milk drink babies?"),
        ("Can a cat eat a mouse?", "Can it eat a dog?", "Can a dog eat a cat?"),
        ("Can a cat eat a mouse?", "Can a dog eat it?", "Can a mouse eat a dog?"),
        ("Can a cat eat a mouse?", "Can a dog eat it?", "Can a dog eat a mouse?"),
        ("Can a cat eat a mouse?", "Can a dog eat it?", "Can a dog eat a cat?"),
        (
            "How long should i boil an egg? / and without the shell?",
            "is it safe for children?",
            "Is a boiled egg safe for children?",
        ),
        (
            "How long should I boil an egg? / what about a goose egg?",
            "is it safe for children?",
            "Is it safe for children to boil an egg?",
        ),
        (
            "How do I cook rice? / what about brown rice?",
            "How much water does it need?",
            "How much water does rice need?",
        ),
        (
            "What does a passport cost for an adult? / and for a child?",
            "How long does it take?",
            "How long does a passport for an adult take?",
        ),
        (
            "What does a passport cost? / and for a child?",
            "How long is it valid?",
            "How long is a passport valid?",
        ),
        ("What does a visa cost? / and a work permit?", "How long is it valid?", "How long is a visa valid?"),
        (
            "When was the first phone made? / who made it?",
            "And the first computer?",
            "When was the first computer made?",
        ),
        (
            "When was the phone invented? / who invented it?",
            "And the computer?",
            "When was the computer invented?",
        ),
        (
            "When was the phone invented? / who invented it?",
            "And the computer?",
            "Who invented the computer?",
        ),
        (
            "How do I convert dollars to euros?",
            "And the other way?",
            "How do I convert dollars to euros the other way?",
        ),
        ("How do I convert dollars to euros?", "And to yen?", "How do I convert yen to dollars?"),
        ("How do I convert dollars to euros?", "And from yen?", "How do I convert dollars to yen?"),
        (
            "How do I get from Porto to Lisbon?",
            "How long does it take to get there?",
            "How long does it take to get from Lisbon to Porto?",
        ),
        (
            "How far is the airport from the station?",
            "Is there a bus to it?",
            "Is there a bus to the station from the airport?",
        ),
        ("I have a cat. What food is good?", "And for kittens?", "What food is good for kittens?"),
        ("I am a diabetic. Is bread bad?", "And rice?", "Is rice bad?"),
        ("I have diabetes. Is white bread bad?", "And rice?", "Is rice bad?"),
        ("Is white bread bad with diabetes?", "And rice?", "Is rice bad?"),
        ("Is aspirin safe when pregnant?", "And ibuprofen?", "Is ibuprofen safe?"),
        ("Is aspirin safe if you drink?", "And ibuprofen?", "Is ibuprofen safe?"),
        ("How do pregnant women take aspirin?", "And ibuprofen?", "How do women take ibuprofen?"),
        ("Can vegetarians eat gelatine?", "And honey?", "Can vegetarians eat honey?"),
        ("Can vegans eat cheese?", "What about butter?", "Can I eat butter?"),
        ("What taxes do freelancers pay?", "And employees?", "What taxes employees?"),
        (
            "Which plants grow well indoors?",
            "And which need little water?",
            "Which plants need little water?",
        ),
        (
            "Which dogs are good for allergic people?",
            "Which are the smallest?",
            "Which dogs are the smallest?",
        ),
        ("Which dogs shed little?", "Which of them are the smallest?", "Which dogs are the smallest?"),
        ("Which countries have no income tax?", "Which of them are safe?", "Which countries are safe?"),
        ("Which cities in europe are cheap?", "Which of them are safe?", "Which cities are safe in Europe?"),
        (
            "I'm on the Basic plan. Is export included? / How do I upgrade it?",
            "How long does it take?",
            "How long does an upgrade take?",
        ),
        ("Which phones support eSIM? / Do cheap ones?", "How do I activate it?", "How do I activate eSIM?"),
        (
            "How do I renew a passport? / I lost mine though.",
            "How much does it cost?",
            "How much does it cost to renew a passport?",
        ),
        (
            "How do I renew a passport? / Oh, and the child is under five.",
            "How much does it cost?",
            "How much does it cost to renew a passport?",
        ),
        (
            "How do I renew a passport? / And when living abroad?",
            "How much does it cost?",
            "How much does it cost to renew a passport?",
        ),
        (
            "How do I renew a passport? / And if it was stolen?",
            "How much does it cost?",
            "How much does it cost to renew a passport?",
        ),
        (
            "What is the dose of paracetamol? / And for children?",
            "How often can I give it?",
            "How often can I give paracetamol?",
        ),
        (
            "What is the dose of paracetamol? / And with liver disease?",
            "How often can I take it?",
            "How often can I take paracetamol?",
        ),
        (
            "What is the dose of paracetamol? / what about ibuprofen?",
            "How often can I take it?",
            "How often can I take paracetamol?",
        ),
        (
            "What is the dose of paracetamol? / what about ibuprofen?",
            "Is it safe for kids?",
            "Is paracetamol safe for kids?",
        ),
        ("Is aspirin safe when pregnant?", "And ibuprofen?", "Is ibuprofen safe when pregnant?"),
        ("Can pregnant women eat sushi?", "What about cheese?", "Can women eat cheese?"),
        ("Can cats that are old eat tuna?", "And dogs?", "Can dogs eat tuna?"),
        ("Does a kitten need milk?", "And a puppy?", "Does a puppy need milk?"),
        ("Do newborn babies need water?", "What about honey?", "Do babies need honey?"),
        ("Are dogs not allowed on trains?", "And on buses?", "Are dogs allowed on buses?"),
        (
            "Why should I never mix bleach with vinegar?",
            "And ammonia?",
            "Why should I mix bleach with ammonia?",
        ),
        ("Can I fly without a passport?", "And with a visa?", "Can I fly with a visa?"),
        ("What foods must diabetics not eat?", "And drink?", "What must diabetics drink?"),
        ("What foods should cats not eat?", "And dogs?", "What foods should dogs eat?"),
        ("Who can not donate blood?", "And plasma?", "Who can donate plasma?"),
        ("Which plants are not toxic to cats?", "And to dogs?", "Which plants are toxic to dogs?"),
        ("Which mushrooms can you not eat raw?", "And cooked?", "Which mushrooms can you eat cooked?"),
        (
            "How do I import a csv into excel?",
            "How long does it take?",
            "How long does it take to export a csv from excel?",
        ),
        (
            "What is the train from Porto to Lisbon like?",
            "Is it cheaper from there to Faro?",
            "Is the train cheaper from Faro to Lisbon than from Porto?",
        ),
        (
            "When should I take vitamin D?",
            "Can I take it before coffee?",
            "Can I take vitamin D after coffee?",
        ),
        (
            "When should I take vitamin D?",
            "Can I take it before coffee?",
            "Can I take vitamin D while coffee?",
        ),
        ("What is a lease?", "Can I end it since I moved?", "Can I end a lease until I moved?"),
        ("What is a lease?", "Can the owner sue me over it?", "Can the owner sue over a lease?"),
        ("Who is Alan Turing?", "Who did he teach?", "Who taught Alan Turing?"),
        ("Who is Marie Curie?", "Whom did she love?", "Who loved Marie Curie?"),
        ("What is python?", "Is it faster than ruby?", "Is ruby faster than python?"),
        ("What is python?", "Can it call ruby?", "Can ruby call python?"),
        ("What is a wolf?", "Does it eat a fox?", "Does a fox eat a wolf?"),
        ("What is a franc?", "How much is it in euros?", "How much is a euro in francs?"),
        ("What is a franc?", "Can I change it to euros?", "Can I change euros to a franc?"),
        ("What is a virus?", "Can it turn off my phone?", "Can a virus turn on my phone?"),
        ("What is a cold?", "Should I go out with it?", "Should I go in with a cold?"),
        ("What is gluten?", "Are oats without it?", "Are oats with gluten?"),
        ("What is an NDA?", "Can I sign one if I resign?", "Can I sign an NDA?"),
        ("Can a cat eat a mouse?", "And a dog?", "Can a dog eat a mouse?"),
        ("What is the weather in Rome?", "And in May?", "What is the weather in May?"),
        ("What is the boiling point of water?", "And pressure?", "What is the boiling pressure of water?"),
        (
            "Is aspirin safe with alcohol?",
            "And during pregnancy?",
            "Is aspirin safe with alcohol during pregnancy?",
        ),
        ("Do I need a visa in Vietnam?", "And for Laos?", "Do I need a visa in Vietnam for Laos?"),
    ],
)
def test_a_question_that_asks_something_else_is_refused(before: str, last: str, text: str) -> None:
    spoken = turns(*[turn for asked in before.split(" / ") for turn in (asked, "It is so.")])
    shown = shown_turns(spoken, last)
    assert not shown or objection(text, last, shown)


@pytest.mark.parametrize(
    ("text", "last", "topic"),
    [
        ("What are the side effects?", "What are the side effects?", "What is ibuprofen for?"),
        ("How many calories?", "How many calories?", "Tell me about avocados"),
        ("Is breakfast included?", "Is breakfast included?", "What does a room in Rome cost?"),
        ("How do I export a report to PDF?", "How do I export a report to PDF?", "How do I print a report?"),
        ("How do I install the thing?", "How do I install it?", "What is redis?"),
        ("What is the capital of France?", "Thanks! What is the capital of France?", KETTLE[0]),
    ],
)
def test_a_turn_that_only_seems_to_stand_alone_is_refused(text: str, last: str, topic: str) -> None:
    assert why(text, last, topic, "It is so.") != ""


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ('"Can it be extended?"', "Can it be extended?"),
        ("Question: What is it?\n", "What is it?"),
        ("Standalone question: “What is it?”", "What is it?"),
        ("  What is it? ", "What is it?"),
    ],
)
def test_what_models_put_around_a_question_is_taken_away(said: str, left: str) -> None:
    assert tidied(said) == left


@pytest.mark.parametrize("unit", ["the ", "it that ", "is it ", "so ", "ok, ", "A.B? ", "and or ", "do it "])
def test_a_hostile_text_is_read_to_its_end_and_refused(unit: str) -> None:
    text = f"{(unit * 300)[:298]}?"
    shown = shown_turns(turns(*KETTLE), text) or tuple(turns(text))
    assert "too long" not in objection(text, text, shown) != ""


def test_of_many_conversations_no_more_than_a_few_texts_stay_in_memory() -> None:
    for number in range(200):
        last = f"How much does model {number} cost?"
        assert objection(last, last, turns("What is the Kestrel kettle?"))
    assert all(read.cache_info().currsize <= 128 for read in (standalone._line, standalone._content))
