"""The fleets that a gateway serves, and which of them serves a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmhost.answering.answerer import Answerer
from llmhost.config.models import Config
from llmhost.errors import ConfigError
from llmhost.gateway.faults import NotFound

__all__ = ["ServedFleet", "ServedFleets"]


@dataclass(frozen=True, slots=True)
class ServedFleet:
    """One fleet and its path of a question."""

    config: Config
    answerer: Answerer

    @property
    def model(self) -> str:
        return self.config.engine.model


class ServedFleets:
    """Fleets by the names of their models, each of which belongs to one. Names with and without ``:latest``
    are one, and `aliases` are other names that clients may use.
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
