"""The fleets that a gateway serves, and which of them serves a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from llmhost.answering.answerer import Answerer
from llmhost.cache.contracts import TextEmbedder
from llmhost.config.models import Config
from llmhost.errors import ConfigError
from llmhost.gateway.faults import NotFound

__all__ = ["Ready", "ServedFleet", "ServedFleets"]


#: what Ollama and its users call the embedding model that comes with llmhost
_EMBEDDERS = {"all-minilm-l6-v2": "all-minilm"}


@dataclass(frozen=True, slots=True)
class ServedFleet:
    """One fleet and its path of a question; `embedder` loads the embedding model of its cache, and raises
    ModelError, StateError.
    """

    config: Config
    answerer: Answerer
    embedder: Callable[[], Awaitable[TextEmbedder]] | None = None

    @property
    def model(self) -> str:
        return self.config.engine.model

    @property
    def embedder_names(self) -> Sequence[str]:
        """What clients may call the embedding model, the name that is listed first."""
        full = self.config.cache.embedder
        last = full.rstrip("/").rpartition("/")[2]
        names = [_EMBEDDERS[last.lower()]] if last.lower() in _EMBEDDERS else []
        return [*names, last, full]


#: whether a fleet can answer a question that is not in the cache
Ready = Callable[[ServedFleet], Awaitable[bool]]


class ServedFleets:
    """Fleets by the names of their models, each of which belongs to one. Names with and without ``:latest``
    are one, and `aliases` are other names that clients may use. Embedding models are those of the caches.
    """

    def __init__(self, fleets: Sequence[ServedFleet], aliases: Mapping[str, str]) -> None:
        """Raises ConfigError where two fleets serve a model, or an alias names none."""
        self.fleets = tuple(fleets)
        self._by_model: dict[str, ServedFleet] = {}
        for fleet in fleets:
            other = self._by_model.setdefault(_short(fleet.model), fleet)
            if other is not fleet:
                names = f"{other.config.fleet.name} and {fleet.config.fleet.name}"
                raise ConfigError(
                    f"the fleets {names} both serve {fleet.model}", hint="a model belongs to one fleet"
                )
        self._embedders = {
            _short(name).lower(): fleet
            for fleet in reversed(self.fleets)
            for name in fleet.embedder_names
            if fleet.embedder is not None
        }
        for alias, model in aliases.items():
            if _short(model) not in self._by_model:
                raise ConfigError(
                    f"`gateway.aliases`: no fleet serves {model}, which {alias} stands for",
                    hint=f"served are: {', '.join(self.models)}",
                )
        self.aliases = {_short(alias): self._by_model[_short(model)] for alias, model in aliases.items()}

    @property
    def models(self) -> Sequence[str]:
        return [fleet.model for fleet in self.fleets]

    @property
    def embedders(self) -> Mapping[str, ServedFleet]:
        """The embedding models by the names that are listed."""
        return {
            fleet.embedder_names[0]: fleet
            for fleet in self.fleets
            if self.embedder_of(fleet.embedder_names[0])
        }

    def embedder_of(self, model: str) -> ServedFleet | None:
        """The fleet whose cache has this embedding model."""
        return self._embedders.get(_short(model).lower())

    def of(self, model: str) -> ServedFleet:
        """The fleet that serves the model. Raises NotFound."""
        name = _short(model)
        fleet = self._by_model.get(name) or self.aliases.get(name) or self.aliases.get("*")
        if fleet is None:
            served = ", ".join(self.models)
            raise NotFound(f"the model {model!r} does not exist here; served are: {served}", "model")
        return fleet


def _short(model: str) -> str:
    return model.removesuffix(":latest")
