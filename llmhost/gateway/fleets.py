"""The fleets that a gateway serves, and which of them serves a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

from llmhost.answering.answerer import Answerer
from llmhost.cache.contracts import TextEmbedder
from llmhost.config.models import Config
from llmhost.engines.engine import ModelDetails
from llmhost.errors import ConfigError
from llmhost.gateway.faults import NotFound
from llmhost.gateway.figures import FleetFigures

__all__ = ["FleetState", "ServedFleet", "ServedFleets"]


#: what Ollama and its users call the embedding model that comes with llmhost
_EMBEDDERS = {"all-minilm-l6-v2": "all-minilm"}


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class FleetState:
    """How a fleet is now: workers by state, as far as Redis says, and requests that wait for a worker."""

    workers: Mapping[str, int] = field(default_factory=dict)
    redis_up: bool = False
    queued: int = 0


async def _unknown() -> FleetState:
    return FleetState()


@dataclass(frozen=True, slots=True)
class ServedFleet:
    """One fleet and its path of a question. `ready` says whether it can answer a question that is not in the
    cache. `embedder` loads the embedding model of its cache, and raises ModelError, StateError; `details`
    asks a worker about the model, and raises LlmhostError. `inputs` names what the configuration comes from,
    where that is known; `state` says how the fleet is now, and `figures` what the page shows of it.
    """

    config: Config
    answerer: Answerer
    embedder: Callable[[], Awaitable[TextEmbedder]] | None = None
    details: Callable[[], Awaitable[ModelDetails]] | None = None
    ready: Callable[[], Awaitable[bool]] = _always
    inputs: str = ""
    state: Callable[[], Awaitable[FleetState]] = _unknown
    figures: FleetFigures | None = None

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


class ServedFleets:
    """Fleets by the names of their models, each of which belongs to one. Names with and without ``:latest``
    are one, and `aliases` are other names that clients may use. Embedding models are those of the caches.
    """

    def __init__(self, fleets: Sequence[ServedFleet], aliases: Mapping[str, str]) -> None:
        """Raises ConfigError where two fleets have one name or serve one model, or an alias names none."""
        self.fleets = tuple(fleets)
        by_name: dict[str, ServedFleet] = {}
        self._by_model: dict[str, ServedFleet] = {}
        for fleet in fleets:
            name = fleet.config.fleet.name
            if by_name.setdefault(name, fleet) is not fleet:
                raise ConfigError(f"several configurations are for the fleet {name}", hint="set `fleet.name`")
            other = self._by_model.setdefault(_short(fleet.model), fleet)
            if other is not fleet:
                raise ConfigError(
                    f"the fleets {other.config.fleet.name} and {name} both serve {fleet.model}",
                    hint="a model belongs to one fleet",
                )
        #: the embedding models by the names that are listed
        self.embedders: dict[str, ServedFleet] = {}
        self._by_embedder: dict[str, ServedFleet] = {}
        for fleet in fleets:
            if fleet.embedder is not None:
                self.embedders.setdefault(fleet.embedder_names[0], fleet)
                for name in fleet.embedder_names:
                    self._by_embedder.setdefault(_short(name).lower(), fleet)
        self.aliases: dict[str, ServedFleet] = {}
        for alias, model in aliases.items():
            self._add_alias(alias, model)

    def _add_alias(self, alias: str, model: str) -> None:
        name = _short(alias)
        if (fleet := self._by_model.get(_short(model))) is not None:
            self.aliases[name] = fleet
        elif (fleet := self.embedder_of(model)) is not None and alias != "*":
            self.embedders[name] = self._by_embedder[name.lower()] = fleet
        else:
            raise ConfigError(
                f"`gateway.aliases`: no fleet serves {model}, which {alias} stands for",
                hint=f"served are: {', '.join([*self.models, *self.embedders])}",
            )

    def limited_to(self, models: Sequence[str]) -> ServedFleets:
        """What there is for one who may ask for these models alone; all of it where none is named.

        A model that is named may be asked for by each of its names; an alias that is named, by that alone.
        """
        if not models:
            return self
        named = {_short(model).lower() for model in models}

        def is_allowed(name: str, fleet: ServedFleet) -> bool:
            return _short(name).lower() in named or _short(fleet.model).lower() in named

        def embeds(name: str, fleet: ServedFleet) -> bool:
            return _short(name).lower() in named or any(
                _short(one).lower() in named for one in fleet.embedder_names
            )

        limited = copy(self)
        limited.fleets = tuple(fleet for fleet in self.fleets if _short(fleet.model).lower() in named)
        limited._by_model = _those(self._by_model, is_allowed)  # noqa: SLF001 - a copy of its own
        limited.aliases = _those(self.aliases, is_allowed)
        limited.embedders = _those(self.embedders, embeds)
        limited._by_embedder = _those(self._by_embedder, embeds)  # noqa: SLF001
        return limited

    def named(self) -> Iterator[tuple[str, ServedFleet]]:
        """Every name under which clients may ask for a model, with its fleet."""
        yield from ((fleet.model, fleet) for fleet in self.fleets)
        yield from ((name, fleet) for name, fleet in self.aliases.items() if name != "*")

    @property
    def names(self) -> Sequence[str]:
        return [name for name, _ in self.named()]

    @property
    def models(self) -> Sequence[str]:
        return [fleet.model for fleet in self.fleets]

    def embedder_of(self, model: str) -> ServedFleet | None:
        """The fleet whose cache has this embedding model."""
        return self._by_embedder.get(_short(model).lower())

    def serving(self, model: str) -> ServedFleet | None:
        """The fleet that serves the model under this very name."""
        name = _short(model)
        return self._by_model.get(name) or self.aliases.get(name)

    def of(self, model: str) -> ServedFleet:
        """The fleet that serves the model. Raises NotFound."""
        fleet = self.serving(model) or self.aliases.get("*")
        if fleet is None:
            served = ", ".join(self.names) or "none"
            raise NotFound(f"the model {model!r} does not exist here; served are: {served}", "model")
        return fleet


def _short(model: str) -> str:
    return model.removesuffix(":latest")


def _those(
    fleets: Mapping[str, ServedFleet], wanted: Callable[[str, ServedFleet], bool]
) -> dict[str, ServedFleet]:
    return {name: fleet for name, fleet in fleets.items() if wanted(name, fleet)}
