"""Which fleet serves a model."""

from __future__ import annotations

from typing import Any, cast

import pytest

from llmhost.config.models import Config
from llmhost.errors import ConfigError
from llmhost.gateway.faults import NotFound
from llmhost.gateway.fleets import ServedFleet, ServedFleets


def fleet(name: str, model: str) -> ServedFleet:
    engine = {"kind": "openai", "model": model}
    config = {
        "fleet": {"name": name, "provider": "static", "workers": [{"url": "http://127.0.0.1:1"}]},
        "engine": engine,
    }
    return ServedFleet(Config.model_validate(config), cast("Any", None))


BLUE, RED = fleet("blue", "llama3:latest"), fleet("red", "qwen")


@pytest.mark.parametrize(
    ("asked", "served"),
    [("llama3", BLUE), ("llama3:latest", BLUE), ("qwen", RED), ("gpt-4o", RED), ("gpt-4o:latest", RED)],
)
def test_a_model_is_found_by_each_of_its_names(asked: str, served: ServedFleet) -> None:
    assert ServedFleets([BLUE, RED], {"gpt-4o": "qwen"}).of(asked) is served


def test_a_star_stands_for_every_other_name() -> None:
    fleets = ServedFleets([BLUE, RED], {"*": "qwen"})
    assert [fleets.of(name) for name in ("anything", "llama3")] == [RED, BLUE]


def test_a_model_that_no_fleet_serves_is_not_found() -> None:
    with pytest.raises(NotFound, match="llama3:latest, qwen"):
        ServedFleets([BLUE, RED], {}).of("huge")


def test_a_model_belongs_to_one_fleet() -> None:
    with pytest.raises(ConfigError, match="blue and green both serve"):
        ServedFleets([BLUE, fleet("green", "llama3")], {})


def test_a_fleet_has_one_configuration() -> None:
    with pytest.raises(ConfigError, match="several configurations are for the fleet blue"):
        ServedFleets([BLUE, RED, fleet("blue", "gemma")], {})


def test_an_alias_stands_for_a_model_that_is_served() -> None:
    with pytest.raises(ConfigError, match="no fleet serves huge"):
        ServedFleets([BLUE], {"gpt-4o": "huge"})
