"""The engine behind the gateway that clients are tried with: `engine.py`, which prints its URL.

It greets who asks something for the first time, and complains if the cache should have answered. It calls a
tool that it knows, says what a tool said, gives JSON where a schema is asked for, writes a program for aider.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from doubles.http_server import Reply, Request
from doubles.openai_server import OpenAIServer

#: what each tool is called with; Claude Code's and Codex's run a command
CALLS = {
    "now": {"city": "Wien"},
    "Bash": {"command": "echo said-by-a-tool", "description": "Says something"},
    "exec_command": {"cmd": "echo said-by-a-tool"},
    "shell": {"command": ["echo", "said-by-a-tool"]},
}
HELLO = [{"content": piece} for piece in ("Hello", ", ", "Wörld", "!")]
FILE = ["hello.py\n```\n", 'print("Hello, Wörld!")\n', "```\n"]


class Engine(OpenAIServer):
    longest_prompt = 10_000_000

    def __init__(self) -> None:
        super().__init__()
        self.answered: set[bytes] = set()

    async def chat(self, request: Request, reply: Reply) -> None:
        deltas, reason = answer_to(request.json)
        if deltas == HELLO and request.body in self.answered:
            deltas = [{"content": "The cache should have known."}]
        self.answered.add(request.body)
        await reply.start(self.content_type)
        for delta in deltas:
            await reply.chunk(self.delta(delta))
        for line in self.ending(reason, len(deltas)):
            await reply.chunk(line)
        await reply.end()


def answer_to(body: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The pieces of the answer, and why it ends."""
    results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    names = [tool["function"]["name"] for tool in body.get("tools", ())]
    name = next((name for name in CALLS if name in names), None)
    if results:
        return [{"content": "The tool said: "}, {"content": text_of(results[-1])[-200:]}], "stop"
    if name is not None:
        arguments = json.dumps(CALLS[name])
        first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
        rest = [{"index": 0, "function": {"arguments": half}} for half in (arguments[:9], arguments[9:])]
        return [{"tool_calls": [piece]} for piece in (first, *rest)], "tool_calls"
    if body.get("response_format", {}).get("type") == "json_schema":
        return [{"content": '{"age":'}, {"content": " 7}"}], "stop"
    if "hello.py" in text_of(body["messages"][-1]["content"]):
        return [{"content": piece} for piece in FILE], "stop"
    return HELLO, "stop"


def text_of(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


async def main() -> None:
    async with Engine() as engine:
        print(engine.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
