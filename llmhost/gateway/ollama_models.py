"""Models as Ollama's API describes them. Facts: its published API reference.

What only a worker can say of its model (size, family, quantization) is empty where none does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, TypeAdapter

from llmhost.config.models import Config
from llmhost.engines.engine import ModelDetails
from llmhost.gateway.faults import BadRequest
from llmhost.gateway.ollama import timestamp
from llmhost.gateway.openai import Body

__all__ = ["API_VERSION", "REFUSED", "SHOW_BODY", "Described", "ShowBody", "of_embedder", "of_fleet"]

#: the version of Ollama whose API this is: clients refuse to speak to one that is older than they need
API_VERSION = "0.12.11"
#: what `llmhost` does instead of Ollama's changes of models
REFUSED: Mapping[str, str] = {
    "/api/pull": "set `engine.model`, and `llmhost up` pulls it onto the workers",
    "/api/push": "push it with the Ollama that has it; `llmhost up` pulls what `engine.model` names",
    "/api/create": "create it with Ollama, then set `engine.model` and run `llmhost up`",
    "/api/copy": "set `gateway.aliases` for another name, and start `llmhost serve` again",
    "/api/delete": "`llmhost down` ends the workers with their models",
    "/api/blobs/{digest:path}": "set `engine.model`, and `llmhost up` pulls it onto the workers",
}
#: a model that is never unloaded: Ollama shows more than a hundred years as "Forever"
_NEVER = datetime(2999, 1, 1, tzinfo=UTC)
#: the architecture of a model of which it is not known; clients look for `<architecture>.context_length`
_ARCHITECTURE = "llmhost"
#: tools are passed on, and an engine whose model has none says so. Images and `think` are passed on, too, but
#: some clients send these unasked where a model claims to take them.
_CAPABILITIES = ("completion", "tools")


class ShowBody(Body):
    model: str | None = Field(None, max_length=200)
    name: str | None = Field(None, max_length=200)

    @property
    def wanted(self) -> str:
        """Raises BadRequest where none is named; older clients call it `name`."""
        if wanted := self.model or self.name:
            return wanted
        raise BadRequest("`model` is missing", "model")


SHOW_BODY = TypeAdapter(ShowBody)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A model under one of its names. `context` in tokens, 0 where it is not known; `since` is its time."""

    name: str
    digest: str
    context: int
    details: ModelDetails
    since: datetime
    parameters: tuple[str, ...] = ()

    @property
    def _full_name(self) -> str:
        return self.name if ":" in self.name.rpartition("/")[2] else f"{self.name}:latest"

    def listed(self) -> dict[str, Any]:
        """As `/api/tags` lists it."""
        return {**self._named(), "modified_at": timestamp(self.since), "capabilities": self._capabilities}

    def running(self) -> dict[str, Any]:
        """As `/api/ps` lists it."""
        return {
            **self._named(),
            "expires_at": timestamp(_NEVER),
            "size_vram": self.details.on_gpu,
            "context_length": self.context,
        }

    def shown(self) -> dict[str, Any]:
        """As `/api/show` does."""
        lines = [f"FROM {self.name}", *(f"PARAMETER {line}" for line in self.parameters)]
        architecture = self.details.family or _ARCHITECTURE
        info: dict[str, Any] = {"general.architecture": architecture, "general.basename": self.name}
        if self.context:
            info[f"{architecture}.context_length"] = self.context
        return {
            "modelfile": "\n".join(lines) + "\n",
            "parameters": "\n".join(self.parameters),
            # Continue asks for what belongs into a gap where it finds `.Suffix`.
            "template": "{{ .Prompt }}" + "{{ .Suffix }}" * ("insert" in self._capabilities),
            "details": self._details(),
            "model_info": info,
            "capabilities": self._capabilities,
            "modified_at": timestamp(self.since),
        }

    def _named(self) -> dict[str, Any]:
        # The name's hash where the weights have none: Ollama's own client shows the first digits.
        digest = self.digest or hashlib.sha256(self._full_name.encode()).hexdigest()
        return {
            "name": self._full_name,
            "model": self._full_name,
            "size": self.details.size,
            "digest": digest.removeprefix("sha256:"),
            "details": self._details(),
        }

    def _details(self) -> dict[str, Any]:
        details = self.details
        return {
            "parent_model": "",
            "format": details.format,
            "family": details.family,
            "families": [details.family] if details.family else [],
            "parameter_size": details.parameter_size,
            "quantization_level": details.quantization,
        }

    @property
    def _capabilities(self) -> Sequence[str]:
        return _CAPABILITIES if self.details.capabilities is None else self.details.capabilities


def of_fleet(name: str, config: Config, digest: str, details: ModelDetails, since: datetime) -> Described:
    """The model that a fleet serves, with what a worker says of it."""
    openai = config.engine.kind == "openai"  # its context is not ours to set, and not known
    return Described(
        name=name,
        digest=digest,
        context=0 if openai else config.engine.context,
        details=details if openai or details.format else replace(details, format="gguf"),
        since=since,
        parameters=tuple(_parameters(config)),
    )


def of_embedder(name: str, max_tokens: int, since: datetime) -> Described:
    return Described(
        name=name,
        digest="",
        context=max_tokens,
        details=ModelDetails(format="onnx", capabilities=("embedding",)),
        since=since,
    )


def _parameters(config: Config) -> Iterator[str]:
    """What requests have unless they say otherwise, in the lines of a Modelfile."""
    engine = config.requests
    values = {
        "num_ctx": None if engine.kind == "openai" else engine.context,
        "num_predict": engine.max_tokens,
        "temperature": engine.temperature,
        "top_p": engine.top_p,
        "seed": engine.seed,
    }
    for name, value in values.items():
        if value is not None:
            yield f"{name:<30} {json.dumps(value)}"
