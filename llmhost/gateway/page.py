"""The page at `/`, and the JSON that its script reads.

It is three files without a build step, which load nothing from elsewhere. What the script shows it sets as
text: questions and names come from outside. The files hold no figures, so anyone who reaches the gateway may
have them; the JSON is for callers who may ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from llmhost import __version__
from llmhost.cache.models import Asker
from llmhost.gateway.exchange import Exchange
from llmhost.gateway.faults import BadRequest, Conflict, Forbidden, NotFound
from llmhost.gateway.figures import PERIODS, FleetFigures
from llmhost.gateway.fleets import ServedFleet, ServedFleets

__all__ = ["FILES", "MARK", "Page"]

_FOLDER = Path(__file__).parent / "web"
#: what the page is made of, by path
FILES = {
    "/llmhost/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/llmhost/page.css": ("page.css", "text/css; charset=utf-8"),
    "/llmhost/icon.svg": ("icon.svg", "image/svg+xml"),
}
#: a browser then runs this page's one script, and nothing that found its way into it
_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
#: a header that no page of another site can send without being asked first, which it is then refused
MARK = "x-llmhost-page"
#: bytes of a verdict
_LONGEST_VERDICT = 2_000

Handler = Callable[[Exchange], Awaitable[None]]


class LabelBody(BaseModel):
    """A verdict on the hit on `entry` at `at`, Unix seconds. `same`: both wordings ask the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    fleet: Annotated[str, Field(max_length=200)]
    entry: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    at: Annotated[float, Field(allow_inf_nan=False)]
    same: bool


LABEL_BODY = TypeAdapter(LabelBody)


class Page:
    """The page of a gateway over these fleets."""

    def __init__(self, fleets: ServedFleets) -> None:
        self._fleets = fleets

    def routes(self) -> Sequence[tuple[str, Handler, str]]:
        """Path, handler and method of each."""
        return [
            ("/", self.root, "GET"),
            *((path, self._file, "GET") for path in FILES),
            ("/llmhost/gateway", self._gateway, "GET"),
            ("/llmhost/overview", self._overview, "GET"),
            ("/llmhost/hits", self._hits, "GET"),
            ("/llmhost/label", self._label, "POST"),
        ]

    async def root(self, exchange: Exchange) -> None:
        """The page for a browser. Ollama's clients ask here whether it runs."""
        if "text/html" in exchange.header("accept"):
            await _send_file(exchange, "page.html", "text/html; charset=utf-8")
        else:
            plain = {"content-type": "text/plain; charset=utf-8", "vary": "accept"}
            await exchange.reply(200, b"Ollama is running", plain)

    async def _file(self, exchange: Exchange) -> None:
        await _send_file(exchange, *FILES[exchange.scope["path"]])

    async def _gateway(self, exchange: Exchange) -> None:
        """What there is to look at."""
        _refuse_other_origins(exchange)
        visible = self._fleets.limited_to(exchange.caller.models).fleets
        fleets = [
            {
                "name": fleet.config.fleet.name,
                "model": fleet.model,
                "provider": fleet.config.fleet.provider,
            }
            for fleet in visible
        ]
        await _reply(exchange, {"version": __version__, "fleets": fleets, "periods": list(PERIODS)})

    async def _overview(self, exchange: Exchange) -> None:
        _refuse_other_origins(exchange)
        fleet, asked = self._asked(exchange)
        period = asked.get("period", "24h")
        if period not in PERIODS:
            raise BadRequest(f"`period` is one of {', '.join(PERIODS)}", "period")
        await _reply(exchange, await _figures_of(fleet).overview(period))

    async def _hits(self, exchange: Exchange) -> None:
        _refuse_other_origins(exchange)
        fleet, _ = self._asked(exchange)
        await _reply(exchange, await _figures_of(fleet).hits(_asker(exchange, fleet)))

    async def _label(self, exchange: Exchange) -> None:
        """The operator's verdict on a hit."""
        _refuse_other_origins(exchange)
        if not exchange.header(MARK):
            raise Forbidden(f"this needs the header {MARK}, which the page sends")
        body = await exchange.read(LABEL_BODY, _LONGEST_VERDICT)
        fleet = self._named(exchange, body.fleet)
        figures = _figures_of(fleet)
        reviewed = await figures.review.label(
            _asker(exchange, fleet), body.entry, body.at, same=body.same, now=figures.clock()
        )
        if reviewed is None:
            raise Conflict("this hit has its verdict already, or its entry was served again meanwhile")
        await _reply(exchange, {"learnt": reviewed.learnt, "forgotten": reviewed.forgotten})

    def _asked(self, exchange: Exchange) -> tuple[ServedFleet, dict[str, str]]:
        """The fleet that is asked for, and the parameters of the request."""
        try:
            query = parse_qs(exchange.scope["query_string"].decode("latin-1"), max_num_fields=10)
        except ValueError as error:
            raise BadRequest("there are too many parameters") from error
        asked = {name: values[-1] for name, values in query.items()}
        return self._named(exchange, asked.get("fleet")), asked

    def _named(self, exchange: Exchange, name: str | None) -> ServedFleet:
        """The fleet of this name that the caller may ask; the first one without a name."""
        for fleet in self._fleets.limited_to(exchange.caller.models).fleets:
            if name in (fleet.config.fleet.name, None):
                return fleet
        if name is None:
            raise NotFound("there is no fleet here that this key may ask", "fleet")
        raise NotFound(f"there is no fleet {name[:60]!r} here", "fleet")


def _asker(exchange: Exchange, fleet: ServedFleet) -> Asker:
    """Whose hits the caller may see: their own."""
    caller = exchange.caller
    return Asker(fleet.config.fleet.name, caller.tenant or fleet.config.cache.tenant, caller.user)


def _figures_of(fleet: ServedFleet) -> FleetFigures:
    if fleet.figures is None:
        raise NotFound("this gateway keeps no figures")
    return fleet.figures


def _refuse_other_origins(exchange: Exchange) -> None:
    """Raises Forbidden where a page of another origin asks; a port is an origin, too. A browser says so
    itself, an old one by the origin alone; what is no browser says nothing.
    """
    site, origin = exchange.header("sec-fetch-site"), exchange.header("origin")
    if site:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = bool(origin) and origin.partition("://")[2].lower() != exchange.header("host").lower()
    if foreign:
        raise Forbidden("requests of other sites are not answered")


async def _reply(exchange: Exchange, content: Any) -> None:
    await exchange.reply(200, content, {**_HEADERS, "cache-control": "no-store"})


async def _send_file(exchange: Exchange, name: str, kind: str) -> None:
    headers = {**_HEADERS, "content-type": kind, "cache-control": "no-cache", "vary": "accept"}
    await exchange.reply(200, _content(name), headers)


@cache
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
