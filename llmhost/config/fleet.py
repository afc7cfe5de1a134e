"""The sections `fleet`, `vast` and `scale`: where workers come from, how many, and what they may cost."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from llmhost.config.fields import (
    Duration,
    HoursOfWeek,
    Image,
    Name,
    OfferFilter,
    Package,
    Section,
    TimeZone,
    Url,
)

__all__ = [
    "OFFERS",
    "BudgetConfig",
    "FleetConfig",
    "ScaleConfig",
    "ScheduleWindow",
    "StaticWorker",
    "VastConfig",
]


class StaticWorker(Section):
    """A server that already runs."""

    url: Url = Field(description="Base URL, such as `http://127.0.0.1:11434`.")
    token: SecretStr | None = Field(None, description="Bearer token, if the server requires one.")
    name: Name | None = Field(
        None,
        description="Name of the worker; by default `static-` and a hash of its URL.",
        examples=["office"],
    )


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
    gateway_on_worker: bool = Field(
        False,
        description="Whether each rented worker runs a gateway of its own, with this cache, which answers "
        "those that ask the worker itself. Needs `redis.worker_url`. A rented machine can then read and "
        "change all that is cached: docs/worker.md.",
    )
    gateway_package: Package | None = Field(
        None,
        description="What pip installs on a worker for its gateway. By default `llmhost`, in the version "
        "that rents the worker.",
        examples=["https://example.com/llmhost-0.1.0-py3-none-any.whl"],
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
        names = [worker.name for worker in self.workers if worker.name is not None]
        if len(set(names)) < len(names):
            raise ValueError("no two of `fleet.workers` may have the same name")
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
        description="Factor for vast.ai's documented pauses between calls, and for the minute in which a "
        "purchase is in doubt. The limits apply per IP address: if two machines behind one address use "
        "llmhost, set 2.",
    )

    @model_validator(mode="after")
    def _bid_has_a_ceiling(self) -> Self:
        if self.interruptible and self.max_bid is None and self.max_price is None:
            raise ValueError("`vast.interruptible` needs a limit: set `vast.max_bid` or `vast.max_price`")
        return self


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
