"""configs/vast.yaml: the setup of docs/setup.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmhost.config.load import load_config
from llmhost.config.models import OFFERS, Config
from llmhost.errors import ConfigError

FILE = Path(__file__).parents[2] / "configs" / "vast.yaml"

REDIS = {"REDIS_HOST": "redis.example.com", "REDIS_PORT": "16380", "REDIS_PASSWORD": "hunter2"}


@pytest.fixture
def config() -> Config:
    return load_config(FILE, environ=REDIS).config


def test_it_rents_three_rtx_4090_as_the_paper_does(config: Config) -> None:
    assert (config.fleet.provider, config.fleet.gpus, config.fleet.max_gpus) == ("vast", 3, 3)
    assert {"gpu_name=RTX_4090", "reliability>0.95"} < set(config.vast.offers.split())
    assert (config.vast.disk, config.vast.interruptible) == (50, False)


def test_its_filter_is_the_built_in_one(config: Config) -> None:
    assert set(config.vast.offers.split()) == set(OFFERS.split())


def test_it_serves_the_papers_model_with_ollama(config: Config) -> None:
    assert (config.engine.kind, config.engine.model) == ("ollama", "qwen2:7b-instruct-q6_K")
    assert config.engine.slots > 1


def test_its_redis_comes_from_the_environment_and_speaks_tls(config: Config) -> None:
    redis = config.redis
    assert (redis.host, redis.port, redis.tls) == ("redis.example.com", 16380, True)
    assert redis.password is not None
    assert redis.password.get_secret_value() == "hunter2"


@pytest.mark.parametrize("name", sorted(REDIS))
def test_a_variable_that_is_missing_is_named(name: str) -> None:
    environ = {key: value for key, value in REDIS.items() if key != name}
    with pytest.raises(ConfigError, match=f"the environment variable {name} is not set"):
        load_config(FILE, environ=environ)


def test_the_account_key_does_not_stand_in_it(config: Config) -> None:
    assert config.vast.api_key is None


@pytest.mark.parametrize("hours", [1, 24, 24 * 31])
def test_its_budget_holds_the_fleet_at_the_papers_price_but_not_twice_of_it(
    config: Config, hours: int
) -> None:
    budget = config.fleet.budget
    limit = {1: budget.per_hour, 24: budget.per_day, 24 * 31: budget.per_month}[hours]
    assert limit is not None
    assert 3 * 0.5 * hours <= limit < 2 * 3 * 0.5 * hours
