"""What an operator may configure: every key, its default, its range and its meaning.

Defaults are defined here and nowhere else. `llmhost init`, `configs/local.yaml` and `docs/configuration.md`
are generated from it: they show a section's docstring and a key's description, and `examples` for a key
without a default. Values are frozen after validation.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from llmhost.config.fields import (
    Duration,
    HeaderName,
    Host,
    HoursOfWeek,
    Image,
    ModelName,
    Name,
    Namespace,
    Network,
    OfferFilter,
    Section,
    Tenant,
    TimeZone,
    Url,
    is_loopback,
    raise_broken,
)

__all__ = [
    "OFFERS",
    "RENAMED",
    "BudgetConfig",
    "CacheConfig",
    "Config",
    "EngineConfig",
    "FleetConfig",
    "GatewayConfig",
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
    """A server that already runs."""

    url: Url = Field(description="Base URL, such as `http://127.0.0.1:11434`.")
    token: SecretStr | None = Field(None, description="Bearer token, if the server requires one.")


class BudgetConfig(Section):
    """Spending limits in USD. Nothing is bought that would exceed one of them."""

    per_hour: float | None = Field(
        None, gt=0, le=100_000, description="Limit for all workers together per hour.", examples=[2.0]
    )
    per_day: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="Limit per day (UTC): what was spent since midnight, plus what all workers cost until "
        "the next midnight if they keep running.",
        examples=[30.0],
    )
    per_month: float | None = Field(
        None,
        gt=0,
        le=10_000_000,
        description="Limit per calendar month (UTC), calculated in the same way.",
        examples=[600.0],
    )


class FleetConfig(Section):
    """The workers: where they come from, how many, and their cost."""

    name: Name = Field("local", description="Name of the fleet in Redis, in labels and in file names.")
    provider: Literal["local", "vast", "static"] = Field(
        "local",
        description="Where workers come from: `local` (processes on this machine), `vast` (GPUs rented on "
        "vast.ai, see section `vast`) or `static` (servers that you already run).",
    )
    gpus: int = Field(1, ge=0, description="Number of workers that `llmhost up` creates without `--gpus`.")
    max_gpus: int = Field(8, ge=1, le=1000, description="Maximum number of workers in this fleet.")
    price_per_hour: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="USD per hour of a local or static worker. 0 is free; another value simulates the cost "
        "of a rented fleet.",
    )
    first_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Local workers listen on this port and the following ones; 0 uses any free ports.",
    )
    budget: BudgetConfig = Field(default_factory=BudgetConfig, description="Spending limits.")
    ready_timeout: Duration | None = Field(
        None,
        description="How long a worker may make no progress before it answers. By default 3 minutes, and 20 "
        "minutes for a rented machine, which reports nothing while its image is downloaded.",
        examples=["20m"],
    )
    orphan_after: Duration = Field(
        21600.0,
        ge=60,
        description="A rented worker destroys itself after this time without an authenticated request. "
        "A question that the cache does not answer is one; each `llmhost status` and each step of "
        "`llmhost scale` sends one to every worker.",
    )
    signing_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="Signs the records of rented workers in Redis; others are never asked. By default the "
        "account's API key: set it where machines use different API keys or, to ask only, none.",
        examples=["${FLEET_SIGNING_KEY}"],
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


#: one RTX 4090 of a reliable host, and what a worker needs: three open ports, for its front door, SSH and
#: what the image of Ollama exposes; a line that downloads 6 GB in 4 minutes, for 30 cents at most; and a
#: driver of version 550 or later, below which Ollama ignores the GPU
OFFERS = (
    "gpu_name=RTX_4090 num_gpus=1 reliability>0.95 verified=true direct_port_count>=3 "
    "inet_down>=200 inet_down_cost<=0.05 cuda_max_good>=12.4"
)


class VastConfig(Section):
    """Renting on vast.ai; only for `fleet.provider: vast`."""

    api_key: SecretStr | None = Field(
        None,
        description="API key of the account. By default `VAST_API_KEY`, else the file that `vastai set "
        "api-key` wrote.",
        examples=["${VAST_API_KEY}"],
    )
    offers: OfferFilter = Field(
        OFFERS,
        description="Which machines may be rented, in the syntax of `vastai search offers` (`inet_down` is "
        "in Mbit/s). Prices and regions can be filtered too: `dph_total<0.5 geolocation=US`.",
    )
    max_price: float | None = Field(
        None, gt=0, le=128, description="Maximum USD per hour for one worker, disk included.", examples=[0.6]
    )
    interruptible: bool = Field(
        False,
        description="Whether to bid for machines, which are lost when someone bids more. Cheaper; a worker "
        "that was outbid is replaced by the next `llmhost up`.",
    )
    max_bid: float | None = Field(
        None,
        ge=0.001,
        le=128,
        description="Maximum bid in USD per hour for one machine, without its disk. By default `max_price`.",
        examples=[0.35],
    )
    disk: float = Field(
        50.0,
        ge=8,
        le=10_000,
        description="GB of disk for each worker, for image and model. It cannot be changed later.",
    )
    image: Image = Field(
        "ollama/ollama:latest",
        description="Docker image of a worker, based on Debian or Ubuntu. What is missing is installed at "
        "the start; an image with Ollama starts faster.",
    )
    expected_stay: Duration = Field(
        86400.0,
        description="How long a worker is expected to be rented. Offers are ranked by the cost of a token "
        "over this time; those whose contract ends earlier are rejected. A short time favours cheap traffic "
        "and fast connections.",
    )
    image_size: float = Field(
        2.0, ge=0, le=1000, description="GB of `image` to download, billed as traffic at each start."
    )
    model_size: float | None = Field(
        None,
        gt=0,
        le=10_000,
        description="GB of the model to download, billed as traffic and as GPU time. By default it is "
        "estimated from the model's name.",
        examples=[6.3],
    )
    max_attempts: int = Field(
        3, ge=0, le=20, description="How many failed machines one `llmhost up` may replace."
    )
    ban_for: Duration = Field(
        86400.0,
        ge=0,
        le=31_536_000,
        description="How long a machine that failed is not rented again; `llmhost offers` shows those. Being "
        "outbid, and credit that ran out, do not count. 0 bans none.",
    )
    pace: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Factor for vast.ai's documented pauses between calls. The limits apply per IP address: "
        "if two machines behind one address use llmhost, set 2.",
    )

    @model_validator(mode="after")
    def _bid_has_a_ceiling(self) -> Self:
        if self.interruptible and self.max_bid is None and self.max_price is None:
            raise ValueError("`vast.interruptible` needs a limit: set `vast.max_bid` or `vast.max_price`")
        return self


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


class RedisConfig(Section):
    """Redis, which stores cache and ledger. Without `url` and `host`, llmhost runs an embedded Redis."""

    url: SecretStr | None = Field(
        None,
        description="`redis://`, `rediss://` or `unix://` address, instead of `host`. User, password and "
        "database in it override the keys below.",
        examples=["${REDIS_URL}"],
    )
    host: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Host name of your Redis.",
        examples=["redis.example.com"],
    )
    port: int = Field(6379, ge=1, le=65535, description="Port.")
    username: str | None = Field(
        None, min_length=1, description="User name, if it has one.", examples=["llmhost"]
    )
    password: SecretStr | None = Field(
        None, description="Password; use a variable, not the text itself.", examples=["${REDIS_PASSWORD}"]
    )
    tls: bool = Field(False, description="Whether to use TLS. The certificate is always verified.")
    ca_file: str | None = Field(
        None,
        min_length=1,
        description="PEM file of the certificate authority, if it is not a public one.",
        examples=["/etc/ssl/redis-ca.pem"],
    )
    cert_file: str | None = Field(
        None,
        min_length=1,
        description="PEM file of this client's certificate, if Redis wants one.",
        examples=["/etc/ssl/redis-client.pem"],
    )
    key_file: str | None = Field(
        None,
        min_length=1,
        description="PEM file of the key of `cert_file`; by default `cert_file` itself.",
        examples=["/etc/ssl/redis-client.key"],
    )
    db: int = Field(0, ge=0, le=1_000_000, description="Database number.")
    timeout: Duration = Field(
        2.0,
        description="Time limit for connecting and for each answer; after it, Redis counts as unavailable.",
    )
    server: str | None = Field(
        None,
        min_length=1,
        description="The `redis-server` of the embedded Redis: a path, or a name on PATH. By default "
        "the one on PATH, else the packaged one. A file that is not named but found in the current folder "
        "cannot set it.",
        examples=["/usr/bin/redis-server"],
    )

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.url is None and self.host is None:
            self._check_embedded()
        elif self.url is not None and self.host is not None:
            raise ValueError("set either `redis.url` or `redis.host`, not both")
        elif self.url is not None and not self.url.get_secret_value().startswith(_REDIS_SCHEMES):
            raise ValueError("`redis.url` must start with redis://, rediss:// or unix://")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("`redis.key_file` needs `redis.cert_file`, the certificate of that key")
        return self

    def _check_embedded(self) -> None:
        """A password without a host would be ignored."""
        fields = type(self).model_fields
        names = ("port", "username", "password", "tls", "ca_file", "cert_file", "key_file")
        raise_broken(
            *(
                (
                    getattr(self, name) != fields[name].default,
                    f"`redis.{name}` needs `redis.host`, the host of your Redis",
                )
                for name in names
            )
        )


class CacheConfig(Section):
    """What is cached, for how long, and when it is served."""

    enabled: bool = Field(True, description="Whether to use the cache at all.")
    namespace: Namespace = Field(
        "cache", description="Prefix of every cache key. On a Redis cluster, put it in braces: `'{cache}'`."
    )
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
        description="`verified` only: the model that computes this probability. `builtin`, or a "
        "cross-encoder of sentence-transformers: a name, or a folder that begins with `/`, `.` or `~`.",
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
        "are about personal data bypass the cache. `all`: they are cached like any other.",
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
    index: Literal["auto", "flat"] = Field(
        "auto",
        description="How similar questions are found: `flat` compares all of them. `auto` uses the best "
        "that the Redis server supports; currently `flat`.",
    )
    embedder: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        min_length=1,
        max_length=500,
        description="A sentence-transformers model: a name, or a folder that begins with `/`, `.` or `~`.",
    )
    response_ttl: Duration = Field(86400.0, description="How long an answer is served.")
    embedding_ttl: Duration = Field(
        604800.0, description="How long a question is stored; at least `response_ttl`."
    )

    @model_validator(mode="after")
    def _question_outlives_answer(self) -> Self:
        if self.embedding_ttl < self.response_ttl:
            raise ValueError("`cache.embedding_ttl` must be at least `cache.response_ttl`")
        return self


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


class ScheduleWindow(Section):
    """Hours of the week with another minimum."""

    when: HoursOfWeek = Field(
        description="Such as `mon-fri 08:00-18:00`, `sat,sun 10:00-14:00` or `22:00-06:00` (every day)."
    )
    min_gpus: int = Field(ge=0, le=1000, description="Minimum number of workers in these hours.")


class ScaleConfig(Section):
    """How `llmhost scale` adapts the fleet to demand. Idle workers cost money, new ones take time to boot."""

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
        description="Hours of the week with another minimum, higher or lower. Workers are started early "
        "enough to be ready. Where windows overlap, the largest minimum applies.",
        examples=[[{"when": "mon-fri 08:00-18:00", "min_gpus": 2}]],
    )
    timezone: TimeZone = Field("UTC", description="Time zone of the schedule, such as `Europe/Zurich`.")
    queue_time: Duration = Field(
        5.0, le=3600, description="Maximum waiting time of a question for a free slot."
    )
    max_late_ratio: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Maximum share of questions that wait longer than `queue_time`. Small fleets need more "
        "spare capacity than large ones to achieve it; with 1, only `target_utilization_max` counts.",
    )
    drain_backlog_within: Duration | None = Field(
        None,
        le=7200,
        description="Time in which a backlog is to be processed. By default the boot time of a worker, as a "
        "new worker cannot help sooner. A shorter time buys more workers for a shorter period.",
        examples=["30s"],
    )
    target_utilization_max: float = Field(
        0.85,
        gt=0,
        le=1,
        description="Scale up when demand exceeds this share of the capacity by more than chance explains.",
    )
    target_utilization_min: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Scale down when fewer workers would stay below this utilization, and within "
        "`max_late_ratio`, for the most that the demand may be, and in the busiest minute of `down_after`.",
    )
    down_after: Duration = Field(
        300.0,
        le=7200,
        description="How long fewer workers must have been enough before scaling down. If the boot time is "
        "longer, it is used instead: a worker terminated too early must be booted again.",
    )
    scale_to_zero_after: Duration = Field(
        1800.0,
        le=7200,
        description="Time without questions before the last worker is terminated; needs `min_gpus: 0`.",
    )
    max_step: int = Field(
        32,
        ge=1,
        le=1000,
        description="Maximum number of workers bought in one step, a guard against wrong metrics.",
    )
    max_failures: int = Field(
        3,
        ge=1,
        le=100,
        description="After this number of failed purchases within an hour, nothing is bought for an hour.",
    )
    unresponsive_after: Duration = Field(
        600.0,
        ge=60,
        le=86_400,
        description="A worker that has answered before and does not for this time is replaced.",
    )
    tokens_per_s: float = Field(
        50.0,
        gt=0,
        le=1_000_000,
        description="Assumed tokens per second of a worker with all slots in use, until three of its "
        "answers are measured. The first purchases are based on it, and no new worker is assumed to be "
        "slower than a tenth of it.",
    )
    tokens_per_answer: float = Field(
        200.0, gt=0, le=1_000_000, description="Assumed tokens per answer, until it is measured."
    )
    boot_time: Duration | None = Field(
        None,
        le=7200,
        description="Assumed time until a new worker's first answer, until it is measured. By default 10 "
        "seconds, and 3 minutes for a rented machine.",
        examples=["3m"],
    )

    @model_validator(mode="after")
    def _band_has_an_inside(self) -> Self:
        if self.target_utilization_min > self.target_utilization_max:
            raise ValueError("`scale.target_utilization_min` must not be over `scale.target_utilization_max`")
        return self


class GatewayConfig(Section):
    """`llmhost serve`: one URL for clients of OpenAI's, Ollama's and Anthropic's APIs."""

    autostart: bool = Field(
        True, description="`up` starts the gateway in the background, and `down` stops it."
    )
    host: Host = Field(
        "127.0.0.1",
        description="Address to listen on. One that other machines reach needs API keys (`llmhost keys add`) "
        "and TLS: `tls_certificate` or `behind_proxy`.",
    )
    port: int = Field(11435, ge=1, le=65535, description="Port to listen on.")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that serve on the port. One uses little more than a core.",
    )
    keys: Literal["auto", "always"] = Field(
        "auto",
        description="Who needs an API key. `auto`: everyone, except on a loopback address without "
        "`behind_proxy` and on the Unix socket. `always`: everyone.",
    )
    tls_certificate: str | None = Field(
        None,
        min_length=1,
        description="PEM file of the gateway's certificate and those between it and its authority. A new "
        "one is used within a minute, without a restart.",
        examples=["/etc/ssl/llm.example.com.pem"],
    )
    tls_key: str | None = Field(
        None,
        min_length=1,
        description="PEM file of the key of `tls_certificate`; by default `tls_certificate` itself.",
        examples=["/etc/ssl/llm.example.com.key"],
    )
    behind_proxy: Network | None = Field(
        None,
        description="Address or network of the proxy that takes TLS for the gateway. No other may connect "
        "then, and the proxy's `X-Forwarded-For` is believed.",
        examples=["10.0.0.5"],
    )
    user_header: HeaderName | None = Field(
        None,
        description="Header in which clients name their user. Each user then has a cache of its own within "
        "the tenant.",
        examples=["X-OpenWebUI-User-Id"],
    )
    aliases: dict[ModelName, ModelName] = Field(
        {},
        max_length=100,
        description="Other names under which clients may ask for a model, the cache's embedding model "
        "included; `'*'` is every other name of a chat model.",
        examples=[{"gpt-4o-mini": "llama3.2:3b"}],
    )
    max_body: int = Field(
        16_000_000,
        ge=1000,
        le=1_000_000_000,
        description="Maximum size of a request in bytes, images included.",
    )
    queue: int = Field(
        200,
        ge=1,
        le=100_000,
        description="Maximum number of requests that wait while all slots of all workers are in use; beyond "
        "it, requests are refused with status 429. Tenants take turns.",
    )
    queue_timeout: Duration = Field(
        60.0,
        le=3600,
        description="Time limit for waiting in the queue; after it, a request is refused with status 503.",
    )
    wake: bool | None = Field(
        None,
        description="Whether a request that finds no worker has `llmhost scale` make a step, within its "
        "limits and the budget, and waits for a worker. By default only for a rented fleet whose cost is "
        "limited and which `llmhost scale` has scaled before. Never between `llmhost down` and `llmhost up`.",
        examples=[True],
    )
    wake_timeout: Duration = Field(
        300.0,
        le=3600,
        description="Time limit for waiting for a worker to start; after it, status 503. Streams get pings.",
    )
    log: str = Field(
        "off",
        min_length=1,
        max_length=4096,
        description="Request log: a line of JSON for each request to a model, without words of it. A file, "
        "`stderr` or `off`. SIGHUP opens the file again.",
        examples=["/var/log/llmhost/requests.jsonl"],
    )
    traces: Url | None = Field(
        None,
        description="Address of an OpenTelemetry collector that takes OTLP over HTTP; needs "
        "`pip install 'llmhost[otel]'`. Without a path, `/v1/traces` is added.",
        examples=["http://127.0.0.1:4318"],
    )

    @property
    def is_public(self) -> bool:
        """Whether requests of other machines arrive, by the address or through a proxy."""
        return not is_loopback(self.host) or self.behind_proxy is not None

    @model_validator(mode="after")
    def _public_with_tls(self) -> Self:
        secured = self.tls_certificate is not None or self.behind_proxy is not None
        ways = "set `gateway.tls_certificate`, or `gateway.behind_proxy` to the proxy that takes TLS"
        raise_broken(
            (
                not is_loopback(self.host) and not secured,
                f"other machines reach `gateway.host` {self.host}, which needs TLS: {ways}",
            ),
            (
                self.tls_key is not None and self.tls_certificate is None,
                "`gateway.tls_key` needs `gateway.tls_certificate`, the certificate of that key",
            ),
        )
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
    gateway: GatewayConfig = Field(default_factory=GatewayConfig)
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

    @property
    def wakes(self) -> bool:
        """Whether a request that finds no worker may have one started; `gateway.wake` None needs more."""
        limits = (*self.fleet.budget.model_dump().values(), self.vast.max_price)
        limited = any(limit is not None for limit in limits)
        return self.fleet.rents and limited if self.gateway.wake is None else self.gateway.wake

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
        )
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
