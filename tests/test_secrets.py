"""No repr of a value shows a secret: tracebacks and logs print values."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

import llmhost

SECRET = "the-secret-itself"

#: names of fields that hold secrets, or what may hold one
_NAMES = re.compile(
    r"(.*_)?(token|password|secret|credentials?|authorization|extra_env|environ|env|(api|signing)_key)"
)

#: of these names, what is no secret
_NO_SECRETS = {
    "ModelManifest.unknown_token",  # of a tokenizer, as all below
    "Manifest.unknown_token",
    "Page.next_token",  # of a list in pages
    "Bill.next_token",
    "_Instances.next_token",
}

#: what holds secrets under another name
_SECRETS = {
    "Identity.key",
    "Origin.key",
    "Place.written",
    "Document.values",
    "_Setting.value",
    *(f"NotifyConfig.{name}" for name in ("webhook", "slack", "ntfy", "command")),
}


def classes() -> Iterator[type[Any]]:
    for module in pkgutil.walk_packages(llmhost.__path__, "llmhost."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__ == module.name:
                yield value


def holds_secret(kind: type[Any], name: str) -> bool:
    full = f"{kind.__name__}.{name}"
    return full in _SECRETS or (bool(_NAMES.fullmatch(name)) and full not in _NO_SECRETS)


def filled(kind: type[Any]) -> tuple[Any, list[str]]:
    """An instance whose secret fields hold the secret, and their names."""
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        secrets = [name for name in names if holds_secret(kind, name)]
        instance = object.__new__(kind)
        for name in names:
            object.__setattr__(instance, name, SECRET if name in secrets else None)
        return instance, secrets
    secrets = [name for name in kind.model_fields if holds_secret(kind, name)]
    hidden = {name for name in secrets if "SecretStr" in str(kind.model_fields[name].annotation)}
    values = {name: pydantic.SecretStr(SECRET) if name in hidden else SECRET for name in secrets}
    return kind.model_construct(**values), secrets


VALUES = [
    kind for kind in classes() if dataclasses.is_dataclass(kind) or issubclass(kind, pydantic.BaseModel)
]


def test_the_values_with_secrets_are_known() -> None:
    """Else the rule above would be about nothing."""
    found = {kind.__name__ for kind in VALUES if filled(kind)[1]}
    assert found >= {
        "Worker",
        "Endpoint",
        "Identity",
        "Origin",
        "RedisConfig",
        "StaticWorker",
        "VastConfig",
        "Order",
    }


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_no_repr_shows_a_secret(kind: type[Any]) -> None:
    instance, _ = filled(kind)
    assert SECRET not in repr(instance)
    assert SECRET not in str(instance)
