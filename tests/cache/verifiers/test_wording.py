"""What the built-in verifier has learnt to read, and which acronyms it is spared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.verifiers.wording import in_distribution, spelt_out


@pytest.mark.parametrize(
    "text",
    [
        "What is machine learning?",
        "love",
        "python sort list descending",
        "How do I write a résumé?",
        "Is naïve Bayes any good?",
        "Who was Leonardo da Vinci?",
        "How do I cook coq au vin?",
        "What does π stand for in maths?",
        "What is the difference between C++ and C#?",
        "What does print(x) do in Python?",
    ],
)
def test_english_with_what_it_borrows_is_familiar(text: str) -> None:
    assert in_distribution(text)


@pytest.mark.parametrize(
    "text",
    [
        "什么是机器学习？",  # noqa: RUF001
        "機械学習とは何ですか",
        "머신러닝이란 무엇인가요",
        "ما هو التعلم الآلي؟",
        "मशीन लर्निंग क्या है?",
        "Что такое машинное обучение?",
        "What is 机器学习的定义 in short?",
        "😀😀",
        "12345",
        "",
        "?",
        "Was ist maschinelles Lernen und wie geht das?",
        "Qu'est-ce que le machine learning et comment ça marche ?",
        "¿Cómo puedo aprender inglés?",
        "O que é aprendizagem automática?",
        "Wat is een computer?",
        "Makine öğrenmesi nedir ve nasıl çalışır?",  # noqa: RUF001
        "print(x)",
        "for x in y: print(x)",
        "{}",
        "if (a == b) { return; }",
    ],
)
def test_other_languages_scripts_and_code_are_not(text: str) -> None:
    assert not in_distribution(text)


# Acronyms are spelt out where the other wording says what they stand for.


@pytest.mark.parametrize(
    ("text", "beside", "spelt"),
    [
        (
            "Explain ML in simple terms",
            "What is machine learning?",
            "Explain machine learning in simple terms",
        ),
        (
            "Who leads the USA?",
            "Who is the leader of the United States of America?",
            "Who leads the United States of America?",
        ),
        (
            "Where is my FAQ page?",
            "frequently asked questions",
            "Where is my frequently asked questions page?",
        ),
    ],
)
def test_an_acronym_becomes_the_words_that_stand_in_the_other_wording(
    text: str, beside: str, spelt: str
) -> None:
    assert spelt_out(text, beside) == (spelt, beside)
    assert spelt_out(beside, text) == (beside, spelt)


@pytest.mark.parametrize(
    ("text", "beside"),
    [
        ("What is AI?", "What is an apple inside?"),
        ("How do I install ML?", "How do I use my laptop?"),
        ("What is the NBA?", "What is the NFL?"),
        ("HOW ARE YOU", "how are you"),
        ("Explain ml", "What is machine learning?"),
    ],
)
def test_what_is_no_acronym_of_the_other_words_stays(text: str, beside: str) -> None:
    assert spelt_out(text, beside) == (text, beside)


@given(st.text(), st.text())
def test_any_two_texts_are_taken_in_either_order(one: str, other: str) -> None:
    first, second = spelt_out(one, other)
    assert spelt_out(other, one) == (second, first)
