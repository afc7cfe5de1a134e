"""What `llmhost ask` and `llmhost chat` ask through the gateway's own socket: as their own process would
answer, without loading anything.

The answer is lines of JSON: `forgotten` and how many messages of a
long conversation are left out, `worker` that is asked now, `text` as it comes, and last `reply`, the document
that `ask --json` prints, or the `error` that the command shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from llmhost.answering.document import reply_document
from llmhost.answering.question import Reply, Text, make_question
from llmhost.engines.engine import Message
from llmhost.errors import LlmhostError
from llmhost.gateway.exchange import Exchange
from llmhost.gateway.faults import NotFound, RequestError, fault_of
from llmhost.gateway.fleets import ServedFleet, ServedFleets

__all__ = ["COMMAND_BODY", "COMMAND_PATH", "CommandBody", "answer_command"]

COMMAND_PATH = "/llmhost/ask"


class Turn(BaseModel):
    """A message of the conversation before the question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["user", "assistant"]
    content: str


class CommandBody(BaseModel):
    """The arguments of `ask`. `inputs` names what its configuration comes from, `waited` is in seconds, and
    `history` the conversation before the question, oldest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: str
    prompt: str
    model: str | None = None
    system: str | None = None
    use_cache: bool | None = None
    refresh: bool = False
    threshold: float | None = Field(None, ge=-1, le=1)
    explain: bool = False
    waited: float = Field(0, ge=0)
    history: tuple[Turn, ...] = ()


COMMAND_BODY = TypeAdapter(CommandBody)


class OtherConfiguration(RequestError):
    status = 409
    code = "other_configuration"


async def answer_command(exchange: Exchange, fleets: ServedFleets, max_body: int) -> None:
    """Raises NotFound where the request did not come through a Unix socket, OtherConfiguration where this
    gateway would not answer as the command does."""
    if not exchange.is_local_socket:
        raise NotFound(f"there is no {COMMAND_PATH!r} here")
    body = await exchange.read(COMMAND_BODY, max_body)
    fleet = next((fleet for fleet in fleets.fleets if fleet.inputs == body.inputs), None)
    if not body.inputs or fleet is None:
        raise OtherConfiguration("the gateway runs with another configuration")
    await exchange.start(200, {"content-type": "application/x-ndjson"})
    async with exchange.cancelled_if_gone():
        try:
            await _answer(exchange, fleet, body)
        except LlmhostError as error:
            told = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
            exchange.record.error = fault_of(error, to_operator=True).status
            await exchange.write(_line({"error": told}))
        await exchange.end()


async def _answer(exchange: Exchange, fleet: ServedFleet, body: CommandBody) -> None:
    question = make_question(
        fleet.config,
        [*(Message(turn.role, turn.content) for turn in body.history), Message("user", body.prompt)],
        forgets=True,
        model=body.model,
        system=body.system,
        use_cache=body.use_cache,
        refresh=body.refresh,
        threshold=body.threshold,
    )
    if forgotten := len(body.history) - len(question.history):
        await exchange.write(_line({"forgotten": forgotten}))
    exchange.record.asks(fleet, [question])
    telling: set[asyncio.Task[None]] = set()

    def on_worker(worker: str) -> None:
        task = asyncio.create_task(exchange.write(_line({"worker": worker})))
        telling.add(task)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # the client may be gone

    answer = fleet.answerer.answer(question, waited=body.waited, on_worker=on_worker)
    async with aclosing(answer) as events:
        async for event in events:
            exchange.record.saw(event)
            if isinstance(event, Text):
                await exchange.write(_line({"text": event.text}))
            elif isinstance(event, Reply):
                document = reply_document(event, question, explain=body.explain)
                await exchange.write(_line({"reply": document}))


def _line(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value) + b"\n"
