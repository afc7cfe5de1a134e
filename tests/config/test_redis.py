"""What goes together of the ways in which Redis can be more than one server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmhost.config.models import Config
from llmhost.config.redis import parse_addresses
from llmhost.errors import ConfigError

Load = Callable[..., Config]
Refused = Callable[..., ConfigError]


def test_addresses_are_hosts_and_ports() -> None:
    assert parse_addresses("a:1, b-2.example.com:65535,[::1]:6379") == (
        ("a", 1),
        ("b-2.example.com", 65535),
        ("::1", 6379),
    )


@pytest.mark.parametrize(
    "value", ["", "a", "a:0", "a:65536", "a:1,,b:2", "a:b", "redis://a:1", "::1:1", "u@a:1"]
)
def test_what_is_no_list_of_addresses_is_refused_with_the_reason(refused: Refused, value: str) -> None:
    message = refused(f"redis: {{host: a, cluster: true, seeds: '{value}'}}").message
    assert "`redis.seeds`" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{host: a, cluster: true, db: 1}", "a cluster has no other database than 0"),
        ("{url: 'unix:///r.sock', cluster: true}", "a cluster has no socket"),
        ("{host: a, cluster: true, sharded: true}", "either `redis.cluster` or `redis.sharded`"),
        ("{host: a, seeds: 'b:1'}", "`redis.seeds` needs `redis.cluster: true`"),
        ("{cluster: true}", "`redis.cluster` needs `redis.host`"),
        ("{sentinel: {master: m}}", "`redis.sentinel` needs `redis.sentinel.hosts`"),
        ("{host: a, sentinel: {hosts: 's:1'}}", "leave out `redis.url` and `redis.host`"),
        ("{cluster: true, sentinel: {hosts: 's:1'}}", "either `redis.cluster` or `redis.sentinel`"),
    ],
)
def test_what_does_not_go_together_is_refused(refused: Refused, text: str, words: str) -> None:
    assert words in refused(f"redis: {text}").message


def test_sentinels_are_a_redis_of_ones_own(load: Load) -> None:
    config = load("redis: {username: u, password: p, sentinel: {hosts: 's-1:1, s-2:2'}}")
    assert config.redis.is_own
    assert not config.redis.has_shards
    assert load("redis: {host: a, sharded: true}").redis.has_shards
