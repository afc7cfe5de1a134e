"""What the built-in verifier has learnt to read, and what it has not."""

from __future__ import annotations

import pytest

from llmhost.cache.verifiers.wording import in_distribution


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
