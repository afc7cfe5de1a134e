"""The sections' rules, what the autoscaler gets from them, and configs/vast.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from llmhost.autoscale.models import ScaleSpec
from llmhost.config.fleet import OFFERS
from llmhost.config.hours import Window
from llmhost.config.load import load_config
from llmhost.config.models import Config
from llmhost.engines.traffic import KEPT
from llmhost.errors import ConfigError
from llmhost.wiring.fleets import scale_spec

Load = Callable[..., Config]
Refused = Callable[..., ConfigError]

RENTED = "fleet: {provider: vast}\nengine: {kind: ollama}\n"


def test_the_autoscaler_gets_the_values_of_the_section(load: Load) -> None:
    spec = scale_spec(
        load("""
fleet: {max_gpus: 20}
engine: {slots: 3}
scale:
  min_gpus: 2
  timezone: Europe/Zurich
  schedule:
    - {when: "mon-fri 08:00-18:00", min_gpus: 4}
    - {when: "22:00-06:00", min_gpus: 0}
  queue_time: 2s
  max_late_ratio: 0.1
  drain_backlog_within: 30s
  target_utilization_max: 0.9
  target_utilization_min: 0.6
  down_after: 10m
  scale_to_zero_after: 1h
  max_step: 5
  max_failures: 4
  tokens_per_s: 800
  tokens_per_answer: 333
  boot_time: 7m
