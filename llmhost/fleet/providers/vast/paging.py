"""Long answers that vast.ai gives in pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from llmhost.errors import ProviderError
from llmhost.fleet.providers.vast.fields import Fields, Row, as_row

__all__ = ["pages", "rows_of"]

_MOST_PAGES = 1000  #: no account has so much; a server that never ends is broken


async def pages(ask: Callable[[str | None], Awaitable[object]], what: str) -> AsyncGenerator[Row, None]:
    """Every page; `ask` is given the token of the page before. Raises ProviderError where there is no end."""
    token: str | None = None
    seen: set[str | None] = set()
    while len(seen) < _MOST_PAGES:
        page = as_row(await ask(token), what)
        yield page
        seen.add(token)
        token = Fields(page, what).text("next_token") or None
        if token is None:
            return
        if token in seen:
            break
    raise ProviderError(f"vast.ai's answer cannot be read: {what} does not come to an end")


def rows_of(page: Row, name: str, what: str) -> Sequence[object]:
    """The rows of one page, which must be a list. Raises ProviderError."""
    rows = page.get(name)
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise Fields(page, what).wrong(name, "a list")
    return rows
