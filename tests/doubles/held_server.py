"""An OpenAI-compatible server that answers when it is told to, and counts what it has at once."""

from __future__ import annotations

import asyncio

from doubles.http_server import Reply, Request
from doubles.openai_server import OpenAIServer


class HeldServer(OpenAIServer):
    """Answers chats once it is `open`; `most` is how many it had at once."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.under_way = self.most = 0

    async def chat(self, request: Request, reply: Reply) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
            await super().chat(request, reply)
        finally:
            self.under_way -= 1