""")
    )
    assert spec == ScaleSpec(
        min_gpus=2,
        max_gpus=20,
        windows=(
            Window(frozenset(range(5)), 480, 1080, 4),
            Window(frozenset(range(7)), 1320, 360, 0),
        ),
        zone=ZoneInfo("Europe/Zurich"),
        queue_time=2.0,
        max_late_ratio=0.1,
        drain_backlog_within=30.0,
        target_utilization_max=0.9,
        target_utilization_min=0.6,
        down_after=600.0,
        scale_to_zero_after=3600.0,
        max_step=5,
        max_failures=4,
        slots=3,
        tokens_per_s=800.0,
        tokens_per_answer=333.0,
        boot_seconds=420.0,
    )


def test_a_rented_machine_is_assumed_to_boot_longer_than_a_local_process(load: Load) -> None:
    assert scale_spec(load("")).boot_seconds == 10
    assert scale_spec(load(RENTED)).boot_seconds == 180
    assert scale_spec(load("scale: {boot_time: 44s}")).boot_seconds == 44


def test_a_static_fleet_cannot_grow_beyond_its_servers(load: Load) -> None:
    servers = "workers: [{url: 'http://a:1'}, {url: 'http://b:1'}]"
    spec = scale_spec(load(f"fleet: {{provider: static, max_gpus: 8, {servers}}}\nengine: {{kind: ollama}}"))
    assert spec.max_gpus == 2


def test_the_band_may_be_empty_but_not_inverted(load: Load, refused: Refused) -> None:
    scale = load("scale: {target_utilization_max: 0.7, target_utilization_min: 0.7}").scale
    assert scale.target_utilization_min == 0.7
    error = refused("scale: {target_utilization_max: 0.5}")
    assert "`scale.target_utilization_min` must not be over `scale.target_utilization_max`" in error.message


WITH_GATEWAYS = """
fleet: {{provider: vast, gateway_on_worker: true}}
engine: {{kind: ollama}}
redis: {{url: "rediss://operator:a@redis.example.com", worker_url: "{url}"}}
"""
OWN_USER = "rediss://worker:b@redis.example.com:6380/0"


def test_a_gateway_on_each_worker_is_off_by_default_and_can_be_had(load: Load) -> None:
    assert load(RENTED).fleet.gateway_on_worker is False
    assert load(WITH_GATEWAYS.format(url=OWN_USER)).fleet.gateway_on_worker is True


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://worker:b@redis.example.com", "must start with rediss://"),
        ("unix:///run/redis.sock", "must start with rediss://"),
        ("rediss://redis.example.com", "needs a user and a password"),
        ("rediss://:b@redis.example.com", "needs a user and a password"),
        ("rediss://worker@redis.example.com", "needs a user and a password"),
        ("rediss://default:b@redis.example.com", "must be one of its own"),
        ("rediss://operator:b@redis.example.com", "must be one of its own"),
        ("rediss://op%65rator:b@redis.example.com", "must be one of its own"),
        *(
            (f"rediss://worker:b@{host}", "cannot be reached by a rented worker")
            for host in ("localhost", "127.0.0.1", "10.0.0.5", "[::1]", "192.168.1.2:6380")
        ),
        ("rediss://worker:b@[::", "is not an address"),
    ],
)
def test_a_worker_is_sent_no_address_of_redis_that_it_should_not_have_or_cannot_use(
    url: str, why: str, refused: Refused
) -> None:
    message = refused(WITH_GATEWAYS.format(url=url)).message
    assert "`redis.worker_url`" in message
    assert why in message
    assert ":b@" not in message


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ("fleet: {gateway_on_worker: true}", "rented workers"),
        ("fleet: {provider: vast, gateway_on_worker: true}\nengine: {kind: ollama}", "`redis.worker_url`"),
        (WITH_GATEWAYS.format(url=OWN_USER) + "cache: {enabled: false}", "a cache that serves"),
        (WITH_GATEWAYS.format(url=OWN_USER) + "cache: {shadow: true}", "a cache that serves"),
        (WITH_GATEWAYS.format(url=OWN_USER) + "cache: {embedder: ./model}", "by name"),
        (WITH_GATEWAYS.format(url=OWN_USER) + "cache: {verifier: ~/model}", "by name"),
        (
            WITH_GATEWAYS.format(url=OWN_USER).replace("redis: {", "redis: {cert_file: c.pem, "),
            "a Redis that asks for no client's certificate",
        ),
    ],
)
def test_a_gateway_on_each_worker_names_what_it_needs(sections: str, why: str, refused: Refused) -> None:
    message = refused(sections).message
    assert "`fleet.gateway_on_worker` needs" in message
    assert why in message


def test_the_embedded_redis_is_no_workers(refused: Refused) -> None:
    text = f"{RENTED}redis: {{worker_url: '{OWN_USER}'}}"
    assert "`redis.worker_url` needs `redis.host`" in refused(text).message


@pytest.mark.parametrize("package", ["-e .", "--index-url=x", "llmhost @ https://x", "a\tb", ""])
def test_a_package_is_no_option_of_pip(package: str, refused: Refused) -> None:
    assert "fleet.gateway_package" in refused(f'fleet: {{gateway_package: "{package}"}}').message


def test_only_a_static_fleet_does_without_its_records(refused: Refused) -> None:
    message = refused(f"{RENTED}redis: {{host: a, cache_only: true}}").message
    assert "`redis.cache_only` needs `fleet.provider: static`" in message


def test_no_two_servers_have_one_name(refused: Refused) -> None:
    servers = "workers: [{url: 'http://a:1', name: x}, {url: 'http://b:1', name: x}]"
    message = refused(f"fleet: {{provider: static, {servers}}}\nengine: {{kind: ollama}}").message
    assert "the same name" in message


@pytest.mark.parametrize(
    "section",
    ["min_gpus: 9", 'schedule: [{when: "mon 08:00-09:00", min_gpus: 9}]'],
)
def test_no_minimum_may_exceed_the_maximum(section: str, refused: Refused) -> None:
    error = refused(f"fleet: {{max_gpus: 8}}\nscale: {{{section}}}")
    assert "no `min_gpus` of `scale` may be over `fleet.max_gpus`" in error.message


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ("min_gpus: -1", "scale.min_gpus"),
        ("target_utilization_max: .nan", "scale.target_utilization_max"),
        ("tokens_per_s: 0", "scale.tokens_per_s"),
        ("tokens_per_s: .inf", "scale.tokens_per_s"),
        ("down_after: 3h", "scale.down_after"),
        ("unresponsive_after: 5s", "scale.unresponsive_after"),
        ("timezone: Europe/Zuerich", "scale.timezone"),
        ('schedule: [{when: "mon 8-9", min_gpus: 1}]', "scale.schedule"),
        ('schedule: [{when: "mon 08:00-08:00", min_gpus: 1}]', "scale.schedule"),
        ('schedule: [{when: "mon 08:00-09:00"}]', "scale.schedule"),
        ("cooldown: 5m", "cooldown"),
    ],
)
def test_an_invalid_value_is_reported_with_its_key(section: str, named: str, refused: Refused) -> None:
    assert named in refused(f"scale: {{{section}}}").message


def test_an_idle_time_may_not_be_longer_than_counts_are_kept(load: Load) -> None:
    config = load("scale: {scale_to_zero_after: 2h, down_after: 2h}")
    assert max(config.scale.scale_to_zero_after, config.scale.down_after) < KEPT


FILE = Path(__file__).parents[2] / "configs" / "vast.yaml"

REDIS = {"REDIS_HOST": "redis.example.com", "REDIS_PORT": "16380", "REDIS_PASSWORD": "hunter2"}


@pytest.fixture
def config() -> Config:
    return load_config(FILE, environ=REDIS).config


def test_vast_yaml_rents_three_rtx_4090(config: Config) -> None:
    assert (config.fleet.provider, config.fleet.gpus, config.fleet.max_gpus) == ("vast", 3, 3)
    assert (config.vast.disk, config.vast.interruptible) == (50, False)
    assert set(config.vast.offers.split()) == set(OFFERS.split())


def test_vast_yaml_serves_a_model_with_ollama(config: Config) -> None:
    assert (config.engine.kind, config.engine.model) == ("ollama", "qwen2:7b-instruct-q6_K")
    assert config.engine.slots > 1


def test_the_secrets_of_vast_yaml_come_from_the_environment_and_its_redis_speaks_tls(config: Config) -> None:
    assert config.vast.api_key is None
    redis = config.redis
    assert (redis.host, redis.port, redis.tls) == ("redis.example.com", 16380, True)
    assert redis.password is not None
    assert redis.password.get_secret_value() == "hunter2"


@pytest.mark.parametrize("hours", [1, 24, 24 * 31])
def test_the_budget_of_vast_yaml_fits_the_fleet_at_half_a_dollar_but_not_at_a_dollar(
    config: Config, hours: int
) -> None:
    budget = config.fleet.budget
    limit = {1: budget.per_hour, 24: budget.per_day, 24 * 31: budget.per_month}[hours]
    assert limit is not None
    assert 3 * 0.5 * hours <= limit < 2 * 3 * 0.5 * hours
