"""What an operator may configure of Redis: the address, who logs in, and how several servers are one."""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from llmhost.config.fields import Allowed, Duration, Section, is_public, raise_broken

__all__ = ["RedisConfig", "SentinelConfig", "parse_addresses"]

_ADDRESS = re.compile(r"\[([0-9A-Fa-f:.]+)\]:([0-9]{1,5})|([A-Za-z0-9._-]{1,253}):([0-9]{1,5})")


def parse_addresses(value: str) -> tuple[tuple[str, int], ...]:
    """Hosts and ports from ``host:port, host:port``. Raises ValueError where one is none."""
    found = []
    for part in value.split(","):
        match = _ADDRESS.fullmatch(part.strip())
        if match is None or not 0 < int(match[2] or match[4]) < 65536:
            raise ValueError(f"{part.strip()!r} is not host:port")
        found.append((match[1] or match[3], int(match[2] or match[4])))
    return tuple(found)


def _addresses(value: str) -> str:
    parse_addresses(value)
    return value


Addresses = Annotated[
    str,
    Field(min_length=1, max_length=4000),
    AfterValidator(_addresses),
    Allowed("addresses `host:port`, separated by commas"),
]


class SentinelConfig(Section):
    """Redis Sentinel, which says where the master is. User and password in `redis` are the master's."""

    hosts: Addresses | None = Field(
        None,
        description="The sentinels, instead of `redis.host`. `redis.tls` and its files are for them too.",
        examples=["sentinel-1:26379, sentinel-2:26379, sentinel-3:26379"],
    )
    master: str = Field("mymaster", min_length=1, max_length=100, description="The master's name there.")
    username: str | None = Field(
        None, min_length=1, description="User name of the sentinels, if they have one.", examples=["llmhost"]
    )
    password: SecretStr | None = Field(
        None, description="Their password, if they have one.", examples=["${SENTINEL_PASSWORD}"]
    )


_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


