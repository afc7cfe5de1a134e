"""What an operator may configure: every key, its default, its range and its meaning.

This is the one place where defaults stand. `llmhost init`, `configs/local.yaml` and
`docs/configuration.md` are generated from it: a section's docstring and a key's description are what
people read there. `examples` fills in a key that has no default. Values are frozen after validation.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from llmhost.config.fields import (
    Duration,
    HoursOfWeek,
    Image,
    ModelName,
    Name,
    Namespace,
    OfferFilter,
    Section,
    Tenant,
    TimeZone,
    Url,
)

__all__ = [
    "OFFERS",
    "RENAMED",
    "BudgetConfig",
    "CacheConfig",
    "Config",
    "EngineConfig",
    "FleetConfig",
    "LimitsConfig",
    "RedisConfig",
    "ScaleConfig",
    "ScheduleWindow",
    "StaticWorker",
    "TargetsConfig",
    "VastConfig",
]


_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


class StaticWorker(Section):
    """A server that somebody already runs."""

    url: Url = Field(description="Base URL, such as `http://127.0.0.1:11434`.")
    token: SecretStr | None = Field(None, description="Bearer token, where the server wants one.")


class BudgetConfig(Section):
    """What the fleet may cost at most, in USD. Nothing is bought that would break one of these."""

    per_hour: float | None = Field(
        None,
        gt=0,
        le=100_000,
        allow_inf_nan=False,
        description="The most that all workers together may cost an hour.",
        examples=[2.0],
    )
    per_day: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="The most for one day (UTC): what was spent since midnight, and what all workers would "
        "still cost until the next one.",
        examples=[30.0],
    )
    per_month: float | None = Field(
        None,
        gt=0,
        le=10_000_000,
        allow_inf_nan=False,
        description="The most for one calendar month (UTC), counted in the same way.",
        examples=[600.0],
    )


class FleetConfig(Section):
    """Which workers there should be."""

    name: Name = Field("local", description="Names the fleet in Redis, in labels and in file names.")
    provider: Literal["local", "vast", "static"] = Field(
        "local",
        description="Where workers come from: `local` (processes on this machine), `vast` (GPUs rented on "
        "vast.ai, see the section `vast`) or `static` (URLs that you already have).",
    )
    gpus: int = Field(1, ge=0, description="How many workers `llmhost up` makes when `--gpus` is not given.")
    max_gpus: int = Field(8, ge=1, le=1000, description="The most workers this fleet may ever have.")
    price_per_hour: float = Field(
        0.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="USD an hour that one local or static worker costs. 0 is free; "
        "any other figure lets one rehearse a rented fleet's bill.",
    )
    first_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Local workers listen on this port and the ones after it; 0 takes any free ones.",
    )
    budget: BudgetConfig = Field(default_factory=BudgetConfig, description="Spending limits.")
    ready_timeout: Duration | None = Field(
        None,
        description="How long a worker may take, without any progress, until it answers. Without it, 3 "
        "minutes, and 20 minutes for a rented machine, which may say nothing for long while its image is "
        "fetched.",
        examples=["20m"],
    )
    orphan_after: Duration = Field(
        21600.0,
        ge=60,
        description="A rented worker that nobody with its token has spoken to for so long gives itself back. "
        "`llmhost status` speaks to every worker, and so does every question.",
    )
    workers: tuple[StaticWorker, ...] = Field(
        (),
        max_length=1000,
        description="The servers of a `static` fleet.",
        examples=[[{"url": "http://127.0.0.1:11434", "token": "${WORKER_TOKEN}"}]],
    )

    @property
    def rents(self) -> bool:
        """Whether workers are rented, for money."""
        return self.provider == "vast"

    @model_validator(mode="after")
    def _static_needs_workers(self) -> Self:
        if self.provider == "static" and not self.workers:
            raise ValueError("provider `static` needs at least one entry under `fleet.workers`")
        return self


#: The paper's filter, and what a worker cannot do without: a port of its own and a recent driver.
OFFERS = (
    "gpu_name=RTX_4090 num_gpus=1 reliability>0.95 verified=true direct_port_count>=2 "
    "inet_down>=100 cuda_max_good>=12.0"
)


class VastConfig(Section):
    """Renting on vast.ai; for `fleet.provider: vast` only."""

    api_key: SecretStr | None = Field(
        None,
        description="The account's key. Without it, `VAST_API_KEY` or the file that `vastai set api-key` "
        "wrote is used.",
        examples=["${VAST_API_KEY}"],
    )
    offers: OfferFilter = Field(
        OFFERS,
        description="Which machines may be rented, in the words of `vastai search offers` (`inet_down` is "
        "Mbit/s). Prices and regions can be asked for too: `dph_total<0.5 geolocation=US`.",
    )
    max_price: float | None = Field(
        None,
        gt=0,
        le=128,
        allow_inf_nan=False,
        description="The most USD an hour for one worker, its disk included.",
        examples=[0.6],
    )
    interruptible: bool = Field(
        False,
        description="Whether to bid for machines that may be taken away when somebody bids more. Cheaper; a "
        "worker that was outbid is replaced by the next `llmhost up`.",
    )
    max_bid: float | None = Field(
        None,
        ge=0.001,
        le=128,
        allow_inf_nan=False,
        description="The most USD an hour to bid for one machine, its disk not included. "
        "Without it, `max_price`.",
        examples=[0.35],
    )
    disk: float = Field(
        50.0,
        ge=8,
        le=10_000,
        allow_inf_nan=False,
        description="GB of disk for each worker: its image and its model. It cannot be changed later.",
    )
    image: Image = Field(
        "ollama/ollama:latest",
        description="Docker image of a worker, Debian or Ubuntu. What it lacks is installed when it starts; "
        "one that has Ollama starts sooner.",
    )
    max_attempts: int = Field(
        3,
        ge=0,
        le=20,
        description="How many machines that fail may be replaced during one `llmhost up`.",
    )
    pace: float = Field(
        1.0,
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="Multiplies vast.ai's documented pauses between calls. They count by address: where two "
        "machines behind one address use llmhost, set 2.",
    )

    @model_validator(mode="after")
    def _bid_has_a_ceiling(self) -> Self:
        if self.interruptible and self.max_bid is None and self.max_price is None:
            raise ValueError("`vast.interruptible` needs a ceiling: give `vast.max_bid` or `vast.max_price`")
        return self


#: what is served when nothing else is named
_MODEL = "smollm2:135m"


class EngineConfig(Section):
    """The LLM server on each worker, and how it is asked."""

    kind: Literal["llama_cpp", "ollama", "openai"] = Field(
        "llama_cpp",
        description="`llama_cpp` (built in, serves one GGUF file), `ollama`, "
        "or `openai` (any OpenAI-compatible server, vLLM too).",
    )
    model: ModelName = Field(
        _MODEL,
        description="The model's name as the engine knows it; it keeps answers apart. Left as it is while "
        "`model_path` names a file, it becomes that file's name.",
    )
    model_path: str | None = Field(
        None,
        min_length=1,
        description="`llama_cpp` only: a GGUF file. Without it, the packaged SmolLM2-135M-Instruct is used, "
        "or fetched from the Hugging Face Hub.",
        examples=["/srv/models/model.gguf"],
    )
    context: int = Field(
        4096, ge=256, le=1_048_576, description="`llama_cpp` only: tokens of context of one request."
    )
    slots: int = Field(1, ge=1, le=64, description="Requests that one worker works on at once.")
    threads: int | None = Field(
        None,
        ge=1,
        le=512,
        description="`llama_cpp` only: threads a worker. Without it, the cores are shared among the workers.",
        examples=[4],
    )
    keep_alive: Duration | None = Field(
        None,
        description="`vast` only: how long Ollama keeps a model in memory that nobody asks. Without it, for "
        "ever.",
        examples=["30m"],
    )
    connect_timeout: Duration = Field(5.0, description="How long a worker may take to accept a connection.")
    first_token_timeout: Duration = Field(
        60.0, description="How long a worker may take until the first token."
    )
    token_timeout: Duration = Field(30.0, description="How long a worker may pause between two tokens.")
    answer_timeout: Duration = Field(300.0, description="How long one answer may take in all.")
    max_tokens: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="The most tokens of one answer. An answer cut off here is shown but not cached.",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=2,
        allow_inf_nan=False,
        description="Sampling temperature; without it, the engine's own.",
        examples=[0.7],
    )
    top_p: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Nucleus sampling; without it, the engine's own.",
        examples=[0.9],
    )
    seed: int | None = Field(
        None, ge=0, le=2**31 - 1, description="Sampling seed; without it, the engine's own.", examples=[42]
    )
    system: str | None = Field(
        None,
        max_length=100_000,
        description="System prompt of every question that brings none.",
        examples=["You answer in one sentence."],
    )

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_file(cls, data: Any) -> Any:
        """Another file under the built-in model's name would be served that model's answers."""
        if not isinstance(data, dict) or not isinstance(data.get("model_path"), str):
            return data
        if data.get("model", _MODEL) != _MODEL:
            return data
        name = re.sub(r"[\s\x00-\x1f]+", "-", PurePath(data["model_path"]).stem)[:200]
        return {**data, "model": name} if name else data


class RedisConfig(Section):
    """Where the cache and the ledger lie. Without `url` and `host`, llmhost runs a Redis of its own."""

    url: SecretStr | None = Field(
        None,
        description="`redis://`, `rediss://` or `unix://` address, instead of `host`. User, password and "
        "database may stand in it or under their own keys; what it says itself goes first.",
        examples=["${REDIS_URL}"],
    )
    host: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Host name of a Redis of your own.",
        examples=["redis.example.com"],
    )
    port: int = Field(6379, ge=1, le=65535, description="Its port.")
    username: str | None = Field(
        None, min_length=1, description="Its user, where it has one.", examples=["llmhost"]
    )
    password: SecretStr | None = Field(
        None,
        description="Its password; better a variable than the text itself.",
        examples=["${REDIS_PASSWORD}"],
    )
    tls: bool = Field(False, description="Whether to speak TLS. The certificate is always checked.")
    ca_file: str | None = Field(
        None,
        min_length=1,
        description="PEM file of the authority that signed its certificate, if not a public one.",
        examples=["/etc/ssl/redis-ca.pem"],
    )
    db: int = Field(0, ge=0, le=1_000_000, description="Database number.")
    timeout: Duration = Field(
        2.0, description="How long Redis may take to connect or to answer before it counts as away."
    )
    server: str | None = Field(
        None,
        min_length=1,
        description="Path of the `redis-server` program for the embedded Redis; "
        "else the one on PATH, else the packaged one.",
        examples=["/usr/bin/redis-server"],
    )

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.url is None and self.host is None:
            self._check_embedded()
        elif self.url is not None and self.host is not None:
            raise ValueError("give either `redis.url` or `redis.host`, not both")
        elif self.url is not None and not self.url.get_secret_value().startswith(_REDIS_SCHEMES):
            raise ValueError("`redis.url` must start with redis://, rediss:// or unix://")
        return self

    def _check_embedded(self) -> None:
        """A password without a host would quietly be the password of nothing."""
        fields = type(self).model_fields
        for name in ("port", "username", "password", "tls", "ca_file"):
            if getattr(self, name) != fields[name].default:
                raise ValueError(f"`redis.{name}` is for a Redis of your own: give `redis.host` too")


class CacheConfig(Section):
    """What is remembered, for how long, and when it is served."""

    enabled: bool = Field(True, description="Whether to use the cache at all.")
    namespace: Namespace = Field(
        "cache",
        description="What every cache key starts with. On a sharded Redis, put braces around it: "
        "`'{cache}'`.",
    )
    tenant: Tenant = Field("default", description="Tenants never see each other's answers.")
    policy: Literal["verified", "threshold"] = Field(
        "verified",
        description="`verified`: guards and a verifier judge what similarity has found. `threshold`: "
        "similarity alone decides, as in the paper, which serves the answers to other questions too.",
    )
    confidence: float = Field(
        0.8,
        ge=0.5,
        lt=1,
        allow_inf_nan=False,
        description="`verified` only: the probability that two wordings ask the same, from which on one is "
        "served the other's answer. `llmhost cache tune` shows what each value costs in hits.",
    )
    verifier: str = Field(
        "builtin",
        min_length=1,
        max_length=500,
        description="`verified` only: what gives that probability. `builtin`, or a cross-encoder for "
        "sentence-transformers: a name, or a folder that begins with `/`, `.` or `~`.",
    )
    judge: bool = Field(
        False,
        description="`verified` only: whether the fleet's own model is asked where the verifier is not sure. "
        "Measure first whether it can judge: `llmhost cache tune --judge`.",
    )
    judge_from: float = Field(
        0.5,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="The probability from which on the judge is asked.",
    )
    judge_timeout: Duration = Field(
        3.0, le=60, description="How long the judge may take; then the question goes to an engine."
    )
    audit_share: float = Field(
        0.02,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of semantic hits that an engine answers as well, afterwards, to measure how often "
        "the cache is wrong.",
    )
    max_error: float = Field(
        0.02,
        gt=0,
        le=0.5,
        allow_inf_nan=False,
        description="The share of wrong semantic hits, as far as audits prove it, over which the bar is "
        "raised.",
    )
    threshold: float = Field(
        0.8,
        ge=-1,
        le=1,
        allow_inf_nan=False,
        description="`threshold` only: lowest cosine similarity that is served.",
    )
    candidates: int = Field(
        8, ge=1, le=100, description="How many of the most similar questions are looked at."
    )
    index: Literal["auto", "flat"] = Field(
        "auto",
        description="How similar questions are found: `flat` compares all of them. `auto` takes the best "
        "that the server can do; today that is `flat`.",
    )
    embedder: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        min_length=1,
        max_length=500,
        description="A sentence-transformers model: a name, or a folder that begins with `/`, `.` or `~`.",
    )
    response_ttl: Duration = Field(86400.0, description="How long an answer is served.")
    embedding_ttl: Duration = Field(
        604800.0, description="How long a question is remembered; at least `response_ttl`."
    )

    @model_validator(mode="after")
    def _question_outlives_answer(self) -> Self:
        if self.embedding_ttl < self.response_ttl:
            raise ValueError("`cache.embedding_ttl` must be at least `cache.response_ttl`")
        return self


class LimitsConfig(Section):
    """Bounds on what comes from outside."""

    max_prompt_chars: int = Field(
        32_000, ge=1, le=10_000_000, description="Longest question, system prompt and earlier turns included."
    )
    max_answer_chars: int = Field(
        400_000, ge=1, le=100_000_000, description="Longest answer taken from an engine."
    )
    max_attempts: int = Field(
        3, ge=1, le=20, description="Workers tried for one question before the first token."
    )


class TargetsConfig(Section):
    """What `llmhost stats` measures you against: the paper's promises."""

    hit_ratio: float = Field(
        0.7,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of questions answered from the cache, at least.",
    )
    hit_latency: Duration = Field(0.1, description="95 of 100 hits are faster than this.")
    miss_latency: Duration = Field(5.0, description="95 of 100 misses are faster than this.")
    cost_per_query: float = Field(
        0.001, gt=0, le=1000, allow_inf_nan=False, description="USD a question, at most."
    )


