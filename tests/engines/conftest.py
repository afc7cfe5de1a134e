"""What several tests of the engines need."""

from __future__ import annotations

import pytest

from llmhost.engines.engine import Delta
from llmhost.errors import LlmhostError


@pytest.fixture(params=["openai_side", "ollama_side"])
def side(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def gather():
    """Reads a stream to its end and gives the pieces that came, and the error that ended it or None."""

    async def read(stream):
        pieces = []
        try:
            async for event in stream:
                if isinstance(event, Delta):
                    pieces.append(event.text)
        except LlmhostError as error:
            return pieces, error
        return pieces, None

    return read
