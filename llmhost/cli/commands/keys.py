"""`llmhost keys`: API keys of the gateway."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.frame import App, Globals, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured, confirm, run_async, wired
from llmhost.cli.text import ago, clean, duration, money, short_count
from llmhost.errors import Cancelled, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config
    from llmhost.gateway.api_keys import ApiKey, Limits
    from llmhost.gateway.key_store import StoredKey

__all__ = ["app"]

app = App("Make, list and revoke API keys of the gateway. They hold for every gateway on this Redis.")

_LONGEST_TEXT = 128  #: characters of a tenant's or a label's name


@app.command("add")
@asynchronous
async def add_key(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Option(help="Whose key it is: each tenant has a cache of its own.")],
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    rpm: Annotated[int | None, typer.Option(min=1, max=10**9, help="Requests a minute.")] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(min=1, max=10**15, help="Tokens of prompts and answers a day (UTC).")
    ] = None,
    usd_per_day: Annotated[
        float | None, typer.Option(min=0.01, max=1e9, help="USD of workers' time a day (UTC).")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="A model it may ask for, repeatable; by default all.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="After how long it expires, such as 30d.")] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="It also shows what concerns all tenants: /metrics, the page.")
    ] = False,
) -> None:
    """Make an API key and print it. It is shown this once: only its hash is kept.

    Examples:
      llmhost keys add --tenant acme
      llmhost keys add --tenant acme --label chat --tokens-per-day 1000000
      llmhost keys add --tenant acme --usd-per-day 5 --rpm 60 --expires 30d
    """
    from llmhost.gateway.api_keys import ApiKey, Limits, make_key
    from llmhost.wiring.gateways import make_key_store

    options, now = globals_of(ctx), time.time()
    limits = Limits(rpm, tokens_per_day, usd_per_day, tuple(_model(one) for one in models or ()))
    until = None if expires is None else now + _lifetime(expires)
    text, made = make_key()
    key = ApiKey(
        id=made.id,
        tenant=_line("--tenant", tenant),
        limits=limits,
        created=now,
        digest=made.digest,
        label=_line("--label", label) if label else "",
        expires=until,
        operator=operator,
    )
    async with wired(options, configured(options)) as wiring:
        await (await make_key_store(wiring)).add(key)
    options.output.note(f"The key {key.id} of tenant {key.tenant}; it is not shown again:")
    document = {"id": key.id, "key": text, **_described(key)}
    options.output.result(document, lambda _, console: console.print(text, soft_wrap=True))


@app.command("ls")
@asynchronous
async def list_keys(ctx: typer.Context) -> None:
    """List API keys with their limits and what they used today (UTC).

    Examples:
      llmhost keys ls
      llmhost keys ls --json | jq '.keys[] | {id, tenant, today}'
    """
    from llmhost.wiring.gateways import make_key_store

    options, now = globals_of(ctx), time.time()
    async with wired(options, configured(options)) as wiring:
        stored = await (await make_key_store(wiring)).keys(now)
    for one in stored:
        if one.key is None:
            options.output.warn(f"the record of key {one.id} is damaged, so that it is refused: revoke it")
    rows = [_row(one, one.key, now) for one in stored if one.key is not None]
    options.output.result({"keys": rows}, lambda document, console: _show(document["keys"], now, console))


@app.command("revoke")
def revoke_key(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="The id of a key, as `keys ls` shows it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Revoke an API key: gateways refuse it from the next request on.

    Examples:
      llmhost keys revoke 3f9a1c2d4e5b
      llmhost keys revoke 3f9a1c2d4e5b -y
    """
    options = globals_of(ctx)
    if not (yes or sys.stdin.isatty()):
        raise UsageError("clients with this key are refused then", hint="confirm it with --yes")
    run_async(_revoke(options, configured(options), key, yes))


async def _revoke(options: Globals, config: Config, id: str, yes: bool) -> None:
    from llmhost.wiring.gateways import make_key_store

    async with wired(options, config) as wiring:
        store = await make_key_store(wiring)
        found = next((one for one in await store.keys(time.time()) if one.id == id), None)
        if found is None:
            raise UsageError(f"there is no key {clean(id)!r}", hint="`llmhost keys ls` lists the ids")
        whose = f" of tenant {clean(found.key.tenant)}" if found.key else ""
        if not yes and not await confirm(f"Revoke the key {id}{whose}?"):
            raise Cancelled("Cancelled. Nothing was revoked.")
        await store.revoke(id)
    options.output.result({"revoked": id}, lambda _, console: console.print(f"revoked {id}{whose}"))


def _lifetime(text: str) -> float:
    """Seconds. Raises UsageError."""
    from llmhost.config.fields import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3650 * 86_400:
        raise UsageError(f"--expires {clean(text)!r} is no duration", hint="write 12h or 30d, 3650d at most")
    return seconds


def _line(option: str, text: str) -> str:
    """Raises UsageError."""
    if not 1 <= len(text) <= _LONGEST_TEXT or not text.isprintable():
        raise UsageError(f"{option} must be one line of 1 to {_LONGEST_TEXT} characters")
    return text


def _model(name: str) -> str:
    """Raises UsageError."""
    if not name.isprintable() or not name.strip() or " " in name or len(name) > 200:
        raise UsageError("--models must be a model's name", hint="repeat the option for several models")
    return name


def _described(key: ApiKey) -> dict[str, Any]:
    return {
        "tenant": key.tenant,
        "label": key.label,
        "limits": _limits(key.limits),
        "created": key.created,
        "expires": key.expires,
        "operator": key.operator,
    }


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_day": limits.tokens_per_day,
        "usd_per_day": limits.usd_per_day,
        "models": list(limits.models),
    }


def _row(stored: StoredKey, key: ApiKey, now: float) -> dict[str, Any]:
    today = {"requests": stored.today.requests, "tokens": stored.today.tokens, "usd": stored.today.usd}
    ends = {"last_used": key.last_used, "expired": key.is_expired(now), "today": today}
    return {"id": key.id, **_described(key), **ends}


def _show(rows: Sequence[Mapping[str, Any]], now: float, console: Console) -> None:
    if not rows:
        console.print("No API keys. `llmhost keys add --tenant NAME` makes one.")
        return
    columns = ("key", "tenant", "label", "rpm", "tokens\ntoday", "cost\ntoday", "models")
    grid = table(*columns, "last used", "expires", right=columns[3:6])
    grid.columns[0].no_wrap = True  # to be copied
    for row in rows:
        limits, today = row["limits"], row["today"]
        tokens, most = short_count(today["tokens"]), limits["tokens_per_day"]
        usd, most_usd = money(today["usd"]), limits["usd_per_day"]
        grid.add_row(
            row["id"],
            clean(row["tenant"]),
            clean(row["label"]),
            "-" if limits["requests_per_minute"] is None else f"{limits['requests_per_minute']:,}",
            tokens if most is None else f"{tokens} of {short_count(most)}",
            usd if most_usd is None else f"{usd} of {money(most_usd)}",
            clean(", ".join(limits["models"])) or "all",
            "never" if row["last_used"] is None else ago(row["last_used"], now),
            _expiry(row["expires"], now),
        )
    console.print(grid)


def _expiry(expires: float | None, now: float) -> str:
    if expires is None:
        return "never"
    return "expired" if expires <= now else f"in {duration(expires - now)}"
