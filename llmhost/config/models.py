"""What an operator may configure: every key, its default, its range and its meaning. `fleet` has the
sections about workers, `gateway` that of the server, `redis` that of Redis.

Defaults are defined in these files and nowhere else. `llmhost init`, `configs/local.yaml` and
`docs/configuration.md` are generated from them: they show a section's docstring and a key's description, and
`examples` for a key without a default. Values are frozen after validation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from llmhost.config.cost import CostConfig
from llmhost.config.fields import (
    Duration,
    Lifetime,
    ModelName,
    Namespace,
    Patterns,
    Section,
    Tenant,
    lifetime_seconds,
    raise_broken,
)
from llmhost.config.fleet import FleetConfig, ScaleConfig, VastConfig
from llmhost.config.gateway import GatewayConfig
from llmhost.config.notify import NotifyConfig
from llmhost.config.redis import RedisConfig

__all__ = [
    "RENAMED",
    "CacheConfig",
    "Config",
    "EngineConfig",
    "LifetimesConfig",
    "LimitsConfig",
    "RedisConfig",
    "TargetsConfig",
]

#: the model that is served by default, and other names of the very same file, in small letters
_MODEL = "smollm2:135m"
_MODEL_NAMES = {_MODEL, "smollm2:135m-instruct-q4_1", "smollm2-135m-instruct", "smollm2-135m-instruct.q4_1"}

#: what requests are sent where the user sets nothing else. The packaged model is a toy, which goes on without
#: an end unless it is held to a sentence; these were tried
_REQUESTS: dict[str, Any] = {"max_tokens": 1024}
_TOY_REQUESTS: dict[str, Any] = {
    "max_tokens": 200,
    "temperature": 0.5,
    "seed": 1,
    "system": "Answer in one short sentence.",
}


class EngineConfig(Section):
    """The LLM server on each worker, and the parameters of requests to it."""

    kind: Literal["llama_cpp", "ollama", "openai"] = Field(
        "llama_cpp",
        description="`llama_cpp` (built in, serves one GGUF file), `ollama`, or `openai` (any "
        "OpenAI-compatible server, vLLM too).",
    )
    model: ModelName = Field(
        _MODEL,
        description="Name of the model in the engine. Answers of different models are cached separately. "
        "With `model_path`, the default is the name of that file; without it, a local fleet serves only the "
        "default.",
    )
    model_path: str | None = Field(
        None,
        min_length=1,
        description="`llama_cpp` only: a GGUF file. By default the packaged SmolLM2-135M-Instruct, else it "
        "is downloaded from the Hugging Face Hub.",
        examples=["/srv/models/model.gguf"],
    )
    context: int = Field(
        4096,
        ge=256,
        le=1_048_576,
        description="`llama_cpp` and `ollama`: context of a request, in tokens, for prompt and answer.",
    )
    slots: int = Field(1, ge=1, le=64, description="Requests that one worker processes at once.")
    threads: int | None = Field(
        None,
        ge=1,
        le=512,
        description="`llama_cpp` only: threads per worker. By default the workers share the cores.",
        examples=[4],
    )
    keep_alive: Duration | None = Field(
        None,
        description="`vast` only: how long Ollama keeps an unused model in memory. By default forever.",
        examples=["30m"],
    )
    connect_timeout: Duration = Field(5.0, description="Time limit for connecting to a worker.")
    first_token_timeout: Duration = Field(60.0, description="Time limit for the first token.")
    token_timeout: Duration = Field(30.0, description="Time limit between two tokens.")
    answer_timeout: Duration = Field(300.0, description="Time limit for a whole answer.")
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Maximum tokens of an answer; by default 1024. An answer cut off by this is shown but "
        "not cached. The packaged model has defaults of its own here: 200 tokens, temperature 0.5, seed 1 "
        "and a system prompt that asks for one short sentence.",
        examples=[1024],
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="Sampling temperature; by default the engine's.", examples=[0.7]
    )
    top_p: float | None = Field(
        None, gt=0, le=1, description="Nucleus sampling; by default the engine's.", examples=[0.9]
    )
    seed: int | None = Field(
        None, ge=0, le=2**31 - 1, description="Sampling seed; by default the engine's.", examples=[42]
    )
    system: str | None = Field(
        None,
        max_length=100_000,
        description="System prompt for questions without one.",
        examples=["You answer in one sentence."],
    )

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_file(cls, data: Any) -> Any:
        """Under the built-in model's name, another file would be served that model's cached answers."""
        if not isinstance(data, dict) or not isinstance(data.get("model_path"), str):
            return data
        if data.get("model", _MODEL) != _MODEL:
            return data
        name = re.sub(r"[\s\x00-\x1f]+", "-", PurePath(data["model_path"]).stem)[:200]
        return {**data, "model": name} if name else data


class LifetimesConfig(Section):
    """How long an answer is served, by the kind of its question. `none`: it is not cached at all. Passwords,
    draws and what `cache.deny` finds never are."""

    plain: Lifetime = Field("default", description="All other questions.")
    changing: Lifetime = Field(
        "none", description="The answer depends on when it is asked: weather, prices, news."
    )
    acting: Lifetime = Field(
        "none", description="It does something: books, sends, cancels. Served to the same text only."
    )
    personal: Lifetime = Field(
        "none",
        description="It is about a person's own data, or it, or a turn before it, has a name, address or key "
        "in it. All of it is read, but the system prompt. Served to the same text only, and never embedded.",
    )
    creative: Lifetime = Field(
        "default",
        description="A poem, a joke, a name, at a temperature above 0. Served to the same text only.",
    )


class CacheConfig(Section):
    """What is cached, for how long, and when it is served."""

    enabled: bool = Field(True, description="Whether to use the cache at all.")
    namespace: Namespace = Field("cache", description="Prefix of every cache key.")
    tenant: Tenant = Field("default", description="Each tenant has a cache of its own.")
    policy: Literal["verified", "threshold"] = Field(
        "verified",
        description="`verified`: guards and a verifier check similar questions before an answer is served. "
        "`threshold`: similarity alone decides, which also serves answers to different questions.",
    )
    confidence: float = Field(
        0.8,
        ge=0.5,
        lt=1,
        description="`verified` only: minimum probability that two questions mean the same for one to be "
        "served the other's answer. `llmhost cache tune` shows the effect of each value on hits.",
    )
    verifier: str = Field(
        "builtin",
        min_length=1,
        max_length=500,
        description="`verified` only: the model that computes this probability. `builtin`; `large`, which "
        "finds more and takes longer (`pip install 'llmhost[verifier]'`); or a cross-encoder of "
        "sentence-transformers: a name, or a folder that begins with `/`, `.` or `~`.",
    )
    judge: bool = Field(
        False,
        description="`verified` only: whether the fleet's own model decides where the verifier is "
        "uncertain. Measure first whether it is good enough: `llmhost cache tune judge`.",
    )
    judge_from: float = Field(0.5, ge=0, lt=1, description="Minimum probability at which the judge is asked.")
    judge_timeout: Duration = Field(
        3.0, le=60, description="Time limit of the judge; after it, the question goes to an engine."
    )
    conversations: Literal["same", "condense"] = Field(
        "same",
        description="When a follow-up question hits: `same`: where all earlier turns are the same. "
        "`condense`: also where others have asked the same outright: the fleet's own model turns it into a "
        "question that stands alone, which is looked up like any other, but never stored. Measure first "
        "whether it is good enough: `llmhost cache tune condense`.",
    )
    condense_timeout: Duration = Field(
        3.0, le=60, description="Time limit for that; after it, the question goes to an engine as it is."
    )
    audit_share: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Share of semantic hits that an engine answers too, afterwards, to measure how often "
        "the cache is wrong.",
    )
    max_error: float = Field(
        0.02,
        gt=0,
        le=0.5,
        description="Maximum share of wrong semantic hits, as far as audits prove them; above it, the "
        "required confidence is raised.",
    )
    admission: Literal["careful", "all"] = Field(
        "careful",
        description="`careful`: questions whose answer changes with time, that ask to do something, or that "
        "are about personal data bypass the cache, unless `cache.lifetimes` says otherwise. `all`: every "
        "question is cached like a plain one.",
    )
    lifetimes: LifetimesConfig = Field(default_factory=LifetimesConfig)
    allow: Patterns = Field(
        (),
        description="Questions in which one of these is found, in either case, are plain, unless they bring "
        "a person's own data. The first and last 1,000 characters of the question are read.",
        examples=[[r"\bstatus code\b"]],
    )
    deny: Patterns = Field(
        (),
        description="A question is neither stored nor served from the cache where one of these is found in "
        "what is sent: in the system prompt, the question, or any turn before it, a user's or an "
        "assistant's. All of it is read, 2,000 characters at a time.",
        examples=[[r"\bcanteen\b", r"\bproject [a-z]{1,20}\b"]],
    )
    threshold: float = Field(0.8, ge=-1, le=1, description="`threshold` only: minimum cosine similarity.")
    candidates: int = Field(
        8, ge=1, le=100, description="How many of the most similar questions are considered."
    )
    shadow: bool = Field(
        False,
        description="Whether hits are looked up, decided and counted, and not served: a worker answers, and "
        "`stats` shows what the cache would have done.",
    )
    index: Literal["auto", "vector_set", "query_engine", "flat"] = Field(
        "auto",
        description="How similar questions are found: `vector_set` (Redis 8 or later) and `query_engine` "
        "(Redis Cloud, Enterprise and Stack) search in Redis, `flat` compares all of them, on any server. "
        "`auto` is the one that stored questions are in, else the first of these that the server has.",
    )
    index_shards: int = Field(
        1,
        ge=1,
        le=64,
        description="`vector_set` only: how many keys the vectors of a scope are spread over, to be searched "
        "at once by as many cores, or nodes of a cluster. It can be raised at any time.",
    )
    embedder: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        min_length=1,
        max_length=500,
        description="A sentence-transformers model: a name, or a folder that begins with `/`, `.` or `~`.",
    )
    response_ttl: Duration = Field(86400.0, description="How long an answer is served.")
    embedding_ttl: Duration = Field(
        604800.0, description="How long a question is stored; at least `response_ttl` and `stale_for`."
    )
    stale_for: Duration | None = Field(
        None,
        description="How long an answer is served beyond `response_ttl`, marked as stale, while one process "
        "asks for a new one. By default not at all.",
        examples=["1h"],
    )
    max_entries: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="Maximum number of cached answers; those used the longest time ago go first. 0: any.",
    )
    max_bytes: int = Field(
        0,
        ge=0,
        le=10**15,
        description="The same for the bytes that they take in Redis, estimated, index included. 0: as many "
        "as Redis has.",
    )

    @model_validator(mode="after")
    def _question_outlives_answer(self) -> Self:
        if self.embedding_ttl < self.response_ttl:
            raise ValueError("`cache.embedding_ttl` must be at least `cache.response_ttl`")
        for kind, written in self.lifetimes:
            if (lifetime_seconds(written) or 0.0) > self.embedding_ttl:
                raise ValueError(f"`cache.embedding_ttl` must be at least `cache.lifetimes.{kind}`")
        if self.embedding_ttl < self.kept_for:
            raise ValueError(
                "`cache.embedding_ttl` must be at least `cache.response_ttl` and `cache.stale_for` together"
            )
        return self

    @model_validator(mode="after")
    def _patterns_are_quick_together(self) -> Self:
        from llmhost.config.patterns import check_time

        check_time(self.deny + self.allow)
        return self

    def lifetime(self, kind: str) -> float | None:
        """Seconds for which an answer to a question of this kind is served: 0 where it is not kept, None for
        `response_ttl`."""
        return 0.0 if kind in ("random", "denied") else lifetime_seconds(getattr(self.lifetimes, kind))

    @property
    def kept_for(self) -> float:
        """Seconds that an answer is kept whose kind has no lifetime of its own."""
        return self.response_ttl + (self.stale_for or 0.0)

    @property
    def longest_kept(self) -> float:
        """Seconds after which every answer has expired, whatever the kind of its question."""
        return max(self.kept_for, *(lifetime_seconds(written) or 0.0 for _, written in self.lifetimes))


class LimitsConfig(Section):
    """Limits for input from outside."""

    max_prompt_chars: int = Field(
        32_000,
        ge=1,
        le=10_000_000,
        description="Maximum length of a question, with system prompt and earlier turns.",
    )
    max_answer_chars: int = Field(
        400_000, ge=1, le=100_000_000, description="Maximum length of an answer from an engine."
    )
    max_attempts: int = Field(
        3, ge=1, le=20, description="How many workers are tried for a question, before the first token."
    )


class TargetsConfig(Section):
    """Goals that `llmhost stats` compares with."""

    hit_ratio: float = Field(
        0.7, ge=0, le=1, description="Minimum share of questions answered from the cache."
    )
    hit_latency: Duration = Field(0.1, description="Maximum latency of 95 % of the hits.")
    miss_latency: Duration = Field(5.0, description="Maximum latency of 95 % of the misses.")
    cost_per_query: float = Field(0.001, gt=0, le=1000, description="Maximum USD per question.")
    cost_reduction: float = Field(
        0.81,
        ge=0,
        le=1,
        description="Minimum part that is saved of what the same answers would cost without the cache on a "
        "cloud's GPUs: the first of `cost.baselines` with a price by the hour.",
    )
    up_time: float = Field(0.995, ge=0, le=1, description="Minimum share of questions that get an answer.")


class Config(Section):
    """The whole of `llmhost.yaml`."""

    fleet: FleetConfig = Field(default_factory=FleetConfig)
    vast: VastConfig = Field(default_factory=VastConfig)
    scale: ScaleConfig = Field(default_factory=ScaleConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    redis: RedisConfig = Field(default_factory=RedisConfig)
    cache: CacheConfig = Field(default_factory=CacheConfig)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    gateway: GatewayConfig = Field(default_factory=GatewayConfig)
    targets: TargetsConfig = Field(default_factory=TargetsConfig)
    cost: CostConfig = Field(default_factory=CostConfig)
    notify: NotifyConfig = Field(default_factory=NotifyConfig)

    @property
    def ready_timeout(self) -> float:
        """Seconds without progress after which a worker that does not answer counts as stuck. A rented
        machine may download gigabytes of image without reporting anything."""
        return self.fleet.ready_timeout or (1200.0 if self.fleet.rents else 180.0)

    @property
    def boot_time(self) -> float:
        """Seconds that a worker takes to its first answer, until that is learned."""
        return self.scale.boot_time or (180.0 if self.fleet.rents else 10.0)

    @property
    def _price_limits(self) -> Sequence[float]:
        """USD that a rented worker, or all of them in an hour or longer, may cost."""
        limits = (*self.fleet.budget.model_dump().values(), self.vast.max_price)
        return [limit for limit in limits if limit is not None]

    @property
    def has_price_limit(self) -> bool:
        """Whether anything limits what rented workers may cost."""
        return bool(self._price_limits)

    @property
    def highest_price(self) -> float:
        """USD an hour that one worker may cost; of a rented one, 0 where nothing limits it."""
        return min(self._price_limits, default=0.0) if self.fleet.rents else self.fleet.price_per_hour

    @property
    def wakes(self) -> bool:
        """Whether a request that finds no worker may have one started; `gateway.wake` None needs more."""
        if self.gateway.wake is not None:
            return self.gateway.wake
        return self.fleet.rents and self.has_price_limit

    @property
    def longest_request(self) -> float:
        """Seconds that a question takes at most, by the time limits: each worker that is tried is waited for,
        and may break off its answer."""
        gateway, engine = self.gateway, self.engine
        waiting = max(gateway.queue_timeout, gateway.wake_timeout if self.wakes else 0.0)
        return self.limits.max_attempts * (waiting + engine.connect_timeout + engine.answer_timeout)

    @property
    def longest_answer(self) -> int:
        """Tokens. Of an engine that is not told its context, characters alone are limited: a token has one at
        least, four as a rule."""
        return self.limits.max_answer_chars // 4 if self.engine.kind == "openai" else self.engine.context

    @property
    def serves_toy(self) -> bool:
        """Whether workers serve the packaged model, which is good enough to try llmhost out and no more."""
        return self.fleet.provider == "local" and self.engine.model_path is None

    @property
    def requests(self) -> EngineConfig:
        """`engine` with the parameters of requests that the user has not set."""
        defaults = _TOY_REQUESTS if self.serves_toy else _REQUESTS
        unset = {name: value for name, value in defaults.items() if getattr(self.engine, name) is None}
        return self.engine.model_copy(update=unset)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        model = self.engine.model
        other_model = (
            f"`engine.model` is {model}, but this local fleet serves the packaged {_MODEL}: give a GGUF file "
            "as `engine.model_path`, or use a running Ollama (`llmhost init --provider static --engine "
            f"ollama --url http://127.0.0.1:11434 --model {model}`)"
        )
        is_llama, is_ollama = self.engine.kind == "llama_cpp", self.engine.kind == "ollama"
        least = max(self.scale.min_gpus, *(window.min_gpus for window in self.scale.schedule), 0)
        raise_broken(
            (
                self.fleet.provider == "local" and not is_llama,
                "provider `local` runs engine `llama_cpp`; for a running Ollama use provider `static`",
            ),
            (self.serves_toy and is_llama and model.lower() not in _MODEL_NAMES, other_model),
            (
                self.fleet.rents and not is_ollama,
                "provider `vast` runs engine `ollama`: set `engine.kind: ollama`",
            ),
            (self.fleet.gpus > self.fleet.max_gpus, "`fleet.gpus` must not be over `fleet.max_gpus`"),
            (least > self.fleet.max_gpus, "no `min_gpus` of `scale` may be over `fleet.max_gpus`"),
            (
                self.redis.cache_only and self.fleet.provider != "static",
                "`redis.cache_only` needs `fleet.provider: static`, as the list of other workers is in Redis",
            ),
            *self._gateway_on_worker(),
        )
        return self

    def _gateway_on_worker(self) -> Iterator[tuple[bool, str]]:
        """What a gateway on each worker needs, and what does not go with it."""
        if not self.fleet.gateway_on_worker:
            return
        cache = self.cache
        models = (cache.embedder, cache.verifier)
        needs = "`fleet.gateway_on_worker` needs"
        yield not self.fleet.rents, f"{needs} rented workers, `fleet.provider: vast`"
        yield (
            self.redis.worker_url is None,
            f"{needs} `redis.worker_url`: your own Redis over TLS, with a user for workers",
        )
        yield self.redis.cert_file is not None, f"{needs} a Redis that asks for no client's certificate"
        yield not cache.enabled or cache.shadow, f"{needs} a cache that serves: `enabled`, and not `shadow`"
        yield (
            any(model.startswith(("/", ".", "~")) for model in models),
            f"{needs} `cache.embedder` and `cache.verifier` by name: a worker has no folder of yours",
        )


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
