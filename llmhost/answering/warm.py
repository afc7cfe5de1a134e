"""Fills the cache from a file: questions, which are asked, or questions with their answers, which are
stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from llmhost.answering.answerer import Answerer
from llmhost.answering.question import Question, Reply
from llmhost.cache.models import Answer
from llmhost.cache.service import SemanticCache
from llmhost.errors import LlmhostError, UsageError

__all__ = ["Warmed", "Warmer", "read_questions"]

#: bytes; no line is read into memory that is longer
_LONGEST_LINE = 16 * 1024 * 1024


@dataclass(slots=True)
class Warmed:
    """`hits`: what the cache could answer already; `asked`: what an engine answered, and is cached
    since; `bypassed`: what is not cached, by its kind or as it came back cut off."""

    asked: int = 0
    stored: int = 0
    hits: int = 0
    bypassed: int = 0


@dataclass(eq=False)
class Warmer:
    """`make` makes a question of a text; `digest` names the weights that a model is served from. `parallel`
    questions are asked at once."""

    cache: SemanticCache
    answerer: Answerer
    make: Callable[[str], Question]
    digest: Callable[[str], Awaitable[str]]
    now: Callable[[], float]
    parallel: int
    tell: Callable[[Warmed], None] = lambda _: None

    async def run(self, questions: Iterator[tuple[str, str | None]]) -> Warmed:
        """Asks, or stores, each. The first error ends it, when the questions that are under way have ended:
        what is in the cache by then is a hit at the next run. Raises LlmhostError.
        """
        done, failed = Warmed(), list[LlmhostError]()

        async def work() -> None:
            while not failed:
                try:
                    text, answer = next(questions)
                except StopIteration:
                    return
                except LlmhostError as error:
                    failed.append(error)
                    return
                try:
                    await self._warm(done, text, answer)
                except LlmhostError as error:
                    failed.append(error)
                self.tell(done)

        await asyncio.gather(*(work() for _ in range(self.parallel)))
        if failed:
            raise _with_count(failed[0], done)
        return done

    async def _warm(self, done: Warmed, text: str, answer: str | None) -> None:
        question = self.make(text)
        key = question.key(await self.digest(question.model))
        if question.bypasses or key is None:
            done.bypassed += 1
        elif await self.cache.exact(key) is not None:
            done.hits += 1
        elif answer is None:
            await self._ask(done, question)
        else:
            given = Answer(answer, question.model, self.now(), 0, 0, "stop", 0.0, 0.0)
            vector = None if question.exact_only else await self.cache.embed(key)
            await self.cache.store(key, given, vector, question.lifetime)
            done.stored += 1

    async def _ask(self, done: Warmed, question: Question) -> None:
        async for event in self.answerer.answer(question):
            if isinstance(event, Reply):
                if event.source != "engine":
                    done.hits += 1
                elif event.entry is not None:
                    done.asked += 1
                else:
                    done.bypassed += 1


def read_questions(name: str, file: BinaryIO) -> Iterator[tuple[str, str | None]]:
    """The questions of a file, one a line, or JSON objects with `question`, and `answer` where it is known.
    Raises UsageError at a line that is neither."""
    number = 0
    while raw := file.readline(_LONGEST_LINE):
        number += 1
        try:
            line = raw.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise UsageError(f"{name}: line {number:,} is not text", hint="give it as UTF-8 text") from None
        if line.startswith("{"):
            yield _pair(name, number, line)
        elif line:
            yield line, None


def _pair(name: str, number: int, line: str) -> tuple[str, str | None]:
    try:
        fields = json.loads(line)
        question, answer = fields["question"], fields.get("answer")
    except (ValueError, KeyError, RecursionError):
        question = answer = None
    if not isinstance(question, str) or not isinstance(answer, str | None) or answer == "":
        raise UsageError(
            f"{name}: line {number:,} has no question", hint='write {"question": "…", "answer": "…"}'
        )
    return question, answer


def _with_count(error: LlmhostError, done: Warmed) -> LlmhostError:
    """The same error, which says how far it came."""
    count = done.asked + done.stored + done.hits + done.bypassed
    error.message = f"{error.message} (after {count:,} {'question' if count == 1 else 'questions'})"
    error.hint = error.hint or "run it again: what is in the cache is not asked again"
    return error
