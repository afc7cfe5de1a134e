"""The section `gateway`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from llmhost.config.fields import (
    Aliases,
    Duration,
    HeaderName,
    Host,
    Network,
    Section,
    Url,
    is_loopback,
    raise_broken,
)

__all__ = ["GatewayConfig"]


class GatewayConfig(Section):
    """`llmhost serve`: one URL for clients of OpenAI's, Ollama's and Anthropic's APIs."""

    autostart: bool = Field(
        True, description="`up` starts the gateway in the background, and `down` stops it."
    )
    host: Host = Field(
        "127.0.0.1",
        description="Address to listen on. One that other machines reach needs API keys (`llmhost keys add`) "
        "and TLS: `tls_certificate` or `behind_proxy`.",
    )
    port: int = Field(11435, ge=1, le=65535, description="Port to listen on.")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that serve on the port. One uses little more than a core.",
    )
    keys: Literal["auto", "always"] = Field(
        "auto",
        description="Who needs an API key. `auto`: everyone, except on a loopback address without "
        "`behind_proxy` and on the Unix socket. `always`: everyone.",
    )
    tls_certificate: str | None = Field(
        None,
        min_length=1,
        description="PEM file of the gateway's certificate and those between it and its authority. A new "
        "one is used within a minute, without a restart.",
        examples=["/etc/ssl/llm.example.com.pem"],
    )
    tls_key: str | None = Field(
        None,
        min_length=1,
        description="PEM file of the key of `tls_certificate`; by default `tls_certificate` itself.",
        examples=["/etc/ssl/llm.example.com.key"],
    )
    behind_proxy: Network | None = Field(
        None,
        description="Address or network of the proxy that takes TLS for the gateway. No other may connect "
        "then, and the proxy's `X-Forwarded-For` is believed.",
        examples=["10.0.0.5"],
    )
    user_header: HeaderName | None = Field(
        None,
        description="Header in which clients name their user. Each user then has a cache of its own within "
        "the tenant.",
        examples=["X-OpenWebUI-User-Id"],
    )
    aliases: Aliases = Field(
        {},
        description="Other names under which clients may ask for a model, the cache's embedding model "
        "included; `'*'` is every other name of a chat model.",
        examples=[{"gpt-4o-mini": "llama3.2:3b"}],
    )
    max_body: int = Field(
        16_000_000,
        ge=1000,
        le=1_000_000_000,
        description="Maximum size of a request in bytes, images included.",
    )
    queue: int = Field(
        200,
        ge=1,
        le=100_000,
        description="Maximum number of requests that wait while all slots of all workers are in use; beyond "
        "it, requests are refused with status 429. Tenants take turns.",
    )
    queue_timeout: Duration = Field(
        60.0,
        le=3600,
        description="Time limit for waiting in the queue; after it, a request is refused with status 503.",
    )
    wake: bool | None = Field(
        None,
        description="Whether a request that finds no worker has `llmhost scale` make a step, within its "
        "limits and the budget, and waits for a worker. By default only for a rented fleet whose cost is "
        "limited and which `llmhost scale` has scaled before. Never between `llmhost down` and `llmhost up`.",
        examples=[True],
    )
    wake_timeout: Duration = Field(
        300.0,
        le=3600,
        description="Time limit for waiting for a worker to start; after it, status 503. Streams get pings.",
    )
    log: str = Field(
        "off",
        min_length=1,
        max_length=4096,
        description="Request log: a line of JSON for each request to a model, without words of it. A file, "
        "`stderr` or `off`. SIGHUP opens the file again.",
        examples=["/var/log/llmhost/requests.jsonl"],
    )
    traces: Url | None = Field(
        None,
        description="Address of an OpenTelemetry collector that takes OTLP over HTTP; needs "
        "`pip install 'llmhost[otel]'`. Without a path, `/v1/traces` is added.",
        examples=["http://127.0.0.1:4318"],
    )

    @property
    def is_public(self) -> bool:
        """Whether requests of other machines arrive, by the address or through a proxy."""
        return not is_loopback(self.host) or self.behind_proxy is not None

    @model_validator(mode="after")
    def _public_with_tls(self) -> Self:
        secured = self.tls_certificate is not None or self.behind_proxy is not None
        ways = "set `gateway.tls_certificate`, or `gateway.behind_proxy` to the proxy that takes TLS"
        raise_broken(
            (
                not is_loopback(self.host) and not secured,
                f"other machines reach `gateway.host` {self.host}, which needs TLS: {ways}",
            ),
            (
                self.tls_key is not None and self.tls_certificate is None,
                "`gateway.tls_key` needs `gateway.tls_certificate`, the certificate of that key",
            ),
        )
        return self