class ScheduleWindow(Section):
    """Hours of the week with a minimum of their own."""

    when: HoursOfWeek = Field(
        description="Such as `mon-fri 08:00-18:00`, `sat,sun 10:00-14:00` or `22:00-06:00` (every day)."
    )
    min_gpus: int = Field(ge=0, le=1000, description="The least workers in these hours.")


class ScaleConfig(Section):
    """How `llmhost scale` follows the demand. Workers cost money while they idle, and take time to boot."""

    min_gpus: int = Field(
        1,
        ge=0,
        le=1000,
        description="The minimum number of workers. With 0, the last one is terminated after "
        "`scale_to_zero_after` without a question; the first question after that fails, and the next step "
        "buys a worker.",
    )
    schedule: tuple[ScheduleWindow, ...] = Field(
        (),
        max_length=100,
        description="Hours of the week with another minimum, more or less. They are looked at early enough "
        "for the workers to boot. Where windows overlap, the largest counts.",
        examples=[[{"when": "mon-fri 08:00-18:00", "min_gpus": 2}]],
    )
    timezone: TimeZone = Field("UTC", description="Of the schedule, such as `Europe/Zurich`.")
    queue_time: Duration = Field(
        5.0, le=3600, description="How long a question may wait for a place before more workers are wanted."
    )
    max_late_ratio: float = Field(
        0.05,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="The share of questions that may wait longer than `queue_time`. A few workers must idle "
        "more than many to keep it; 1 leaves it to `target_utilization_max` alone.",
    )
    drain_backlog_within: Duration | None = Field(
        None,
        le=7200,
        description="How soon what waits is to be worked off. Without it, within the time that a worker "
        "takes to boot: one that is bought now helps no sooner. Less buys more workers for a shorter time.",
        examples=["30s"],
    )
    target_utilization_max: float = Field(
        0.85,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="More workers are wanted when more than this share of what they deliver is asked for, on "
        "average or in the last minute without what may be chance.",
    )
    target_utilization_min: float = Field(
        0.8,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Fewer are wanted when fewer would have stayed below this share, and kept "
        "`max_late_ratio` too, in the highest minute of `down_after`.",
    )
    down_after: Duration = Field(
        300.0,
        le=7200,
        description="How long fewer workers must have been enough. A worker's boot time counts where it is "
        "longer: what is ended too early has to be booted again.",
    )
    scale_to_zero_after: Duration = Field(
        1800.0, le=7200, description="How long nobody must have asked before the last worker goes."
    )
    max_step: int = Field(
        32,
        ge=1,
        le=1000,
        description="The most workers bought in one step, as a guard against wrong numbers.",
    )
    max_failures: int = Field(
        3,
        ge=1,
        le=100,
        description="After so many purchases that came to nothing within an hour, nothing is bought until an "
        "hour is over.",
    )
    unresponsive_after: Duration = Field(
        600.0,
        ge=60,
        le=86_400,
        description="A worker that answered once and has not for so long is replaced.",
    )
    tokens_per_s: float = Field(
        50.0,
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Tokens a second of one worker with all its places in use, until three of its answers "
        "are measured. The first purchases rest on it, and no later one takes a new worker for slower than a "
        "tenth of it.",
    )
    tokens_per_answer: float = Field(
        200.0,
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Tokens of one answer, until that is measured.",
    )
    boot_time: Duration | None = Field(
        None,
        le=7200,
        description="How long a worker takes to its first answer, until that is learned. Without it, 10 "
        "seconds, and 3 minutes for a rented machine.",
        examples=["3m"],
    )

    @model_validator(mode="after")
    def _band_has_an_inside(self) -> Self:
        if self.target_utilization_min > self.target_utilization_max:
            raise ValueError("`scale.target_utilization_min` must not be over `scale.target_utilization_max`")
        return self


