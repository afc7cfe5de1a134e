"""The APIs, spoken by the JavaScript clients of OpenAI, Ollama and Anthropic, on a real node.

`tests/gateway/javascript` holds their versions and a program for each; `scripts/test` installs them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doubles.chat_server import Fault
from doubles.gateway_house import AddKey, House, Serve
from doubles.waiting import LONGEST

FOLDER = Path(__file__).with_name("javascript")
SDKS = ("openai", "ollama", "anthropic")

Do = Callable[..., Any]


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def see(url: str, sdk: str, *actions: str, key: str = "none") -> list[dict[str, Any]]:
    """Has the SDK do these things in turn, and gives what it saw of each."""
    node = shutil.which("node") or pytest.fail("these need node, 18 or newer")
    assert (FOLDER / "node_modules").is_dir(), "these need what scripts/test installs with npm"
    program = await asyncio.create_subprocess_exec(
        node,
        FOLDER / "run.mjs",
        sdk,
        url,
        *actions,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "KEY": key},
    )
    try:
        out, err = await asyncio.wait_for(program.communicate(), 60)
    finally:
        if program.returncode is None:
            program.kill()
    assert program.returncode == 0, err.decode()
    seen: list[dict[str, Any]] = json.loads(out)
    return seen


@pytest.fixture
def do(house: House, sdk: str) -> Do:
    """As `see`, at the house."""
    return partial(see, house.url, sdk)


async def test_the_models_are_listed(do: Do, sdk: str) -> None:
    ((models),) = await do("models")
    assert models["names"][0] == ("tiny:latest" if sdk == "ollama" else "tiny")


async def test_an_answer_is_served_again_from_the_cache_as_the_same_stream(
    do: Do, sdk: str, house: House
) -> None:
    whole, *streams = await do("chat", "stream", "stream")
    reason = "end_turn" if sdk == "anthropic" else "stop"
    assert [one["cache"] for one in (whole, *streams)] == ["miss", "exact", "exact"]
    for one in (whole, *streams):
        assert (one["text"], one["reason"], one["tokens"]) == ("Hello, Wörld!", reason, 4)
    assert "".join(streams[0]["pieces"]) == "Hello, Wörld!"
    assert len(house.engine.requests) == 1


async def test_a_stream_comes_in_the_engine_s_pieces_and_is_stored(do: Do) -> None:
    stream, whole = await do("stream", "chat")
    assert (stream["cache"], whole["cache"]) == ("miss", "exact")
    assert stream["pieces"] == ["Hello", ", ", "Wörld", "!"]
    assert whole["text"] == "Hello, Wörld!"


async def test_a_tool_is_called(do: Do, sdk: str, house: House) -> None:
    function = {"name": "now", "arguments": '{"city":'}
    pieces = [{"index": 0, "id": "c1", "type": "function", "function": function}]
    pieces += [{"index": 0, "function": {"arguments": ' "Wien"}'}}]
    house.engine.pieces, house.engine.finish_reason = ("0", "1"), "tool_calls"
    house.engine.piece = lambda text: house.engine.delta({"tool_calls": [pieces[int(text)]]})  # type: ignore[method-assign]
    reason = {"openai": "tool_calls", "anthropic": "tool_use", "ollama": "stop"}[sdk]
    for seen in await do("tool", "toolStream"):
        assert seen["calls"] == [{"name": "now", "arguments": {"city": "Wien"}}]
        assert (seen["reason"], seen["cache"]) == (reason, "bypass")


async def test_an_unknown_model_is_the_client_s_own_error(do: Do, sdk: str) -> None:
    (error,) = await do("unknown")
    assert error["error"] == ("ResponseError" if sdk == "ollama" else "NotFoundError")
    assert error["status"] == 404
    assert "served are: tiny" in error["message"]


async def test_a_key_is_sent_as_the_sdk_sends_it(serve: Serve, add_key: AddKey, sdk: str) -> None:
    async with serve(gateway={"keys": "always"}) as house:
        (refused,) = await see(house.url, sdk, "chat")
        (answer,) = await see(house.url, sdk, "chat", key=await add_key())
    assert refused["error"] == ("ResponseError" if sdk == "ollama" else "AuthenticationError")
    assert (refused["status"], answer["text"]) == (401, "Hello, Wörld!")


async def test_the_engine_stops_where_a_stream_is_left_in_the_middle(do: Do, house: House) -> None:
    house.engine.fail(Fault.HANGS, after=2)
    (left,) = await do("leave")
    assert left["text"] == "Hello"
    await asyncio.wait_for(house.engine.left.wait(), LONGEST)


@pytest.mark.parametrize("sdk", ["openai", "ollama"], indirect=True)
async def test_texts_are_embedded(do: Do) -> None:
    (embedded,) = await do("embed")
    assert embedded["dimensions"] == [384, 384]


@pytest.mark.parametrize("sdk", ["openai"], indirect=True)
async def test_a_response_is_the_same_answer(do: Do) -> None:
    chat, response = await do("chat", "response")
    assert (chat["cache"], response["cache"]) == ("miss", "exact")
    assert (response["text"], response["status"], response["tokens"]) == ("Hello, Wörld!", "completed", 4)
