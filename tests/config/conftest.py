"""Loading a configuration from text, in the folder of the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from llmhost.config.load import load_config
from llmhost.config.models import Config
from llmhost.errors import ConfigError

Load = Callable[..., Config]


@pytest.fixture(scope="session")
def load() -> Load:
    """Writes ./llmhost.yaml and loads it. Session-wide, so that property tests may use it."""

    def load(
        text: str | bytes, environ: Mapping[str, str] = {}, overrides: Mapping[str, object] = {}
    ) -> Config:
        data = text.encode() if isinstance(text, str) else text
        Path("llmhost.yaml").write_bytes(data)
        return load_config(Path("llmhost.yaml"), environ=environ, overrides=overrides).config

    return load


@pytest.fixture(scope="session")
def refused(load: Load) -> Callable[..., ConfigError]:
    """Loads what must be refused, and gives the error."""

    def refused(
        text: str | bytes, environ: Mapping[str, str] = {}, overrides: Mapping[str, object] = {}
    ) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            load(text, environ, overrides)
        return caught.value

    return refused
