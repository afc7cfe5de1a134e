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