class Config(Section):
    """The whole of `llmhost.yaml`."""

    fleet: FleetConfig = Field(default_factory=FleetConfig)
    vast: VastConfig = Field(default_factory=VastConfig)
    scale: ScaleConfig = Field(default_factory=ScaleConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    redis: RedisConfig = Field(default_factory=RedisConfig)
    cache: CacheConfig = Field(default_factory=CacheConfig)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    targets: TargetsConfig = Field(default_factory=TargetsConfig)

    @property
    def ready_timeout(self) -> float:
        """Seconds without progress after which a worker that does not answer counts as stuck. A rented
        machine may download gigabytes of image without reporting anything."""
        return self.fleet.ready_timeout or (1200.0 if self.fleet.rents else 180.0)

    @property
    def boot_time(self) -> float:
        """Seconds that a worker takes to its first answer, until that is learned."""
        return self.scale.boot_time or (180.0 if self.fleet.rents else 10.0)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.fleet.provider == "local" and self.engine.kind != "llama_cpp":
            raise ValueError(
                "provider `local` runs engine `llama_cpp`; for a running Ollama use provider `static`"
            )
        if self.fleet.rents and self.engine.kind != "ollama":
            raise ValueError("provider `vast` runs engine `ollama`: set `engine.kind` to it")
        if self.fleet.gpus > self.fleet.max_gpus:
            raise ValueError("`fleet.gpus` must not be over `fleet.max_gpus`")
        if max(self.scale.min_gpus, *(w.min_gpus for w in self.scale.schedule), 0) > self.fleet.max_gpus:
            raise ValueError("`scale` must not want more workers at least than `fleet.max_gpus` allows")
        return self


#: Old key to new one, for one release: the old one still works, with a warning.
RENAMED = {
    "scale.late": "scale.max_late_ratio",
    "scale.busy_above": "scale.target_utilization_max",
    "scale.busy_below": "scale.target_utilization_min",
    "scale.catch_up": "scale.drain_backlog_within",
    "scale.wedged_after": "scale.unresponsive_after",
    "scale.idle_after": "scale.scale_to_zero_after",
    "engine.parallel": "engine.slots",
}
