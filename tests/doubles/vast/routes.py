"""Which endpoint a request means, and what it brings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from doubles.http_server import Request
from doubles.vast.answers import refusal

#: Longer paths first where one would match both. A slash at the end may be left out.
ROUTES: tuple[tuple[str, str, str], ...] = (
    ("POST", r"/api/v0/bundles", "search"),
    ("PUT", r"/api/v0/asks/(\d+)", "create"),
    ("GET", r"/api/v1/instances", "list"),
    ("GET", r"/api/v0/instances", "old_list"),
    ("GET", r"/api/v0/instances/(\d+)", "show"),
    ("DELETE", r"/api/v0/instances/(\d+)", "destroy"),
    ("PUT", r"/api/v0/instances/request_logs/(\d+)", "logs"),
    ("GET", r"/api/v0/charges", "charges"),
    ("GET", r"/api/v0/users/current", "user"),
    ("GET", r"/results/([0-9a-f]+)\.log", "result"),
)


@dataclass(frozen=True, slots=True)
class Call:
    """`id` is the number in the path, of an offer or an instance; `name` whatever else is named there."""

    endpoint: str
    id: int
    name: str
    query: Mapping[str, str]
    raw: bytes
    key: str | None

    @property
    def body(self) -> Any:
        """Raises Refused (400) where it is no JSON."""
        try:
            return json.loads(self.raw or b"{}")
        except ValueError as error:
            raise refusal(400, "invalid_request", "Invalid json body") from error


def read_call(request: Request) -> Call:
    """`endpoint` is "unknown" where there is none."""
    url = urlsplit(request.path)
    found = _route(request.method, url.path.rstrip("/"))
    name, value = found or ("unknown", "")
    return Call(
        endpoint=name,
        id=int(value) if value.isdigit() else 0,
        name=value,
        query=dict(parse_qsl(url.query)),
        raw=request.body,
        key=request.headers.get("authorization", "").removeprefix("Bearer ") or None,
    )


def _route(method: str, path: str) -> tuple[str, str] | None:
    for wanted, pattern, endpoint in ROUTES:
        found = re.fullmatch(pattern, path) if method == wanted else None
        if found:
            return endpoint, next(iter(found.groups()), "")
    return None