class RedisConfig(Section):
    """Redis, which stores cache and ledger. Without `url` and `host`, llmhost runs an embedded Redis."""

    url: SecretStr | None = Field(
        None,
        description="`redis://`, `rediss://` or `unix://` address, instead of `host`. User, password and "
        "database in it override the keys below.",
        examples=["${REDIS_URL}"],
    )
    host: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Host name of your Redis.",
        examples=["redis.example.com"],
    )
    port: int = Field(6379, ge=1, le=65535, description="Port.")
    username: str | None = Field(
        None, min_length=1, description="User name, if it has one.", examples=["llmhost"]
    )
    password: SecretStr | None = Field(
        None, description="Password; use a variable, not the text itself.", examples=["${REDIS_PASSWORD}"]
    )
    cluster: bool = Field(
        False,
        description="Whether it is a Redis Cluster. llmhost asks the address above for the other nodes. It "
        "changes the names of keys: see docs/redis.md.",
    )
    seeds: Addresses | None = Field(
        None,
        description="With `cluster`, more of its nodes, for when the one above is down.",
        examples=["redis-2:6379, redis-3:6379"],
    )
    sharded: bool = Field(
        False,
        description="Whether one address stands for several shards, as a clustered database of Redis Cloud "
        "or Enterprise. Names of keys are those of a cluster.",
    )
    sentinel: SentinelConfig = Field(default_factory=SentinelConfig)
    tls: bool = Field(False, description="Whether to use TLS. The certificate is always verified.")
    ca_file: str | None = Field(
        None,
        min_length=1,
        description="PEM file of the certificate authority, if it is not a public one.",
        examples=["/etc/ssl/redis-ca.pem"],
    )
    cert_file: str | None = Field(
        None,
        min_length=1,
        description="PEM file of this client's certificate, if Redis wants one.",
        examples=["/etc/ssl/redis-client.pem"],
    )
    key_file: str | None = Field(
        None,
        min_length=1,
        description="PEM file of the key of `cert_file`; by default `cert_file` itself.",
        examples=["/etc/ssl/redis-client.key"],
    )
    db: int = Field(0, ge=0, le=1_000_000, description="Database number.")
    timeout: Duration = Field(
        2.0,
        description="Time limit for connecting and for each answer; after it, Redis counts as unavailable.",
    )
    server: str | None = Field(
        None,
        min_length=1,
        description="The `redis-server` of the embedded Redis: a path, or a name on PATH. By default "
        "the one on PATH if it is Redis 8 or later, else the packaged one, else the one on PATH. A file that "
        "is not named but found in the current folder cannot set it.",
        examples=["/usr/bin/redis-server"],
    )
    worker_url: SecretStr | None = Field(
        None,
        description="`rediss://` address of this Redis for the gateways of rented workers "
        "(`fleet.gateway_on_worker`), with a user of their own and its password: docs/worker.md has its "
        "rights. No other credentials are sent to a worker.",
        examples=["${REDIS_WORKER_URL}"],
    )
    cache_only: bool = Field(
        False,
        description="Whether the user may use the cache's keys alone, as those of `worker_url` may: nothing "
        "is counted or audited, and the workers are those of `fleet.workers`, without `llmhost up`.",
    )

    @property
    def is_own(self) -> bool:
        """Whether it is a server of the operator's, and not the embedded one."""
        return self.url is not None or self.host is not None or self.sentinel.hosts is not None

    @property
    def has_shards(self) -> bool:
        """Whether the name of a key says on which of several servers it is."""
        return self.cluster or self.sharded

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if not self.is_own:
            self._check_embedded()
        elif self.url is not None and self.host is not None:
            raise ValueError("set either `redis.url` or `redis.host`, not both")
        elif self.url is not None and not self.url.get_secret_value().startswith(_REDIS_SCHEMES):
            raise ValueError("`redis.url` must start with redis://, rediss:// or unix://")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("`redis.key_file` needs `redis.cert_file`, the certificate of that key")
        self._check_servers()
        if self.worker_url is not None:
            self._check_worker_url(self.worker_url.get_secret_value())
        return self

    def _check_servers(self) -> None:
        """What does not go together of the ways to be more than one server."""
        url = self.url.get_secret_value() if self.url else ""
        has_sentinels = self.sentinel.hosts is not None
        raise_broken(
            (self.cluster and has_sentinels, "set either `redis.cluster` or `redis.sentinel`, not both"),
            (self.cluster and self.sharded, "set either `redis.cluster` or `redis.sharded`, not both"),
            (
                has_sentinels and (self.url is not None or self.host is not None),
                "with `redis.sentinel`, leave out `redis.url` and `redis.host`: sentinels say where it is",
            ),
            (
                not has_sentinels and self.sentinel != SentinelConfig(),
                "`redis.sentinel` needs `redis.sentinel.hosts`",
            ),
            (self.seeds is not None and not self.cluster, "`redis.seeds` needs `redis.cluster: true`"),
            (self.cluster and self.db != 0, "a cluster has no other database than 0: leave out `redis.db`"),
            (self.cluster and url.startswith("unix:"), "a cluster has no socket: give a host in `redis.url`"),
        )

    def _check_worker_url(self, url: str) -> None:
        """What a worker must not be sent, and what would not work there."""
        try:
            parts, own = urlsplit(url), urlsplit(self.url.get_secret_value() if self.url else "")
            host = parts.hostname or ""
        except ValueError:  # its cause may quote the password
            raise ValueError("`redis.worker_url` is not an address") from None
        user = unquote(parts.username or "")
        operator = unquote(own.username or "") or self.username
        raise_broken(
            (
                parts.scheme != "rediss",
                "`redis.worker_url` must start with rediss://: it crosses the internet",
            ),
            (not (user and parts.password), "`redis.worker_url` needs a user and a password"),
            (
                bool(user) and user in ("default", operator),
                "the user of `redis.worker_url` must be one of its own, which may use the cache's keys alone",
            ),
            (
                not host or not is_public(host),
                "the host of `redis.worker_url` cannot be reached by a rented worker",
            ),
        )

    def _check_embedded(self) -> None:
        """A password without a host would be ignored."""
        fields = type(self).model_fields
        address = ("port", "username", "password", "cluster", "sharded", "worker_url")
        names = (*address, "tls", "ca_file", "cert_file", "key_file")
        raise_broken(
            *(
                (
                    getattr(self, name) != fields[name].default,
                    f"`redis.{name}` needs `redis.host`, the host of your Redis",
                )
                for name in names
            )
        )
