"""The commented configuration made from the models."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.config.models import Config
from llmhost.config.schema import fields
from llmhost.config.template import render_template
from llmhost.errors import ConfigError

Load = Callable[..., Config]

#: Text that a file can hold; `${` would be a variable, a dot and a slash a path relative to the file.
_TEXT = st.text(min_size=1).filter(lambda text: "${" not in text and not text.startswith(("./", "../")))
_NUMBERS: dict[str, Any] = {"allow_nan": False, "allow_infinity": False}

_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "fleet.name": st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True),
        "fleet.gpus": st.integers(0, 8),
        "fleet.price_per_hour": st.floats(0, 1000, **_NUMBERS),
        "fleet.ready_timeout": st.floats(0.001, 3650 * 86400, **_NUMBERS),
        "fleet.budget.per_hour": st.none() | st.floats(0.001, 100_000, **_NUMBERS),
        "fleet.orphan_after": st.floats(60, 3650 * 86400, **_NUMBERS),
        "vast.disk": st.floats(8, 10_000, **_NUMBERS),
        "vast.offers": st.just("gpu_name=RTX_4090 dph_total<0.5"),
        "fleet.workers": st.lists(
            st.fixed_dictionaries({"url": st.just("http://h:1/v1"), "token": _TEXT}), max_size=3
        ),
        "engine.system": _TEXT,
        "engine.model_path": _TEXT,
        "engine.temperature": st.none() | st.floats(0, 2, **_NUMBERS),
        "cache.enabled": st.booleans(),
        "cache.namespace": st.sampled_from(["cache", "{cache}", "null", "007", "-", "1e3"]),
        "cache.embedder": _TEXT.filter(lambda text: len(text) <= 500),
        "cache.tenant": st.sampled_from(["no", "~", "a: b", "# x", "*x", "'", '"', "caf\xe9", "\u2028"]),
    },
)


def test_the_template_has_the_defaults(load: Load) -> None:
    assert load(render_template()) == Config()


def test_the_template_has_every_key_once() -> None:
    found = re.findall(r"^ {2,}#?([a-z_]+):", render_template(), re.MULTILINE)
    for section in ("budget", "sentinel", "lifetimes"):
        found.remove(section)
    assert found == [key.rpartition(".")[2] for key, _ in fields()]


def uncommented(text: str, *, but: Sequence[str]) -> str:
    lines = (
        line if any(part in line for part in but) else re.sub(r"^( +)#(?=\S|  )", r"\1", line)
        for line in text.splitlines()
    )
    return "\n".join(lines)


@pytest.mark.parametrize(
    "but", [("#url:",), ("redis.example.com",), ("#url:", "redis.example.com", "#seeds:", "cluster:")]
)
def test_each_example_in_the_template_is_a_valid_value(load: Load, but: Sequence[str]) -> None:
    # An address, a host and sentinels do not go together.
    text = render_template().replace("  cluster: false", "  cluster: true")
    if "#seeds:" in but:
        text = text.replace("  cluster: true", "  cluster: false")
    else:
        text = re.sub(r"  sentinel:\n(    .*\n)+", "", text)
    text = uncommented(text, but=but)
    environ = {"SENTINEL_PASSWORD": "s", "NTFY_TOKEN": "t"}
    environ |= dict.fromkeys(("NOTIFY_WEBHOOK", "SLACK_WEBHOOK", "NTFY_TOPIC"), "https://hooks.example.com/1")
    environ |= {"REDIS_URL": "redis://h", "REDIS_PASSWORD": "p", "WORKER_TOKEN": "t", "VAST_API_KEY": "k"}
    environ["FLEET_SIGNING_KEY"] = "sixteen or more characters"
    environ["REDIS_WORKER_URL"] = "rediss://worker:secret@redis.example.net"
    config = load(text, environ)
    assert (config.engine.threads, config.fleet.budget.per_hour, config.vast.max_bid) == (4, 2.0, 0.35)
    assert config.fleet.workers[0].url == "http://127.0.0.1:11434"


def test_the_template_for_a_running_ollama_loads(load: Load) -> None:
    values = {
        "fleet.provider": "static",
        "fleet.workers": [{"url": "http://127.0.0.1:11434"}, {"url": "http://h", "token": "${TOKEN}"}],
        "engine.kind": "ollama",
        "engine.model": "llama3.2",
        "cache.response_ttl": "1h",
    }
    config = load(render_template(values), {"TOKEN": "secret"})
    assert [worker.url for worker in config.fleet.workers] == ["http://127.0.0.1:11434", "http://h"]
    assert config.fleet.workers[1].token is not None
    assert config.fleet.workers[1].token.get_secret_value() == "secret"
    assert (config.engine.model, config.cache.response_ttl) == ("llama3.2", 3600)


@given(values=_VALUES)
def test_whatever_is_put_into_the_template_comes_back(load: Load, values: dict[str, object]) -> None:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        reduce(lambda part, section: part.setdefault(section, {}), sections, tree)[name] = value
    assert load(render_template(values)) == Config.model_validate(tree)


def test_a_key_that_is_not_there_cannot_be_put_into_the_template() -> None:
    with pytest.raises(ConfigError, match=r"unknown key `fleet.gpu`; did you mean `fleet.gpus`\?"):
        render_template({"fleet.gpu": 1})


def test_every_key_has_a_description() -> None:
    assert [key for key, field in fields() if not (field.description or "").endswith(".")] == []


def test_every_key_without_a_default_has_an_example() -> None:
    assert [key for key, field in fields() if field.default in (None, ()) and not field.examples] == []
