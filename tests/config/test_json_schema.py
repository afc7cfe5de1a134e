"""The JSON Schema of the configuration, by a validator that knows nothing of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from llmhost.config.models import RENAMED
from llmhost.config.schema import fields, json_schema
from llmhost.config.template import render_template

REPOSITORY = Path(__file__).parents[2]
VALIDATOR = jsonschema_rs.Draft202012Validator(json_schema())


@pytest.mark.parametrize("name", ["configs/local.yaml", "configs/vast.yaml"])
def test_the_files_that_are_shipped_are_valid(name: str) -> None:
    document = yaml.safe_load((REPOSITORY / name).read_text())
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


def test_the_template_with_every_example_in_force_is_valid() -> None:
    """A key directly after a `#` has an example."""
    text = "\n".join(
        line.replace("#", "", 1)
        if line.lstrip().startswith("#") and not line.lstrip().startswith("# ")
        else line
        for line in render_template().splitlines()
    )
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"fleet": None},
        {"redis": {"password": "${REDIS_PASSWORD}", "port": "${REDIS_PORT}"}},
        {"redis": {"password": 123456}},
        {"cache": {"response_ttl": "1.5h", "embedding_ttl": 604800}},
        {"fleet": {"provider": "static", "workers": [{"url": "http://127.0.0.1:1", "token": "${T}"}]}},
        {"engine": {"max_tokens": None}},
        *({old.split(".")[0]: {old.split(".")[1]: "1"}} for old in RENAMED),
    ],
)
def test_what_may_be_written_is_valid(document: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(document)


@pytest.mark.parametrize(
    "document",
    [
        {"fleets": {}},
        {"fleet": {"gpuz": 1}},
        {"fleet": {"gpus": "two"}},
        {"fleet": {"gpus": -1}},
        {"fleet": {"provider": "aws"}},
        {"fleet": {"name": "No Name"}},
        {"fleet": {"workers": [{"token": "x"}]}},
        {"cache": {"response_ttl": "soon"}},
        {"cache": {"enabled": "maybe"}},
        {"cost": {"baselines": [{"name": "x"}]}},
    ],
)
def test_what_llmhost_would_refuse_is_not(document: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(document)


def test_every_key_is_described_as_in_the_reference() -> None:
    for key, field in fields():
        found: Any = json_schema()
        for name in key.split("."):
            found = found["properties"][name]
        assert found["description"] == field.description
