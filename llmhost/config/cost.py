"""The section `cost`, and the prices that a fleet is compared with."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from llmhost.config.fields import Section, raise_broken

__all__ = ["BASELINES", "Baseline", "CostConfig"]


class Baseline(Section):
    """What the same answers cost elsewhere: by the hour of a GPU, by the token, or by the question."""

    name: str = Field(min_length=1, max_length=60, description="As it is shown.")
    as_of: str = Field(
        min_length=1, max_length=30, description="When this price was read, such as `2026-11-09`."
    )
    usd_per_hour: float | None = Field(None, gt=0, le=10_000, description="USD an hour for one GPU.")
    usd_per_million_prompt: float | None = Field(
        None, ge=0, le=100_000, description="USD for a million tokens of prompts; with the next key."
    )
    usd_per_million_completion: float | None = Field(
        None, ge=0, le=100_000, description="USD for a million tokens of answers."
    )
    usd_per_query: float | None = Field(None, gt=0, le=10_000, description="USD for a question.")

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        tokens = (self.usd_per_million_prompt, self.usd_per_million_completion)
        kinds = [self.usd_per_hour, self.usd_per_million, self.usd_per_query]
        one = sum(price is not None for price in kinds) == 1 and tokens.count(None) != 1
        rule = (
            "a baseline has `usd_per_hour`, or both `usd_per_million_prompt` and "
            "`usd_per_million_completion`, or `usd_per_query`"
        )
        raise_broken((not one, rule))
        return self

    @property
    def usd_per_million(self) -> tuple[float, float] | None:
        """USD for a million tokens of prompts, and of answers."""
        prompt, completion = self.usd_per_million_prompt, self.usd_per_million_completion
        return None if prompt is None or completion is None else (prompt, completion)


def _hour(name: str, usd: float, as_of: str) -> Baseline:
    return Baseline(name=name, as_of=as_of, usd_per_hour=usd)


def _tokens(name: str, prompt: float, completion: float, as_of: str) -> Baseline:
    return Baseline(
        name=name, as_of=as_of, usd_per_million_prompt=prompt, usd_per_million_completion=completion
    )


#: list prices, on demand; those of a machine with 8 GPUs are an eighth. `paper`: as the paper has them
BASELINES = (
    _hour("AWS g5.xlarge A10G", 1.006, "paper"),
    _hour("AWS A100", 3.06, "paper"),
    Baseline(name="a cloud, by question", as_of="paper", usd_per_query=0.015),
    _hour("AWS p4d A100", 2.7447, "2026-11-09"),
    _hour("AWS p5 H100", 6.88, "2026-11-09"),
    _hour("Azure NC24ads A100", 3.673, "2026-11-09"),
    _hour("RunPod A100", 1.39, "2026-08-19"),
    _tokens("OpenAI gpt-4o-mini", 0.15, 0.60, "2026-09-26"),
    _tokens("Groq Llama 8B", 0.05, 0.08, "2026-09-26"),
    _tokens("DeepInfra Llama 8B", 0.02, 0.04, "2026-11-05"),
)


class CostConfig(Section):
    """What `llmhost cost` calculates a month with, unless `--from-stats` or `--what-if` says otherwise."""

    price_per_hour: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="USD an hour for one worker. By default `vast.max_price` or `fleet.price_per_hour`, "
        "else 0.50.",
        examples=[0.5],
    )
    hours_per_day: float = Field(24.0, ge=0, le=24, description="Hours a day in which the workers run.")
    redis_per_month: float | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="USD a month for Redis. By default 0 for the embedded one, else 50.",
        examples=[50],
    )
    queries_per_month: int = Field(100_000, ge=1, le=10**12, description="Questions a month.")
    prompt_tokens: float = Field(200.0, ge=0, le=10_000_000, description="Tokens of a question.")
    baselines: tuple[Baseline, ...] = Field(
        (),
        max_length=100,
        description="Prices to compare with. By default those of docs/cost-analysis.md, each with its date.",
        examples=[[{"name": "my cloud", "as_of": "2026-11-01", "usd_per_hour": 2.5}]],
    )

    @property
    def compared(self) -> tuple[Baseline, ...]:
        """The prices to compare with."""
        return self.baselines or BASELINES
